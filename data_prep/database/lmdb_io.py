"""LMDB databases of Caffe Datums: written here, read here, and nowhere else.

A key is "00000012_MASSID", or "00000012_MASSID_r3c0" for an augmented crop. The numbers shuffle the set, since Caffe's
Data layer reads in key order and does not shuffle. A Datum holds a grey PGM, the pixels after a short header, with
`encoded: true`; `transform_param { force_color: true }` makes the Data layer show it as three equal channels.

It is no PNG, as the Data layer decodes in one thread. From 227 x 227 PNGs (27 kB per record) it feeds 2,000 images/s,
too few for a GPU; from PGMs (53 kB) 4,900, and writing them costs nothing (results/data_benchmark). PNG records are
read too.
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
from google.protobuf.message import DecodeError

from data_prep.core.errors import InputError
from data_prep.core.files import read_bytes
from data_prep.core.protobuf import message_class

# Caffe's messages that a database is made of: Datum, a record, and BlobProto, the mean. They have caffe.proto's names
# and numbers, without the fields that BVLC's own tools leave empty here. Caffe's caffe_pb2 has the same, but importing
# it loads all of Caffe: a second and 90 MB, for a process that only reads and writes files.
_SCHEMA = """
name: "datum.proto" package: "caffe"
message_type {
  name: "Datum"
  field { name: "channels" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "height" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "width" number: 3 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "data" number: 4 type: TYPE_BYTES label: LABEL_OPTIONAL }
  field { name: "label" number: 5 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "float_data" number: 6 type: TYPE_FLOAT label: LABEL_REPEATED }
  field { name: "encoded" number: 7 type: TYPE_BOOL label: LABEL_OPTIONAL }
}
message_type {
  name: "BlobProto"
  field { name: "num" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "channels" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "height" number: 3 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "width" number: 4 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "data" number: 5 type: TYPE_FLOAT label: LABEL_REPEATED options { packed: true } }
}
"""
Datum, BlobProto = (message_class(_SCHEMA, f"caffe.{name}") for name in ("Datum", "BlobProto"))

MEAN = "mean.binaryproto"
LARGEST_MEAN = 1 << 26  # bytes
ODD_NAMES = "surrogateescape"  # a file's name, and so a mass's, need not be UTF-8; so it comes back as it was
BATCH = 25  # records per transaction: about a film, and few enough to hold in memory
RECORD_OVERHEAD = 8192  # bytes a record may take beyond its raw pixels: key, Datum fields, LMDB's whole pages


@dataclass(frozen=True)
class Record:
    """One sample: LMDB key, class (1 malignant, 0 benign), uint8 grey square."""

    key: str
    label: int
    image: np.ndarray


class Packed(NamedTuple):
    """A record ready to be written: the image as a PGM file, and the SHA-256 of key, label and pixels."""

    key: str
    label: int
    pgm: bytes
    sha256: bytes


def pack(record: Record) -> Packed:
    """Encode a record's image and take its fingerprint, which is of the pixels and not of the encoding."""
    pgm = cv2.imencode(".pgm", record.image)[1].tobytes()
    return Packed(record.key, record.label, pgm, fingerprint(record))


def fingerprint(record: Record) -> bytes:
    """Return the SHA-256 of a record's key, label and pixels."""
    sha = hashlib.sha256(f"{record.key} {record.label} {record.image.shape}".encode(errors=ODD_NAMES))
    sha.update(np.ascontiguousarray(record.image))
    return sha.digest()


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
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error}); choose another --out") from None
    for batch in _batches(packed):
        append(folder, {item.key: image_datum(item, size) for item in batch}, expected, size * size)
        fingerprints |= {item.key: item.sha256 for item in batch}
    return fingerprints


def append(folder: Path, datums: dict[str, bytes], expected: int, raw_bytes: int) -> None:
    """Add records to the LMDB at `folder`, in one transaction; a key that is there already gets the new Datum.

    `expected` records of `raw_bytes` bound the map. InputError when the disk is full or cannot be written.
    """
    # Twice the raw size suffices for any record, its pages and the tree above them; the file is sparse.
    map_size = 2 * expected * (raw_bytes + RECORD_OVERHEAD) + (1 << 24)
    try:
        # opened anew each time: otherwise ever more of the file stays mapped, 110 MB after 20,000 records;
        # without a lock: nobody else knows the folder yet, and a mapped lock file is a bus error on a full disk
        with (
            lmdb.open(str(folder), map_size=map_size, readahead=False, lock=False) as environment,
            environment.begin(write=True) as transaction,
        ):
            for key, datum in datums.items():
                transaction.put(key.encode(errors=ODD_NAMES), datum)
    except (lmdb.Error, OSError) as error:
        raise InputError(f"{folder}: cannot be written ({error}); free some space or choose another --out") from None


