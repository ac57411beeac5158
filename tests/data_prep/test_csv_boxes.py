"""The reader of a CSV of boxes or masks."""

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.core.errors import InputError
from data_prep.core.records import Box
from data_prep.sources import csv_boxes

MASK_HEADER = "image,patient_id,mask,pathology\n"
HEADER = "image,patient_id,side,view,x,y,width,height,pathology,film_width,film_height\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.fromarray(np.arange(200 * 100, dtype=np.uint32).astype(np.uint8).reshape(200, 100)).save(tmp_path / "a.png")
    Image.fromarray(np.linspace(300, 4000, 200 * 100).astype(np.uint16).reshape(200, 100)).save(tmp_path / "deep.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no more")
    # a PNG's header that claims 2 ** 30 pixels
    header = bytes.fromhex("89504e470d0a1a0a0000000d4948445200008000000080000800000000e117fca3")
    (tmp_path / "huge.png").write_bytes(header + b"\0\0\0\0IDAT")
    mask(tmp_path / "mask.png", (200, 100), (slice(40, 60), slice(10, 30)))
    return tmp_path


def mask(path: Path, shape: tuple[int, int], *parts: tuple[slice, slice]) -> None:
    """Write a mask that is white in rectangles of (rows, columns)."""
    values = np.zeros(shape, np.uint8)
    for part in parts:
        values[part] = 255
    Image.fromarray(values).save(path)


def read(folder: Path, rows: str, header: str = HEADER):
    (folder / "masses.csv").write_text(header + rows)
    return csv_boxes.masses(folder / "masses.csv")


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


def test_a_deep_film_is_shown_from_its_darkest_to_its_brightest_pixel(folder):
    (mass,) = read(folder, "deep.png,P1,LEFT,CC,10,20,30,40,BENIGN,,\n")
    film = csv_boxes.load_film(mass.film)
    assert film.dtype == np.uint8
    assert (film[0, 0], film[-1, -1]) == (0, 255)


def test_a_mask_gives_the_box_of_its_largest_part(folder):
    speck = (slice(190, 194), slice(90, 94))
    mask(folder / "mask.png", (200, 100), speck, (slice(40, 60), slice(10, 30)))
    (mass,) = read(folder, "a.png,P1,mask.png,BENIGN\n", MASK_HEADER)
    assert (mass.box, mass.reason) == (Box(10, 40, 30, 60), "")


def test_a_mask_of_another_size_but_its_films_aspect_is_scaled_to_it(folder):
    mask(folder / "mask.png", (403, 200), (slice(80, 120), slice(20, 60)))  # 403 for 400: rounded somewhere
    (mass,) = read(folder, "a.png,P1,mask.png,BENIGN\n", MASK_HEADER)
    found = (mass.box.x0, mass.box.y0, mass.box.x1, mass.box.y1)
    assert found == pytest.approx((10, 40, 30, 60), abs=0.5)


def test_a_mask_of_a_squashed_image_is_given_in_film_pixels(folder):
    header = "image,patient_id,mask,pathology,film_width,film_height\n"
    (mass,) = read(folder, "a.png,P1,mask.png,BENIGN,300,800\n", header)
    assert mass.box == Box(30, 160, 90, 240)


def test_a_mask_counts_more_than_a_box_and_is_not_needed_in_every_row(folder):
    header = "image,patient_id,mask,pathology,x,y,width,height\n"
    rows = "a.png,P1,mask.png,BENIGN,1,2,3,4\na.png,P2,,BENIGN,1,2,3,4\n"
    assert [mass.box for mass in read(folder, rows, header)] == [Box(10, 40, 30, 60), Box(1, 2, 4, 6)]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.png", "mask missing: none.png"),
        ("broken.png", "unreadable mask"),
        ("huge.png", "unreadable mask"),
        ("empty.png", "mask is empty"),
        ("crop.png", "mask of another aspect: 60 x 40 for a film of 100 x 200"),
    ],
)
def test_a_mask_at_fault_is_listed_with_its_reason(folder, name, reason):
    mask(folder / "empty.png", (200, 100))
    mask(folder / "crop.png", (40, 60), (slice(10, 30), slice(10, 30)))
    (mass,) = read(folder, f"a.png,P1,{name},BENIGN\n", MASK_HEADER)
    assert mass.reason.startswith(reason)
    assert mass.box is None


def test_paths_may_be_absolute_or_written_on_windows(folder):
    (folder / "sub").mkdir()
    Image.new("L", (100, 200)).save(folder / "sub" / "b.png")
    mask(folder / "sub" / "m.png", (200, 100), (slice(40, 60), slice(10, 30)))
    rows = f"sub\\b.png,P1,sub\\m.png,BENIGN\n{folder}/a.png,P2,{folder}/mask.png,BENIGN\n"
    assert [(mass.mass_id, mass.reason) for mass in read(folder, rows, MASK_HEADER)] == [("P1.b.1", ""), ("P2.a.1", "")]


