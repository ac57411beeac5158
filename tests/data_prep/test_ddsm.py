"""The reader of DDSM case folders, on real text files and on case folders made with the genuine codec."""

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from data_prep.core.errors import InputError
from data_prep.core.process_pool import worker_pool
from data_prep.core.records import Box
from data_prep.formats import ljpeg
from data_prep.sources import ddsm

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


SCANNERS = {
    "A DBA 21": "DBA MGH",
    "A HOWTEK 43.5": "HOWTEK MGH",
    "B LUMISYS LASER": "LUMISYS WFU",
    "C LUMISYS LASER": "LUMISYS WFU",
    "D HOWTEK 43.5": "HOWTEK ISMD",
}


@pytest.mark.parametrize("digitizer", ["DBA 21", "HOWTEK 43.5", "LUMISYS LASER", "CANON 5"])
@pytest.mark.parametrize("letter", "ABCDE")
def test_calibration_is_chosen_by_hospital_and_digitizer_and_wrong_pairs_are_listed(tmp_path, letter, digitizer):
    write_case(tmp_path, letter=letter, digitizer=digitizer)
    mass = only(tmp_path)
    expected = SCANNERS.get(f"{letter} {digitizer}")
    make = digitizer.split()[0]
    assert mass.film.scanner == expected
    assert mass.reason == ("" if expected else f"no calibration for a {make} digitizer at hospital {letter}")


def test_chain_codes_run_clockwise_from_up():
    points = ddsm.decode_chain("10 20  0 1 2 3 4 5 6 7 #")
    steps = np.diff(points, axis=0).tolist()
    assert points[0].tolist() == [10, 20]
    assert steps == [[0, -1], [1, -1], [1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1]]
    assert points[-1].tolist() == [10, 20]


@pytest.mark.parametrize(
    "line",
    [
        *("10 20", "10 20 #", "10 20 2 8 #", "10 20 2 x #", "10 20 2 -1 #", "1e9 2 2 #"),
        *("10 20 2 4 6 0", "70000 20 2 4 6 0 #", "-9223372036854775808 20 2 4 #", "9" * 30 + " 20 2 4 #"),
    ],
)
def test_a_malformed_chain_is_refused(line):
    with pytest.raises(ValueError, match="chain code"):
        ddsm.decode_chain(line)


def test_the_boundary_is_the_outline_of_the_mass_and_a_core_is_kept_apart(tmp_path):
    core = "50 40 2 2 4 4 6 6 0 0 #"
    path = tmp_path / "x.OVERLAY"
    path.write_text(OVERLAY.format(outline=f"{SQUARE}\n\tCORE\n{core}"))
    (abnormality,) = ddsm.read_overlay(path)
    assert [kind for kind, _ in abnormality.outlines] == ["BOUNDARY", "CORE"]
    assert abnormality.boundary[0].tolist() == [40, 30]


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
        ({"overlay": OVERLAY.format(outline=SQUARE.rstrip("#"))}, "unreadable outline: no # at the end"),
        ({"overlay": OVERLAY.format(outline=SQUARE).replace("MALIGNANT", "UNPROVEN")}, "pathology unproven"),
        (
            {"overlay": OVERLAY.format(outline=SQUARE).replace("MALIGNANT", "MALIGNANT\nPATHOLOGY BENIGN")},
            "contradictory: PATHOLOGY is MALIGNANT and BENIGN",
        ),
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
        (".ics", ICS.format(digitizer="", lines=300, pixels=200).encode(), "unreadable case: .*no DIGITIZER line"),
        (".ics", b"LEFT_CC LINES 3 OVERLAY\n", "unreadable case: .*does not give LINES and PIXELS_PER_LINE"),
        (".ics", b"DIGITIZER DBA 21\nDIGITIZER HOWTEK 43.5\n", "unreadable case: .*two DIGITIZER lines"),
        (".ics", b" " * 5_000_000, "unreadable case: .*far too long"),
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


def test_a_case_file_that_nothing_else_tells_of_is_listed(tmp_path):
    (tmp_path / "A-5001-1.ics").write_text("filename A-5001-1\n")
    assert re.match("unreadable case: .*no view line", only(tmp_path).reason)


def test_an_abnormality_that_was_announced_and_does_not_follow_is_listed(tmp_path):
    write_case(
        tmp_path, overlay=OVERLAY.format(outline=SQUARE).replace("TOTAL_ABNORMALITIES 1", "TOTAL_ABNORMALITIES 3")
    )
    mass, lost = ddsm.masses(tmp_path)
    assert mass.reason == ""
    assert lost.reason == "lost from its file: TOTAL_ABNORMALITIES is 3, but 1 follow"


