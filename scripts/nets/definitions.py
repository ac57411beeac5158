"""What the drivers share about the three nets: their files, their weights, and running them.

Everything is read from the hand-written prototxt files: preprocessing from train_val.prototxt's TEST data layer, the
layers from deploy.prototxt. Caffe aborts the whole process on bad input, so what users give is checked here first.
"""

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
from google.protobuf import text_format

from data_prep.core.records import InputError
from data_prep.database import lmdb_io
from scripts.nets.caffemodel import check_fit, read_weights, shapes_of, stored_layers

ROOT = Path(__file__).resolve().parents[2]
NETS = ("baseline", "alexnet", "googlenet")
# set_device alone does not touch a GPU that is the first; the timer does.
TRIAL = "caffe.set_device(gpu); caffe.set_mode_gpu(); caffe.Timer().start(); print(gpu, flush=True)"
REFUSALS = {
    "CPU-only": "this Caffe is built without CUDA; for one with it: scripts/install/setup.sh --cuda",
    "driver version": "no driver for CUDA 13 answers; see nvidia-smi; a container wants docker run --gpus all",
    "": "no usable GPU of that id; see nvidia-smi",
}
"""What is said of the GPU that Caffe refuses, by what Caffe says."""


def import_caffe():
    """Return the caffe module; InputError when it is not installed."""
    try:
        import caffe
    except ImportError as error:
        raise InputError(f"Caffe cannot be imported ({error}); run: make setup; source .venv/bin/activate") from None
    return caffe


def prototxt(net: str, kind: str) -> Path:
    """Return the path of a net's hand-written file; `kind` is "train_val" or "deploy"."""
    return ROOT / "prototxt" / net / f"{kind}.prototxt"


def solver_prototxt(net: str) -> Path:
    """Return the path of a net's hand-written solver."""
    return ROOT / "solvers" / f"{net}.prototxt"


def read_prototxt(path: Path, message: str = "NetParameter"):
    """Return a text file as this message of caffe.proto; InputError names the line that does not parse."""
    caffe_pb2 = import_caffe().proto.caffe_pb2
    try:
        return text_format.Parse(path.read_text(), getattr(caffe_pb2, message)())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except text_format.ParseError as error:
        raise InputError(f"{path}: {error}") from None


def data_layer(train_val, phase: str):
    """Return the Data layer of a train_val NetParameter for "TRAIN" or "TEST"."""
    value = import_caffe().proto.caffe_pb2.Phase.Value(phase)
    return next(layer for layer in train_val.layer if layer.type == "Data" and layer.include[0].phase == value)


def slow_layers(train_val) -> set[str]:
    """Return the layers held at lr_mult < 1: they are to keep what they learnt on ImageNet, so must not be random."""
    return {layer.name for layer in train_val.layer if layer.param and layer.param[0].lr_mult < 1}


def read_snapshot(path: Path):
    """Return a caffemodel of one of our nets as a NetParameter.

    Raises InputError when it is cut short (also where the cut leaves a readable file with fewer layers) or another
    net's: a net's `name` is its folder's.
    """
    param = read_weights(path)
    if param.name not in NETS:
        raise InputError(f"{path}: holds the net {param.name!r}, not one of {', '.join(NETS)}; give a trained snapshot")
    names = {layer.name for layer in stored_layers(param)}
    deploy = read_prototxt(prototxt(param.name, "deploy"))
    if any(layer.name not in names for layer in deploy.layer if layer.type not in ("Input", "Softmax")):
        raise InputError(f"{path}: cut short, or of another version of {param.name}; train again")
    return param


def net_of(weights: Path) -> str:
    """Return which net a snapshot holds; errors as read_snapshot."""
    return read_snapshot(weights).name


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


def load_deploy(net: str, weights: Path, batch: int = 1):
    """Return a caffe.Net for prediction (phase TEST, `batch` images) with every layer's weights from a snapshot."""
    caffe = import_caffe()
    param = read_weights(weights)
    caffe_net = caffe.Net(str(prototxt(net, "deploy")), caffe.TEST)
    shapes = shapes_of(caffe_net)
    check_fit(weights, param, shapes, needed=set(shapes))
    caffe_net.copy_from(str(weights))
    caffe_net.blobs["data"].reshape(batch, *caffe_net.blobs["data"].shape[1:])
    caffe_net.reshape()
    return caffe_net


