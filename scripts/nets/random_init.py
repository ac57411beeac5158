"""Nets with random weights, drawn by the fillers of their hand-written train_val.prototxt."""

from collections.abc import Iterable

import numpy as np
from google.protobuf import text_format

from data_prep.core.files import scratch_folder
from scripts.nets import batch_norm, definitions

FILLED = ("Convolution", "InnerProduct")


def load_untrained(net: str, seed: int, batches: Iterable[np.ndarray]):
    """Return a caffe.Net for prediction (phase TEST) with fresh weights in every layer.

    Batch norm knows its mean and variance only from images: fresh ones are zero, and Caffe would divide by nearly
    nothing. So a net that has such layers first sees `batches` (preprocessed, (n, 3, s, s)) in phase TRAIN, which
    normalises by the batch and fills the running statistics; a net without them leaves `batches` alone.
    """
    caffe = definitions.import_caffe()
    with scratch_folder() as folder:
        path = folder / "net.prototxt"
        path.write_text(text_format.MessageToString(deploy_with_fillers(net)))
        caffe.set_random_seed(seed)
        caffe_net = caffe.Net(str(path), caffe.TEST)
        if any(layer.type == "BatchNorm" for layer in caffe_net.layers):
            learner = caffe.Net(str(path), caffe.TRAIN)
            learner.share_with(caffe_net)
            batch_norm.reestimate_bn_statistics(learner, batches)
    return caffe_net


def deploy_with_fillers(net: str):
    """Return deploy.prototxt as a NetParameter, with the fillers of train_val.prototxt."""
    deploy, train_val = (definitions.read_net(net, kind) for kind in ("deploy", "train_val"))
    trained = {layer.name: layer for layer in train_val.layer if layer.type in FILLED}
    for layer in deploy.layer:
        if layer.type in FILLED:
            layer.CopyFrom(trained[layer.name])
    return deploy