@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_copies_in_lower_or_upper_case_are_the_same_case(tmp_path, change):
    write_case(tmp_path / "original")
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in (tmp_path / "original").iterdir():
        (copy / change(path.name)).write_bytes(path.read_bytes())
    original, mass = only(tmp_path / "original"), only(copy)
    assert (mass.reason, mass.mass_id, mass.patient, mass.box) == ("", "A_5001_1.LEFT_CC.1", "A_5001", original.box)
    assert np.array_equal(ddsm.load_film(mass.film), ddsm.load_film(original.film))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("A-5001-1.ics", "unreadable case: .*ics.gz: compressed; gunzip it"),
        ("A_5001_1.LEFT_CC.OVERLAY", "unreadable outlines: .*OVERLAY.gz: compressed; gunzip it"),
        ("A_5001_1.LEFT_CC.LJPEG", "unreadable film: .*LJPEG.gz is compressed; gunzip it"),
    ],
)
def test_a_compressed_file_is_listed_until_it_is_unpacked(tmp_path, name, reason):
    write_case(tmp_path)
    packed = tmp_path / f"{name}.gz"
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).rename(packed)
    packed.write_bytes(b"\x1f\x8b")
    assert re.match(reason, only(tmp_path).reason)
    (tmp_path / name).write_bytes(content)
    assert only(tmp_path).reason == ""


def test_a_film_whose_header_has_rows_and_columns_exchanged_is_reshaped(tmp_path):
    write_case(tmp_path)
    pixels = np.arange(300 * 200, dtype=np.uint16).reshape(300, 200) // 20
    film = tmp_path / "A_5001_1.LEFT_CC.LJPEG"
    ljpeg.encode(pixels, film, precision=12)
    expected = ddsm.load_film(only(tmp_path).film)
    ljpeg.encode(pixels.reshape(200, 300), film, precision=12)
    mass = only(tmp_path)
    assert (mass.reason, mass.box) == ("", Box(40, 30, 61, 61))
    assert np.array_equal(ddsm.load_film(mass.film), expected)


def test_what_macos_leaves_beside_files_is_no_case(tmp_path):
    write_case(tmp_path)
    (tmp_path / "__MACOSX").mkdir()
    for path in list(tmp_path.glob("A*")):
        (tmp_path / f"._{path.name}").write_bytes(b"Mac OS X")
        (tmp_path / "__MACOSX" / path.name).write_bytes(b"Mac OS X")
    assert only(tmp_path).reason == ""


