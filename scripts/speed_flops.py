"""How many floating point operations a net in training takes, by layer, from its shapes."""

from math import prod


def flops(net) -> list[dict]:
    """Return name, type, forward and backward operations of each layer of a caffe.Net; a multiply-add counts as two.

    Counted are convolutions and inner products: the rest is some operations for a number, not hundreds. Backward is the
    weights' gradient and, but for the layer that the data go into, the input's: each as many operations as forward.
    """
    rows = []
    fed = set(net.top_names[net._layer_names[0]])
    for name, layer in net.layer_dict.items():
        forward = backward = 0
        if layer.type in ("Convolution", "InnerProduct"):
            weights = net.params[name][0].shape
            forward = 2 * prod(net.blobs[net.top_names[name][0]].shape) * prod(weights[1:])  # [1]: of the group alone
            backward = forward * (1 if fed & set(net.bottom_names[name]) else 2)
        rows.append({"name": name, "type": layer.type, "forward": forward, "backward": backward})
    return rows
