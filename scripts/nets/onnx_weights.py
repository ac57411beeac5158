"""Weights of an ONNX file -> a caffemodel, for the ONNX Model Zoo's conversions of BVLC's nets.

A layer is known by its place in the net, not by its name, which every converter changes: layers with weights are taken
in the order in which one meets them going back from the last through each layer's inputs, in the ONNX graph as in our
deploy.prototxt. ONNX's messages (onnx.proto) are declared here as far as they are needed.
"""

from collections.abc import Hashable, Iterable
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from data_prep.core.errors import InputError
from data_prep.core.protobuf import message_class
from scripts.nets.caffemodel import check_fit, shapes_of
from scripts.nets.definitions import import_caffe, prototxt, read_prototxt

_SCHEMA = """
name: "onnx.proto" package: "onnx"
message_type {
  name: "Model"
  field { name: "graph" number: 7 type: TYPE_MESSAGE type_name: "Graph" label: LABEL_OPTIONAL }
}
message_type {
  name: "Graph"
  field { name: "node" number: 1 type: TYPE_MESSAGE type_name: "Node" label: LABEL_REPEATED }
  field { name: "initializer" number: 5 type: TYPE_MESSAGE type_name: "Tensor" label: LABEL_REPEATED }
}
message_type {
  name: "Node"
  field { name: "input" number: 1 type: TYPE_STRING label: LABEL_REPEATED }
  field { name: "output" number: 2 type: TYPE_STRING label: LABEL_REPEATED }
  field { name: "op_type" number: 4 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "attribute" number: 5 type: TYPE_MESSAGE type_name: "Attribute" label: LABEL_REPEATED }
}
message_type {
  name: "Attribute"
  field { name: "name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "i" number: 3 type: TYPE_INT64 label: LABEL_OPTIONAL }
  field { name: "t" number: 5 type: TYPE_MESSAGE type_name: "Tensor" label: LABEL_OPTIONAL }
}
message_type {
  name: "Tensor"
  field { name: "dims" number: 1 type: TYPE_INT64 label: LABEL_REPEATED }
  field { name: "data_type" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "float_data" number: 4 type: TYPE_FLOAT label: LABEL_REPEATED options { packed: true } }
  field { name: "name" number: 8 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "raw_data" number: 9 type: TYPE_BYTES label: LABEL_OPTIONAL }
}
"""
Model = message_class(_SCHEMA, "onnx.Model")
_PACKED = """
name: "packed.proto"
message_type { name: "Packed" field { name: "data" number: 5 type: TYPE_BYTES label: LABEL_OPTIONAL } }
"""
Packed = message_class(_PACKED, "Packed")
"""The data of a BlobProto, which lie in the file as these bytes do: AlexNet's 61 million numbers at once."""
FLOAT = 1  # onnx.proto, TensorProto.DataType
WITH_WEIGHTS = ("Convolution", "InnerProduct")
NEW = "_mass"
"""How the names of our layers end that take BVLC's place: theirs have the names without it."""


def to_caffemodel(path: Path, net: str, name: str):
    """Return a NetParameter called `name` with an ONNX file's weights under BVLC's names for the layers of `net`.

    The last layers, which are not taken over, may be missing. Raises InputError where the file is not ONNX, or has
    other layers than the net.
    """
    caffe = import_caffe()
    found = read_layers(path)
    deploy = read_prototxt(prototxt(net, "deploy"))
    kinds = {layer.name: layer.type for layer in deploy.layer}
    names = _in_order((x.name if x.type in WITH_WEIGHTS else None, x.bottom, x.top) for x in deploy.layer)
    needed = {name for name in names if not name.endswith(NEW)}
    if not len(needed) <= len(found) <= len(names):
        raise InputError(f"{path}: holds {len(found)} layers with weights, {net} has {len(names)}; another net's")
    param = caffe.proto.caffe_pb2.NetParameter(name=name)
    for ours, arrays in zip(names, found, strict=False):
        layer = param.layer.add(name=ours.removesuffix(NEW), type=kinds[ours])
        for array in arrays:
            blob = layer.blobs.add()
            blob.shape.dim.extend(array.shape)
            blob.MergeFromString(Packed(data=array.tobytes()).SerializeToString())
    check_fit(path, param, shapes_of(caffe.Net(str(prototxt(net, "deploy")), caffe.TEST)), needed)
    return param


def read_layers(path: Path) -> list[list[np.ndarray]]:
    """Return each layer's weights and bias as Caffe has them, float32, in the order of the net."""
    try:
        graph = Model.FromString(path.read_bytes()).graph
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except DecodeError:
        raise InputError(f"{path}: cut short, or not an ONNX file; get it again") from None
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    tensors |= {
        node.output[0]: a.t
        for node in graph.node
        if node.op_type == "Constant"
        for a in node.attribute
        if a.name == "value"
    }
    layers = [node if node.op_type in ("Conv", "Gemm") else None for node in graph.node]
    order = _in_order(
        (place if layer else None, node.input, node.output)
        for place, (layer, node) in enumerate(zip(layers, graph.node, strict=True))
    )
    return [_arrays(path, layers[place], tensors) for place in order]


def _arrays(path: Path, node, tensors: dict) -> list[np.ndarray]:
    """Return a layer's weights and bias; those of a matrix as Caffe has them, outputs x inputs."""
    arrays = []
    for name in node.input[1:]:
        tensor = tensors.get(name)
        values = np.frombuffer(tensor.raw_data, "<f4") if tensor and tensor.raw_data else tensor and tensor.float_data
        shape = tuple(tensor.dims) if tensor else ()
        if not tensor or tensor.data_type != FLOAT or len(values) != np.prod(shape, dtype=int):
            raise InputError(
                f"{path}: {name or node.op_type} is not a whole array of 32-bit numbers; get the file again"
            )
        arrays.append(np.array(values, np.float32).reshape(shape))
    if node.op_type == "Gemm" and not any(a.name == "transB" and a.i for a in node.attribute):
        arrays[0] = np.ascontiguousarray(arrays[0].T)
    return arrays


def _in_order(nodes: Iterable[tuple[Hashable | None, Iterable[str], Iterable[str]]]) -> list:
    """Return the layers with weights in the order of the net.

    `nodes` are all its layers, none before its inputs: (what it is called, or None without weights; inputs; outputs).
    """
    above: dict[str, dict] = {}  # the layers before each value, in order
    for layer, inputs, outputs in nodes:
        found = {name: None for value in inputs for name in above.get(value, ())}
        if layer is not None:
            found[layer] = None
        above |= dict.fromkeys(outputs, found)
    longest: dict = max(above.values(), key=len, default={})
    return list(longest)
