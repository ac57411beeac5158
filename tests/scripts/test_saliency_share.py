"""Shares of saliency (scripts/saliency_share.py): zones where the mass is, and nets that look where they are told."""

import json
import sys

import numpy as np
import pytest

from data_prep.core.errors import run
from data_prep.core.records import Box, Film
from data_prep.database import context_crops, lmdb_io, manifest
from scripts import saliency, saliency_share
from scripts.evaluation import saliency_maps, saliency_zones
from scripts.nets import definitions, inference, random_init
from tests.helpers import databases, random_nets

SPLITS = {"train": ["T0", "T1"], "val": ["V0", "V1", "V2", "V3"], "test": ["E0", "E1"]}
FILM = Film("film", 600, 800)
BOX = Box(200, 300, 320, 380)
RECIPE = {"context": "large", "rotations": 3, "crops": 2, "seed": 1}
UPRIGHT = np.array([(60, 40), (160, 40), (160, 100), (60, 100)], np.float32)
"""Corners of a box: its ellipse has half axes of 50 and 30 pixels."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A database; the box of each of its masses fills the middle half of the crop."""
    return databases.write(tmp_path_factory.mktemp("saliency_share") / "lmdb", SPLITS)


def measure(monkeypatch, data, weights, *options) -> dict | int:
    """Type the command; return the JSON that it writes, or its exit status where that is not 0."""
    out = weights.parent / "out"
    command = ["saliency_share.py", "--weights", weights, "--data", data, "--out", out, *options]
    monkeypatch.setattr(sys, "argv", [str(word) for word in command])
    return run(saliency_share.main) or json.loads((out / "saliency_share.json").read_text())


def changed_snapshot(path, change):
    """Write a random baseline's snapshot after `change` of its parameters."""
    net = random_nets.random_net("baseline")
    change(net.params)
    net.save(str(path))
    return path


@pytest.mark.parametrize(("split", "window"), [("val", ""), ("train", "r0c0"), ("train", "r2c1")])
@pytest.mark.parametrize("size", [224, 227])
def test_ellipse_is_where_the_mass_comes_to_lie_in_what_the_net_sees(split, window, size):
    corners = {name: getattr(BOX, name) for name in manifest.CORNERS}
    row, key = {"mass_id": "M_1", "split": split, **corners}, lmdb_io.key_of(7, "M_1", window)
    rows, columns = np.mgrid[: FILM.height, : FILM.width] + 0.5
    (x, y), half_width, half_height = BOX.centre, BOX.width / 2, BOX.height / 2
    film = 200 * (((columns - x) / half_width) ** 2 + ((rows - y) / half_height) ** 2 <= 1)
    record = context_crops.warp(film.astype(np.uint8), FILM, manifest.window_of(key, row, RECIPE))
    seen = inference.centre_crop(record, size) > 100
    inside = saliency_zones.radius(saliency_zones.box_corners([key], {"M_1": row}, RECIPE, size)[0], size) <= 1
    assert seen.any() and (seen & inside).sum() > 0.98 * (seen | inside).sum()


@pytest.mark.parametrize(
    ("zone", "places"),
    [
        ("mass", [(110, 70), (145, 70), (110, 92)]),
        ("margin", [(155, 70), (110, 95), (110, 44)]),
        ("context", [(172, 70), (110, 110), (155, 95), (0, 223)]),
    ],
)
def test_weight_is_counted_in_the_zone_where_it_lies(zone, places):
    heat = np.zeros((224, 224))
    for column, row in places:
        heat[row, column] = 3
    expected = [float(name == zone) for name in saliency_zones.ZONES]
    assert saliency_zones.shares(heat, UPRIGHT).tolist() == expected


def test_shares_sum_to_one_and_an_even_map_gives_each_zone_its_area():
    ellipse = np.pi * 50 * 30 / 224**2
    shares = saliency_zones.shares(np.full((224, 224), 7.0), UPRIGHT)
    np.testing.assert_allclose(shares, [0.64 * ellipse, (1.44 - 0.64) * ellipse, 1 - 1.44 * ellipse], atol=5e-4)
    noise = np.random.default_rng(0).random((224, 224))
    assert saliency_zones.shares(noise, UPRIGHT).sum() == pytest.approx(1)
    assert np.isnan(saliency_zones.shares(np.zeros((224, 224)), UPRIGHT)).all()


