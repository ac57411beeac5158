"""The net that is pre-trained on fractals, derived from the hand-written one.

The layers are the hand-written ones up to the last feature map, with a batch norm after each convolution. In place of
the classifier come the mean of every channel and one fully connected layer: AlexNet's own three would learn nothing
that is used later.
"""

from scripts.nets import batch_norm, definitions

CROPS = {"alexnet": 115, "googlenet": 112}
"""Pixels that each net sees of an image: its feature maps are then half as wide as usual (AlexNet's 27, 13, 6)."""


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
