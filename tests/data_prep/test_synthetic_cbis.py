"""The synthetic CBIS-DDSM: the same films and masses as the DDSM case folders that it is made of."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep.database import manifest
from data_prep.sources import cbis_ddsm, ddsm
from data_prep.synthesis import ddsm_set
from tests.helpers import synthetic_cbis

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def run(script: str, *args) -> str:
    command = [sys.executable, str(ROOT / "data_prep" / script), *map(str, args)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("films") / "ddsm"
    ddsm_set.ensure(folder, patients=48, resolution=400)
    return folder


@pytest.fixture(scope="module")
def archive(films) -> Path:
    synthetic_cbis.make(films, films.parent / "cbis")
    return films.parent / "cbis"


def test_masses_and_films_are_those_of_the_case_folders(films, archive):
    theirs = [mass for mass in ddsm.masses(films) if not mass.reason]
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


def test_every_habit_of_the_archive_occurs_and_only_the_wrong_aspect_costs_masses(films, archive):
    jobs = synthetic_cbis.film_jobs([mass for mass in ddsm.masses(films) if not mass.reason])
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