def test_files_of_one_name_in_two_folders_are_two_films(folder):
    header = "image,patient_id,x,y,width,height,pathology\n"
    rows = "".join(f"{image},P1,1,2,30,40,BENIGN\n" for image in ("cc/1-1.dcm", "mlo/1-1.dcm", "mlo/1-1.dcm"))
    names = [mass.mass_id for mass in read(folder, rows, header)]
    assert names == ["P1.cc-1-1.dcm.1", "P1.mlo-1-1.dcm.1", "P1.mlo-1-1.dcm.2"]


def test_worker_processes_may_do_the_reading(folder):
    def each(function, jobs):
        sent = [pickle.dumps((function, job)) for job in jobs]
        return (pickle.loads(pickle.dumps(function(job))) for function, job in map(pickle.loads, sent))

    plain = read(folder, "a.png,P1,mask.png,BENIGN\nnone.png,P2,mask.png,BENIGN\n", MASK_HEADER)
    assert csv_boxes.masses(folder / "masses.csv", each) == plain


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("none.png,P1,LEFT,CC,1,2,30,40,BENIGN,,\n", "film missing"),
        ("broken.png,P1,LEFT,CC,1,2,30,40,BENIGN,,\n", "unreadable film"),
        ("huge.png,P1,LEFT,CC,1,2,30,40,BENIGN,,\n", "unreadable film"),
        ("a.png,P1,LEFT,CC,,,,,BENIGN,,\n", "neither box nor mask given"),
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
    [
        ("image,x\na.png,1\n", "no column patient_id, y"),
        ("image,mask\na.png,m.png\n", "no column patient_id, pathology; needed are .* mask"),
        (HEADER, "no rows"),
        ("", "no rows"),
    ],
)
def test_a_file_without_what_is_needed_is_a_clear_error(tmp_path, text, message):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        csv_boxes.masses(tmp_path / "m.csv")
    with pytest.raises(InputError, match="no such file"):
        csv_boxes.masses(tmp_path / "none.csv")


def test_the_real_set_is_read_without_loss(shared):
    path = shared / "cbis_ddsm_mass_800" / "masses.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    masses = csv_boxes.masses(path)
    assert len(masses) == len(rows) == 1318
    used = [mass for mass in masses if not mass.reason]
    assert len(used) == sum(row["pathology"] != "AMBIGUOUS" for row in rows)
    assert {mass.reason for mass in masses if mass.reason} == {"pathology unproven or unknown: AMBIGUOUS"}
    aspects = [mass.film.width / mass.film.height for mass in used]
    assert np.median(aspects) == pytest.approx(0.59, abs=0.01)
    assert csv_boxes.load_film(used[0].film).shape == (800, 800)


PLAIN = "image,patient_id,x,y,width,height,pathology\n"


@pytest.mark.parametrize(
    ("spelling", "label"),
    [
        *((word, 1) for word in ("malignant", "Malignant", "MALIGNANT", "M", "m", "1", "1.0", " malignant ")),
        *((word, 0) for word in ("benign", "B", "b", "0", "0.0", "BENIGN_WITHOUT_CALLBACK", "benign without callback")),
    ],
)
def test_pathology_is_read_in_any_usual_spelling(folder, spelling, label):
    (mass,) = read(folder, f"a.png,P1,10,20,30,40,{spelling}\n", PLAIN)
    assert (mass.reason, mass.label) == ("", label)


@pytest.mark.parametrize("spelling", ["", "2", "cancer", "malignant?"])
def test_another_pathology_is_listed_with_the_accepted_words(folder, spelling):
    (mass,) = read(folder, f"a.png,P1,10,20,30,40,{spelling}\n", PLAIN)
    assert mass.reason.startswith(
        f"pathology unproven or unknown: {spelling or 'none given'} (accepted, in any case: MAL"
    )
    assert "BENIGN_WITHOUT_CALLBACK, M, 1, B, 0" in mass.reason


@pytest.mark.parametrize("header", ["x0,y0,x1,y1", "xmin,ymin,xmax,ymax", "Xmin, Ymin ,XMAX,Y Max"])
def test_a_box_may_be_given_by_its_corners(folder, header):
    if "Y Max" in header:
        header = header.replace("Y Max", "YMax")
    rows = "a.png;P1;-5,5;20;40;60;BENIGN\nA.png;P1;1;2;;;BENIGN\n"
    clipped, broken = read(folder, rows, f"Image;Patient ID;{header.replace(',', ';')};Pathology\n")
    assert clipped.box is None and clipped.reason == "film missing: A.png"
    assert broken.box == Box(0, 20, 40, 60)


def test_ids_that_a_spreadsheet_made_numbers_of_stay_the_patients(folder):
    rows = "a.png,22678622.0,10,20,30,40,M\na.png,22678622,10,20,30,40,M\na.png,2.26786E+07,10,20,30,40,M\n"
    one, other, rounded = sorted(read(folder, rows, PLAIN), key=lambda mass: mass.reason)
    assert one.patient == other.patient == "22678622"
    assert {one.abnormality, other.abnormality} == {1, 2}
    assert rounded.reason == "patient_id rounded by a spreadsheet: 2.26786E+07; enter it as text"
