"""Using a net on one film (scripts/classify.py): what eval.py says of a mass in the database, to the last bit."""

import csv
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.core.errors import run
from data_prep.database import lmdb_io, manifest
from data_prep.sources import ddsm
from scripts import classify
from scripts import eval as evaluation
from scripts.evaluation import plots
from scripts.nets import inference
from tests.helpers import databases, dicoms, random_nets

SQUASHED = "400,450"  # the size that half of the films had before they were squashed to 200 x 300
BOX = ",".join(map(str, databases.BOX))


def typed(monkeypatch, script, *words) -> int:
    """Type a command, run it in this process, and return its exit status."""
    monkeypatch.setattr(sys, "argv", [script.__name__, *map(str, words)])
    return run(script.main)


def judged(monkeypatch, tmp_path, *words) -> dict[str, plots.ClassifiedMass]:
    """Type a classify.py command that succeeds; return what its picture was drawn of, by the masses' names."""
    found = []
    draw = plots.classified

    def draw_and_keep(heading, film, size, masses):
        found.extend(masses)
        return draw(heading, film, size, masses)

    monkeypatch.setattr(plots, "classified", draw_and_keep)
    assert typed(monkeypatch, classify, *words, "--out", tmp_path / "picture.png") == 0
    monkeypatch.setattr(plots, "classified", draw)
    assert cv2.imread(str(tmp_path / "picture.png")) is not None
    return {mass.name: mass for mass in found}


def train(data: Path, folder: Path, net: str) -> Path:
    """Make a run with random weights that names its data, and evaluate it; return its folder."""
    random_nets.run(folder, data, net, iterations=1, data_digest=manifest.read_json(data)["digest"])
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert typed(monkeypatch, evaluation, "--run", folder) == 0
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A run on a CSV of boxes in small context; films of even numbers are squashed."""
    folder = tmp_path_factory.mktemp("own")
    table = databases.write_films(folder / "set", {f"P{i:02}": databases.texture(i) for i in range(30)})
    head, *lines = table.read_text().splitlines()
    lines = [f"{line},{'200,300' if i % 2 else SQUASHED}" for i, line in enumerate(lines)]
    table.write_text("\n".join([f"{head},film_width,film_height", *lines]))
    data = databases.build(table, folder / "lmdb", "--no-aug", "--context", "small")
    return train(data, folder / "run", "baseline")


@pytest.fixture(scope="module")
def case_folders(synthetic_films, tmp_path_factory) -> Path:
    """A run on synthetic DDSM case folders."""
    folder = tmp_path_factory.mktemp("ddsm")
    (folder / "films").symlink_to(synthetic_films)
    options = ("--source", "ddsm", "--root", folder / "films", "--out", folder / "lmdb", "--no-aug")
    result = databases.run("data_prep/build_lmdb.py", *options)
    assert result.returncode == 0, result.stderr
    return train(folder / "lmdb", folder / "run", "googlenet")


def predictions(run_folder: Path) -> list[dict[str, str]]:
    """The rows of a run's predictions.csv, each with the path of its film: stored ones are relative to the set."""
    films = next(folder for name in ("set", "films") if (folder := run_folder.parent / name).is_dir())
    with (run_folder / "eval_test" / "predictions.csv").open(newline="") as file:
        rows = [row | {"film": str(films / row["film"])} for row in csv.DictReader(file)]
    assert len({row["probability"] for row in rows}) == len(rows) > 1, "the masses must differ to the net"
    return rows


def crop_of(run_folder: Path, mass_id: str) -> np.ndarray:
    """The record of a test mass."""
    records = lmdb_io.records(run_folder.parent / "lmdb" / "test")
    return next(record.image for record in records if lmdb_io.mass_id_of(record.key) == mass_id)


def test_film_of_ones_own_gets_the_probability_that_evaluation_gave_it(own, monkeypatch, tmp_path, capsys):
    for row in predictions(own):
        film = Path(row["film"])
        size = () if int(film.stem[1:]) % 2 else ("--film-size", SQUASHED)
        found = judged(monkeypatch, tmp_path, film, "--box", BOX, *size, "--run", own, "--net", "baseline")
        assert list(found) == [film.stem]
        assert found[film.stem].probability == float(row["probability"])
        assert np.array_equal(found[film.stem].crop, inference.centre_crop(crop_of(own, row["mass_id"]), 224))
        called = ("benign", "malignant")[int(row["predicted"])]
        line = f"{film.stem}: P(malignant) = {found[film.stem].probability:.4f}, called {called} (threshold 0.5)"
        shown = capsys.readouterr()
        assert line in shown.out and "warning" not in shown.err


