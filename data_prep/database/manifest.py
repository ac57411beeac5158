"""The manifest of a database folder. build_lmdb.py makes:

train/ val/ test/    one LMDB each (lmdb_io.py)
mean.binaryproto     per-pixel mean of the training set as Caffe's BlobProto, 1 x 3 x 227 x 227, 3 equal channels
split.csv            patient,split
manifest.csv         one row per lesion that was found: what and where it is, its set, or why it was left out
manifest.json        source, options, seed, versions, what the 8 bits are, the training set's histogram of grey levels
                     (grey_levels.py), counts, and a digest of the content
"""

import csv
import json
from collections.abc import Iterable
from pathlib import Path

from data_prep.core.errors import InputError
from data_prep.core.records import Box, Mass
from data_prep.database import context_crops, lmdb_io

JSON = "manifest.json"
CSV = "manifest.csv"
DEFAULT = Path("data/lmdb")
"""The database that the hand-written prototxt files name, so what a `caffe train` typed by hand trains on."""
ODD_NAMES = "surrogateescape"  # a file's name need not be UTF-8; so it comes back as it was
CORNERS = ("x0", "y0", "x1", "y1")
COLUMNS = (
    *("mass_id", "patient", "film", "side", "view", "abnormality", "pathology"),
    *("shape", "margins", "assessment", "subtlety", "film_width", "film_height", *CORNERS, "split", "reason"),
)


def write_csv(folder: Path, masses: Iterable[Mass], split: dict[str, str]) -> None:
    """Write manifest.csv; boxes are in film pixels."""
    with (folder / CSV).open("w", newline="", errors=ODD_NAMES) as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for mass in masses:
            row = vars(mass) | {"film": mass.film.path, "split": "" if mass.reason else split[mass.patient]}
            row |= {"film_width": mass.film.width, "film_height": mass.film.height}
            if mass.box:
                row |= {name: f"{getattr(mass.box, name):.1f}" for name in CORNERS}
            writer.writerow(row)


def write_json(folder: Path, content: dict) -> None:
    """Write manifest.json, the last file of a build: a folder without it is unfinished."""
    (folder / JSON).write_text(json.dumps(content, indent=2) + "\n")


def read_json(folder: Path) -> dict:
    """Return manifest.json; InputError when the folder is missing, is not ours, or its build never finished."""
    path = folder / JSON
    if not path.is_file():
        raise InputError(f"{folder}: no {JSON}, so no finished database; build it with data_prep/build_lmdb.py")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); build the database again") from None


def is_augmented(content: dict) -> bool:
    """Whether the training set of a manifest.json holds rotated crops (the paper's Aug), not upright ones alone."""
    return bool(content.get("rotations"))


def read_csv(folder: Path) -> dict[str, dict[str, str]]:
    """Return manifest.csv's rows by mass_id, as text."""
    with (folder / CSV).open(newline="", errors=ODD_NAMES) as file:
        return {row["mass_id"]: row for row in csv.DictReader(file)}


def box_of(row: dict[str, str]) -> Box:
    """Return a mass's box, in film pixels, from its row of manifest.csv."""
    return Box(*(float(row[name]) for name in CORNERS))


def windows(row: dict[str, str], content: dict) -> list[context_crops.Window]:
    """Return the windows of a used mass's records, from its row of manifest.csv and what manifest.json says."""
    recipe = context_crops.Recipe(*(content[name] for name in context_crops.Recipe._fields))
    return context_crops.windows(box_of(row), row["mass_id"], row["split"], recipe)


def window_of(key: str, row: dict[str, str], content: dict) -> context_crops.Window:
    """Return the window of one record, by its key; `row` is its mass's."""
    names = {lmdb_io.record_name(row["mass_id"], each.name): each for each in windows(row, content)}
    return names[lmdb_io.name_of(key)]
