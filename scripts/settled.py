"""A net pre-trained on fractals, its batch norms set for images of every brightness before they are folded away.

A fractal is bright on black, and a mass's crop is bright nearly everywhere. Where the statistics are those of the
training, GoogLeNet's activations on mammograms grow from layer to layer, and fine-tuning at the paper's rates diverges
within a few iterations. So mean and variance are taken anew, the weights left alone, from fractals in every light: dark
on bright as often as bright on dark. No mammogram has a part in it.
"""

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from google.protobuf import text_format

from data_prep import lmdb_io
from scripts import batch_norm, nets
from scripts.weights import read_weights

BATCH, BATCHES = 32, 100  # of fractals


def settled(train_val, weights: Path, data: Path, seed: int):
    """Return a pre-trained net as a NetParameter with statistics of fractals in every light.

    `train_val` is the NetParameter it was trained as, `weights` its snapshot, `data` the set of fractals.
    """
    caffe = nets.import_caffe()
    side = nets.data_layer(train_val, "TRAIN").transform_param.crop_size
    mean = np.array(nets.data_layer(train_val, "TRAIN").transform_param.mean_value, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        prototxt, whole = Path(folder) / "net.prototxt", Path(folder) / "net.caffemodel"
        prototxt.write_text(text_format.MessageToString(without_data(train_val, side)))
        net = caffe.Net(str(prototxt), str(weights), caffe.TRAIN)
        batch_norm.settle(net, (images - mean[:, None, None] for images in lit(data, side, seed)))
        net.save(str(whole))
        return read_weights(whole)


def without_data(train_val, side: int):
    """Return a train_val NetParameter with an Input layer for its Data layers, and without what takes labels."""
    net = nets.import_caffe().proto.caffe_pb2.NetParameter(name=train_val.name)
    image = net.layer.add(name="data", type="Input", top=["data"])
    image.input_param.shape.add(dim=[1, 3, side, side])
    net.layer.extend(layer for layer in train_val.layer if "label" not in (*layer.bottom, *layer.top))
    return net


def lit(data: Path, side: int, seed: int) -> Iterator[np.ndarray]:
    """Yield batches (n, 1, side, side) float32 of the set's first training fractals, each in a light of its own.

    The level of the ground and that of the densest points are each uniform in 0 to 255.
    """
    rng = np.random.default_rng(seed)
    records = islice(lmdb_io.records(data / "train"), BATCH * BATCHES)
    while some := list(islice(records, BATCH)):
        images = np.stack([nets.centre_crop(record.image, side) for record in some]).astype(np.float32) / 255
        ground, peak = rng.uniform(0, 255, (2, len(some), 1, 1)).astype(np.float32)
        yield (ground + (peak - ground) * images)[:, None]
