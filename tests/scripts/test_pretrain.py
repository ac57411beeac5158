"""Pre-training on fractals as a user types it, and the folding of batch norms; real Caffe on few images."""

import csv
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from data_prep.synthesis import fractal_set
from scripts.nets import batch_norm, definitions
from scripts.nets.caffemodel import read_weights, stored_layers
from scripts.training import fractal_pretraining, settings
from tests.helpers import databases

SCRIPTS = definitions.ROOT / "scripts"
CATEGORIES = 3
# The same script, stopped by Ctrl-C as soon as it has saved a snapshot.
STOPPED = """
import os, signal, sys
from scripts import pretrain
from scripts.training import loop, snapshots
loop.SNAPSHOT_SECONDS = 0
save = snapshots.save
def save_and_stop(*args):
    save(*args)
    os.kill(os.getpid(), signal.SIGINT)
snapshots.save = save_and_stop
sys.exit(pretrain.run(pretrain.main))
"""


@pytest.fixture
def root(tmp_path, data):
    """A folder laid out like the repository's root, with few fractals."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "fractals").symlink_to(data)
    return tmp_path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "fractals"
    fractal_set.ensure(folder, CATEGORIES, images=66, workers=1)
    return folder


def python(root, *command):
    """Run Python to its end; return exit status, standard output, standard error."""
    environment = os.environ | {"PYTHONPATH": str(definitions.ROOT)}
    done = subprocess.run([sys.executable, *command], cwd=root, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def pretrain(root, *options):
    return python(root, SCRIPTS / "pretrain.py", *options)


def fails(root, *options):
    status, _, err = pretrain(root, *options)
    assert status == 2 and err.count("\n") == 1, err
    return err


def write_net(path, param, without=()):
    """Write a pre-training net as one that takes any input of 4 x 3 x 115 x 115."""
    net = type(param)()
    data = net.layer.add(name="data", type="Input", top=["data"])
    data.input_param.shape.add().dim.extend((4, 3, 115, 115))
    left_out = ("Data", "SoftmaxWithLoss", "Accuracy", *without)
    net.layer.extend(layer for layer in param.layer if layer.type not in left_out)
    path.write_text(str(net))
    return str(path)


@pytest.mark.parametrize("net", fractal_pretraining.CROPS)
def test_folded_net_computes_what_the_net_with_batch_norms_does(net, tmp_path):
    caffe = definitions.import_caffe()
    caffe.set_mode_cpu()
    caffe.set_random_seed(1)
    rng = np.random.default_rng(1)
    param = fractal_pretraining.derive(net, CATEGORIES)
    normed = write_net(tmp_path / "normed.prototxt", param)
    plain = write_net(tmp_path / "plain.prototxt", param, without=("BatchNorm", "Scale"))
    training = caffe.Net(normed, caffe.TRAIN)
    for name, blobs in training.params.items():
        if name.endswith(batch_norm.SCALE):
            for blob in blobs:
                blob.data[...] = rng.uniform(0.5, 1.5, blob.data.shape)
    shape = training.blobs["data"].data.shape
    for _ in range(3):  # the running statistics become those of something
        training.blobs["data"].data[...] = rng.normal(20, 60, shape)
        training.forward()
    training.save(str(tmp_path / "normed.caffemodel"))
    folded = batch_norm.fold(read_weights(tmp_path / "normed.caffemodel"), "folded")
    (tmp_path / "folded.caffemodel").write_bytes(folded.SerializeToString())
    images = rng.normal(20, 60, shape)

    def features(prototxt, weights):
        tested = caffe.Net(prototxt, str(tmp_path / weights), caffe.TEST)
        tested.blobs["data"].data[...] = images
        tested.forward()
        return tested.blobs["mean"].data.copy()

    want = features(normed, "normed.caffemodel")
    assert want.std() > 0.1
    np.testing.assert_allclose(features(plain, "folded.caffemodel"), want, rtol=0, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("net", fractal_pretraining.CROPS)
def test_the_derived_net_learns_at_full_rate_and_is_the_hand_written_one_up_to_its_features(net):
    written = definitions.read_prototxt(definitions.prototxt(net, "train_val"))
    derived = {layer.name: layer for layer in fractal_pretraining.derive(net, CATEGORIES).layer}
    for layer in written.layer:
        if layer.type == "Convolution":
            own = derived[layer.name]
            assert own.bottom == layer.bottom and own.top == layer.top
            for same in ("num_output", "kernel_size", "stride", "pad", "group"):
                assert getattr(own.convolution_param, same) == getattr(layer.convolution_param, same)
            assert derived[layer.name + batch_norm.NORM].bottom == layer.top
    assert not any("mass" in name for name in derived)  # nothing of the classifier


@pytest.mark.slow
def test_alexnet_stops_goes_on_and_its_file_fills_every_convolution(root, capsys, monkeypatch):
    """Stopped and typed again, a run ends with the very file that it would have without the stop."""
    options = ("--net", "alexnet", "--epochs", "2")
    whole = root / "whole.caffemodel"
    status, _, err = pretrain(root, *options, "--out", whole)
    assert status == 0, err
    status, _, err = python(root, "-c", STOPPED, *options)
    assert status == 128 + signal.SIGINT, err
    assert "stopped after iteration 1 of 3; to go on: python" in err
    made = root / "weights" / "fractal_alexnet.caffemodel"
    assert not made.exists()
    assert "begun with other options" in fails(root, "--net", "alexnet", "--epochs", "1")
    status, out, err = pretrain(root, *options)
    assert status == 0, err
    assert "going on after iteration 1 of 3" in out
    assert weights_of(made) == weights_of(whole)
    content = json.loads(made.with_suffix(".json").read_text())
    assert content["sha256"] == hashlib.sha256(made.read_bytes()).hexdigest()
    assert content["data_digest"] == fractal_set.read_manifest(root / "data" / "fractals")["digest"]
    with (root / "weights" / "fractal_alexnet.run" / "log.csv").open(newline="") as file:
        assert content["val_accuracy"] == float(list(csv.DictReader(file))[-1]["val_accuracy"])
    assert "is there already" in fails(root, *options)

    monkeypatch.chdir(root)
    databases.write_counts(root / "data" / "lmdb", train=2, val=2)
    typed = {"net": "alexnet", "data": None, "weights": made, "from_scratch": None, "epochs": 1, "iterations": None}
    settings.check_weights(settings.new_settings(settings.Options(**typed)))
    assert "fills 5 layers; at random start: fc6_mass, fc7_mass, fc8_mass" in capsys.readouterr().out


def weights_of(path):
    return [(layer.name, [list(blob.data) for blob in layer.blobs]) for layer in stored_layers(read_weights(path))]


@pytest.mark.slow
def test_googlenet_is_pretrained_and_then_fine_tuned(root):
    status, out, err = pretrain(root, "--net", "googlenet", "--epochs", "1")
    assert status == 0, err
    assert "next: python scripts/train.py --net googlenet --weights weights/fractal_googlenet.caffemodel" in out
    databases.write_counts(root / "data" / "lmdb", train=2, val=2)
    options = ("--net", "googlenet", "--weights", "weights/fractal_googlenet.caffemodel", "--iterations", "1")
    status, out, err = python(root, SCRIPTS / "train.py", *options, "--batch", "2")
    assert status == 0, err
    assert "fills 57 layers; at random start: loss3/classifier_mass" in out


def test_what_cannot_be_is_said_in_one_line(root):
    assert "ending .caffemodel" in fails(root, "--net", "alexnet", "--out", "weights/mine")
    assert "holds a set of categories 3" in fails(root, "--net", "alexnet", "--categories", "4")
    assert "no whole set of fractals" in fails(root, "--net", "alexnet", "--data", "data")


@pytest.mark.parametrize("net", fractal_pretraining.CROPS)
def test_settled_batch_norms_have_the_statistics_of_fractals_in_every_light_and_the_weights_stay(net, data, tmp_path):
    param = fractal_pretraining.derive(net, CATEGORIES)
    (tmp_path / "net.prototxt").write_text(str(fractal_pretraining.without_data(param, fractal_pretraining.CROPS[net])))
    caffe = definitions.import_caffe()
    caffe.set_random_seed(1)
    caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST).save(str(tmp_path / "trained.caffemodel"))

    found = fractal_pretraining.recalibrate(param, tmp_path / "trained.caffemodel", data, seed=1)

    blobs = {layer.name: [np.array(blob.data) for blob in layer.blobs] for layer in found.layer}
    trained = {layer.name: layer for layer in read_weights(tmp_path / "trained.caffemodel").layer}
    first = next(layer.name for layer in param.layer if layer.type == "Convolution")
    np.testing.assert_array_equal(blobs[first][0], np.array(trained[first].blobs[0].data, np.float32))
    light = np.concatenate(list(fractal_pretraining.lit(data, fractal_pretraining.CROPS[net], seed=1)))
    assert light.min() >= 0 and light.max() <= 255
    darker = light[:, 0, 0, 0] > light.mean(axis=(1, 2, 3))  # the corner is ground
    assert 0.2 < darker.mean() < 0.8  # dark on bright, bright on dark
    # the first layer's mean, followed by hand
    mean, _, count = blobs[first + batch_norm.NORM]
    sums, weight = np.zeros_like(mean), 0.0
    caffe_net = caffe.Net(str(tmp_path / "net.prototxt"), str(tmp_path / "trained.caffemodel"), caffe.TRAIN)
    levels = np.array(definitions.data_layer(param, "TRAIN").transform_param.mean_value, np.float32)[:, None, None]
    for batch in fractal_pretraining.lit(data, fractal_pretraining.CROPS[net], seed=1):
        caffe_net.blobs["data"].reshape(len(batch), *caffe_net.blobs["data"].shape[1:])
        caffe_net.blobs["data"].data[...] = batch - levels
        caffe_net._forward(0, list(caffe_net._layer_names).index(first))
        sums = sums * batch_norm.MOVING_AVERAGE + caffe_net.blobs[first].data.mean(axis=(0, 2, 3))
        weight = weight * batch_norm.MOVING_AVERAGE + 1
    np.testing.assert_allclose(mean / count, sums / weight, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("net", fractal_pretraining.CROPS)
def test_outputs_fall_over_the_depth_and_are_alike_where_they_are_concatenated(net, tmp_path):
    param = fractal_pretraining.derive(net, CATEGORIES)
    (tmp_path / "net.prototxt").write_text(str(fractal_pretraining.without_data(param, fractal_pretraining.CROPS[net])))
    caffe_net = definitions.import_caffe().Net(str(tmp_path / "net.prototxt"), definitions.import_caffe().TEST)
    fractal_pretraining.rescale(caffe_net)
    scale = {
        layer.name: float(caffe_net.params[layer.name + batch_norm.SCALE][0].data.max())
        for layer in param.layer
        if layer.type == "Convolution"
    }
    first, *_, last = scale.values()
    assert (first, last) == pytest.approx((fractal_pretraining.FIRST, fractal_pretraining.LAST))
    joined = [
        [scale[name] for name in layer.bottom if name in scale] for layer in param.layer if layer.type == "Concat"
    ]
    assert all(len(set(outputs)) == 1 for outputs in joined)
    outputs = [value for name, value in scale.items() if "reduce" not in name]
    assert all(after <= before for before, after in itertools.pairwise(outputs))
