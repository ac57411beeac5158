"""The net that is pre-trained on fractals, derived from the hand-written one.

The layers are the hand-written ones up to the last feature map, with a batch norm after each convolution. In place of
the classifier come the mean of every channel and one fully connected layer: AlexNet's own three would learn nothing
that is used later.

After training, two steps make the net fit for fine-tuning without batch norms (`recalibrate`). Both
leave what the net computes as it is, but for LRN, and both are needed: without either, fine-tuning GoogLeNet at the
paper's rates diverges within five iterations.

Light. A fractal is bright on black, a mass's crop is bright nearly everywhere, and with the statistics of the former
the activations grow from layer to layer on the latter. So mean and variance are taken anew, the weights left alone,
from fractals in every light: dark on bright as often as bright on dark. No mammogram has a part in it.

Scale. Batch norm makes every layer's output as large as 1, from data in the hundreds: folded in, the first weights
would be so small that one step at the paper's rate overturned them. So outputs fall from FIRST to LAST over the depth
of the net, which brings the weights to the size that such rates are made for, BVLC's.
"""

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from google.protobuf import text_format

from data_prep.database import lmdb_io
from scripts.nets import batch_norm, definitions, inference
from scripts.nets.caffemodel import read_weights

CROPS = {"alexnet": 115, "googlenet": 112}
"""Pixels that each net sees of an image: its feature maps are then half as wide as usual (AlexNet's 27, 13, 6)."""
BATCH, BATCHES = 32, 100  # of fractals
FIRST, LAST = 32, 1  # standard deviation of a block's output before its ReLU, about


def derive(net: str, categories: int):
    """Return the train_val NetParameter in which the convolutions of `net` learn to tell so many categories."""
    param = definitions.read_prototxt(definitions.prototxt(net, "train_val"))
    for phase in ("TRAIN", "TEST"):
        definitions.data_layer(param, phase).transform_param.crop_size = CROPS[net]
    while not is_feature(param.layer[-1]):
        del param.layer[-1]
    for layer in param.layer:
        if layer.type == "Convolution":
            filler = layer.convolution_param.weight_filler
            filler.Clear()
            filler.type = "msra"  # under batch norm a weight's size sets how fast it learns: alike in both nets
    features = param.layer[-1].top[0]
    batch_norm.insert(param)
    pool = param.layer.add(name="mean", type="Pooling", bottom=[features], top=["mean"])
    pool.pooling_param.pool, pool.pooling_param.global_pooling = pool.pooling_param.AVE, True
    score = param.layer.add(name="category", type="InnerProduct", bottom=["mean"], top=["category"])
    score.inner_product_param.num_output = categories
    score.inner_product_param.weight_filler.type = "xavier"
    for decay in (1, 0):
        score.param.add(decay_mult=decay)
    for name, kind in (("loss", "SoftmaxWithLoss"), ("accuracy", "Accuracy")):
        param.layer.add(name=name, type=kind, bottom=["category", "label"], top=[name])
    return param


def is_feature(layer) -> bool:
    """Whether a layer still makes feature maps: AlexNet's pool5 and GoogLeNet's inception_5b/output are the last."""
    return layer.type == "Concat" or (layer.type == "Pooling" and layer.pooling_param.pool == layer.pooling_param.MAX)


def recalibrate(train_val, weights: Path, data: Path, seed: int):
    """Return a pre-trained net as a NetParameter, its outputs scaled and its statistics of fractals in every light.

    `train_val` is the NetParameter it was trained as, `weights` its snapshot, `data` the set of fractals.
    """
    caffe = definitions.import_caffe()
    side = definitions.data_layer(train_val, "TRAIN").transform_param.crop_size
    mean = np.array(definitions.data_layer(train_val, "TRAIN").transform_param.mean_value, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        prototxt, whole = Path(folder) / "net.prototxt", Path(folder) / "net.caffemodel"
        prototxt.write_text(text_format.MessageToString(without_data(train_val, side)))
        net = caffe.Net(str(prototxt), str(weights), caffe.TRAIN)
        rescale(net)
        batch_norm.reestimate_bn_statistics(net, (images - mean[:, None, None] for images in lit(data, side, seed)))
        net.save(str(whole))
        return read_weights(whole)


def rescale(net) -> None:
    """Let the outputs of a caffe.Net's blocks fall geometrically from FIRST to LAST.

    A block is one of AlexNet's layers, or one of GoogLeNet's inception modules, whose outputs are concatenated and so
    must be alike; its reductions lie halfway from the block before. The next batch norm undoes what the scale does.
    """
    names = [name for name in net.params if name.endswith(batch_norm.SCALE)]
    blocks = list(dict.fromkeys(name.partition("/")[0] for name in names))
    for name in names:
        depth = blocks.index(name.partition("/")[0]) - 0.5 * ("reduce" in name)
        for blob in net.params[name]:
            blob.data[...] *= FIRST * (LAST / FIRST) ** (depth / (len(blocks) - 1))


def without_data(train_val, side: int):
    """Return a train_val NetParameter with an Input layer for its Data layers, and without what takes labels."""
    net = definitions.import_caffe().proto.caffe_pb2.NetParameter(name=train_val.name)
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
        images = np.stack([inference.centre_crop(record.image, side) for record in some]).astype(np.float32) / 255
        ground, peak = rng.uniform(0, 255, (2, len(some), 1, 1)).astype(np.float32)
        yield (ground + (peak - ground) * images)[:, None]
