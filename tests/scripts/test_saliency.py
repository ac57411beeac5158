"""Saliency maps (scripts/saliency.py): the gradient is right, in its place, and of the score, not the probability."""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from data_prep.core.errors import InputError, run
from data_prep.database import lmdb_io
from scripts import saliency
from scripts.evaluation import plots, saliency_maps, selection
from scripts.nets import definitions, inference
from tests.helpers import databases, random_nets

SPLITS = {"train": ["T0", "T1"], "val": ["V0", "V1", "V2", "V3"], "test": ["E0", "E1"]}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder as a user's: data/lmdb, and a baseline's snapshot in runs/."""
    folder = tmp_path_factory.mktemp("workplace")
    databases.write(folder / "data" / "lmdb", SPLITS)
    random_nets.snapshot(folder / "runs" / "baseline_iter_1.caffemodel")
    return folder


@pytest.fixture
def there(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    return workplace


def inputs_of(net: str, data: Path, count: int = 2) -> np.ndarray:
    rng = np.random.default_rng(1)
    return inference.preprocess(net, np.stack([databases.film_crop(rng, i % 2) for i in range(count)]), data)


def largest_by_quadrant_and_channel(gradient: np.ndarray) -> list[tuple[int, int, int]]:
    half = gradient.shape[-1] // 2
    places = []
    for channel in range(3):
        for rows, columns in ((0, 0), (0, half), (half, 0), (half, half)):
            part = np.abs(gradient[channel, rows : rows + half, columns : columns + half])
            row, column = np.unravel_index(part.argmax(), part.shape)
            places.append((channel, rows + row, columns + column))
    return places


@pytest.mark.parametrize(("net", "of_class"), [("baseline", 0), ("alexnet", 1), ("googlenet", 0)])
def test_gradient_equals_the_scores_change_when_a_pixel_is_nudged(net, of_class, workplace):
    caffe_net = random_nets.random_net(net)
    inputs, step = inputs_of(net, workplace / "data" / "lmdb", 1), 0.5
    gradient = saliency_maps.gradient(caffe_net, inputs, np.array([of_class]))
    assert gradient.shape == inputs.shape and gradient.dtype == np.float32
    errors = []
    for place in largest_by_quadrant_and_channel(gradient[0]):
        nudged = np.repeat(inputs, 2, axis=0)
        nudged[(0, *place)] += step
        nudged[(1, *place)] -= step
        above, below = saliency_maps.forward(caffe_net, nudged)[0][:, of_class]
        errors.append(abs((above - below) / (2 * step) / gradient[(0, *place)] - 1))
    # single precision and the kinks of ReLU and max pooling leave a few per cent; a slip of any kind leaves 100
    assert np.median(errors) < 0.04 and max(errors) < 0.25


@pytest.mark.parametrize("net", definitions.NETS)
def test_each_images_gradient_is_its_own_and_of_its_own_class(net, workplace):
    caffe_net = random_nets.random_net(net)
    inputs, classes = inputs_of(net, workplace / "data" / "lmdb"), np.array([1, 0])
    together = saliency_maps.gradient(caffe_net, inputs, classes)
    for image, of_class, expected in zip(inputs, classes, together, strict=True):
        alone = saliency_maps.gradient(caffe_net, image[None], np.array([of_class]))[0]
        other = saliency_maps.gradient(caffe_net, image[None], np.array([1 - of_class]))[0]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(alone, expected, atol=1e-4 * scale)
        assert np.abs(other - expected).max() > 0.1 * scale


def test_gradient_is_of_the_score_so_a_confident_net_has_one_too(workplace):
    caffe_net = random_nets.random_net("baseline")
    inputs, classes = inputs_of("baseline", workplace / "data" / "lmdb"), np.array([0, 1])
    unsure = saliency_maps.gradient(caffe_net, inputs, classes)
    for blob in caffe_net.params["score"]:
        blob.data[...] *= 1000
    _, probabilities = saliency_maps.forward(caffe_net, inputs)
    assert set(probabilities.ravel()) == {0, 1}, "the softmax must be saturated for this test"
    np.testing.assert_allclose(saliency_maps.gradient(caffe_net, inputs, classes), 1000 * unsure, rtol=1e-3, atol=1e-6)


def test_map_is_bright_only_where_the_net_looks(workplace):
    caffe_net = random_nets.random_net("baseline")
    weights = caffe_net.params["fc1"][0].data.reshape(128, 64, 28, 28)
    looked_at = np.zeros((28, 28), bool)
    looked_at[4:8, 18:22] = True  # of pool3, 8 input pixels a cell: rows 32 to 63, columns 144 to 175
    weights[:, :, ~looked_at] = 0
    found = saliency_maps.explain(caffe_net, inputs_of("baseline", workplace / "data" / "lmdb"), "malignant")
    margin = 7  # the reach of three 3 x 3 convolutions at 1, 2 and 4 pixels a step
    inside = np.zeros((224, 224), bool)
    inside[32 - margin : 64 + margin, 144 - margin : 176 + margin] = True
    for heat in found["maps"]:
        assert not heat[~inside].any()
        assert np.count_nonzero(heat[36:60, 148:172]) > 400


def options(**changes) -> argparse.Namespace:
    given = {"weights": None, "run": None, "data": None, "split": "val", "out": None, "gpu": None}
    return argparse.Namespace(**(given | changes))


def test_masses_are_picked_from_both_classes_in_turn_and_in_key_order(there):
    chosen = selection.choose_target(options())
    every = list(lmdb_io.records(chosen.data / "val"))
    by_class = {label: [record.key for record in every if record.label == label] for label in (0, 1)}
    picked = [record.key for record in saliency.pick(chosen, None, 5)]
    (m0, m1, m2, _), (b0, b1, *_) = by_class[1], by_class[0]
    assert picked == [m0, b0, m1, b1, m2]
    assert len(saliency.pick(chosen, None, 20)) == len(every)


def test_named_masses_come_in_the_order_named_and_an_unknown_one_is_an_error(there):
    chosen = selection.choose_target(options())
    names = ["V2.LEFT_MLO.1", "V0.LEFT_CC.1"]
    assert [lmdb_io.mass_id_of(record.key) for record in saliency.pick(chosen, names, 5)] == names
    with pytest.raises(InputError, match=r"no mass E0\.LEFT_CC\.1 in val"):
        saliency.pick(chosen, ["V0.LEFT_CC.1", "E0.LEFT_CC.1"], 5)


def test_typed_command_writes_maps_that_belong_to_their_images(there, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["saliency.py", "--count", "3"])
    assert run(saliency.main) == 0
    out = there / "runs" / "baseline_iter_1_saliency_val"
    assert cv2.imread(str(out / "saliency.png")) is not None
    found = np.load(out / "saliency.npz")
    of_key = {record.key: record for record in lmdb_io.records(there / "data" / "lmdb" / "val")}
    for i, key in enumerate(found["keys"]):
        assert np.array_equal(found["images"][i], of_key[key].image[1:225, 1:225])
        assert found["labels"][i] == of_key[key].label
    # the film's box of 9 to 99 fills the middle half of its crop of 227 pixels, of which the net sees 1 to 225
    np.testing.assert_allclose(found["boxes"], [[55.75, 55.75, 169.25, 169.25]] * 3, atol=1e-3)
    assert found["boxes"].dtype == np.float32
    assert np.array_equal(found["maps"], np.abs(found["gradients"]).max(axis=1))
    assert np.array_equal(found["classes"], found["probabilities"].argmax(axis=1))
    powers = np.exp(found["scores"].astype(float))
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), found["probabilities"], atol=1e-6)


def test_outline_is_drawn_on_mass_and_map_where_it_is():
    image = np.full((1, 224, 224), 128, np.uint8)
    outline = np.array([[(60.0, 60), (180, 60), (180, 140), (60, 140)]])
    figure = plots.saliency("", image, image.astype(float), [""], [""], outline)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    coloured = picture.max(axis=2) - picture.min(axis=2) > 40
    assert len(figure.axes) == 2
    for axes in figure.axes:
        for (column, row), on_line in (((120, 60), True), ((60, 100), True), ((120, 100), False), ((30, 30), False)):
            x, y = axes.transData.transform((column, row)).round().astype(int)
            near = coloured[-y - 3 : -y + 2, x - 2 : x + 3]
            assert near.any() == on_line


def test_class_asked_for_is_the_one_explained(there, monkeypatch, tmp_path):
    for of_class, number in (("benign", 0), ("malignant", 1)):
        argv = ["saliency.py", "--count", "2", "--class", of_class, "--out", str(tmp_path / of_class)]
        monkeypatch.setattr(sys, "argv", argv)
        assert run(saliency.main) == 0
        assert set(np.load(tmp_path / of_class / "saliency.npz")["classes"]) == {number}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--count", "0"], "0 masses: from 1 to 20"),
        (["--count", "21"], "21 masses: from 1 to 20"),
        (["--masses", "X"], "data/lmdb: no mass X in val; manifest.csv lists them"),
        (["--run", "runs/none"], "runs/none: no such run"),
    ],
)
def test_what_cannot_be_shown_is_one_clear_line(there, monkeypatch, capsys, args, message):
    monkeypatch.setattr(sys, "argv", ["saliency.py", *args])
    assert run(saliency.main) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
