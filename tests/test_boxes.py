"""The reader of a CSV of boxes."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import boxes
from data_prep.mass import Box, InputError

HEADER = "image,patient_id,side,view,x,y,width,height,pathology,film_width,film_height\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.fromarray(np.arange(200 * 100, dtype=np.uint32).astype(np.uint8).reshape(200, 100)).save(tmp_path / "a.png")
    Image.new("I;16", (100, 200)).save(tmp_path / "deep.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no more")
    return tmp_path


def read(folder: Path, rows: str, header: str = HEADER):
    (folder / "masses.csv").write_text(header + rows)
    return boxes.masses(folder / "masses.csv")


def test_a_box_of_a_squashed_image_is_given_in_film_pixels(folder):
    (mass,) = read(folder, "a.png,P1,LEFT,CC,10,20,30,40,MALIGNANT,300,800\n")
    assert mass.box == Box(30, 80, 120, 240)
    assert (mass.film.width, mass.film.height) == (300, 800)
    assert (mass.patient, mass.side, mass.view, mass.label, mass.reason) == ("P1", "LEFT", "CC", 1, "")


def test_an_unknown_film_size_is_the_median_of_the_known(folder):
    rows = "a.png,P1,LEFT,CC,10,20,30,40,BENIGN,300,800\na.png,P2,LEFT,CC,10,20,30,40,BENIGN,,\n"
    assert (read(folder, rows)[1].film.width, read(folder, rows)[1].film.height) == (300, 800)


def test_without_film_sizes_the_images_pixels_are_the_films(folder):
    (mass,) = read(folder, "a.png,P1,1,2,30,40,BENIGN\n", "image,patient_id,x,y,width,height,pathology\n")
    assert mass.box == Box(1, 2, 31, 42)
    assert (mass.film.width, mass.film.height) == (100, 200)


def test_a_box_is_clipped_to_its_image(folder):
    (mass,) = read(folder, "a.png,P1,LEFT,CC,-5,190,30,40,BENIGN,100,200\n")
    assert mass.box == Box(0, 190, 25, 200)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("none.png,P1,LEFT,CC,1,2,30,40,BENIGN,,\n", "film missing"),
        ("broken.png,P1,LEFT,CC,1,2,30,40,BENIGN,,\n", "unreadable film"),
        ("deep.png,P1,LEFT,CC,1,2,30,40,BENIGN,,\n", "film not 8-bit"),
        ("a.png,P1,LEFT,CC,1,2,30,40,AMBIGUOUS,,\n", "pathology unproven or unknown: AMBIGUOUS"),
        ("a.png,P1,LEFT,CC,1,2,x,40,BENIGN,,\n", "box is not four numbers"),
        ("a.png,P1,LEFT,CC,1,2,nan,40,BENIGN,,\n", "box not on the image"),
        ("a.png,P1,LEFT,CC,150,2,30,40,BENIGN,,\n", "box not on the image"),
        ("a.png,,LEFT,CC,1,2,30,40,BENIGN,,\n", "no patient_id"),
    ],
)
def test_a_row_at_fault_is_listed_with_its_reason(folder, row, reason):
    good = "a.png,P9,LEFT,CC,10,20,30,40,BENIGN,,\n"
    at_fault = [mass for mass in read(folder, row + good) if mass.reason]
    assert len(at_fault) == 1
    assert at_fault[0].reason.startswith(reason)


@pytest.mark.parametrize(
    ("text", "message"),
    [("image,x\na.png,1\n", "no column patient_id, y"), (HEADER, "no rows"), ("", "no rows")],
)
def test_a_file_without_what_is_needed_is_a_clear_error(tmp_path, text, message):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        boxes.masses(tmp_path / "m.csv")
    with pytest.raises(InputError, match="no such file"):
        boxes.masses(tmp_path / "none.csv")


def test_the_real_set_is_read_without_loss(shared):
    path = shared / "cbis_ddsm_mass_800" / "masses.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    masses = boxes.masses(path)
    assert len(masses) == len(rows) == 1318
    used = [mass for mass in masses if not mass.reason]
    assert len(used) == sum(row["pathology"] != "AMBIGUOUS" for row in rows)
    assert {mass.reason for mass in masses if mass.reason} == {"pathology unproven or unknown: AMBIGUOUS"}
    aspects = [mass.film.width / mass.film.height for mass in used]
    assert np.median(aspects) == pytest.approx(0.59, abs=0.01)
    assert boxes.load_film(used[0].film).shape == (800, 800)
