"""Batch normalization put into a net for its pre-training, and folded away again afterwards.

AlexNet and GoogLeNet have none: from random weights they learn little in a short training. With it they learn at once.
In phase TEST it is a fixed affine map of each channel, so it can be moved into the convolution before it: the net that
remains is the plain one, with plain weights, and computes the same.
"""

from collections.abc import Iterable

import numpy as np

from scripts.nets import definitions
from scripts.nets.caffemodel import stored_layers

NORM, SCALE = "/batch_norm", "/scale"  # what a convolution's two new layers are called after it
MOVING_AVERAGE = 0.98  # of the statistics, per iteration (Caffe's is 0.999): a short training forgets its first steps
EPSILON = 1e-5  # Caffe's


def insert(net) -> None:
    """Put BatchNorm and Scale, in place, after each convolution of a NetParameter."""
    layers = list(net.layer)
    del net.layer[:]
    for layer in layers:
        net.layer.append(layer)
        if layer.type == "Convolution":
            (top,) = layer.top
            norm = net.layer.add(name=layer.name + NORM, type="BatchNorm", bottom=[top], top=[top])
            norm.batch_norm_param.moving_average_fraction = MOVING_AVERAGE
            norm.batch_norm_param.eps = EPSILON
            scale = net.layer.add(name=layer.name + SCALE, type="Scale", bottom=[top], top=[top])
            scale.scale_param.bias_term = True
            for rate in (1, 2):
                scale.param.add(lr_mult=rate, decay_mult=0)


def reestimate_bn_statistics(net, batches: Iterable[np.ndarray]) -> None:
    """Take every batch norm's statistics from these net inputs (n, c, s, s), and leave the weights alone.

    `net` is a caffe.Net in phase TRAIN, so that each layer sees what comes of normalized batches before it.
    """
    for layer in net.layers:
        if layer.type == "BatchNorm":
            for blob in layer.blobs:
                blob.data[...] = 0
    for inputs in batches:
        net.blobs["data"].reshape(*inputs.shape)
        net.forward(data=inputs)


def fold(trained, name: str):
    """Return a NetParameter called `name` that holds the convolutions of a trained net, batch norms folded into them.

    With mean m and variance v of a channel, scale g and shift s, weights W and bias b become W g / sqrt(v + eps) and
    s + (b - m) g / sqrt(v + eps). Layers without a batch norm, the classifier, are left out.
    """
    layers = {layer.name: layer for layer in stored_layers(trained)}
    folded = definitions.import_caffe().proto.caffe_pb2.NetParameter(name=name)
    for layer in layers.values():
        if layer.name + NORM not in layers:
            continue
        weights, bias = map(_array, layer.blobs)
        mean, variance, count = map(_array, layers[layer.name + NORM].blobs)  # both are sums: the third blob divides
        scale, shift = map(_array, layers[layer.name + SCALE].blobs)
        factor = scale / np.sqrt(variance / count + EPSILON)
        plain = folded.layer.add(name=layer.name, type=layer.type)
        _add_blob(plain, weights * factor[:, None, None, None])
        _add_blob(plain, shift + (bias - mean / count) * factor)
    return folded


def _array(blob) -> np.ndarray:
    return np.array(blob.data, np.float64).reshape(blob.shape.dim)


def _add_blob(layer, values: np.ndarray) -> None:
    blob = layer.blobs.add()
    blob.shape.dim.extend(values.shape)
    blob.data.extend(values.astype(np.float32).ravel())
