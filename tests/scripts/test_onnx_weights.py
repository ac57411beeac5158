"""Caffemodels turned back from ONNX files, which the `onnx` package writes here from random caffemodels of our nets."""

import numpy as np
import onnx
import pytest

from data_prep.core.errors import InputError
from scripts.nets import caffemodel, definitions, onnx_weights
from tests.helpers import random_nets
from tests.helpers.onnx_files import arrays_of, graph

NETS = ("alexnet", "googlenet")


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory) -> dict:
    """A snapshot of each net, as a NetParameter."""
    folder = tmp_path_factory.mktemp("snapshots")
    return {net: caffemodel.read_weights(random_nets.snapshot(folder / f"{net}.caffemodel", net)) for net in NETS}


@pytest.mark.parametrize(
    ("net", "rename", "classifier", "trans_b"),
    [
        ("alexnet", True, 1000, False),
        ("googlenet", False, 1000, True),
        ("googlenet", True, 2, False),
        ("googlenet", True, None, True),
    ],
)
def test_weights_come_back_to_the_bit_by_their_place_in_the_net(snapshots, net, rename, classifier, trans_b, tmp_path):
    model, stored = graph(net, snapshots[net], classifier, trans_b, rename, seed=int(rename))
    onnx.save(model, tmp_path / "a.onnx")
    param = onnx_weights.to_caffemodel(tmp_path / "a.onnx", net, "a name")
    expected = {name.removesuffix("_mass"): arrays for name, arrays in stored.items() if arrays}
    if classifier is None:
        expected.popitem()
    assert param.name == "a name"
    assert [layer.name for layer in param.layer] == list(expected)
    for layer in param.layer:
        for array, wanted in zip(arrays_of(layer), expected[layer.name], strict=True):
            assert np.array_equal(array, wanted), layer.name


def test_a_net_that_starts_from_them_has_them(snapshots, tmp_path):
    net = "googlenet"
    model, stored = graph(net, snapshots[net], 1000, rename=True)
    onnx.save(model, tmp_path / "a.onnx")
    param = onnx_weights.to_caffemodel(tmp_path / "a.onnx", net, "a name")
    (tmp_path / "a.caffemodel").write_bytes(param.SerializeToString())
    caffe = definitions.import_caffe()
    caffe_net = caffe.Net(str(definitions.prototxt(net, "deploy")), caffe.TEST)
    caffe_net.copy_from(str(tmp_path / "a.caffemodel"))
    for name, blobs in caffe_net.params.items():
        same = np.array_equal(blobs[0].data, stored[name][0])
        assert same != name.endswith("_mass"), name


def test_another_nets_file_and_a_damaged_one_are_one_clear_line(snapshots, tmp_path):
    net = "googlenet"
    model, _ = graph(net, snapshots[net], 1000)
    path = tmp_path / "a.onnx"
    onnx.save(model, path)
    whole = path.read_bytes()
    with pytest.raises(InputError, match="another net's"):
        onnx_weights.to_caffemodel(path, "alexnet", "")
    model.graph.initializer[0].data_type = onnx.TensorProto.FLOAT16
    onnx.save(model, path)
    with pytest.raises(InputError, match="not a whole array of 32-bit numbers"):
        onnx_weights.to_caffemodel(path, net, "")
    for content in (whole[: len(whole) // 2], b"", b"<html>"):
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            onnx_weights.to_caffemodel(path, net, "")
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