def test_each_mass_of_a_ddsm_film_gets_the_probability_that_evaluation_gave_it(
    case_folders, monkeypatch, tmp_path, capsys
):
    for row in predictions(case_folders):
        film = Path(row["film"])
        overlay = film.with_suffix(".OVERLAY")
        found = judged(monkeypatch, tmp_path, film, "--overlay", overlay, "--run", case_folders)
        mass = found[row["mass_id"]]
        assert mass.probability == float(row["probability"])
        assert np.array_equal(mass.crop, inference.centre_crop(crop_of(case_folders, row["mass_id"]), 224))
        shown = capsys.readouterr()
        assert f"{row['mass_id']}: {mass.verdict}" in shown.out and "warning" not in shown.err


def test_mark_of_any_kind_gives_the_same_answer_where_it_gives_the_same_box(own, case_folders, monkeypatch, tmp_path):
    film = Path(predictions(own)[0]["film"])
    x, y, width, height = databases.BOX
    mask = np.zeros((300, 200), np.uint8)
    mask[y : y + height, x : x + width] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    by_box, by_mask = (
        judged(monkeypatch, tmp_path, film, *mark, "--run", own)[film.stem]
        for mark in (("--box", BOX), ("--mask", tmp_path / "mask.png"))
    )
    assert by_mask.probability == by_box.probability
    assert np.array_equal(by_mask.outline, by_box.outline)

    row = predictions(case_folders)[0]
    box = manifest.box_of(manifest.read_csv(case_folders.parent / "lmdb")[row["mass_id"]])
    text = f"{box.x0},{box.y0},{box.width},{box.height}"
    found = judged(monkeypatch, tmp_path, row["film"], "--box", text, "--run", case_folders)
    assert [mass.probability for mass in found.values()] == [float(row["probability"])]


def test_every_mass_of_an_overlay_is_judged_proven_or_not_and_no_calcification(
    case_folders, monkeypatch, tmp_path, capsys
):
    lesions = ddsm.masses(case_folders.parent / "films")
    unproven = next(lesion for lesion in lesions if lesion.reason.startswith("pathology unproven"))
    other = next(lesion for lesion in lesions if lesion.reason.startswith("not a mass"))
    for film in {unproven.film.path, other.film.path}:
        found = judged(monkeypatch, tmp_path, film, "--overlay", film.with_suffix(".OVERLAY"), "--run", case_folders)
        on_it = [lesion for lesion in lesions if lesion.film.path == film]
        expected = [lesion.mass_id for lesion in on_it if not lesion.reason.startswith("not a mass")]
        assert list(found) == expected
        for lesion in on_it:
            if lesion.mass_id in found:
                assert np.array_equal(found[lesion.mass_id].outline, lesion.outline + 0.5)
    assert f"left out: {other.mass_id}: {other.reason}" in capsys.readouterr().err


def test_outline_in_the_crop_is_where_the_mass_is_in_it(own, monkeypatch, tmp_path):
    film = np.full((300, 200), 40, np.uint8)
    x, y, width, height = databases.BOX
    film[y : y + height, x : x + width] = 200
    cv2.imwrite(str(tmp_path / "film.png"), film)
    mass = judged(monkeypatch, tmp_path, tmp_path / "film.png", "--box", BOX, "--run", own)["film"]
    rows, columns = np.nonzero(mass.crop > 120)
    bright = [(columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)]
    np.testing.assert_allclose(mass.outline_seen[[0, 2]], bright, atol=1)


