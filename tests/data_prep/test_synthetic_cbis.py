"""The synthetic CBIS-DDSM: the same films and masses as the DDSM case folders that it is made of."""

import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from data_prep.database import manifest
from data_prep.sources import cbis_ddsm, ddsm
from tests.helpers import cbis_copies, idc_server, synthetic_cbis
from tests.helpers.servers import serving

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ("--official-split", "--no-aug")
SAME = ("patient", "side", "view", "abnormality", "pathology", "film_width", "film_height", "split")
pytestmark = pytest.mark.slow


def run(script: str, *args) -> str:
    command = [sys.executable, str(ROOT / "data_prep" / script), *map(str, args)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def archive(synthetic_films, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive") / "cbis"
    synthetic_cbis.make(synthetic_films, folder)
    return folder


def test_masses_and_films_are_those_of_the_case_folders(synthetic_films, archive):
    theirs = [mass for mass in ddsm.masses(synthetic_films) if not mass.reason]
    ours = cbis_ddsm.masses(archive)
    assert len(ours) == len(theirs)
    by_box = {(mass.film.width, mass.film.height, mass.view, mass.box): mass for mass in theirs}
    used = [mass for mass in ours if not mass.reason]
    exact = [mass for mass in used if (mass.film.width, mass.film.height, mass.view, mass.box) in by_box]
    assert len(exact) >= 0.7 * len(used)  # the others' masks have half the film's size
    for mass in exact[:20]:
        other = by_box[mass.film.width, mass.film.height, mass.view, mass.box]
        assert (mass.pathology, mass.shape, mass.margins) == (other.pathology, other.shape, other.margins)
        difference = cbis_ddsm.load_film(mass.film).astype(int) - ddsm.load_film(other.film)
        assert np.abs(difference).max() <= 1


def test_every_habit_of_the_archive_occurs_and_only_the_wrong_aspect_costs_masses(synthetic_films, archive):
    jobs = synthetic_cbis.film_jobs([mass for mass in ddsm.masses(synthetic_films) if not mass.reason])
    assert {habit for job in jobs for habit in job.habits} == set(synthetic_cbis.HABITS)
    assert {job.layout for job in jobs} == set(synthetic_cbis.LAYOUTS)
    reasons = [mass.reason for mass in cbis_ddsm.masses(archive) if mass.reason]
    assert len(reasons) == sum(job.habits.count("another aspect") for job in jobs)
    assert all(reason.startswith("mask of another aspect: ") for reason in reasons)


def test_databases_are_built_of_it_with_its_own_test_set_and_say_synthetic(archive, tmp_path):
    printed = run("build_lmdb.py", "--source", "cbis", "--root", archive, "--official-split", "--out", tmp_path / "db")
    content = manifest.read_json(tmp_path / "db")
    assert (content["source"], content["split"]) == ("synthetic", "official")
    assert "- mask of another aspect" in printed
    for row in manifest.read_csv(tmp_path / "db").values():
        assert row["reason"] or (row["split"] == "test") == row["mass_id"].startswith("Mass-Test")
    counts = content["counts"]
    assert counts["val"]["malignant"] == counts["val"]["benign"] > 0
    again = run("build_lmdb.py", "--source", "cbis", "--root", archive, "--official-split", "--out", tmp_path / "again")
    assert manifest.read_json(tmp_path / "again")["digest"] == content["digest"], again


@pytest.fixture(scope="module")
def database(archive) -> Path:
    """A database of the DICOM files."""
    run("build_lmdb.py", "--source", "cbis", "--root", archive, *OPTIONS, "--out", archive.parent / "dicom_db")
    return archive.parent / "dicom_db"


def download(archive: Path, out: Path) -> Path:
    """Download the archive from a server of IDC's kind, and return its folder."""
    files, patients = cbis_copies.series(archive)
    server = idc_server.Server(files)
    server.csvs = {path.name: path.read_bytes() for path in archive.glob("*.csv")}
    index = idc_server.write_index(out.parent / "index", files, patients)
    with contextmanager(serving)(server), idc_server.started(server, out, index) as process:
        _, error = process.communicate(timeout=300)
    assert (process.returncode, error) == (0, "")
    return out


COPIES = {
    "Kaggle": cbis_copies.kaggle,
    "PNG of 8 bits": partial(cbis_copies.png, bits=8),
    "PNG of 16 bits": partial(cbis_copies.png, bits=16),
    "IDC": download,
}


@pytest.mark.parametrize("kind", COPIES)
def test_every_copy_gives_the_masses_and_the_split_of_the_dicom_files(archive, database, kind, tmp_path):
    copy = COPIES[kind](archive, tmp_path / "copy")
    run("build_lmdb.py", "--source", "cbis", "--root", copy, *OPTIONS, "--out", tmp_path / "db")
    assert (tmp_path / "db" / "split.csv").read_text() == (database / "split.csv").read_text()
    one, other = manifest.read_csv(database), manifest.read_csv(tmp_path / "db")
    assert one.keys() == other.keys()
    for mass_id, row in one.items():
        assert [row[name] for name in SAME] == [other[mass_id][name] for name in SAME]
        assert row["reason"].partition(":")[0] == other[mass_id]["reason"].partition(":")[0]
        if not row["reason"]:
            boxes = manifest.box_of(row), manifest.box_of(other[mass_id])
            assert np.abs(boxes[0].corners - boxes[1].corners).max() <= 2
    told = manifest.read_json(tmp_path / "db")["grey_levels"]
    assert told.partition(" films ")[2].startswith({"IDC": "DICOM", "Kaggle": "JPEG"}.get(kind, "PNG"))
    if kind != "Kaggle":  # JPEG changes pixels
        assert manifest.read_json(tmp_path / "db")["digest"] == manifest.read_json(database)["digest"]
    assert "all checks passed" in run("audit.py", tmp_path / "db")
