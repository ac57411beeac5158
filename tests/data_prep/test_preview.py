"""The preview shows each record with the box where its mass is, and says what the films are."""

from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

from data_prep.auditing import contact_sheet
from data_prep.database import context_crops, manifest
from data_prep.database.context_crops import SIZE, Window
from data_prep.database.split import SPLITS
from tests.helpers import databases


def bright_box() -> np.ndarray:
    """A dark film whose mass is a bright rectangle that fills its box."""
    film = np.full((300, 200), 30, np.uint8)
    x, y, width, height = databases.BOX
    film[y : y + height, x : x + width] = 120
    return film


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    films = {f"P{index:02}": bright_box() for index in range(40)}
    csv_path = databases.write_films(tmp_path_factory.mktemp("preview") / "set", films)
    return databases.build(csv_path, tmp_path_factory.mktemp("built") / "lmdb")


def box_corners(sample: contact_sheet.Sample) -> np.ndarray:
    return context_crops.places(sample.window, manifest.box_of(sample.row).corners)


def mask_of(corners) -> np.ndarray:
    """The pixels of a record within its box."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillPoly(mask, [np.round(np.array(corners) - 0.5).astype(np.int32)], 1)
    return mask > 0


def test_the_box_lies_on_the_mass_in_every_record_turned_or_not(built):
    samples = contact_sheet.read(built, manifest.read_json(built), 6, seed=1)
    angles = [sample.window.angle for sample in samples["train"]]
    assert len(set(angles)) == 12
    for sample in chain(*samples.values()):
        bright, box = sample.image > 75, mask_of(box_corners(sample))
        assert (bright & box).sum() / (bright | box).sum() > 0.95


def test_the_sheet_has_the_boxes_drawn_along_the_masses_edges(built):
    """In the picture's own pixels: what is orange is on the border of what is bright, and all around it."""
    content = manifest.read_json(built)
    figure = contact_sheet.contact_sheet(contact_sheet.read(built, content, 3, seed=1), content, 3)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    drawn = [axes for axes in figure.axes if axes.images]
    assert len(drawn) == len(SPLITS) * 2 * 2 + 2  # val and test have 2 of a class, training has the 3 asked for
    for axes in drawn:
        left, bottom, right, top = (round(value) for value in axes.get_window_extent().extents)
        cell = picture[len(picture) - top : len(picture) - bottom, left:right]
        orange = cell[..., 0] - cell[..., 2] > 100
        bright = (cell[..., 0] > 75).astype(np.uint8)
        border = cv2.morphologyEx(bright, cv2.MORPH_GRADIENT, np.ones((7, 7), np.uint8)) > 0
        assert orange.sum() > 150
        assert (orange & border).sum() > 0.95 * orange.sum()


def test_both_pictures_are_written_and_the_same_seed_draws_the_same(built, tmp_path):
    outs = [tmp_path / name for name in ("one.png", "two.png", "other.png")]
    for out, seed in zip(outs, (1, 1, 2), strict=True):
        result = databases.run("data_prep/preview.py", built, "--out", out, "--columns", 3, "--seed", seed)
        assert (result.returncode, result.stderr) == (0, "")
        fig1 = out.with_name(f"{out.stem}_fig1.png")
        assert result.stdout.split()[:2] == [str(out), str(fig1)]
        assert imread(fig1).shape[1] > imread(fig1).shape[0]
    one, two, other = (imread(out) for out in outs)
    assert np.array_equal(one, two)
    assert one.shape != other.shape or not np.array_equal(one, other)
    assert {path.name for path in tmp_path.iterdir()} == {
        *(out.name for out in outs),
        *(f"{out.stem}_fig1.png" for out in outs),
    }


def test_made_films_are_called_synthetic_in_capitals_and_others_are_not(built):
    content = manifest.read_json(built)
    samples = contact_sheet.read(built, content, 1, seed=1)
    for source, expected in (("synthetic", True), ("ddsm", False)):
        said = content | {"source": source}
        sheet, fig1 = contact_sheet.contact_sheet(samples, said, 1), contact_sheet.fig1(samples["val"], said)
        assert ("SYNTHETIC" in sheet.get_suptitle()) == expected
        assert ("SYNTHETIC" in fig1.get_supxlabel()) == expected
        assert content["digest"][:12] in sheet.get_suptitle()


def test_captions_say_mass_pathology_and_what_the_manifest_knows(built):
    row = next(iter(manifest.read_csv(built).values()))
    row |= {"mass_id": "P_1.film.1", "pathology": "BENIGN_WITHOUT_CALLBACK", "shape": "LOBULATED-LYMPH_NODE"}
    axes = Figure().subplots()
    contact_sheet.show(
        axes, contact_sheet.Sample(row, Window(95, 115, 140, 30.0, "r1c2"), np.zeros((SIZE, SIZE), np.uint8))
    )
    first, *others = axes.get_xlabel().splitlines()
    assert first == "P_1.film.1"
    assert " ".join(others) == "r1c2 benign without callback, lobulated + lymph node"


def test_an_unfinished_or_damaged_database_is_one_clear_line(built, tmp_path):
    result = databases.run("data_prep/preview.py", tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    manifest.write_json(tmp_path, manifest.read_json(built))
    (tmp_path / "manifest.csv").write_text((built / "manifest.csv").read_text())
    result = databases.run("data_prep/preview.py", tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert str(tmp_path / "train") in result.stderr
