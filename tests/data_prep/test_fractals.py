"""The set of fractals: what is drawn, that categories can be told apart, and that a folder is whole or not there."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from data_prep import fractals
from data_prep.core import provenance
from data_prep.core.errors import InputError
from data_prep.database import lmdb_io
from data_prep.synthesis import fractal_set, iterated_functions

CATEGORIES, EACH = 4, 40
SCRIPT = fractals.__file__


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A whole small set."""
    folder = tmp_path_factory.mktemp("made") / "fractals"
    assert fractal_set.ensure(folder, CATEGORIES, CATEGORIES * EACH, seed=3, workers=1)
    return folder


def digest(folder):
    return fractal_set.read_manifest(folder)["digest"]


def rings(image):
    """Features that do not depend on how a picture is turned: mean and spread of grey levels on rings."""
    image = image.astype(np.float64) / image.max()
    rows, columns = np.mgrid[: iterated_functions.SIZE, : iterated_functions.SIZE] - (iterated_functions.SIZE - 1) / 2
    radius = np.hypot(rows, columns) // 8
    return np.array(
        [value for ring in range(8) for value in (image[radius == ring].mean(), image[radius == ring].std())]
    )


def test_the_chaos_game_plays_on_the_attractor():
    corners = np.array([[0, 0], [1, 0], [0, 1]], np.float32)  # Sierpinski's triangle
    system = np.array([np.column_stack([np.eye(2) / 2, corner / 2]) for corner in corners], np.float32)
    x, y = iterated_functions.play(system, np.random.default_rng(1))
    assert min(x.min(), y.min()) >= 0 and (x + y).max() <= 1
    assert not np.any((x < 0.499) & (y < 0.499) & (x + y > 0.501))  # the hole in its middle
    shares = [np.mean(x + y < 0.5), np.mean(x > 0.5), np.mean(y > 0.5)]
    np.testing.assert_allclose(shares, 1 / 3, atol=0.01)


def test_a_map_is_taken_by_its_determinants_share():
    large, small = ([[side, 0, at], [0, side, at]] for side, at in ((0.6, 0), (0.3, 0.7)))
    x, _ = iterated_functions.play(np.array([large, small], np.float32), np.random.default_rng(1))
    assert np.mean(x > 0.65) == pytest.approx(
        0.2, abs=0.01
    )  # the small one's part lies above 0.7, the other's below 0.6


def test_systems_contract_with_and_without_jitter_and_fill_the_frame():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        system = iterated_functions.draw_system(rng)
        assert 2 <= len(system) <= 8
        assert np.linalg.norm(system[:, :, :2], 2, axis=(1, 2)).max() < 1
        changed = iterated_functions.jitter(system, rng)
        assert not np.array_equal(changed, system)
        assert np.linalg.norm(changed[:, :, :2], 2, axis=(1, 2)).max() < 1
        assert (
            iterated_functions.filling(iterated_functions.histogram(iterated_functions.play(system, rng)))
            > 0.8 * iterated_functions.FILLING
        )


def test_a_thin_picture_does_not_fill_the_frame():
    line = np.array([[[0.5, 0, 0], [0, 0, 0]], [[0.5, 0, 0.5], [0, 0, 0]]], np.float32)
    assert (
        iterated_functions.filling(
            iterated_functions.histogram(iterated_functions.play(line, np.random.default_rng(1)))
        )
        < 0.05
    )


def test_a_picture_fits_the_frame_and_has_grey_levels():
    image = iterated_functions.draw_picture(fractal_set.system_of(1, 0), np.random.default_rng(1))
    assert image.shape == (iterated_functions.SIZE, iterated_functions.SIZE) and image.dtype == np.uint8
    assert not image[[0, -1]].any() and not image[:, [0, -1]].any()
    occupied = np.flatnonzero(image.any(axis=0)), np.flatnonzero(image.any(axis=1))
    assert max(np.ptp(places) for places in occupied) >= iterated_functions.SIZE - 2 * iterated_functions.MARGIN - 1
    assert 160 <= image.max() <= 255
    assert len(np.unique(image)) > 50


def test_the_set_is_shuffled_even_and_no_image_comes_twice(made):
    seen = set()
    for split, each in (("train", EACH), ("val", EACH // fractal_set.TRAIN_TO_VAL)):
        records = list(lmdb_io.records(made / split))
        labels = [record.label for record in records]
        assert sorted(labels) == sorted(list(range(CATEGORIES)) * each)
        assert split == "val" or labels != sorted(labels)
        assert all(record.image.shape == (iterated_functions.SIZE, iterated_functions.SIZE) for record in records)
        seen |= {record.image.tobytes() for record in records}
    assert len(seen) == sum(fractal_set.read_manifest(made)["counts"].values()) == CATEGORIES * (EACH + 2)
    assert (made / fractal_set.SHEET_NAME).stat().st_size > 10_000


def test_categories_are_told_apart(made):
    """By the nearest mean of simple features: what makes a category is in the picture, not in the label alone."""
    features = [(record.label, rings(record.image)) for record in lmdb_io.records(made / "train")]
    known, new = features[: len(features) // 2], features[len(features) // 2 :]
    means = np.array(
        [np.mean([f for label, f in known if label == category], axis=0) for category in range(CATEGORIES)]
    )
    right = [np.argmin(np.linalg.norm(means - feature, axis=1)) == label for label, feature in new]
    assert np.mean(right) > 2 / CATEGORIES


def test_the_arguments_alone_decide_the_set(made, tmp_path):
    fractal_set.ensure(tmp_path / "two", CATEGORIES, CATEGORIES * EACH, seed=3, workers=2)
    assert digest(tmp_path / "two") == digest(made)
    fractal_set.ensure(tmp_path / "other", CATEGORIES, CATEGORIES * EACH, seed=4, workers=2)
    assert digest(tmp_path / "other") != digest(made)


def test_a_set_that_is_there_is_left_and_another_is_an_error(made, tmp_path):
    assert not fractal_set.ensure(made)
    assert not fractal_set.ensure(made, categories=CATEGORIES, seed=3)
    with pytest.raises(InputError, match="holds a set of categories 4, images 160, seed 3"):
        fractal_set.ensure(made, categories=5)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.json").write_text(json.dumps({"source": "ddsm"}))
    with pytest.raises(InputError, match="no whole set of fractals"):
        fractal_set.ensure(tmp_path / "mine")
    for wrong in ({"categories": 1}, {"images": 5}, {"seed": -1}):
        with pytest.raises(InputError, match="2 categories or more"):
            fractal_set.ensure(tmp_path / "wrong", **wrong)
    with pytest.raises(InputError, match="--workers 0"):
        fractal_set.ensure(tmp_path / "wrong", workers=0)


def test_a_killed_build_leaves_no_set_and_is_made_when_asked_again(tmp_path):
    options = ["--out", "f", "--categories", "3", "--workers", "1"]
    process = subprocess.Popen([sys.executable, SCRIPT, *options, "--images", "50000"], cwd=tmp_path, env=environment())
    while not (tmp_path / "f.unfinished" / "train" / "data.mdb").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "f").exists()
    again = subprocess.run(
        [sys.executable, SCRIPT, *options, "--images", "6"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    assert "finished; next: python scripts/pretrain.py" in again.stdout
    assert lmdb_io.count(tmp_path / "f" / "train") == 6
    assert not (tmp_path / "f.unfinished").exists()


def environment():
    return os.environ | {"PYTHONPATH": str(provenance.ROOT)}
