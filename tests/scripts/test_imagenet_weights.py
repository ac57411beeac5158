"""Caffemodels turned back from ONNX files, which the `onnx` package writes here from random caffemodels of our nets."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from data_prep.core.errors import InputError
from scripts.nets import caffemodel, definitions, onnx_weights
from tests.helpers import random_nets

NETS = ("alexnet", "googlenet")
LARGE = 100_000  # numbers, which an ONNX file may hold as bytes only
OPERATORS = {"ReLU": "Relu", "Pooling": "MaxPool", "LRN": "LRN", "Dropout": "Dropout", "Softmax": "Softmax"}


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory) -> dict:
    """A snapshot of each net, as a NetParameter."""
    folder = tmp_path_factory.mktemp("snapshots")
    return {net: caffemodel.read_weights(random_nets.snapshot(folder / f"{net}.caffemodel", net)) for net in NETS}


def arrays_of(layer) -> list[np.ndarray]:
    return [np.array(blob.data, np.float32).reshape(blob.shape.dim) for blob in layer.blobs]


def graph(net: str, weights, classifier: int | None, trans_b: bool = True, rename: bool = False, seed: int = 0):
    """Return the net as an ONNX model, its branches in any order, with a classifier of that many rows, or none."""
    rng = np.random.default_rng(seed)
    stored = {layer.name: arrays_of(layer) for layer in weights.layer}
    called, nodes, initializers, current = {}, [], [], {"data": "data"}

    def name(text: str) -> str:
        return called.setdefault(text, f"n{rng.integers(1 << 60)}") if rename else text

    def tensor(text: str, values: np.ndarray) -> str:
        if values.size > LARGE or rng.integers(2):
            initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name(text)))
        else:
            initializers.append(helper.make_tensor(name(text), 1, values.shape, values.ravel().tolist()))
        return name(text)

    deploy = definitions.read_prototxt(definitions.prototxt(net, "deploy")).layer
    last = next(layer.name for layer in reversed(deploy) if layer.type == "InnerProduct")
    for layer in deploy[1:]:
        inputs, output = [current[bottom] for bottom in layer.bottom], name(f"{layer.name}_out")
        if layer.name == last and classifier is None:
            break
        if layer.type in ("Convolution", "InnerProduct"):
            values = stored[layer.name]
            if layer.name == last:
                values = [rng.normal(size=(classifier, *values[0].shape[1:])), rng.normal(size=classifier)]
                stored[last] = values = [array.astype(np.float32) for array in values]
            matrix = layer.type == "InnerProduct"
            if matrix:
                shape = numpy_helper.from_array(np.array([1, -1]), name(f"{layer.name}_shape"))
                initializers.append(shape)
                flat = name(f"{layer.name}_flat")
                nodes.append(helper.make_node("Reshape", [*inputs, shape.name], [flat]))
                inputs = [flat]
            w = values[0].T if matrix and not trans_b else values[0]
            inputs += [tensor(f"{layer.name}_w", w), tensor(f"{layer.name}_b", values[1])]
            options = {"transB": 1} if matrix and trans_b else {}
            nodes.append(helper.make_node("Gemm" if matrix else "Conv", inputs, [output], **options))
        elif layer.type == "Concat":
            nodes.append(helper.make_node("Concat", inputs, [output], axis=1))
        else:
            nodes.append(helper.make_node(OPERATORS[layer.type], inputs, [output]))
        current[layer.top[0]] = output
    ends = [helper.make_tensor_value_info(node, 1, None) for node in (nodes[-1].output[0],)]
    start = [helper.make_tensor_value_info("data", 1, None)]
    model = helper.make_graph(shuffled(nodes, rng), net, start, ends, initializers)
    return helper.make_model(model), stored


def shuffled(nodes: list, rng: np.random.Generator) -> list:
    """Return the nodes in a random order in which each comes after those that it takes its inputs from."""
    made_by = {node.output[0] for node in nodes}
    order, there = [], set()
    while nodes:
        ready = [i for i, node in enumerate(nodes) if all(name in there for name in node.input if name in made_by)]
        node = nodes.pop(rng.choice(ready))
        order.append(node)
        there.add(node.output[0])
    return order


@pytest.mark.parametrize(
    ("net", "rename", "classifier", "trans_b"),
    [
        ("alexnet", False, 1000, False),
        ("alexnet", True, None, True),
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
