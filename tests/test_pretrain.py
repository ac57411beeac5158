"""Pre-training on fractals as a user types it, and the folding of batch norms; real Caffe on few images."""

import numpy as np
import pytest

from scripts import batch_norm, nets, pretrain


def write_net(param, path):
    """Write a pre-training net for any input: no data layers, no loss."""
    layers = [layer for layer in param.layer if layer.type not in ("Data", "SoftmaxWithLoss", "Accuracy")]
    del param.layer[:]
    data = param.layer.add(name="data", type="Input", top=["data"])
    data.input_param.shape.add().dim.extend((4, 3, 115, 115))
    param.layer.extend(layers)
    path.write_text(str(param))


@pytest.mark.parametrize("net", pretrain.CROPS)
def test_folded_net_computes_what_the_net_with_batch_norms_does(net, tmp_path):
    caffe = nets.import_caffe()
    caffe.set_mode_cpu()
    caffe.set_random_seed(1)
    param = pretrain.pretraining_net(net, categories=3)
    normed, plain = nets.read_prototxt(nets.prototxt(net, "train_val")), None
    normed.CopyFrom(param)
    plain = type(param)()
    plain.CopyFrom(param)
    for index in reversed(range(len(plain.layer))):
        if plain.layer[index].type in ("BatchNorm", "Scale"):
            del plain.layer[index]
    write_net(normed, tmp_path / "normed.prototxt")
    write_net(plain, tmp_path / "plain.prototxt")
    rng = np.random.default_rng(1)
    training = caffe.Net(str(tmp_path / "normed.prototxt"), caffe.TRAIN)
    for name, blobs in training.params.items():
        if name.endswith(batch_norm.SCALE):
            for blob in blobs:
                blob.data[...] = rng.uniform(0.5, 1.5, blob.data.shape)
    for _ in range(5):
        training.blobs["data"].data[...] = rng.normal(0, 60, training.blobs["data"].data.shape)
        training.forward()
    training.save(str(tmp_path / "normed.caffemodel"))
    folded = batch_norm.fold(pretrain.read_weights(tmp_path / "normed.caffemodel"), "folded")
    (tmp_path / "folded.caffemodel").write_bytes(folded.SerializeToString())
    images = rng.normal(0, 60, training.blobs["data"].data.shape)
    features = []
    for kind, weights in (("normed", "normed"), ("plain", "folded")):
        tested = caffe.Net(str(tmp_path / f"{kind}.prototxt"), caffe.TEST)
        tested.copy_from(str(tmp_path / f"{weights}.caffemodel"))
        tested.blobs["data"].data[...] = images
        tested.forward()
        features.append(tested.blobs["mean"].data.copy())
    want, got = features
    assert np.abs(want).max() > 0.1
    print(np.abs(got - want).max() / np.abs(want).max())
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max())
