"""The reader of DDSM case folders, on real text files and on case folders made with the genuine codec."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep import ddsm, ljpeg
from data_prep.mass import Box, InputError

ICS = """ics_version 1.0
filename A-5001-1
DATE_OF_STUDY 2 7 1995
PATIENT_AGE 42
FILM
FILM_TYPE REGULAR
DENSITY 4
DATE_DIGITIZED 7 22 1997
DIGITIZER {digitizer}
SEQUENCE
LEFT_CC LINES {lines} PIXELS_PER_LINE {pixels} BITS_PER_PIXEL 12 RESOLUTION 43.5 OVERLAY
RIGHT_CC LINES 300 PIXELS_PER_LINE 200 BITS_PER_PIXEL 12 RESOLUTION 43.5 NON_OVERLAY
"""
OVERLAY = """TOTAL_ABNORMALITIES 1
ABNORMALITY 1
LESION_TYPE MASS SHAPE ROUND MARGINS SPICULATED
ASSESSMENT 5
SUBTLETY 3
PATHOLOGY MALIGNANT
TOTAL_OUTLINES 1
BOUNDARY
{outline}
"""
SQUARE = "40 30 " + "2 " * 20 + "4 " * 30 + "6 " * 20 + "0 " * 30 + "#"


def write_case(
    folder: Path, *, digitizer="HOWTEK 43.5", lines=300, pixels=200, overlay: str | None = None, letter="A"
) -> None:
    """Write a case of one film, 300 x 200 pixels, grey level 2000, with the outline of a 21 x 31 box."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{letter}-5001-1.ics").write_text(ICS.format(digitizer=digitizer, lines=lines, pixels=pixels))
    stem = folder / f"{letter}_5001_1.LEFT_CC"
    stem.with_name(stem.name + ".OVERLAY").write_text(overlay or OVERLAY.format(outline=SQUARE))
    ljpeg.encode(np.full((300, 200), 2000, np.uint16), stem.with_name(stem.name + ".LJPEG"), precision=12)


def only(root: Path):
    (mass,) = ddsm.masses(root)
    return mass


def test_a_case_folder_gives_a_mass_with_box_labels_and_calibrated_film(tmp_path):
    write_case(tmp_path / "case5001")
    mass = only(tmp_path)
    assert mass.reason == ""
    assert (mass.mass_id, mass.patient, mass.side, mass.view) == (
        "A_5001_1.LEFT_CC.1",
        "A_5001",
        "LEFT",
        "CC",
    )
    assert mass.box == Box(40, 30, 61, 61)
    assert (mass.shape, mass.margins, mass.assessment, mass.subtlety) == ("ROUND", "SPICULATED", "5", "3")
    film = ddsm.load_film(mass.film)
    assert film.shape == (300, 200)
    assert film.dtype == np.uint8
    assert (film == round((3.0 - (3.789 - 0.00094568 * 2000)) / 2.95 * 255)).all()


@pytest.mark.parametrize(
    ("letter", "digitizer", "scanner"),
    [
        ("A", "DBA 21", "DBA MGH"),
        ("A", "HOWTEK 43.5", "HOWTEK MGH"),
        ("B", "LUMISYS LASER", "LUMISYS WFU"),
        ("C", "LUMISYS LASER", "LUMISYS WFU"),
        ("D", "HOWTEK 43.5", "HOWTEK ISMD"),
    ],
)
def test_calibration_is_chosen_by_hospital_and_digitizer(tmp_path, letter, digitizer, scanner):
    write_case(tmp_path, letter=letter, digitizer=digitizer)
    assert only(tmp_path).film.scanner == scanner


def test_chain_codes_run_clockwise_from_up():
    points = ddsm.decode_chain("10 20  0 1 2 3 4 5 6 7 #")
    steps = np.diff(points, axis=0).tolist()
    assert points[0].tolist() == [10, 20]
    assert steps == [[0, -1], [1, -1], [1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1]]
    assert points[-1].tolist() == [10, 20]


@pytest.mark.parametrize("line", ["10 20", "10 20 #", "10 20 2 8 #", "10 20 2 x #", "10 20 2 -1 #", "1e9 2 2 #"])
def test_a_malformed_chain_is_refused(line):
    with pytest.raises(ValueError, match="chain code"):
        ddsm.decode_chain(line)


def test_boundary_is_kept_and_core_is_not(tmp_path):
    core = "50 40 2 2 4 4 6 6 0 0 #"
    path = tmp_path / "x.OVERLAY"
    path.write_text(OVERLAY.format(outline=f"{SQUARE}\n\tCORE\n{core}"))
    (abnormality,) = ddsm.read_overlay(path)
    assert abnormality.outline[0].tolist() == [40, 30]


def test_calcification_with_mass_is_a_mass_and_alone_is_listed(tmp_path):
    both = "CALCIFICATION TYPE PLEOMORPHIC DISTRIBUTION CLUSTERED\nLESION_TYPE MASS SHAPE"
    write_case(tmp_path / "a", overlay=OVERLAY.format(outline=SQUARE).replace("MASS SHAPE", both))
    alone = OVERLAY.format(outline=SQUARE).replace("MASS SHAPE", "CALCIFICATION TYPE")
    write_case(tmp_path / "d", letter="D", overlay=alone)
    mass, calcification = ddsm.masses(tmp_path)
    assert (mass.reason, mass.shape) == ("", "ROUND")
    assert calcification.reason == "not a mass: CALCIFICATION"


