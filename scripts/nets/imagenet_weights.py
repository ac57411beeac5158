"""BVLC's ImageNet weights for AlexNet and GoogLeNet: where they are had, and that they are what was published.

BVLC's own server has been down for days several times. The ONNX Model Zoo has the same weights, converted from Caffe
through Caffe2; they are turned back. A caffemodel that was made so says it in the `name` of its net.
"""

import hashlib
import sys
from pathlib import Path
from typing import NamedTuple

import requests

from data_prep.core.download import download
from data_prep.core.errors import InputError
from data_prep.core.files import atomic_write
from data_prep.core.locks import locked
from scripts.nets.caffemodel import read_weights
from scripts.nets.onnx_weights import to_caffemodel


class File(NamedTuple):
    """A file with a net's weights: its path on its servers, the kind of its published sum, and the sum."""

    path: str
    algorithm: str
    digest: str


BVLC = ("http://dl.caffe.berkeleyvision.org",)  # sums: models/bvlc_*/readme.md in Caffe's sources
MODEL_ZOO = tuple(
    f"{server}/validated/vision/classification"
    for server in (
        "https://github.com/onnx/models/raw/main",
        "https://huggingface.co/onnxmodelzoo/legacy_models/resolve/main",
    )
)
FILES = {
    "alexnet": {
        File("bvlc_alexnet.caffemodel", "sha1", "9116a64c0fbe4459d18f4bb6b56d647b63920377"): BVLC,
        File(
            "alexnet/model/bvlcalexnet-12.onnx",
            "sha256",
            "6b0da9510f27f234ee96a85dc3809dd210150fdefad87f6850f9788513216945",
        ): MODEL_ZOO,
    },
    "googlenet": {
        File("bvlc_googlenet.caffemodel", "sha1", "405fc5acd08a3bb12de8ee5e23a96bec22f08204"): BVLC,
        File(
            "inception_and_googlenet/googlenet/model/googlenet-12.onnx",
            "sha256",
            "c99c507058eaf41de8723408fdda7db8325cb57f0a89f2ee07a716d6e963e14e",
        ): MODEL_ZOO,
    },
}
"""The files of each net, and the servers of each, in the order in which they are tried."""
MOST_BYTES = 1 << 28  # the largest of them is of 244 MB
CONVERTED = "converted from ONNX of SHA-256 "


def fetch(net: str, folder: Path, base: str = "") -> str:
    """Make `folder` hold bvlc_NET.caffemodel from the first server that gives it; return what it proved to be.

    With `base`, a folder on the web, either file is looked for there alone. Raises InputError when none can be had.
    """
    path = folder / f"bvlc_{net}.caffemodel"
    with locked(folder):
        return known(path, net) if path.exists() else _fetch(net, path, base)


def _fetch(net: str, path: Path, base: str) -> str:
    problems = []
    for file, servers in FILES[net].items():
        for url in [f"{base}/{Path(file.path).name}"] if base else [f"{server}/{file.path}" for server in servers]:
            if problems:
                print(f"{problems[-1]}; trying {url}", file=sys.stderr)
            try:
                return _fetch_from(url, file, net, path)
            except InputError as error:
                problems.append(str(error))
    raise InputError(f"{problems[0]}; nor from elsewhere ({problems[-1]}); type this again to go on, or give --file")


def take(source: Path, net: str, folder: Path) -> str:
    """Make `folder` hold bvlc_NET.caffemodel out of a file that is there, of either kind; return what it proved to be.

    An ONNX file may be another conversion than the one whose sum is known; a caffemodel must be BVLC's.
    """
    path = folder / f"bvlc_{net}.caffemodel"
    if path.exists():
        raise InputError(f"{path}: is there already; remove it and type this again")
    if source.suffix.lower() == ".onnx":
        _convert(source, net, path)
    else:
        known(source, net)
        with atomic_write(path) as working:
            working.write_bytes(source.read_bytes())
    return known(path, net)


def known(path: Path, net: str) -> str:
    """Return what a caffemodel proved to be: BVLC's own, or converted; InputError when it is neither."""
    published, zoo = FILES[net]
    found = digest_of(path, published.algorithm)
    if found == published.digest:
        return "SHA1 as published"
    name = read_weights(path).name
    if not name.startswith(f"{net} {CONVERTED}"):
        raise InputError(f"{path}: its SHA1 is not {published.digest}, that of BVLC's; remove it and type this again")
    return name.removeprefix(f"{net} ") + (", the Model Zoo's" if name.endswith(zoo.digest) else ", which is not known")


def _fetch_from(url: str, file: File, net: str, path: Path) -> str:
    part = path.with_name(f"{Path(file.path).name}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        download(url, part, MOST_BYTES, bar=True)
    except requests.HTTPError as error:
        raise InputError(f"{url}: {error.response.status_code} {error.response.reason}") from None
    except requests.RequestException as error:
        raise InputError(f"{url}: no answer, or cut off ({type(error).__name__})") from None
    found = digest_of(part, file.algorithm)
    if found != file.digest:
        part.unlink()
        raise InputError(f"{url}: {file.algorithm.upper()} {found}, not {file.digest}: not the published file, removed")
    if file.path.endswith(".onnx"):
        _convert(part, net, path)
        part.unlink()
    else:
        part.replace(path)
    return known(path, net)


def _convert(source: Path, net: str, path: Path) -> None:
    param = to_caffemodel(source, net, f"{net} {CONVERTED}{digest_of(source, 'sha256')}")
    with atomic_write(path) as working:
        working.write_bytes(param.SerializeToString())


def digest_of(path: Path, algorithm: str) -> str:
    """Return a file's SHA1 or SHA-256, hexadecimal; InputError when it cannot be read."""
    try:
        return hashlib.new(algorithm, path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
