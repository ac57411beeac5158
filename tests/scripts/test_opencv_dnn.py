"""Our snapshots in another reader of Caffe's format, which we did not write: OpenCV's DNN module."""

import cv2
import numpy as np
import pytest

from scripts.evaluation import saliency_maps
from scripts.nets import definitions, inference
from tests.helpers import databases, random_nets

ROUNDING = 1e-4
"""Of a blob's largest value. The two add in another order, which is 1e-5 at most before the scores, and more there, for
spread_scores takes off what all images share. A layer that is read otherwise differs by a tenth and more."""


@pytest.mark.parametrize("net", definitions.NETS)
def test_opencv_computes_every_layer_of_a_snapshot_as_caffe_does(net, tmp_path):
    weights = random_nets.snapshot(tmp_path / "snapshot_iter_1.caffemodel", net)
    caffe_net = inference.load_deploy(net, weights)
    rng = np.random.default_rng(2)
    size = caffe_net.blobs["data"].shape[-1]
    crops = np.stack([inference.centre_crop(databases.film_crop(rng, i % 2), size) for i in range(4)])
    inputs = np.repeat(crops[:, None] - np.float32(110), 3, axis=1)
    scores, probabilities = saliency_maps.forward(caffe_net, inputs)
    assert np.ptp(scores[:, 1] - scores[:, 0]) > 1, "the images must differ to the net for this test"

    opencv_net = cv2.dnn.readNetFromCaffe(str(definitions.prototxt(net, "deploy")), str(weights))
    opencv_net.setInput(inputs)
    # of the layers that write one blob in turn, in place, the last one: only its output remains in Caffe
    writers = {
        layer.top[0]: layer.name for layer in definitions.read_prototxt(definitions.prototxt(net, "deploy")).layer
    }
    del writers["data"]
    for (blob, writer), found in zip(writers.items(), opencv_net.forward(list(writers.values())), strict=True):
        expected = caffe_net.blobs[blob].data
        assert found.shape == expected.shape, writer
        assert np.abs(found - expected).max() < ROUNDING * np.abs(expected).max(), writer
    np.testing.assert_allclose(found, probabilities, atol=ROUNDING)
