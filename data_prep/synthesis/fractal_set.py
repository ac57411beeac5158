"""The set of fractals: images drawn by formula, in categories, as LMDBs to pre-train on."""

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from functools import cache
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data_prep.core import provenance
from data_prep.core.errors import InputError
from data_prep.core.files import atomic_folder
from data_prep.core.process_pool import worker_pool
from data_prep.database import lmdb_io, manifest
from data_prep.synthesis import iterated_functions

DEFAULT = Path("data/fractals")
DEFAULTS = {"categories": 100, "images": 20_000, "seed": 1}
SOURCE = "fractals"
TRAIN_TO_VAL = 20  # training images to one for validation, in each category
SHEET_NAME, SHEET_ROWS, SHEET_COLUMNS = "sheet.png", 12, 8
CHUNK = 100  # images a job


def ensure(
    folder: Path,
    categories: int | None = None,
    images: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
) -> bool:
    """See to it that `folder` holds a whole set with these parameters; True when it had to be made.

    A parameter left out is whatever the set there has, or its default when there is none yet. `images` are those for
    training, shared out evenly over the categories (a remainder is dropped). InputError when the folder holds
    something else or a parameter makes no sense.
    """
    wanted = {"categories": categories, "images": images, "seed": seed}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if folder.exists():
        there = read_manifest(folder)
        if any(there[name] != value for name, value in wanted.items()):
            holds = ", ".join(f"{name} {there[name]}" for name in DEFAULTS)
            raise InputError(f"{folder}: holds a set of {holds}; remove it (rm -r {folder}) or name another folder")
        return False
    wanted = DEFAULTS | wanted
    if not (2 <= wanted["categories"] <= wanted["images"] and wanted["seed"] >= 0):
        raise InputError("a set of fractals has 2 categories or more, an image of each or more, and a seed from 0 on")
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    with atomic_folder(folder) as working, worker_pool(workers) as pool:
        _make(working, **wanted, pool=pool)
    return True


def read_manifest(folder: Path) -> dict:
    """Return manifest.json of a set of fractals; InputError when the folder holds something else."""
    try:
        content = manifest.read_json(folder)
        if content["source"] == SOURCE:
            return content
    except (InputError, LookupError, TypeError):
        pass
    raise InputError(f"{folder}: exists but holds no whole set of fractals; remove it or name another folder")


def _make(folder: Path, categories: int, images: int, seed: int, pool: Executor) -> None:
    """Fill `folder`; manifest.json comes last."""
    each = {"train": images // categories, "val": max(images // categories // TRAIN_TO_VAL, 1)}
    fingerprints = {
        f"{split}/{key}": sha
        for split, number in each.items()
        for key, sha in write(folder / split, categories, number, seed, pool).items()
    }
    cv2.imwrite(str(folder / SHEET_NAME), sheet(min(categories, SHEET_ROWS), min(each["train"], SHEET_COLUMNS), seed))
    content = {
        "source": SOURCE,
        "categories": categories,
        "images": images,
        "seed": seed,
        "counts": {split: number * categories for split, number in each.items()},
        "commit": provenance.commit(),
        "versions": provenance.versions("numpy", "opencv-python-headless", "lmdb"),
        "digest": lmdb_io.digest(fingerprints),
    }
    manifest.write_json(folder, content)


def write(folder: Path, categories: int, each: int, seed: int, pool: Executor) -> dict[str, bytes]:
    """Write the LMDB `folder`, named train or val: `each` images of every category, shuffled; return fingerprints."""
    total = categories * each
    order = np.random.default_rng([seed, folder.name == "val"]).permutation(total)
    jobs = [range(start, min(start + CHUNK, total)) for start in range(0, total, CHUNK)]
    numbers = [[divmod(int(order[index]), each) for index in job] for job in jobs]

    def packed() -> Iterator[lmdb_io.Packed]:
        with tqdm(total=total, desc=folder.name, unit="image", disable=None) as bar:
            for records in pool.map(draw_records, repeat(seed), repeat(folder.name), jobs, numbers):
                yield from records
                bar.update(len(records))

    return lmdb_io.write(folder, packed(), iterated_functions.SIZE, total)


def draw_records(seed: int, split: str, indices: range, numbers: list[tuple[int, int]]) -> list[lmdb_io.Packed]:
    """Draw and pack the images of these places in the set, each given by its category and its number therein."""
    return [
        lmdb_io.pack(
            lmdb_io.Record(
                lmdb_io.key_of(index, f"c{category}i{number}"), category, draw(seed, split, category, number)
            )
        )
        for index, (category, number) in zip(indices, numbers, strict=True)
    ]


def draw(seed: int, split: str, category: int, number: int) -> np.ndarray:
    """Return an image of the set, (128, 128) uint8; it depends on these arguments alone."""
    rng = np.random.default_rng([seed, split == "val", category, number])
    return iterated_functions.draw_picture(system_of(seed, category), rng)


@cache
def system_of(seed: int, category: int) -> np.ndarray:
    """Return a category's iterated function system."""
    return iterated_functions.draw_system(np.random.default_rng([seed, category]))


def sheet(rows: int, columns: int, seed: int) -> np.ndarray:
    """Return the first training images of the first categories, a category a row."""
    pictures = [[draw(seed, "train", category, number) for number in range(columns)] for category in range(rows)]
    return np.vstack([np.hstack(row) for row in pictures])
