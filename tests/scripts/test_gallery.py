"""The gallery (scripts/gallery.py): every mass once, its own crop and map in its own tile."""

import sys

import numpy as np
import pytest
from PIL import Image

from data_prep.core.errors import run
from data_prep.database import lmdb_io
from scripts import gallery as command
from scripts.evaluation import saliency_maps
from scripts.nets import inference
from scripts.reporting import gallery
from tests.helpers import databases, random_nets

SPLITS = {"train": ["T0", "T1"], "val": ["V0", "V1"], "test": [f"E{i}" for i in range(10)]}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder as a user's: a database of 20 test masses, and a run of the baseline with its gallery."""
    folder = tmp_path_factory.mktemp("workplace")
    databases.write(folder / "data" / "lmdb", SPLITS)
    random_nets.run(folder / "runs" / "one", "data/lmdb", iterations=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["gallery.py", "--run", "runs/one"])
        assert run(command.main) == 0
    return folder


def tile(folder, name: str, row: dict) -> np.ndarray:
    """One mass's tile of a sheet, as float32."""
    top, left = row["tile_row"] * gallery.TILE, row["tile_column"] * gallery.TILE
    pixels = np.asarray(Image.open(folder / f"{name}.webp").convert("L"), np.float32)
    return pixels[top : top + gallery.TILE, left : left + gallery.TILE]


def test_every_mass_has_its_row_with_truth_probability_and_outcome(workplace):
    rows = gallery.read(workplace / "runs" / "one" / "gallery_test")
    records = list(lmdb_io.records(workplace / "data" / "lmdb" / "test"))
    assert [row["mass_id"] for row in rows] == sorted(lmdb_io.mass_id_of(record.key) for record in records)
    labels = {lmdb_io.mass_id_of(record.key): record.label for record in records}
    names = {(1, 1): "TP", (0, 1): "FP", (1, 0): "FN", (0, 0): "TN"}
    for row in rows:
        assert row["label"] == labels[row["mass_id"]] == int(row["pathology"] == "MALIGNANT")
        assert row["predicted"] == int(row["probability"] >= 0.5)
        assert row["outcome"] == names[row["label"], row["predicted"]]
    assert len({row["outcome"] for row in rows}) > 1


def test_each_tile_is_its_own_masss_crop_and_map(workplace):
    folder, data = workplace / "runs" / "one" / "gallery_test", workplace / "data" / "lmdb"
    net = inference.load_deploy("baseline", workplace / "runs" / "one" / "snapshot_iter_1.caffemodel")
    first = {lmdb_io.mass_id_of(record.key): record.image for record in lmdb_io.records(data / "test")}
    rows = gallery.read(folder)
    likeness = {"crops": [], "maps": []}
    for row in rows:
        found = saliency_maps.explain(
            net, inference.preprocess("baseline", first[row["mass_id"]][None], data), "predicted"
        )
        assert row["probability"] == pytest.approx(float(found["probabilities"][0, 1]), abs=1e-4)
        expected = {"crops": gallery.crop_tile(first[row["mass_id"]]), "maps": gallery.map_tile(found["maps"][0])}
        for name, pixels in expected.items():
            likeness[name].append(
                [np.corrcoef(pixels.ravel(), tile(folder, name, other).ravel())[0, 1] for other in rows]
            )
    for table in likeness.values():
        assert (np.argmax(table, axis=1) == np.arange(len(rows))).all()
        assert np.diag(table).min() > 0.8  # not 1: the sheets are WebP


def test_a_map_without_any_gradient_is_black_and_not_an_error():
    assert not gallery.map_tile(np.zeros((224, 224), np.float32)).any()


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (5, (2, 3)), (9, (3, 3)), (130, (11, 12))])
def test_sheet_is_nearly_square_and_keeps_the_order(count, shape):
    tiles = tuple(np.full((gallery.TILE, gallery.TILE), place, np.uint8) for place in range(1, count + 1))
    found = gallery.sheet(tiles)
    assert found.shape == (shape[0] * gallery.TILE, shape[1] * gallery.TILE)
    order = found[:: gallery.TILE, :: gallery.TILE].ravel()
    assert order[:count].tolist() == list(range(1, count + 1)) and not order[count:].any()


def test_nets_with_larger_inputs_have_the_same_crops():
    image = databases.film_crop(np.random.default_rng(0), 1)
    assert inference.centre_crop(image, 227).shape == (227, 227)  # AlexNet's
    np.testing.assert_array_equal(gallery.crop_tile(inference.centre_crop(image, 224)), gallery.crop_tile(image))