def _batches(items: Iterable[Packed]) -> Iterator[list[Packed]]:
    batch: list[Packed] = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    yield batch  # perhaps empty: a set without records is an LMDB too


def image_datum(item: Packed, size: int) -> bytes:
    """Return a packed record as the Datum of its image."""
    datum = Datum(channels=1, height=size, width=size, label=item.label, encoded=True, data=item.pgm)
    return datum.SerializeToString()


def float_datum(values: np.ndarray) -> bytes:
    """Return (channels, rows, columns) numbers as a Datum of floats, which Caffe's Data layer puts out as they are."""
    channels, rows, columns = values.shape
    datum = Datum(channels=channels, height=rows, width=columns)
    datum.float_data.extend(values.ravel().tolist())
    return datum.SerializeToString()


def count(folder: Path) -> int:
    """Return the number of records in one LMDB."""
    with _open(folder) as environment:
        return environment.stat()["entries"]


def records(folder: Path) -> Iterator[Record]:
    """Yield an LMDB's records in key order, images decoded; InputError names a key that cannot be decoded."""
    for key, value in items(folder):
        yield unpack(folder, key, value)


def items(folder: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield an LMDB's keys and Datums as they are stored, in key order; InputError when the file is damaged."""
    try:
        with _open(folder) as environment, environment.begin() as transaction:
            yield from transaction.cursor()
    except lmdb.Error as error:
        raise InputError(f"{folder}: damaged ({error}); build the database again") from None


def unpack(folder: Path, key: bytes, value: bytes) -> Record:
    """Decode one record of the LMDB at `folder`; InputError names its key when that cannot be done."""
    try:
        datum = Datum.FromString(value)
        image = cv2.imdecode(np.frombuffer(datum.data, np.uint8), cv2.IMREAD_GRAYSCALE)
        name = key.decode(errors=ODD_NAMES)
    except (DecodeError, UnicodeDecodeError, cv2.error):
        image = None
    if image is None:
        name = key.decode(errors="backslashreplace")
        raise InputError(f"{folder}: record {name} holds no image; build the database again")
    return Record(name, datum.label, image)


def _open(folder: Path) -> lmdb.Environment:
    data = folder / "data.mdb"
    if not data.is_file():
        raise InputError(f"{folder}: not an LMDB; build it with data_prep/build_lmdb.py")
    try:
        environment = lmdb.open(str(folder), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise InputError(f"{folder}: not an LMDB ({error}); build the database again") from None
    # LMDB maps the file: a page beyond its end would kill the process
    if data.stat().st_size < (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]:
        environment.close()
        raise InputError(f"{data}: cut short; build the database again")
    return environment


def key_of(index: int, mass_id: str, window: str = "") -> str:
    """Return a record's key: its place in the shuffled order, and its name."""
    return f"{index:08d}_{record_name(mass_id, window)}"


def record_name(mass_id: str, window: str) -> str:
    """Return a record's name: its mass, and which augmented window it is ("" for the upright context)."""
    return f"{mass_id}_{window}" if window else mass_id


def name_of(key: str) -> str:
    """Return the record's name in a key: what follows the number."""
    return key.partition("_")[2]


def mass_id_of(key: str) -> str:
    """Return the mass that a record's key belongs to."""
    return re.sub(r"_r\d+c\d+$", "", name_of(key))


def write_mean(path: Path, mean: np.ndarray) -> None:
    """Write a (rows, columns) float mean as the BlobProto that Caffe's `mean_file` takes, 3 equal channels."""
    blob = BlobProto(num=1, channels=3, height=mean.shape[0], width=mean.shape[1])
    blob.data.extend(np.tile(mean.astype(np.float32).ravel(), 3).tolist())
    path.write_bytes(blob.SerializeToString())


def read_mean(path: Path) -> np.ndarray:
    """Return a mean file as (channels, rows, columns) float32; InputError where it is none."""
    try:
        blob = BlobProto.FromString(read_bytes(path, LARGEST_MEAN))
    except DecodeError:
        blob = BlobProto()
    mean = np.array(blob.data, np.float32)
    if min(blob.channels, blob.height, blob.width) < 1 or mean.size != blob.channels * blob.height * blob.width:
        raise InputError(f"{path}: no mean file of an LMDB, or damaged; build the database again")
    return mean.reshape(blob.channels, blob.height, blob.width)
