"""The three nets' hand-written files, and the layers that scripts look for in them.

Everything is read from the hand-written prototxt files: preprocessing from train_val.prototxt's TEST data layer, the
layers from deploy.prototxt. Caffe aborts the whole process on bad input, so what users give is checked here first.
"""

from pathlib import Path

from google.protobuf import text_format

from data_prep.core.errors import InputError
from data_prep.core.files import LARGEST_TEXT, read_bytes

ROOT = Path(__file__).resolve().parents[2]
NETS = ("baseline", "alexnet", "googlenet")


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
        return text_format.Parse(read_bytes(path, LARGEST_TEXT), getattr(caffe_pb2, message)())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from None


def read_net(net: str, kind: str = "train_val"):
    """Return a net's hand-written train_val.prototxt or deploy.prototxt as a NetParameter."""
    return read_prototxt(prototxt(net, kind))


def data_layer(train_val, phase: str):
    """Return the Data layer of a train_val NetParameter for "TRAIN" or "TEST"."""
    value = import_caffe().proto.caffe_pb2.Phase.Value(phase)
    return next(layer for layer in train_val.layer if layer.type == "Data" and layer.include[0].phase == value)


def last_feature_layer(param) -> str:
    """Return the layer of a NetParameter whose output, named alike, is the last feature map.

    AlexNet's pool5, GoogLeNet's inception_5b/output: the last concatenation or max pooling.
    """
    *_, last = (
        layer.name
        for layer in param.layer
        if layer.type == "Concat" or (layer.type == "Pooling" and layer.pooling_param.pool == layer.pooling_param.MAX)
    )
    return last


def slow_layers(train_val) -> set[str]:
    """Return the layers held at lr_mult < 1: they are to keep what they learnt on ImageNet, so must not be random."""
    return {layer.name for layer in train_val.layer if layer.param and layer.param[0].lr_mult < 1}
