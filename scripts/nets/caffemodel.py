"""Caffemodels: read, and checked for which layers of a net they fill before Caffe is given them.

Caffe copies weights by layer name. A layer that the net lacks is skipped in silence, one that the file lacks keeps its
random start in silence, and one of another shape aborts the process: so all three are checked here first.

A caffemodel is a serialized NetParameter (Caffe's caffe.proto): today's files hold `layer` entries whose blobs have a
`shape`; files of Caffe's first years, BVLC's ImageNet ones among them, hold V1 `layers` whose blobs have four sizes
(num, channels, height, width), with a fully connected layer's matrix as 1 x 1 x outputs x inputs.
"""

import hashlib
import math
import sys
from pathlib import Path
from typing import NamedTuple

from google.protobuf.message import DecodeError

from data_prep.core.errors import InputError
from data_prep.core.files import check_regular, read_bytes
from data_prep.core.json_files import read_json
from scripts.nets.definitions import NETS, read_net

MOST_BYTES = (1 << 31) - 1  # of a message of protobuf's
SHA256 = "sha256"
"""Key of a caffemodel's checksum in the JSON beside it."""
Shapes = dict[str, list[tuple[int, ...]]]
"""The shapes of each layer's parameter blobs, by layer name; an empty list for a layer without parameters."""


class Fit(NamedTuple):
    """Names of a net's layers with parameters: those that a file fills, and those that it leaves at random."""

    copied: list[str]
    random: list[str]


def read_weights(path: Path):
    """Return a caffemodel as a caffe_pb2.NetParameter; InputError when it is missing, cut short or no caffemodel."""
    from caffe.proto import caffe_pb2

    try:
        param = caffe_pb2.NetParameter.FromString(read_bytes(path, MOST_BYTES))
    except DecodeError:
        raise InputError(f"{path}: cut short, or no caffemodel; fetch it or train again") from None
    if not stored_layers(param):
        raise InputError(f"{path}: holds no layers; fetch it or train again")
    if not all(isinstance(each.name, str) for each in (param, *stored_layers(param))):  # bytes: not UTF-8
        raise InputError(f"{path}: damaged: the name of a layer is no text")
    for layer in stored_layers(param):
        if not all(map(is_full, layer.blobs)):
            raise InputError(f"{path}: damaged: layer {layer.name} has not as many values as its shape says")
    return param


def is_full(blob) -> bool:
    """Whether a BlobProto holds as many values as its shape says; Caffe would abort, or read past its end."""
    return math.prod(stored_shape(blob)) in (len(blob.data), len(blob.double_data)) and not (
        blob.data and blob.double_data
    )


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256, hexadecimal; InputError when it cannot be read."""
    sha = hashlib.sha256()
    try:
        with check_regular(path).open("rb") as file:
            while chunk := file.read(1 << 20):
                sha.update(chunk)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    return sha.hexdigest()


def check_sum(path: Path) -> bool:
    """Whether the JSON beside a caffemodel of ours has its SHA-256; InputError when that is another."""
    beside = path.with_suffix(".json")
    told = read_json(beside).get(SHA256) if beside.is_file() else None
    if told is not None and told != sha256_of(path):
        raise InputError(f"{path}: damaged, or another than {beside.name} was written for: its SHA-256 is not that")
    return told is not None


def stored_layers(param) -> list:
    """Return a NetParameter's layers, old style or new; where both are given, Caffe takes the old."""
    return list(param.layers or param.layer)


def shapes_of(net) -> Shapes:
    """Return the parameter shapes of a caffe.Net."""
    return {name: [tuple(blob.shape) for blob in layer.blobs] for name, layer in net.layer_dict.items()}


def check_fit(path: Path, param, shapes: Shapes, needed: set[str]) -> Fit:
    """Return which layers of a net with these `shapes` the caffemodel `param`, read from `path`, fills.

    Raises InputError, naming the layers, when one of the same name has other shapes, when nothing fits, or when the
    file lacks a layer of `needed`: those that make no sense at random.
    """
    stored = {layer.name: layer for layer in stored_layers(param) if layer.name in shapes}
    misfits = [
        f"{name} is {_text(map(stored_shape, layer.blobs))} but must be {_text(shapes[name])}"
        for name, layer in stored.items()
        if not _same(layer.blobs, shapes[name])
    ]
    if misfits:
        raise InputError(f"{path}: layers have other shapes than the net's: {'; '.join(misfits)}")
    with_blobs = [name for name in shapes if shapes[name]]
    fit = Fit([name for name in with_blobs if name in stored], [name for name in with_blobs if name not in stored])
    if not fit.copied:
        held = _some(layer.name for layer in stored_layers(param))
        raise InputError(f"{path}: none of its layers is in the net; it holds {held}")
    missing = [name for name in fit.random if name in needed]
    if missing:
        raise InputError(f"{path}: lacks layers that the net takes from it: {_some(missing)}; is it another's file?")
    return fit


def stored_shape(blob) -> tuple[int, ...]:
    """Return a BlobProto's shape, whichever way it is written."""
    return (blob.num, blob.channels, blob.height, blob.width) if _is_old(blob) else tuple(blob.shape.dim)


def _is_old(blob) -> bool:
    return any(blob.HasField(name) for name in ("num", "channels", "height", "width"))


def _same(blobs, shapes: list[tuple[int, ...]]) -> bool:
    """Compare as Caffe does: an old blob's four sizes with a shape that is filled up with ones from the front."""
    if len(blobs) != len(shapes):
        return False
    return all(
        stored_shape(blob) == ((1,) * (4 - len(shape)) + shape if _is_old(blob) else shape)
        for blob, shape in zip(blobs, shapes, strict=True)
    )


def _text(shapes) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes) or "without parameters"


def _some(names, most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def read_snapshot(path: Path):
    """Return a caffemodel of one of our nets as a NetParameter.

    Raises InputError when it is damaged by the checksum beside it, cut short (also where the cut leaves a readable file
    with fewer layers) or another net's: a net's `name` is its folder's.
    """
    param = read_weights(path)
    check_sum(path)
    if param.name not in NETS:
        raise InputError(f"{path}: holds the net {param.name!r}, not one of {', '.join(NETS)}; give a trained snapshot")
    names = {layer.name for layer in stored_layers(param)}
    deploy = read_net(param.name, "deploy")
    if any(layer.name not in names for layer in deploy.layer if layer.type not in ("Input", "Softmax")):
        raise InputError(f"{path}: cut short, or of another version of {param.name}; train again")
    return param


def newest_snapshot(folder: Path = Path("runs")) -> Path:
    """Return the newest whole .caffemodel under `folder`; damaged ones are skipped with a word on stderr."""
    for path in sorted(folder.rglob("*.caffemodel"), key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            read_snapshot(path)
        except InputError as error:
            print(f"skipped: {error}", file=sys.stderr)
        else:
            return path
    raise InputError(f"{folder}: no whole .caffemodel in it; train one: python scripts/train.py --net baseline")
