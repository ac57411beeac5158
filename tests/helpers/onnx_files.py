"""ONNX files of our nets, written by the `onnx` package."""

import numpy as np
from onnx import helper, numpy_helper

from scripts.nets import definitions

LARGE = 100_000  # numbers, which an ONNX file may hold as bytes only
OPERATORS = {"ReLU": "Relu", "Pooling": "MaxPool", "LRN": "LRN", "Dropout": "Dropout", "Softmax": "Softmax"}


def arrays_of(layer) -> list[np.ndarray]:
    return [np.fromiter(blob.data, np.float32, len(blob.data)).reshape(blob.shape.dim) for blob in layer.blobs]


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