def test_dicom_film_is_prepared_as_the_trainings_source_prepares_it(own, case_folders, monkeypatch, tmp_path, capsys):
    ramp = np.tile(np.linspace(1000, 3000, 200).astype(np.uint16), (300, 1))
    film = dicoms.save(tmp_path / "film.dcm", ramp, bits=12, PatientID="Mass-Test_P_00016_LEFT_CC")
    stretched = judged(monkeypatch, tmp_path, film, "--box", "0,0,200,300", "--run", own)["film"].crop
    assert stretched.min() <= 2 and stretched.max() >= 253  # own films: from darkest to brightest
    assert "warning" not in capsys.readouterr().err
    content = manifest.read_json(case_folders.parent / "lmdb")
    (tmp_path / "cbis").mkdir()
    manifest.write_json(tmp_path / "cbis", content | {"source": "cbis"})
    options = ("--run", case_folders, "--data", tmp_path / "cbis")
    shifted = judged(monkeypatch, tmp_path, film, "--box", "0,0,200,300", *options)["film"].crop
    assert shifted.min() in (62, 63) and shifted.max() in (186, 187)  # CBIS-DDSM: the upper 8 of 12 bits
    assert "warning" not in capsys.readouterr().err
    film = dicoms.save(tmp_path / "12 in 16.dcm", ramp, bits=16)  # by its header none of CBIS-DDSM's
    shown = judged(monkeypatch, tmp_path, film, "--box", "0,0,200,300", *options)["12 in 16"].crop
    assert shown.min() <= 2 and shown.max() >= 253
    assert "the net learnt from CBIS-DDSM, this film is prepared as own films" in capsys.readouterr().err


