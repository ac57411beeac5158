"""The benchmark of data preparation: its straightforward pipeline cuts what ours cuts, every part writes a table."""

import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.core.records import Box, Film
from data_prep.database import context_crops, lmdb_io
from data_prep.synthesis import ddsm_set
from scripts import benchmark_data
from scripts.benchmarks import data_layer, database_build


@pytest.mark.parametrize("box", [Box(310, 400, 430, 490), Box(30, 300, 160, 390)], ids=["inside", "at the edge"])
def test_the_straightforward_pipeline_cuts_the_same_crops_as_ours(box):
    correlations = with_ours(box, enlarge=True)
    assert len(correlations) == 26
    assert min(correlations) > database_build.SAME


def test_a_turned_film_whose_frame_is_kept_loses_tissue_near_the_edge():
    assert min(with_ours(Box(30, 300, 160, 390), enlarge=False)) < database_build.SAME


def with_ours(box: Box, enlarge: bool) -> list[float]:
    """Correlation of our crops of a random smooth film with those of the straightforward pipeline."""
    noise = np.random.default_rng(0).normal(size=(900, 700))
    image = cv2.normalize(cv2.GaussianBlur(noise, None, 6), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    windows = [context_crops.context_window(box, "large"), *context_crops.augmented_windows(box, "large", "M", 1)]
    ours = [context_crops.warp(image, Film(Path("film"), 700, 900), window).ravel() for window in windows]
    theirs = [crop.ravel() for crop in database_build.cut(image, box, windows, enlarge)]
    return [np.corrcoef(*pair)[0, 1] for pair in zip(ours, theirs, strict=True)]


def test_a_square_beyond_the_image_is_mirrored_and_whole():
    image = np.arange(100, dtype=np.uint8).reshape(10, 10)
    square = database_build._square(image, 1, 9, 6)
    assert np.array_equal(square, np.pad(image, 5, mode="reflect")[11:17, 3:9])


def test_repeated_cases_are_other_patients_with_the_same_films(tmp_path):
    ddsm_set.ensure(tmp_path / "films", 2, resolution=400)
    films = tmp_path / "films"
    masses = database_build.usable(films)
    database_build.repeat_cases(films, tmp_path / "many", 3 * len(masses))
    repeated = database_build.usable(tmp_path / "many")
    assert len(repeated) == 3 * len(masses)
    assert len({mass.patient for mass in repeated}) == 3 * len({mass.patient for mass in masses})
    assert {mass.film.path.resolve() for mass in repeated} == {mass.film.path.resolve() for mass in masses}


def test_memory_counts_the_children_of_children():
    script = "import time; held = bytearray(80_000_000); time.sleep(1.5)"
    for _ in range(2):
        script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {script!r}])"
    peaks = database_build.peak_memory([sys.executable, "-c", script])
    assert 80 < peaks["largest_child"] < peaks["all"] < 150
    assert peaks["main"] < 40


def test_dummy_data_computes_what_the_database_does(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 227, 227), np.uint8)
    packed = [lmdb_io.pack(lmdb_io.Record(f"{i:08}_x", i % 2, image)) for i, image in enumerate(images)]
    lmdb_io.write(tmp_path / "train", packed, 227, 6)
    lmdb_io.write_mean(tmp_path / lmdb_io.MEAN, np.full((227, 227), 120.0))
    times = data_layer.training_times("baseline", tmp_path, 2, 2)  # RuntimeError if the losses differ
    assert len(times) == 2 and min(map(min, times)) > 0


@pytest.mark.slow
def test_every_part_writes_its_table(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["benchmark_data.py", "--toy", "--out", str(tmp_path), "--work", str(tmp_path / "w")]
    )
    benchmark_data.main()
    page = (tmp_path / "README.md").read_text()
    for part in benchmark_data.PARTS:
        assert json.loads((tmp_path / f"{part}.json").read_text())["about"]["hardware"]["cores"] > 0
    for heading in ("Two workers", "straightforward", "Memory", "Encoding", "Training"):
        assert heading in page
    assert len(re.findall(r"^\| (baseline|alexnet|googlenet) ", page, re.MULTILINE)) == 3


def test_an_unknown_part_is_a_clear_error(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmark_data.py", "speed"])
    assert benchmark_data.run(benchmark_data.main) == 2
    assert "speed: no such part" in capsys.readouterr().err