def preprocess(net: str, images: np.ndarray, data: Path) -> np.ndarray:
    """Return what Caffe's TEST Data layer feeds the net for uint8 grey images (n, 227, 227): float32 (n, 3, s, s).

    Centre crop, mean, scale, as the net's train_val.prototxt says. `data` is the LMDB folder whose mean.binaryproto
    is taken where the net wants a mean file.
    """
    transform = _test_transform(net)
    if transform.HasField("mean_file"):
        mean = centre_crop(lmdb_io.read_mean(data / lmdb_io.MEAN), transform.crop_size)
    else:
        mean = np.array(transform.mean_value, np.float32)[:, None, None]
    images = centre_crop(images, transform.crop_size)[:, None].astype(np.float32)
    return (images - mean) * np.float32(transform.scale)


@cache  # a set is preprocessed in many batches, and GoogLeNet's file takes a while to parse
def _test_transform(net: str):
    return data_layer(read_prototxt(prototxt(net, "train_val")), "TEST").transform_param


def centre_crop(images: np.ndarray, size: int) -> np.ndarray:
    """Return the middle size x size of images (..., rows, columns), as Caffe's TEST transformer cuts it."""
    top, left = ((side - size) // 2 for side in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


def score_blob(caffe_net) -> str:
    """Return the name of the unnormalised class scores: what the Softmax layer of a deploy net takes in."""
    name = next(name for name, layer in caffe_net.layer_dict.items() if layer.type == "Softmax")
    return caffe_net.bottom_names[name][0]


def predict(caffe_net, inputs: np.ndarray) -> np.ndarray:
    """Return the class probabilities (n, 2) float32 (benign, malignant) of preprocessed inputs (n, 3, s, s)."""
    data = caffe_net.blobs["data"].data
    probabilities = np.empty((len(inputs), 2), np.float32)
    for start in range(0, len(inputs), len(data)):
        chunk = inputs[start : start + len(data)]
        data[: len(chunk)] = chunk  # a short last chunk leaves old images behind it, whose results are not read
        probabilities[start : start + len(chunk)] = caffe_net.forward()["prob"][: len(chunk)]
    return probabilities


def set_mode(gpu: str | None) -> None:
    """Let Caffe compute on the CPU (None) or on one GPU, given by its id; InputError when it cannot."""
    if gpu is not None and not gpu.isdecimal():
        raise InputError(f"--gpu {gpu}: give the id of one GPU, such as 0")
    use(*tried(gpu))


def tried(gpus: str | None) -> list[int | None]:
    """Return the ids of the GPUs that were typed: "0", "0,1", or "all", every one that is visible. CPU: None, [None].

    InputError when one cannot be used: that would make Caffe abort, so a child process tries them first.
    """
    import_caffe()
    if gpus is None:
        return [None]
    wanted = "itertools.count()"  # all: up to the first that is not there
    if gpus != "all":
        if not all(map(str.isdecimal, gpus.split(","))):
            raise InputError(f"--gpu {gpus}: give the id of a GPU, such as 0, of several, such as 0,1, or all")
        wanted = list(dict.fromkeys(map(int, gpus.split(","))))
    trial = f"import caffe, itertools\nfor gpu in {wanted}:\n    {TRIAL}"
    child = subprocess.run([sys.executable, "-c", trial], capture_output=True, text=True)
    usable = list(map(int, child.stdout.split()))
    if not usable or (child.returncode and gpus != "all"):
        why = next(why for said, why in REFUSALS.items() if said in child.stderr)
        raise InputError(f"--gpu {gpus}: {why}; leave --gpu out to use the CPU")
    return usable


def use(gpu: int | None) -> None:
    """Let Caffe compute on the CPU (None) or on a GPU that was tried."""
    caffe = import_caffe()
    if gpu is None:
        caffe.set_mode_cpu()
    else:
        caffe.set_device(gpu)
        caffe.set_mode_gpu()
