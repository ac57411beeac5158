"""mini-MIAS and INbreast, in small sets written as those are -> a CSV of boxes -> masses on the right spot."""

import plistlib
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep import from_inbreast, from_mini_mias
from data_prep.core.errors import InputError
from data_prep.core.records import Box
from data_prep.sources import csv_boxes
from data_prep.sources.box_csv import convert
from tests.helpers import dicoms

INFO = """\
REFNUM BG CLASS SEVERITY X Y RADIUS
mdb001 G CIRC B 535 425 197
mdb002 G SPIC M 300 200 40 
mdb003 D NORM 
mdb059 F CIRC B *NOTE 3*
mdb144 F MISC B 233 994 29
mdb144 F MISC M 313 540 27
mdb216 D CALC M *NOTE 3*
mdb115 G ARCH M 461 532 117
"""  # noqa: W291


def run(monkeypatch, module, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["converter", *map(str, arguments)])
    convert(module.read, module.__doc__)


def bright_box(film: np.ndarray, scale: float) -> Box:
    """The box, in film pixels, about what is brighter than half in an image `scale` times smaller than its film."""
    rows, columns = np.nonzero(film > 127)
    return Box(*(scale * edge for edge in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)))


def assert_near(box: Box, expected: Box, within: float) -> None:
    found = (box.x0, box.y0, box.x1, box.y1)
    assert found == pytest.approx((expected.x0, expected.y0, expected.x1, expected.y1), abs=within)


@pytest.fixture
def mini_mias(tmp_path) -> Path:
    """Info.txt beside the folder of films; each film shows the disc that mdb002's line describes, low on the left."""
    (tmp_path / "all-mias").mkdir()
    (tmp_path / "Info.txt").write_text(INFO)
    film = np.full((1024, 1024), 20, np.uint8)
    cv2.circle(film, (300, 1024 - 200), 40, 230, thickness=-1)
    for name in ("mdb001", "mdb002", "mdb144"):
        cv2.imwrite(str(tmp_path / "all-mias" / f"{name}.pgm"), film)
    return tmp_path


def test_a_box_of_mini_mias_covers_its_mass_though_y_counts_from_the_bottom(mini_mias, monkeypatch):
    run(monkeypatch, from_mini_mias, mini_mias)
    by_film = {mass.film.path.stem: mass for mass in csv_boxes.masses(mini_mias / "boxes.csv")}
    mass = by_film["mdb002"]
    assert (mass.side, mass.view, mass.pathology, mass.margins) == ("LEFT", "MLO", "MALIGNANT", "SPICULATED")
    assert (mass.film.width, mass.film.height) == (4096, 4096)
    assert_near(mass.box, bright_box(csv_boxes.load_film(mass.film), scale=4), within=4)
    assert by_film["mdb001"].side == "RIGHT"
    assert by_film["mdb001"].patient == mass.patient != by_film["mdb144"].patient


def test_every_mass_of_mini_mias_is_read_and_the_rest_is_listed(mini_mias, monkeypatch, capsys):
    run(monkeypatch, from_mini_mias, mini_mias)
    masses = csv_boxes.masses(mini_mias / "boxes.csv")
    assert not any(mass.reason for mass in masses)
    found = [(mass.film.path.stem, mass.label) for mass in masses]
    assert found == [("mdb001", 0), ("mdb002", 1), ("mdb144", 0), ("mdb144", 1)]
    assert capsys.readouterr().err.splitlines() == [
        "left out: normal films: 1 (in mdb003)",
        "left out: masses without a circle: 1 (in mdb059)",
        "left out: calcifications: 1 (in mdb216)",
        "left out: architectural distortions: 1 (in mdb115)",
    ]


def test_a_missing_film_of_mini_mias_is_listed_by_the_reader(mini_mias, monkeypatch):
    (mini_mias / "all-mias" / "mdb001.pgm").unlink()
    run(monkeypatch, from_mini_mias, mini_mias)
    masses = csv_boxes.masses(mini_mias / "boxes.csv")
    assert [mass.reason for mass in masses if mass.reason] == ["film missing: mdb001.pgm"]


def test_the_csv_may_lie_elsewhere_and_is_never_overwritten(mini_mias, monkeypatch, tmp_path_factory):
    out = tmp_path_factory.mktemp("other") / "mine.csv"
    run(monkeypatch, from_mini_mias, mini_mias, "--out", out)
    assert not any(mass.reason for mass in csv_boxes.masses(out))
    with pytest.raises(InputError, match="exists already"):
        run(monkeypatch, from_mini_mias, mini_mias, "--out", out)


@pytest.mark.parametrize("module", [from_mini_mias, from_inbreast])
def test_a_folder_that_is_not_the_set_is_a_clear_error(module, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"no (Info.txt|INbreast.csv) in it; give the folder of the set"):
        run(monkeypatch, module, tmp_path)
    assert not (tmp_path / "boxes.csv").exists()