def test_a_root_without_cases_is_a_clear_error(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        ddsm.masses(tmp_path / "none")
    with pytest.raises(InputError, match=r"no .ics and .OVERLAY"):
        ddsm.masses(tmp_path)


def write_volumes(root: Path, cases: int) -> None:
    """Write case folders nested as in DDSM's volumes, without films."""
    for number in range(cases):
        folder = root / "cases" / "cancers" / f"cancer_{number % 43:02}" / f"case{number:04}"
        folder.mkdir(parents=True)
        name = f"{'ABCD'[number % 4]}-{number:04}-1"
        (folder / f"{name}.ics").write_text(ICS.format(digitizer="HOWTEK 43.5", lines=300, pixels=200))
        stem = folder / name.replace("-", "_")
        stem.with_name(f"{stem.name}.LEFT_CC.OVERLAY").write_text(OVERLAY.format(outline=SQUARE))


def test_thousands_of_cases_are_found_by_one_walk_that_reads_each_folder_once(tmp_path, monkeypatch):
    write_volumes(tmp_path, 2500)
    read: Counter[str] = Counter()
    for name in ("scandir", "listdir"):
        original = getattr(os, name)

        def counting(folder, original=original):
            read[os.fspath(folder)] += 1
            return original(folder)

        monkeypatch.setattr(os, name, counting)
    masses = ddsm.masses(tmp_path)
    assert len({mass.mass_id for mass in masses}) == len(masses) == 2500
    assert len(read) == 1 + 2 + 43 + 2500
    assert set(read.values()) == {1}


def test_processes_give_the_same_masses_in_the_same_order(tmp_path):
    write_volumes(tmp_path, 40)
    with worker_pool(2) as pool:
        shared_out, alone = ddsm.masses(tmp_path, each=pool.map), ddsm.masses(tmp_path)
    assert [mass.mass_id for mass in alone] == sorted(mass.mass_id for mass in alone)
    for one, other in zip(shared_out, alone, strict=True):
        assert np.array_equal(one.outline, other.outline)
        assert vars(one) | {"outline": None} == vars(other) | {"outline": None}


def test_links_are_followed_and_no_folder_is_read_twice_even_in_a_loop(tmp_path):
    write_case(tmp_path / "elsewhere" / "case5001")
    root = tmp_path / "root"
    root.mkdir()
    (root / "volume").symlink_to(tmp_path / "elsewhere")
    (root / "again").symlink_to(tmp_path / "elsewhere" / "case5001")
    (tmp_path / "elsewhere" / "case5001" / "loop").symlink_to(tmp_path / "elsewhere" / "case5001")
    assert only(root).film.path.parent == root / "again"


def test_a_film_whose_size_disagrees_only_when_decoded_is_an_error(tmp_path):
    write_case(tmp_path)
    film = only(tmp_path).film
    with pytest.raises(InputError, match=r"film is 300 x 200 but its .ics says 300 x 201"):
        ddsm.load_film(type(film)(film.path, 201, 300, film.scanner))


def words_of_case(case: ddsm.Case) -> list[str]:
    """The words of the .ics file that says what `case` says."""
    words = [f"{key} {value}" for key, value in case.values.items()]
    for name, view in case.views.items():
        size = f"LINES {view.lines} PIXELS_PER_LINE {view.pixels_per_line} BITS_PER_PIXEL {view.bits}"
        outlined = "OVERLAY" if view.overlay else "NON_OVERLAY"
        words.append(f"{name} {size} RESOLUTION {view.resolution:g} {outlined}")
    return " ".join(words).split()


def test_every_word_of_the_real_case_files_is_read(shared):
    paths = sorted((shared / "ddsm_samples").rglob("*.ics"))
    cases = [ddsm.read_ics(path) for path in paths]
    for path, case in zip(paths, cases, strict=True):
        assert words_of_case(case) == path.read_text().split()
        assert case.name == path.stem == case.values["filename"]
        assert case.views.keys() == {"LEFT_CC", "LEFT_MLO", "RIGHT_CC", "RIGHT_MLO"}
    assert Counter(f"{case.name[0]} {case.values['DIGITIZER']}: {case.scanner}" for case in cases) == {
        "A DBA 21: DBA MGH": 86,
        "A HOWTEK 43.5: HOWTEK MGH": 71,
        "B LUMISYS LASER: LUMISYS WFU": 34,
        "C LUMISYS LASER: LUMISYS WFU": 28,
        "D HOWTEK 43.5: HOWTEK ISMD": 21,
    }


def words_of_abnormality(abnormality: ddsm.Abnormality) -> list[str]:
    """The words of an .OVERLAY file for one lesion; the codes come from the angles between the outline's points."""
    words = [f"ABNORMALITY {abnormality.number}"]
    words += [f"LESION_TYPE {lesion_type}" for lesion_type in abnormality.lesion_types]
    words += [f"{key} {value}" for key, value in abnormality.values.items()]
    for kind, points in abnormality.outlines:
        across, down = np.diff(points, axis=0).T
        codes = np.rint(np.degrees(np.arctan2(across, -down)) / 45).astype(int) % 8
        words.append(f"{kind} {points[0, 0]} {points[0, 1]} {' '.join(map(str, codes))} #")
    return " ".join(words).split()


def test_every_word_of_the_real_outline_files_is_read(shared):
    paths = sorted((shared / "ddsm_samples").rglob("*.OVERLAY"))
    assert len(paths) == 381
    for path in paths:
        words = [word for abnormality in ddsm.read_overlay(path) for word in words_of_abnormality(abnormality)]
        assert words == path.read_text().split()[2:]  # after TOTAL_ABNORMALITIES and its number


def test_the_real_outline_files_hold_what_a_search_for_words_counts(shared):
    """Lesions, types, pathologies and outlines of all files; and the four counts in them that are wrong."""
    lesions, texts, wrong = [], [], {}
    for path in sorted((shared / "ddsm_samples").rglob("*.OVERLAY")):
        text = path.read_text()
        abnormalities = ddsm.read_overlay(path)
        lesions += abnormalities
        texts.append(text)
        announced = int(re.match(r"TOTAL_ABNORMALITIES (\d+)", text)[1])
        if announced != len(abnormalities):
            wrong[path.stem] = f"{announced} abnormalities, {len(abnormalities)} follow"
        for each in abnormalities:
            if int(each.values["TOTAL_OUTLINES"]) != len(each.outlines):
                wrong[f"{path.stem}.{each.number}"] = f"{each.values['TOTAL_OUTLINES']} outlines, {len(each.outlines)}"
    everything = "\n".join(texts)

    def counted(pattern: str) -> Counter[str]:
        return Counter(re.findall(pattern, everything, re.MULTILINE))

    assert len(lesions) == counted("^ABNORMALITY")["ABNORMALITY"] == 425
    assert not any(each.problem for each in lesions)
    assert Counter(kind.split()[0] for each in lesions for kind in each.lesion_types) == counted(r"^LESION_TYPE (\w+)")
    assert Counter(each.values["PATHOLOGY"] for each in lesions) == counted(r"^PATHOLOGY (\w+)")
    assert Counter(kind for each in lesions for kind, _ in each.outlines) == counted(r"^\t?(BOUNDARY|CORE)$")
    assert Counter(each.descriptor("SHAPE") for each in lesions) - Counter([""] * 425) == counted(r"MASS SHAPE (\S+)")
    assert wrong == {
        "A_1576_1.RIGHT_MLO": "1 abnormalities, 2 follow",
        "A_1576_1.RIGHT_MLO.1": "2 outlines, 1",
        "A_1828_1.LEFT_CC": "1 abnormalities, 2 follow",
        "B_3499_1.LEFT_CC.1": "2 outlines, 1",
    }


@pytest.fixture(scope="module")
def real_mass_outlines(shared) -> list[np.ndarray]:
    """The BOUNDARY of every mass of the real files."""
    paths = sorted((shared / "ddsm_samples").rglob("*.OVERLAY"))
    abnormalities = [abnormality for path in paths for abnormality in ddsm.read_overlay(path)]
    return [each.boundary for each in abnormalities if any(kind.startswith("MASS") for kind in each.lesion_types)]


def test_every_real_mass_outline_closes(real_mass_outlines):
    assert len(real_mass_outlines) == 273
    assert all(np.abs(outline[0] - outline[-1]).max() <= 1 for outline in real_mass_outlines)


def test_every_real_mass_outline_filled_agrees_with_an_independent_polygon_fill_and_its_box(real_mass_outlines):
    for outline in real_mass_outlines:
        outline = outline - outline.min(axis=0) + 5
        width, height = (outline.max(axis=0) + 6).tolist()
        mask = ddsm.filled(outline, height, width)
        independent = Image.new("L", (width, height))
        ImageDraw.Draw(independent).polygon(outline.ravel().tolist(), fill=1, outline=1)
        assert np.array_equal(mask, independent)
        rows, columns = np.nonzero(mask)
        assert (columns.min(), rows.min()) == tuple(outline.min(axis=0))
        assert (columns.max(), rows.max()) == tuple(outline.max(axis=0))


def test_real_mass_outlines_that_never_cross_themselves_fill_the_area_of_picks_theorem(real_mass_outlines):
    simple = 0
    for outline in real_mass_outlines:
        outline = outline - outline.min(axis=0)
        border = len(np.unique(outline, axis=0))
        if border == len(outline) - 1 and (outline[0] == outline[-1]).all():
            simple += 1
            x, y = outline.astype(np.int64).T
            doubled = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1))  # twice the area, by the shoelace formula
            width, height = (outline.max(axis=0) + 1).tolist()
            assert 2 * ddsm.filled(outline, height, width).sum() == doubled + border + 2
    assert simple == 225


def test_a_filled_outline_is_cut_at_the_edge_of_the_film():
    mask = ddsm.filled(ddsm.decode_chain(SQUARE.replace("40 30", "-4 30")), 50, 200)
    assert (mask.shape, mask.dtype) == ((50, 200), np.uint8)
    assert mask.sum() == mask[30:, :17].sum() == 20 * 17


def test_the_real_case_that_is_whole_but_for_its_films_lists_its_masses_as_missing_films(shared):
    masses = ddsm.masses(shared / "ddsm_samples" / "D-4000")
    assert {mass.reason for mass in masses} == {
        "film missing: D_4000_1.LEFT_CC.LJPEG",
        "film missing: D_4000_1.LEFT_MLO.LJPEG",
    }
    assert all(mass.patient == "D_4000" and mass.box for mass in masses)
