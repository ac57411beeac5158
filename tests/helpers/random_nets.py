"""Nets with random weights that keep the signal's size, their snapshots and runs."""

import json
from pathlib import Path

import numpy as np

from scripts.nets import definitions, inference
from tests.helpers.databases import film_crop


def random_net(net: str, seed: int = 0):
    """A deploy net of Caffe with random weights that keep the signal's size from layer to layer."""
    caffe = definitions.import_caffe()
    caffe.set_mode_cpu()
    caffe_net = caffe.Net(str(definitions.prototxt(net, "deploy")), caffe.TEST)
    rng = np.random.default_rng(seed)
    for name, layer in caffe_net.layer_dict.items():
        blobs = [blob.data for blob in layer.blobs]
        if layer.type in ("Convolution", "InnerProduct"):
            blobs[0][...] = rng.normal(0, np.sqrt(2 / blobs[0][0].size), blobs[0].shape)
            for bias in blobs[1:]:
                bias[...] = rng.normal(0, 0.1, bias.shape)
        elif layer.type == "BatchNorm":
            mean, variance, factor = blobs
            mean[...], variance[...], factor[...] = rng.normal(0, 1, mean.shape), rng.uniform(0.5, 2, mean.shape), 1
        elif layer.type == "Scale":
            blobs[0][...], blobs[1][...] = rng.uniform(0.5, 1.5, blobs[0].shape), rng.normal(0, 0.1, blobs[1].shape)
        elif blobs:
            raise AssertionError(f"{name}: a {layer.type} layer with weights that this helper does not know")
    spread_scores(caffe_net)
    return caffe_net


def spread_scores(caffe_net) -> None:
    """Set the last layer so that film crops get scores of both classes, not far from the threshold."""
    rng = np.random.default_rng(0)
    size = caffe_net.blobs["data"].shape[-1]
    inputs = np.stack([film_crop(rng, i % 2)[:size, :size] for i in range(8)])[:, None] - 110.0
    caffe_net.blobs["data"].reshape(8, 3, size, size)
    caffe_net.forward(data=np.repeat(inputs, 3, axis=1))
    name = inference.score_blob(caffe_net)
    scores = caffe_net.blobs[name].data
    weights, bias = (blob.data for blob in caffe_net.params[name])
    shrink = 2 / (scores[:, 1] - scores[:, 0]).std()
    middle = scores.mean(axis=0) - bias
    weights *= shrink
    bias[...] = -shrink * middle


def snapshot(path: Path, net: str = "baseline", seed: int = 0) -> Path:
    """Write a random net's weights as Caffe's solver would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random_net(net, seed).save(str(path))
    return path


def run(folder: Path, data: str | Path, net: str = "baseline", iterations: int = 3, **about) -> Path:
    """Write a random net as a finished training's snapshot and run.json; return the snapshot."""
    path = snapshot(folder / f"snapshot_iter_{iterations}.caffemodel", net)
    content = {"net": net, "data": str(data), "weights": None, "iterations": iterations, "batch": 2}
    (folder / "run.json").write_text(json.dumps(content | about))
    return path