def test_trained_shares_are_those_of_the_maps_that_saliency_draws(data, tmp_path, monkeypatch):
    weights = random_nets.snapshot(tmp_path / "baseline_iter_1.caffemodel")
    found = measure(monkeypatch, data, weights)
    command = ["saliency.py", "--weights", weights, "--data", data, "--count", "8", "--out", tmp_path]
    monkeypatch.setattr(sys, "argv", [str(word) for word in command])
    assert run(saliency.main) == 0
    drawn = np.load(tmp_path / "saliency.npz")
    assert found["n"] == found["masses"] == len(drawn["maps"]) == 8 and found["patients"] == 4
    rows, columns = np.mgrid[:224, :224] + 0.5
    radius = np.hypot(columns - 112.5, rows - 112.5) / 56.75
    zones = {"mass": radius < 0.8, "margin": (radius >= 0.8) & (radius < 1.2), "context": radius >= 1.2}
    for zone, inside in zones.items():
        expected = np.mean([heat[inside].sum() / heat.sum() for heat in drawn["maps"]])
        assert found["zones"][zone]["trained"]["value"] == pytest.approx(expected, rel=1e-5)
        assert found["zones"][zone]["area"]["value"] == pytest.approx(inside.mean())


def test_net_that_looks_at_the_masses_middle_is_told_from_random_nets(data, tmp_path, monkeypatch, capsys):
    def look_at_the_middle(params):
        looked_at = np.zeros((28, 28), bool)
        looked_at[12:16, 12:16] = True  # of pool3, 8 pixels a cell
        params["fc1"][0].data.reshape(128, 64, 28, 28)[:, :, ~looked_at] = 0

    found = measure(monkeypatch, data, changed_snapshot(tmp_path / "middle.caffemodel", look_at_the_middle))
    mass = {name: estimate["value"] for name, estimate in found["zones"]["mass"].items()}
    assert mass["trained"] == mass["place"] == pytest.approx(1)
    assert mass["trained_minus_place"] == pytest.approx(0)
    assert mass["random"] == pytest.approx(mass["area"], abs=0.05)
    difference = found["zones"]["mass"]["trained_minus_random"]
    assert 0.7 < difference["low"] <= difference["value"] <= difference["high"]
    assert mass["concentration_trained"] == pytest.approx(1 / mass["area"])
    for name in ("area", "trained", "random", "place"):
        assert sum(zone[name]["value"] for zone in found["zones"].values()) == pytest.approx(1)
    shown = capsys.readouterr().out
    assert f"+{difference['value']:.3f} (+{difference['low']:.3f} to" in shown
    assert "SYNTHETIC" in shown and "ellipse inscribed" in shown
    assert (tmp_path / "out" / "saliency_share.md").read_text().split("\n\n", 1)[1] in shown


def test_dead_net_is_one_clear_line(data, tmp_path, monkeypatch, capsys):
    def kill(params):
        params["score"][0].data[...] = 0

    assert measure(monkeypatch, data, changed_snapshot(tmp_path / "dead.caffemodel", kill)) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].endswith("the scores do not depend on the image, so the net is dead; train again")


@pytest.mark.parametrize("net", definitions.NETS)
def test_untrained_net_has_the_weights_that_its_training_starts_from(net):
    rng = np.random.default_rng(0)
    inputs = rng.normal(0, 40, (4, 3, *[224 if net != "alexnet" else 227] * 2)).astype(np.float32)
    found, again, other = (random_init.load_untrained(net, seed, [inputs]) for seed in (1, 1, 2))
    fillers = {layer.name: layer for layer in definitions.read_prototxt(definitions.prototxt(net, "train_val")).layer}
    for name, blobs in found.params.items():
        if found.layer_dict[name].type not in random_init.FILLED:
            continue
        layer = fillers[name]
        param = layer.convolution_param if layer.HasField("convolution_param") else layer.inner_product_param
        weights = blobs[0].data
        xavier = np.sqrt(1 / weights[0].size)  # uniform within sqrt(3 / inputs)
        expected = param.weight_filler.std if param.weight_filler.type == "gaussian" else xavier
        assert weights.std() == pytest.approx(expected, rel=0.15)
        for bias in blobs[1:]:
            assert (bias.data == np.float32(param.bias_filler.value)).all()
        assert np.array_equal(weights, again.params[name][0].data)
        assert not np.array_equal(weights, other.params[name][0].data)


def test_untrained_batch_norm_normalises_the_images_that_it_has_seen():
    inputs = np.random.default_rng(0).normal(20, 40, (8, 3, 224, 224)).astype(np.float32)
    net = random_init.load_untrained("baseline", 1, [inputs])
    saliency_maps.forward(net, inputs)
    for name in ("bn1", "bn2", "bn3"):
        net.forward(end=name)
        found = net.blobs[name].data
        np.testing.assert_allclose(found.mean(axis=(0, 2, 3)), 0, atol=0.01)
        np.testing.assert_allclose(found.std(axis=(0, 2, 3)), 1, atol=0.02)
