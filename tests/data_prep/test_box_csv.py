"""mini-MIAS and INbreast, in small sets written as those are -> a CSV of boxes -> masses on the right spot."""

import csv
import json
import plistlib
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import xlwt

from data_prep import from_coco, from_inbreast, from_mini_mias, from_vindr
from data_prep.core.errors import InputError
from data_prep.core.records import Box
from data_prep.sources import csv_boxes
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
    module.main()


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


@pytest.mark.parametrize("module", [from_mini_mias, from_inbreast, from_vindr])
def test_a_folder_that_is_not_the_set_is_a_clear_error(module, tmp_path, monkeypatch):
    with pytest.raises(
        InputError,
        match=r"no (Info.txt|INbreast.csv or INbreast.xls|finding_annotations.csv) in it; give the folder of the set",
    ):
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


def test_inbreast_is_read_where_only_the_xls_file_came(inbreast, monkeypatch):
    run(monkeypatch, from_inbreast, inbreast, "--out", inbreast / "from_csv.csv")
    table = inbreast / "INbreast.csv"
    book = xlwt.Workbook()
    sheet = book.add_sheet("Sheet1")
    for i, line in enumerate(csv.reader(table.open(newline=""), delimiter=";")):
        for j, field in enumerate(line):
            sheet.write(i, j, float(field) if field.isdecimal() else field)
    sheet.write(i + 2, 0, "a note beneath")
    book.save(str(inbreast / "INbreast.xls"))
    table.unlink()
    run(monkeypatch, from_inbreast, inbreast, "--out", inbreast / "from_xls.csv")
    assert (inbreast / "from_xls.csv").read_text() == (inbreast / "from_csv.csv").read_text()
    (inbreast / "INbreast.xls").write_bytes(b"PK not Excel's old format")
    with pytest.raises(InputError, match=r"INbreast\.xls: not an \.xls file .*save it as CSV UTF-8"):
        run(monkeypatch, from_inbreast, inbreast, "--out", inbreast / "none.csv")


def test_bi_rads_above_3_is_malignant_where_that_is_asked_for(inbreast, monkeypatch):
    run(monkeypatch, from_inbreast, inbreast, "--malignant-above-3")
    labels = {mass.film.path.name[:8]: mass.label for mass in csv_boxes.masses(inbreast / "boxes.csv")}
    assert labels == {"20586908": 1, "20586934": 0, "20587054": 1}


@pytest.mark.parametrize("ending", [".png", ".jpg", ".PGM"])
@pytest.mark.parametrize("size", [1024, 512])
def test_copies_of_mini_mias_of_other_kinds_and_sizes_give_the_same_boxes(mini_mias, monkeypatch, ending, size):
    run(monkeypatch, from_mini_mias, mini_mias, "--out", mini_mias / "before.csv")
    expected = csv_boxes.masses(mini_mias / "before.csv")
    for path in list((mini_mias / "all-mias").iterdir()):
        film = cv2.resize(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), (size, size), interpolation=cv2.INTER_AREA)
        path.unlink()
        cv2.imwrite(str(path.with_suffix(ending.lower())), film)
        path.with_suffix(ending.lower()).rename(path.with_suffix(ending))
    run(monkeypatch, from_mini_mias, mini_mias)
    found = csv_boxes.masses(mini_mias / "boxes.csv")
    assert [(mass.box, mass.reason) for mass in found] == [(mass.box, mass.reason) for mass in expected]


VINDR = """\
study_id,image_id,laterality,view_position,height,width,finding_categories,finding_birads,xmin,ymin,xmax,ymax,split
s1,i1,L,CC,3518,2800,"['Mass', 'Suspicious Calcification']",BI-RADS 4,600.5,1700,800.25,2100,training
s1,i1,L,CC,3518,2800,['Suspicious Calcification'],BI-RADS 4,1,1,9,9,training
s2,i2,R,MLO,3518,2800,['Mass'],BI-RADS 5,-20.5,1700,200,3600,test
s3,i3,R,MLO,3518,2800,['Mass'],BI-RADS 3,600,1700,800,2100,test
s4,i4,R,MLO,3518,2800,['No Finding'],,,,,,test
s5,i5,R,MLO,3518,2800,['Mass'],BI-RADS 3,600,1700,800,2100,test
"""