FILMS = {  # of INbreast: patient, side, view, BI-RADS
    "20586908": ("6c613a14b80a8591", "R", "CC", "5"),
    "20586934": ("6c613a14b80a8591", "L", "MLO", "2"),
    "20587054": ("b6a4f750c6df4f90", "R", "CC", "4a"),
    "20587080": ("b6a4f750c6df4f90", "R", "MLO", "1"),
}
ELLIPSE = ((700, 1900), (90, 150))  # centre and half axes: columns, rows


def outline(name: str, points: np.ndarray) -> dict:
    """One region of an OsiriX file, with all that INbreast's have."""
    text = [f"({x:.6f}, {y:.6f})" for x, y in points]
    in_mm = [f"({x * 0.07:.6f}, {y * 0.07:.6f}, 0.000000)" for x, y in points]
    numbers = dict.fromkeys(("Area", "Dev", "Max", "Mean", "Min", "Total"), 1.5)
    return numbers | {
        "Center": in_mm[0],
        "IndexInImage": 0,
        "Name": name,
        "NumberOfPoints": len(points),
        "Point_mm": in_mm,
        "Point_px": text,
        "Type": 15,
    }


@pytest.fixture
def inbreast(tmp_path) -> Path:
    """Films of 14 bits with a bright ellipse; all but the normal one have it outlined, beside a calcification."""
    root = tmp_path / "INbreast Release 1.0"
    (root / "AllXML").mkdir(parents=True)
    lines = ["Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads"]
    film = np.full((3328, 2560), 2000, np.uint16)
    cv2.ellipse(film, *ELLIPSE, 0, 0, 360, 14000, thickness=-1)
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)[:, None]
    ellipse = np.array(ELLIPSE[0]) + np.hstack([np.cos(turn), np.sin(turn)]) * ELLIPSE[1]
    for name, (patient, side, view, birads) in FILMS.items():
        lines.append(f"removed;removed;{side};{view};201001;{name};    ;{birads}")
        dicoms.save(root / "AllDICOMs" / f"{name}_{patient}_MG_{side}_{view}_ANON.dcm", film, bits=14)
        regions = [outline("Mass", ellipse), outline("Calcification", ellipse[:1])]
        image = {"ImageIndex": 0, "NumberOfROIs": len(regions), "ROIs": regions}
        if birads != "1":
            (root / "AllXML" / f"{name}.xml").write_bytes(plistlib.dumps({"Images": [image]}))
    (root / "INbreast.csv").write_text("\n".join(lines) + "\n")
    return root


def test_a_box_of_inbreast_covers_its_mass(inbreast, monkeypatch, capsys):
    run(monkeypatch, from_inbreast, inbreast)
    masses = csv_boxes.masses(inbreast / "boxes.csv")
    assert len(masses) == 3
    for mass in masses:
        assert_near(mass.box, bright_box(csv_boxes.load_film(mass.film), scale=1), within=2)
    assert capsys.readouterr().err.splitlines() == [
        "left out: outlines of kind Calcification: 3 (in 20586908, 20586934, 20587054)",
        "left out: films without outlines: 1 (in 20587080)",
    ]


def test_the_patient_of_inbreast_is_in_the_films_name_and_pathology_is_read_from_bi_rads(inbreast, monkeypatch):
    run(monkeypatch, from_inbreast, inbreast)
    masses = {mass.film.path.name[:8]: mass for mass in csv_boxes.masses(inbreast / "boxes.csv")}
    assert masses["20586908"].patient == masses["20586934"].patient == "6c613a14b80a8591"
    assert masses["20587054"].patient == "b6a4f750c6df4f90"
    assert [(mass.side, mass.view) for mass in masses.values()] == [("RIGHT", "CC"), ("LEFT", "MLO"), ("RIGHT", "CC")]
    assert [masses[name].label for name in ("20586908", "20586934")] == [1, 0]
    assert masses["20587054"].reason == "pathology unproven or unknown: UNPROVEN (BI-RADS 4a)"


def test_what_cannot_be_used_of_inbreast_is_listed_or_named(inbreast, monkeypatch, capsys):
    next(inbreast.glob("*/20586908_*.dcm")).unlink()
    run(monkeypatch, from_inbreast, inbreast)
    assert "left out: masses without a film: 1 (in 20586908)" in capsys.readouterr().err.splitlines()
    (inbreast / "boxes.csv").unlink()
    (inbreast / "AllXML" / "20587054.xml").write_text("<plist>not really")
    with pytest.raises(InputError, match=r"20587054.xml: not a list of outlines \(.*; unpack the set again"):
        run(monkeypatch, from_inbreast, inbreast)