def test_film_of_far_other_grey_levels_is_warned_of(own, monkeypatch, tmp_path, capsys):
    film = cv2.imread(predictions(own)[0]["film"], cv2.IMREAD_GRAYSCALE)
    for name, pixels, warned in (("as it was", film, False), ("dark", film // 16, True)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
        judged(monkeypatch, tmp_path, tmp_path / f"{name}.png", "--box", BOX, "--run", own)
        warning = f"warning: {name}: its grey levels lie far from the training set's (mean "
        assert capsys.readouterr().err.startswith(warning) == warned


def test_film_of_another_kind_or_another_database_is_warned_of(own, case_folders, monkeypatch, tmp_path, capsys):
    film = predictions(own)[0]["film"]
    judged(monkeypatch, tmp_path, film, "--box", BOX, "--run", case_folders)
    judged(monkeypatch, tmp_path, film, "--box", BOX, "--run", own, "--data", case_folders.parent / "lmdb")
    warnings = capsys.readouterr().err.splitlines()
    assert warnings[0].startswith("warning: the net learnt from synthetic films, this film is prepared as own films")
    assert "is another database than the net was trained on" in warnings[1]


def test_the_example_draws_its_film_and_classifies_its_mass(case_folders, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # a second time in the place of the first
        found = judged(monkeypatch, tmp_path, "--example", "--run", case_folders)
    assert len(found) == 1
    shown = capsys.readouterr().out.splitlines()
    film = Path(next(line for line in shown if line.startswith("film: ")).split()[1].rstrip(","))
    assert film.is_file() and film.with_suffix(".OVERLAY").is_file() and film.is_relative_to("data/example")


def test_two_small_files_of_the_database_suffice(own, monkeypatch, tmp_path):
    row = predictions(own)[0]
    weights = shutil.copy(own / "snapshot_iter_1.caffemodel", tmp_path)
    for name in (manifest.JSON, lmdb_io.MEAN):
        shutil.copy(own.parent / "lmdb" / name, tmp_path)
    size = () if int(Path(row["film"]).stem[1:]) % 2 else ("--film-size", SQUASHED)
    options = ("--weights", weights, "--data", tmp_path)
    found = judged(monkeypatch, tmp_path, row["film"], "--box", BOX, *size, *options)
    assert [mass.probability for mass in found.values()] == [float(row["probability"])]


def test_picture_is_named_after_film_and_net_and_never_replaces_the_film(own, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    film = tmp_path / "film.png"
    shutil.copy(predictions(own)[0]["film"], film)
    before = film.read_bytes()
    assert typed(monkeypatch, classify, film, "--box", BOX, "--run", own) == 0
    assert "picture: film_baseline.png" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.png", "film_baseline.png"]
    (tmp_path / "link.png").symlink_to(film)
    for out in (film, "film.png", "link.png"):
        assert typed(monkeypatch, classify, film, "--box", BOX, "--run", own, "--out", out) == 2
        assert capsys.readouterr().err == f"error: {out}: is one of the images given; choose another --out\n"
    assert film.read_bytes() == before


@pytest.fixture
def odd(own, case_folders, tmp_path) -> Path:
    """A folder of things that cannot be used, and a sound film.png."""
    shutil.copy(predictions(own)[0]["film"], tmp_path / "film.png")
    cv2.imwrite(str(tmp_path / "empty.png"), np.zeros((300, 200), np.uint8))
    cv2.imwrite(str(tmp_path / "square.png"), np.full((300, 300), 255, np.uint8))
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "text.caffemodel").write_text("no snapshot")
    ljpeg = Path(predictions(case_folders)[0]["film"])
    shutil.copy(ljpeg, tmp_path / "A_1_1.LEFT_CC.LJPEG")
    (tmp_path / "folder").mkdir()
    shutil.copy(own / "snapshot_iter_1.caffemodel", tmp_path / "alone.caffemodel")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.png", "--box", BOX], "none.png: no such film"),
        (["text.png", "--box", BOX], "text.png: cannot be read as an image"),
        (["film.png", "--box", "200,0,20,20"], "film.png: box not on the image: 200, 0, 20 x 20"),
        (["film.png", "--box", "nan,0,20,20"], "film.png: box not on the image"),
        (["film.png", "--box", "5,5,-20,20"], "film.png: box not on the image"),
        (["film.png", "--mask", "none.png"], "none.png: mask missing"),
        (["film.png", "--mask", "text.png"], "text.png: unreadable mask"),
        (["film.png", "--mask", "empty.png"], "empty.png: mask is empty"),
        (["film.png", "--mask", "square.png"], "square.png: mask of another aspect: 300 x 300 for a film of 200 x 300"),
        (["film.png", "--overlay", "film.OVERLAY"], "film.png: --overlay goes with a film of DDSM's (.LJPEG)"),
        (["A_1_1.LEFT_CC.LJPEG", "--box", BOX], "A_1_1.LEFT_CC.LJPEG: no A-1-1.ics beside it"),
        (["film.png", "--box", BOX, "--net", "alexnet"], "holds baseline, not --net alexnet"),
        (["film.png", "--box", BOX, "--weights", "text.caffemodel"], "text.caffemodel: cut short, or no caffemodel"),
        (["film.png", "--box", BOX, "--weights", "none.caffemodel"], "none.caffemodel: cannot be read"),
        (["film.png", "--box", BOX, "--weights", "alone.caffemodel"], "data/lmdb: no manifest.json there"),
        (["film.png", "--box", BOX, "--out", "folder"], "folder: cannot be written"),
        (["film.png", "--box", BOX, "--gpu", "x"], "--gpu x: give the id of one GPU"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(own, odd, monkeypatch, capsys, words, message):
    monkeypatch.chdir(odd)
    before = sorted(odd.rglob("*"))
    which = () if "--weights" in words else ("--run", own)
    assert typed(monkeypatch, classify, *words, *which) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert sorted(odd.rglob("*")) == before


def test_overlay_of_another_film_and_a_size_against_the_case_file_are_refused(case_folders, monkeypatch, capsys):
    film = Path(predictions(case_folders)[0]["film"])
    other = next(path for path in film.parent.glob("*.OVERLAY") if path.stem != film.stem)
    for mark, message in (
        (("--overlay", other), f"{other}: by its name not the outlines of {film.name}; give {film.stem}.OVERLAY"),
        (("--box", BOX, "--film-size", "3,4"), f"{film}: its .ics gives the film's size; leave --film-size out"),
    ):
        assert typed(monkeypatch, classify, film, *mark, "--run", case_folders) == 2
        assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize("words", [["--box", "1,2,3"], ["--box", "a,b,c,d"], ["--box", BOX, "--film-size", "0,9"], []])
def test_words_that_say_no_mark_are_refused_with_the_usage(monkeypatch, capsys, words):
    with pytest.raises(SystemExit) as ended:
        typed(monkeypatch, classify, "film.png", *words)
    assert ended.value.code == 2 and "usage: " in capsys.readouterr().err
