"""Databases from end to end, as typed: content, split, digest, and what becomes of bad input."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data_prep.database import context_crops, lmdb_io, manifest
from data_prep.database.context_crops import Window
from data_prep.sources import registry
from scripts.evaluation import evaluation_table
from tests.helpers import databases

ROOT = Path(__file__).resolve().parents[2]
HEADER = ("image", "patient_id", "side", "view", "x", "y", "width", "height", "pathology")


def build(*args: str | Path, cwd: Path = ROOT, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "data_prep" / "build_lmdb.py"), *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False, **options)


def write_set(folder: Path, patients: int = 60) -> Path:
    """Write a CSV of boxes and its films: two masses a patient, films of smooth noise, 200 x 300 pixels."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    for index in range(patients):
        film = cv2.GaussianBlur(rng.integers(0, 256, (300, 200)).astype(np.float32), (0, 0), 3) * 4 - 384
        name = f"{index:03}.png"
        Image.fromarray(film.clip(0, 255).astype(np.uint8)).save(folder / name)
        pathology = ("MALIGNANT", "BENIGN", "MALIGNANT", "BENIGN_WITHOUT_CALLBACK")[index % 4]
        rows.append((name, f"P{index:03}", "LEFT", "CC", 20, 30, 60, 40, pathology))
        rows.append((name, f"P{index:03}", "LEFT", "CC", 90, 150, 50, 80, pathology))
    with (folder / "masses.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    return folder / "masses.csv"


@pytest.fixture(scope="module")
def boxes_csv(tmp_path_factory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def built(boxes_csv, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("built") / "lmdb"
    result = build("--source", "boxes", "--root", boxes_csv, "--out", out, "--workers", 2)
    assert result.returncode == 0, result.stderr
    return out


def test_training_set_is_25_fold_and_the_others_are_not(built):
    counts = manifest.read_json(built)["counts"]
    assert counts["train"]["masses"] + counts["val"]["masses"] + counts["test"]["masses"] == 120
    assert counts["val"]["malignant"] == counts["val"]["benign"] == counts["test"]["malignant"] == 6
    for name, times in (("train", 25), ("val", 1), ("test", 1)):
        assert lmdb_io.count(built / name) == counts[name]["records"] == counts[name]["masses"] * times


def test_each_record_agrees_with_the_manifest_and_no_patient_is_in_two_sets(built):
    rows = manifest.read_csv(built)
    seen: dict[str, set[str]] = {}
    for name in ("train", "val", "test"):
        for record in lmdb_io.records(built / name):
            row = rows[lmdb_io.mass_id_of(record.key)]
            assert row["split"] == name
            assert record.label == (row["pathology"] == "MALIGNANT")
            assert record.image.shape == (227, 227)
            seen.setdefault(name, set()).add(row["patient"])
    assert not (seen["train"] & seen["val"] or seen["train"] & seen["test"] or seen["val"] & seen["test"])


def test_a_test_crop_is_the_upright_context_of_its_film(built, boxes_csv):
    rows = manifest.read_csv(built)
    record = next(lmdb_io.records(built / "test"))
    row = rows[lmdb_io.mass_id_of(record.key)]
    x0, y0, x1, y1 = (float(row[name]) for name in ("x0", "y0", "x1", "y1"))
    window = Window((x0 + x1) / 2, (y0 + y1) / 2, 2 * max(x1 - x0, y1 - y0))
    image = np.asarray(Image.open(boxes_csv.parent / row["film"]))
    film = type("Film", (), {"width": 200, "height": 300})
    assert np.array_equal(record.image, context_crops.warp(image, film, window))


def test_every_source_has_a_name_in_results():
    assert evaluation_table.SOURCES.keys() == registry.READERS.keys()


def test_records_are_shuffled(built):
    labels = [record.label for record in lmdb_io.records(built / "train")]
    runs = 1 + np.count_nonzero(np.diff(labels))
    assert runs > 0.4 * len(labels)


def test_mean_is_that_of_the_training_set(built):
    expected = np.mean([record.image for record in lmdb_io.records(built / "train")], axis=0)
    assert np.allclose(lmdb_io.read_mean(built / lmdb_io.MEAN), expected, atol=1e-3)


def test_same_seed_gives_the_same_digest_whatever_the_workers_and_another_seed_another(boxes_csv, built, tmp_path):
    digest = manifest.read_json(built)["digest"]
    common = ("--source", "boxes", "--root", boxes_csv)
    assert build(*common, "--out", tmp_path / "one", "--workers", 1).returncode == 0
    assert manifest.read_json(tmp_path / "one")["digest"] == digest
    assert build(*common, "--out", tmp_path / "seed2", "--seed", 2).returncode == 0
    assert manifest.read_json(tmp_path / "seed2")["digest"] != digest


def test_a_split_given_back_is_kept_for_another_context(boxes_csv, built, tmp_path):
    common = ("--source", "boxes", "--root", boxes_csv, "--split", built / "split.csv", "--seed", 9)
    assert build(*common, "--context", "small", "--no-aug", "--out", tmp_path / "small").returncode == 0
    assert (tmp_path / "small" / "split.csv").read_text() == (built / "split.csv").read_text()
    content = manifest.read_json(tmp_path / "small")
    assert (content["context"], content["rotations"]) == ("small", 0)
    assert content["counts"]["train"]["records"] == content["counts"]["train"]["masses"]


def test_callback_only_leaves_benign_without_callback_out_and_lists_it(boxes_csv, tmp_path):
    common = ("--source", "boxes", "--root", boxes_csv, "--no-aug", "--out", tmp_path / "out")
    result = build(*common, "--callback-only")
    assert result.returncode == 0
    assert re.search(r"^- benign without callback +30 ", result.stdout, re.MULTILINE)
    rows = manifest.read_csv(tmp_path / "out").values()
    assert sum(row["reason"] == "benign without callback" and not row["split"] for row in rows) == 30


def test_a_film_that_fails_only_when_decoded_is_listed_and_the_split_stays_balanced(tmp_path):
    csv_path = write_set(tmp_path / "set")
    film = tmp_path / "set" / "007.png"
    film.write_bytes(film.read_bytes()[:2000])  # the header is whole, the pixels are not
    result = build("--source", "boxes", "--root", csv_path, "--no-aug", "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "007.png" in result.stderr
    rows = manifest.read_csv(tmp_path / "out").values()
    assert [row["reason"].split(":")[0] for row in rows if row["patient"] == "P007"] == ["unreadable film"] * 2
    counts = manifest.read_json(tmp_path / "out")["counts"]
    assert counts["val"]["malignant"] == counts["val"]["benign"] == 6
    assert sum(counts[name]["masses"] for name in counts) == 118


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--source", "ddsm", "--root", "nowhere"), "nowhere: no such folder"),
        (("--source", "ddsm", "--root", "."), "no .ics and .OVERLAY files"),
        (("--source", "boxes", "--root", "none.csv"), "none.csv: no such file"),
        (("--source", "boxes"), "--source boxes needs --root"),
        (("--root", "x"), "--root needs --source"),
        (("--source", "boxes", "--root", "m.csv", "--workers", 0), "--workers 0: give 1 or more"),
        (("--source", "ddsm", "--root", ".", "--official-split"), "--official-split: --source ddsm has none"),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing(tmp_path, args, message):
    result = build(*args, "--out", "out", cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_too_few_patients_and_an_existing_folder_are_refused(tmp_path):
    csv_path = write_set(tmp_path / "set", patients=3)
    result = build("--source", "boxes", "--root", csv_path, "--out", tmp_path / "out")
    assert (result.returncode, "too few patients" in result.stderr) == (2, True)
    assert not (tmp_path / "out").exists()
    result = build("--source", "boxes", "--root", csv_path, "--out", tmp_path / "set")
    assert (result.returncode, "exists already" in result.stderr) == (2, True)


def test_a_killed_build_leaves_nothing_that_is_accepted_and_the_next_is_whole(boxes_csv, built, tmp_path):
    out = tmp_path / "out"
    process = databases.start(boxes_csv, out)
    while not (tmp_path / "out.unfinished" / "train").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not out.exists()
    assert build("--source", "boxes", "--root", boxes_csv, "--out", out).returncode == 0
    assert manifest.read_json(out)["digest"] == manifest.read_json(built)["digest"]
