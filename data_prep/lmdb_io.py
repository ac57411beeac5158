"""LMDB databases of Caffe Datums: written here, read here, and nowhere else.

A key is "00000012_MASSID", or "00000012_MASSID_r3c0" for an augmented crop. The numbers shuffle the set, since Caffe's
Data layer reads in key order and does not shuffle. A Datum holds a grey PNG (lossless) with `encoded: true`;
`transform_param { force_color: true }` makes the Data layer show it as three equal channels.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import lmdb
import numpy as np

from data_prep.mass import InputError

MEAN = "mean.binaryproto"
BATCH = 1000  # records a transaction: few enough to hold in memory, enough to make commits rare
RECORD_OVERHEAD = 8192  # bytes a record may take beyond its raw pixels: key, Datum fields, LMDB's whole pages


@dataclass(frozen=True)
class Record:
    """One sample: LMDB key, class (1 malignant, 0 benign), uint8 grey square."""

    key: str
    label: int
    image: np.ndarray


class Packed(NamedTuple):
    """A record ready to be written: PNG bytes, and the SHA-256 of key, label and pixels (not of the PNG)."""

    key: str
    label: int
    png: bytes
    sha256: bytes


def _caffe_pb2():
    """Caffe's messages, imported late: loading Caffe takes a second that worker processes need not spend."""
    from caffe.proto import caffe_pb2

    return caffe_pb2


def pack(record: Record) -> Packed:
    """Encode a record's image losslessly and take its fingerprint, which no PNG encoder's version changes."""
    png = cv2.imencode(".png", record.image)[1].tobytes()
    sha = hashlib.sha256(f"{record.key} {record.label} {record.image.shape}".encode())
    sha.update(np.ascontiguousarray(record.image))
    return Packed(record.key, record.label, png, sha.digest())


def digest(fingerprints: dict[str, bytes]) -> str:
    """Return one SHA-256 for a set of records, from each key's fingerprint, in key order."""
    sha = hashlib.sha256()
    for key in sorted(fingerprints):
        sha.update(fingerprints[key])
    return sha.hexdigest()


def write(folder: Path, packed: Iterable[Packed], size: int, expected: int) -> dict[str, bytes]:
    """Write one LMDB at `folder` (new) from records in any order; return each key's fingerprint.

    `size` is the square's side in pixels and `expected` the number of records: together they bound the map.
    Raises InputError when the disk is full or cannot be written.
    """
    fingerprints: dict[str, bytes] = {}
    # A PNG is never much larger than its pixels, so twice the raw size always suffices; the file is sparse.
    map_size = 2 * expected * (size * size + RECORD_OVERHEAD) + (1 << 24)
    try:
        folder.mkdir(parents=True)
        with lmdb.open(str(folder), map_size=map_size, readahead=False) as environment:
            for batch in _batches(packed):
                with environment.begin(write=True) as transaction:
                    for item in batch:
                        transaction.put(item.key.encode(), _datum(item, size), overwrite=False)
                        fingerprints[item.key] = item.sha256
    except (lmdb.Error, OSError) as error:
        raise InputError(f"{folder}: cannot be written ({error}); free some space or choose another --out") from None
    return fingerprints


def _batches(items: Iterable[Packed]) -> Iterator[list[Packed]]:
    batch: list[Packed] = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _datum(item: Packed, size: int) -> bytes:
    datum = _caffe_pb2().Datum(channels=1, height=size, width=size, label=item.label, encoded=True, data=item.png)
    return datum.SerializeToString()


def count(folder: Path) -> int:
    """Return the number of records in one LMDB."""
    with _open(folder) as environment:
        return environment.stat()["entries"]


def records(folder: Path) -> Iterator[Record]:
    """Yield an LMDB's records in key order, images decoded; InputError names a key that cannot be decoded."""
    with _open(folder) as environment, environment.begin() as transaction:
        for key, value in transaction.cursor():
            datum = _caffe_pb2().Datum.FromString(value)
            image = cv2.imdecode(np.frombuffer(datum.data, np.uint8), cv2.IMREAD_GRAYSCALE)
            if image is None:
                raise InputError(f"{folder}: record {key.decode()} holds no image; build the database again")
            yield Record(key.decode(), datum.label, image)


def _open(folder: Path) -> lmdb.Environment:
    if not (folder / "data.mdb").is_file():
        raise InputError(f"{folder}: not an LMDB; build it with data_prep/build_lmdb.py")
    return lmdb.open(str(folder), readonly=True, lock=False, readahead=False)


def key_of(index: int, mass_id: str, window: str = "") -> str:
    """Return a record's key: its place in the shuffled order, its mass, and which augmented window it is."""
    return f"{index:08d}_{mass_id}" + (f"_{window}" if window else "")


def mass_id_of(key: str) -> str:
    """Return the mass that a record's key belongs to."""
    return re.sub(r"_r\d+c\d+$", "", key.split("_", 1)[1])


def write_mean(path: Path, mean: np.ndarray) -> None:
    """Write a (rows, columns) float mean as the BlobProto that Caffe's `mean_file` takes, 3 equal channels."""
    blob = _caffe_pb2().BlobProto(num=1, channels=3, height=mean.shape[0], width=mean.shape[1])
    blob.data.extend(np.tile(mean.astype(np.float32).ravel(), 3).tolist())
    path.write_bytes(blob.SerializeToString())


def read_mean(path: Path) -> np.ndarray:
    """Return a mean file as (channels, rows, columns) float32."""
    if not path.is_file():
        raise InputError(f"{path}: no mean file; build the database again with data_prep/build_lmdb.py")
    blob = _caffe_pb2().BlobProto.FromString(path.read_bytes())
    return np.array(blob.data, np.float32).reshape(blob.channels, blob.height, blob.width)
