"""Prediction with a trained net: loading it, preprocessing as Caffe's Data layer does, class probabilities."""

from functools import cache
from pathlib import Path

import numpy as np

from data_prep.core.errors import InputError
from data_prep.database import lmdb_io
from scripts.nets.caffemodel import check_fit, read_weights, shapes_of
from scripts.nets.definitions import data_layer, import_caffe, prototxt, read_net


def load_deploy(net: str, weights: Path, batch: int = 1):
    """Return a caffe.Net for prediction (phase TEST, `batch` images) with every layer's weights from a snapshot."""
    caffe = import_caffe()
    param = read_weights(weights)
    caffe_net = caffe.Net(str(prototxt(net, "deploy")), caffe.TEST)
    shapes = shapes_of(caffe_net)
    check_fit(weights, param, shapes, needed=set(shapes))
    caffe_net.copy_from(str(weights))
    caffe_net.blobs["data"].reshape(batch, *caffe_net.blobs["data"].shape[1:])
    caffe_net.reshape()
    return caffe_net


def preprocess(net: str, images: np.ndarray, data: Path) -> np.ndarray:
    """Return what Caffe's TEST Data layer feeds the net for uint8 grey images (n, 227, 227): float32 (n, 3, s, s).

    Centre crop, mean, scale, as the net's train_val.prototxt says. `data` is the LMDB folder whose mean.binaryproto
    is taken where the net wants a mean file.
    """
    transform = _test_transform(net)
    if min(images.shape[-2:]) < transform.crop_size:
        raise InputError(f"{data}: images of {images.shape[-2:]}, smaller than the net's {transform.crop_size}")
    if transform.HasField("mean_file"):
        mean = lmdb_io.read_mean(data / lmdb_io.MEAN)
        if mean.shape != (3, *images.shape[-2:]):
            raise InputError(f"{data / lmdb_io.MEAN}: not of the images' size {images.shape[-2:]}; build anew")
        mean = centre_crop(mean, transform.crop_size)
    else:
        mean = np.array(transform.mean_value, np.float32)[:, None, None]
    images = centre_crop(images, transform.crop_size)[:, None].astype(np.float32)
    return (images - mean) * np.float32(transform.scale)


@cache  # a set is preprocessed in many batches, and GoogLeNet's file takes a while to parse
def _test_transform(net: str):
    return data_layer(read_net(net), "TEST").transform_param


def centre_crop(images: np.ndarray, size: int) -> np.ndarray:
    """Return the middle size x size of images (..., rows, columns), as Caffe's TEST transformer cuts it."""
    top, left = ((side - size) // 2 for side in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


def score_blob(caffe_net) -> str:
    """Return the name of the unnormalised class scores: what the Softmax layer of a deploy net takes in."""
    name = next(name for name, layer in caffe_net.layer_dict.items() if layer.type == "Softmax")
    return caffe_net.bottom_names[name][0]


def predict(caffe_net, inputs: np.ndarray) -> np.ndarray:
    """Return the class probabilities (n, 2) float32 (benign, malignant) of preprocessed inputs (n, 3, s, s)."""
    data = caffe_net.blobs["data"].data
    probabilities = np.empty((len(inputs), 2), np.float32)
    for start in range(0, len(inputs), len(data)):
        chunk = inputs[start : start + len(data)]
        data[: len(chunk)] = chunk  # a short last chunk leaves old images behind it, whose results are not read
        probabilities[start : start + len(chunk)] = caffe_net.forward()["prob"][: len(chunk)]
    return probabilities
