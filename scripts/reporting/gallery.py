"""Galleries of a whole split: a sheet of crops, a sheet of saliency maps, and their index."""

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from data_prep.core.errors import InputError, one_line
from data_prep.core.files import atomic_write, check_regular
from data_prep.core.tables import numbers, read_rows, write_csv
from data_prep.database import lmdb_io, manifest
from scripts.evaluation import plots, selection
from scripts.evaluation.saliency_maps import explain
from scripts.nets import inference

FIELDS = ("mass_id", "patient", "pathology", "label", "probability", "predicted", "outcome")
SHEETS = {"crops": 80, "maps": 35}  # each sheet's WebP quality: maps are noise for the most part, which costs more
INDEX = "index.csv"
FILES = (*(f"{name}.webp" for name in SHEETS), INDEX)
SEEN = 224  # pixels shown of each side: what the smallest input of the nets sees, so that all nets' crops are the same
TILE = 112


def tiles(target: selection.EvaluationTarget) -> Iterator[tuple[dict, np.ndarray, np.ndarray]]:
    """Yield for each mass, by its id, a row of FIELDS, its crop and its map, (TILE, TILE) uint8 each.

    A mass stands for its first record.
    """
    first: dict[str, lmdb_io.Record] = {}
    for record in selection.records(target):
        first.setdefault(lmdb_io.mass_id_of(record.key), record)
    about, masses = manifest.read_csv(target.data), sorted(first)
    net = inference.load_deploy(target.net, target.weights, selection.BATCH)
    with tqdm(total=len(masses), unit="mass", disable=None) as bar:
        for start in range(0, len(masses), selection.BATCH):
            some = masses[start : start + selection.BATCH]
            images = np.stack([first[mass].image for mass in some])
            found = explain(net, inference.preprocess(target.net, images, target.mean_folder), "predicted")
            selection.check_numbers(target, found["scores"])
            for place, mass in enumerate(some):
                label, predicted = first[mass].label, int(found["classes"][place])
                known = {"label": label, "probability": float(found["probabilities"][place, 1]), "predicted": predicted}
                row = about[mass] | known | {"outcome": outcome(label, predicted)}
                yield {name: row[name] for name in FIELDS}, crop_tile(images[place]), map_tile(found["maps"][place])
            bar.update(len(some))


def outcome(label: int, predicted: int) -> str:
    """Return TP, FP, FN or TN."""
    return ("T" if label == predicted else "F") + ("P" if predicted else "N")


def crop_tile(image: np.ndarray) -> np.ndarray:
    """Return a crop's middle in small, its contrast stretched as in saliency.py's figure."""
    small = shrink(image)
    return stretch(small, small.min(), small.max())


def map_tile(saliency: np.ndarray) -> np.ndarray:
    """Return a map's middle in small, as bright as in saliency.py's figure."""
    small = shrink(saliency)
    return stretch(small, 0, np.percentile(small, plots.BRIGHTEST))


def shrink(pixels: np.ndarray) -> np.ndarray:
    """Return the middle SEEN x SEEN as (TILE, TILE) float32, by area."""
    return cv2.resize(
        inference.centre_crop(pixels, SEEN).astype(np.float32), (TILE, TILE), interpolation=cv2.INTER_AREA
    )


def stretch(pixels: np.ndarray, black: float, white: float) -> np.ndarray:
    """Return pixels as uint8, `black` as 0 and `white` as 255."""
    return (255 * np.clip((pixels - black) / max(white - black, plots.TINY), 0, 1)).round().astype(np.uint8)


def sheet(some: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return tiles side by side in as many columns as rows, or one more; black where there are none."""
    columns = math.ceil(math.sqrt(len(some)))
    rows = math.ceil(len(some) / columns)
    whole = np.zeros((rows * columns, TILE, TILE), np.uint8)
    whole[: len(some)] = some
    return whole.reshape(rows, columns, TILE, TILE).swapaxes(1, 2).reshape(rows * TILE, columns * TILE)


def write(out: Path, rows: list[dict], sheets: dict[str, np.ndarray]) -> None:
    """Write the sheets, then the index, which is absent while they are replaced."""
    (out / INDEX).unlink(missing_ok=True)
    for name, pixels in sheets.items():
        with atomic_write(out / f"{name}.webp") as path:
            Image.fromarray(pixels).save(path, "WEBP", quality=SHEETS[name], method=6)
    write_csv(out / INDEX, FIELDS, rows)


def read(folder: Path) -> list[dict]:
    """Return the rows of index.csv in the tiles' order, each with its tile's row and column in the sheets."""
    try:
        with Image.open(check_regular(folder / FILES[0]), formats=["WEBP"]) as image:
            columns = image.width // TILE
    except OSError as error:
        raise InputError(f"{folder / FILES[0]}: damaged ({one_line(error)}); make it with scripts/gallery.py") from None
    kinds = {"label": int, "predicted": int, "probability": float}
    path = folder / INDEX
    return [
        row | numbers(path, row, **kinds) | {"tile_row": place // columns, "tile_column": place % columns}
        for place, row in enumerate(read_rows(path, FIELDS))
    ]
