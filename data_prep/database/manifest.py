"""The manifest of a database folder. build_lmdb.py makes:

train/ val/ test/    one LMDB each (lmdb_io.py)
mean.binaryproto     per-pixel mean of the training set as Caffe's BlobProto, 1 x 3 x 227 x 227, 3 equal channels
split.csv            patient,split
manifest.csv         one row per lesion that was found: what and where it is, its set, or why it was left out
manifest.json        source, the set's name and credit where given, options, seed, versions, what the 8 bits are, the
                     training set's histogram of grey levels (grey_levels.py), counts, and a digest of the content
"""

import csv
import json
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from data_prep.core import json_files, tables
from data_prep.core.errors import InputError
from data_prep.core.records import Box, Mass
from data_prep.database import build_summary, context_crops, grey_levels, lmdb_io
from data_prep.database.split import SPLITS

JSON = "manifest.json"
CSV = "manifest.csv"
DEFAULT = Path("data/lmdb")
"""The database that the hand-written prototxt files name, so what a `caffe train` typed by hand trains on."""
SOURCES = ("ddsm", "cbis", "boxes", "synthetic")
KEYS = {"source": str, "digest": str, "context": str, "rotations": int, "crops": int, "seed": int}
WHOLE = {
    "root": str,
    "counts": {name: dict.fromkeys(build_summary.ROWS, int) for name in SPLITS},
    "account": dict,
}
"""What databases of earlier versions may lack; pages show it."""
MOST_CROPS = 10_000  # of a mass
TIED = 8  # records whose fingerprints tie an LMDB to its manifest; the audit compares all of them
CORNERS = ("x0", "y0", "x1", "y1")
COLUMNS = (
    *("mass_id", "patient", "film", "side", "view", "abnormality", "pathology"),
    *("shape", "margins", "assessment", "subtlety", "film_width", "film_height", *CORNERS, "split", "reason"),
)


def write_csv(folder: Path, masses: Iterable[Mass], split: dict[str, str], root: Path) -> None:
    """Write manifest.csv; boxes are in film pixels, paths relative to `root`, the set's folder."""
    with (folder / CSV).open("w", newline="", encoding="utf-8", errors=lmdb_io.ODD_NAMES) as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for mass in masses:
            row = vars(mass) | {"film": os.path.relpath(mass.film.path, root)}
            row |= {"reason": mass.reason.replace(f"{root}/", ""), "split": "" if mass.reason else split[mass.patient]}
            row |= {"film_width": mass.film.width, "film_height": mass.film.height}
            if mass.box:
                row |= {name: f"{getattr(mass.box, name):.1f}" for name in CORNERS}
            writer.writerow(row)


def write_json(folder: Path, content: dict) -> None:
    """Write manifest.json, the last file of a build: a folder without it is unfinished."""
    (folder / JSON).write_text(json.dumps(content, indent=2) + "\n")


def read_json(folder: Path, whole: bool = False) -> dict:
    """Return manifest.json; InputError when the folder is missing, is not ours, or its build never finished.

    `whole`: also where it lacks a key of WHOLE.
    """
    path = folder / JSON
    if not path.is_file():
        raise InputError(f"{folder}: no {JSON}, so no finished database; build it with data_prep/build_lmdb.py")
    content = json_files.read_json(path, KEYS | (WHOLE if whole else {}))
    if whole:
        json_files.check_keys(path, content, {"account": {reason: {"lesions": int} for reason in content["account"]}})
    json_files.check_keys(path, content, {name: str for name in ("name", "credit") if name in content})
    if content["source"] not in SOURCES:
        raise InputError(f"{path}: source is {content['source']!r}, not one of {', '.join(SOURCES)}")
    if content["context"] not in context_crops.CONTEXTS or content["rotations"] * content["crops"] > MOST_CROPS:
        raise InputError(f"{path}: damaged: no database has {[content[name] for name in KEYS]}")
    if "histogram" in content:
        histogram = content["histogram"]
        if not (isinstance(histogram, list) and len(histogram) == grey_levels.BINS and _are_counts(histogram)):
            raise InputError(f"{path}: damaged: histogram is {json.dumps(histogram)[:40]}")
    return content


def _are_counts(numbers: list) -> bool:
    return all(type(number) is int and 0 <= number < 2**53 for number in numbers) and any(numbers)


def ties(folder: Path, split: str) -> dict:
    """Return what ties an LMDB to the manifest beside it: its records' number, and the digest of the first few."""
    first = islice(lmdb_io.records(folder / split), TIED)
    digest = lmdb_io.digest({record.key: lmdb_io.fingerprint(record) for record in first})
    return {"records": lmdb_io.count(folder / split), "first": digest}


def check_tied(folder: Path, content: dict, split: str) -> None:
    """Raise InputError when manifest.json, whose `content` this is, was written for another LMDB than the split's."""
    told = content.get("ties")
    if not isinstance(told, dict):  # built before these were written
        try:
            told = {split: {"records": content["counts"][split]["records"]}}
        except (LookupError, TypeError):
            return
    found = ties(folder, split)
    if not isinstance(told.get(split), dict) or any(found.get(name) != value for name, value in told[split].items()):
        raise InputError(f"{folder / JSON}: of another database than {folder / split}; put its own back, or build anew")


def is_augmented(content: dict) -> bool:
    """Whether the training set of a manifest.json holds rotated crops (the paper's Aug), not upright ones alone."""
    return bool(content.get("rotations"))


def read_csv(folder: Path) -> dict[str, dict[str, str]]:
    """Return manifest.csv's rows by mass_id, as text; InputError where it is damaged."""
    return {row["mass_id"]: row for row in tables.read_rows(folder / CSV, COLUMNS, lmdb_io.ODD_NAMES)}


def box_of(row: dict[str, str]) -> Box:
    """Return a mass's box, in film pixels, from its row of manifest.csv."""
    return Box(**tables.numbers(Path(CSV), row, **dict.fromkeys(CORNERS, float)))


def windows(row: dict[str, str], content: dict) -> list[context_crops.Window]:
    """Return the windows of a used mass's records, from its row of manifest.csv and what manifest.json says."""
    recipe = context_crops.Recipe(*(content[name] for name in context_crops.Recipe._fields))
    return context_crops.windows(box_of(row), row["mass_id"], row["split"], recipe)


def window_of(key: str, row: dict[str, str], content: dict) -> context_crops.Window:
    """Return the window of one record, by its key; `row` is its mass's."""
    names = {lmdb_io.record_name(row["mass_id"], each.name): each for each in windows(row, content)}
    if lmdb_io.name_of(key) not in names:
        raise InputError(f"{CSV}: {row['mass_id']} has no record {key} by {JSON}; these are of another database")
    return names[lmdb_io.name_of(key)]