def test_an_outline_that_leaves_the_film_a_little_is_clipped_and_one_far_out_is_listed(tmp_path):
    write_case(tmp_path / "a", overlay=OVERLAY.format(outline=SQUARE.replace("40 30", "-4 30")))
    far = OVERLAY.format(outline=SQUARE.replace("40 30", "190 30"))
    write_case(tmp_path / "d", letter="D", overlay=far)
    clipped, outside = ddsm.masses(tmp_path)
    assert clipped.box == Box(0, 30, 17, 61)
    assert outside.reason.startswith("outline leaves the film: 48%")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"digitizer": "LUMISYS LASER"}, "no calibration for a LUMISYS digitizer at hospital A"),
        ({"lines": 301}, "film of another size"),
        ({"overlay": "TOTAL_ABNORMALITIES 1\n"}, "unreadable outlines"),
        (
            {"overlay": OVERLAY.format(outline="40 30 2 9 #")},
            "unreadable outline: a chain code outside 0 to 7",
        ),
        ({"overlay": OVERLAY.format(outline="40 30 2 4 6 0 #")}, "outline too small: 2 x 2"),
        ({"overlay": OVERLAY.format(outline="")}, "no outline"),
        ({"overlay": OVERLAY.format(outline=SQUARE).replace("MALIGNANT", "UNPROVEN")}, "pathology unproven"),
    ],
)
def test_a_lesion_at_fault_is_listed_with_its_reason(tmp_path, change, reason):
    write_case(tmp_path, **change)
    assert only(tmp_path).reason.startswith(reason)


@pytest.mark.parametrize(
    ("suffix", "content", "reason"),
    [
        (".ics", None, "unreadable case: .*no .ics file"),
        (".ics", b"filename A-5001-1\n", "unreadable case: .*no view line"),
        ("LEFT_CC.LJPEG", None, "film missing"),
        ("LEFT_CC.LJPEG", b"", "unreadable film"),
        ("LEFT_CC.OVERLAY", None, "unreadable outlines: .*missing"),
    ],
)
def test_a_missing_or_damaged_file_of_a_case_is_listed(tmp_path, suffix, content, reason):
    write_case(tmp_path)
    (path,) = (p for p in tmp_path.iterdir() if p.name.endswith(suffix))
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert re.match(reason, only(tmp_path).reason)


def test_a_root_without_cases_is_a_clear_error(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        ddsm.masses(tmp_path / "none")
    with pytest.raises(InputError, match=r"no .ics and .OVERLAY"):
        ddsm.masses(tmp_path)


def test_a_film_whose_size_disagrees_only_when_decoded_is_an_error(tmp_path):
    write_case(tmp_path)
    film = only(tmp_path).film
    with pytest.raises(InputError, match=r"film is 300 x 200 but its .ics says 300 x 201"):
        ddsm.load_film(type(film)(film.path, 201, 300, film.scanner))


def test_real_case_files_are_read_without_loss(shared):
    paths = sorted((shared / "ddsm_samples").rglob("*.ics"))
    cases = [ddsm.read_ics(path) for path in paths]
    assert len(cases) == 240
    assert {case.digitizer for case in cases} == {"DBA", "HOWTEK", "LUMISYS"}
    assert all(case.scanner for case in cases)
    for path, case in zip(paths, cases, strict=True):
        text = path.read_text()
        assert len(case.views) == text.count("BITS_PER_PIXEL") == 4
        assert sum(view.overlay for view in case.views.values()) == text.count(" OVERLAY")
        assert all(1000 < view.pixels_per_line < view.lines < 8000 for view in case.views.values())


def test_real_outlines_are_read_without_loss_and_close(shared):
    paths = sorted((shared / "ddsm_samples").rglob("*.OVERLAY"))
    assert len(paths) == 381
    masses = 0
    for path in paths:
        text = path.read_text()
        abnormalities = ddsm.read_overlay(path)
        assert len(abnormalities) == text.count("\nABNORMALITY")
        assert sum(len(a.lesion_types) for a in abnormalities) == text.count("LESION_TYPE")
        for abnormality in abnormalities:
            assert not abnormality.problem
            assert {"ASSESSMENT", "SUBTLETY", "PATHOLOGY"} <= abnormality.values.keys()
            if any(kind.startswith("MASS") for kind in abnormality.lesion_types):
                masses += 1
                gap = np.abs(abnormality.outline[0] - abnormality.outline[-1]).max()
                assert gap <= 3
    assert masses > 250


def test_real_outlines_filled_agree_with_their_box(shared):
    """The polygon's filled mask has the box of the outline's points, and the area the shoelace formula gives."""
    for path in sorted((shared / "ddsm_samples").rglob("*.OVERLAY"))[:120]:
        for abnormality in ddsm.read_overlay(path):
            points = abnormality.outline - abnormality.outline.min(axis=0)
            mask = np.zeros(points.max(axis=0)[::-1] + 1, np.uint8)
            cv2.fillPoly(mask, [points], 1)
            rows, columns = np.nonzero(mask)
            assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == (mask.shape[1], mask.shape[0])
            x, y = points.astype(float).T
            shoelace = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
            # a filled mask holds its border pixels too: half of each belongs outside (Pick's theorem)
            assert abs(mask.sum() - shoelace) <= 0.75 * len(points) + 2


def test_the_real_case_that_is_whole_but_for_its_films_lists_its_masses_as_missing_films(shared):
    masses = ddsm.masses(shared / "ddsm_samples" / "D-4000")
    assert {mass.reason for mass in masses} == {
        "film missing: D_4000_1.LEFT_CC.LJPEG",
        "film missing: D_4000_1.LEFT_MLO.LJPEG",
    }
    assert all(mass.patient == "D_4000" and mass.box for mass in masses)