@pytest.mark.parametrize("kind", [".dicom", ".png"])
def test_masses_of_vindr_are_read_with_bi_rads_for_pathology(tmp_path, monkeypatch, capsys, kind):
    (tmp_path / "finding_annotations.csv").write_text(VINDR)
    for study, image in (("s1", "i1"), ("s2", "i2"), ("s3", "i3")):
        film = np.full((3518, 2800), 300, np.uint16)
        path = tmp_path / "images" / study / f"{image}{kind}"
        path.parent.mkdir(parents=True)
        if kind == ".dicom":
            dicoms.save(path, film, bits=12)
        else:  # a copy of a quarter of the size
            cv2.imwrite(str(path), (film[::4, ::4] >> 4).astype(np.uint8))
    run(monkeypatch, from_vindr, tmp_path)
    first, second, third = csv_boxes.masses(tmp_path / "boxes.csv")
    assert first.reason == "pathology unproven or unknown: UNPROVEN (BI-RADS 4)"
    assert (second.patient, second.side, second.view, second.label, second.reason) == ("s2", "RIGHT", "MLO", 1, "")
    assert_near(second.box, Box(0, 1700, 200, 3518), within=4)  # what leaves the film is cut off
    assert_near(third.box, Box(600, 1700, 800, 2100), within=4)
    assert (third.film.width, third.film.height, third.label) == (2800, 3518, 0)
    assert sorted(capsys.readouterr().err.splitlines()) == [
        "left out: findings of kind No Finding: 1 (in i4)",
        "left out: findings of kind Suspicious Calcification: 1 (in i1)",
        "left out: masses without a film: 1 (in i5)",
    ]
    run(monkeypatch, from_vindr, tmp_path, "--malignant-above-3", "--out", tmp_path / "all.csv")
    assert [mass.label for mass in csv_boxes.masses(tmp_path / "all.csv")] == [1, 1, 0]


def coco(tmp_path, **image: object) -> dict:
    cv2.imwrite(str(tmp_path / "P1_left.png"), np.zeros((200, 100), np.uint8))
    kinds = ("Mass", "malignant_mass", "benign", "calcification")
    one = {"id": 7, "file_name": "train/P1_left.png", "width": 200, "height": 400} | image
    marks = [{"id": i, "image_id": 7, "category_id": i, "bbox": [20, 40 * i, 60, 20]} for i in range(4)]
    return {"images": [one], "annotations": marks, "categories": [{"id": i, "name": kinds[i]} for i in range(4)]}


def test_boxes_of_coco_are_read_with_their_categories_for_pathology(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.json").write_text(json.dumps(coco(tmp_path, patient_id=12)))
    (tmp_path / "other.json").write_text("[1]")
    run(monkeypatch, from_coco, tmp_path)
    masses = csv_boxes.masses(tmp_path / "boxes.csv")
    assert [mass.box for mass in masses] == [Box(10, 20 * i, 40, 20 * i + 10) for i in range(3)]
    assert [mass.reason for mass in masses] == ["pathology unproven or unknown: UNPROVEN (Mass)", "", ""]
    assert [(mass.label, mass.patient) for mass in masses[1:]] == [(1, "12"), (0, "12")]
    assert capsys.readouterr().err == "left out: annotations of kind calcification: 1 (in train/P1_left.png)\n"


def test_without_a_patient_nothing_is_written_of_coco(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text(json.dumps(coco(tmp_path)))
    with pytest.raises(InputError, match=r"whose film is train/P1_left\.png"):
        run(monkeypatch, from_coco, tmp_path / "a.json")
    run(monkeypatch, from_coco, tmp_path / "a.json", "--patient", "/([^_]+)_")
    assert {mass.patient for mass in csv_boxes.masses(tmp_path / "boxes.csv")} == {"P1"}


@pytest.mark.parametrize(
    "change", [{"images": []}, {"categories": [{}]}, {"annotations": [{"image_id": 7, "category_id": 0, "bbox": [1]}]}]
)
def test_damaged_annotations_of_coco_are_one_clear_line(tmp_path, monkeypatch, change):
    (tmp_path / "a.json").write_text(json.dumps(coco(tmp_path) | change))
    with pytest.raises(InputError, match=r"a\.json: not annotations as COCO has them"):
        run(monkeypatch, from_coco, tmp_path)
