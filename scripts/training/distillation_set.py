"""The database that the nets are distilled from: views of photographs, and the teacher's answers to them.

    train/ val/                   LMDBs of grey views, as wide as one of SIDES
    train_answers/ val_answers/   LMDBs of the teacher's answers, in the same order: CHANNELS x GRID x GRID floats
    views.json                    what the set is made from; "digest" comes last, when it is whole

Caffe reads a view and its answer in step. For views of 112 pixels both nets have last feature maps of GRID x GRID
places; those of 224 are averaged to as many, as the teacher's are. Every HELD_OUT-th photograph gives views for
validation alone. A view depends on the photographs, the seed and its number, so that a set whose making was stopped is
gone on with.
"""

import hashlib
from concurrent.futures import Executor
from functools import cache
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data_prep.core import provenance
from data_prep.core.errors import InputError
from data_prep.core.files import pasted
from data_prep.core.json_files import read_json, write_json
from data_prep.core.locks import locked
from data_prep.core.process_pool import worker_pool
from data_prep.database import lmdb_io
from scripts.nets import teacher
from scripts.training.views import draw_view, read_photographs

DEFAULT = Path("data/views")
SIDES, GRID = (112, teacher.SIDE), 3
VIEWS = 20_000
HELD_OUT = 20
VAL_VIEWS = 400  # at most, and a tenth of the others
BATCH = 20  # views a job
JSON = "views.json"


def read_content(folder: Path) -> dict:
    """Return what a whole set is made from; InputError when the folder holds no whole set."""
    content = _begun(folder)
    if "digest" not in content:
        raise InputError(f"{folder}: its making was stopped; go on with it by --images, the folder of its photographs")
    return content


def _begun(folder: Path) -> dict:
    try:
        return read_json(folder / JSON, {"side": int, "counts": {"train": int, "val": int}})
    except InputError:
        raise InputError(
            f"{folder}: holds no views of photographs (no sound {JSON}); give --images to make them, or another --data"
        ) from None


def make(folder: Path, images: Path, side: int, views: int, seed: int, workers: int) -> None:
    """Make a set of views of `side` pixels from a folder of photographs, or go on with one that was begun.

    A whole one is left as it is. InputError when `folder` holds something else or a set that was begun otherwise.
    """
    photographs = read_photographs(images)
    if len(photographs) < HELD_OUT:
        raise InputError(f"{images}: holds {len(photographs)} photographs; {HELD_OUT} or more are needed")
    wanted = {
        "photographs": len(photographs),
        "sha256_of_photographs": hashlib.sha256(b"".join(map(np.ndarray.tobytes, photographs))).hexdigest(),
        "teacher": teacher.NAME,
        "side": side,
        "counts": {"train": views, "val": min(VAL_VIEWS, -(-views // 10))},
        "seed": seed,
    }
    with locked(folder):
        _fill(folder, images, wanted, workers)


def _fill(folder: Path, images: Path, wanted: dict, workers: int) -> None:
    """Make what is not there yet of a set of the `wanted` content."""
    if not any(folder.iterdir()):
        write_json(folder / JSON, wanted)
    content = _begun(folder)
    differing = [name for name, value in wanted.items() if content.get(name) != value]
    if differing:
        raise InputError(
            f"{folder}: was made with other {differing[0]}; remove it (rm -r {pasted(folder)}) or give another --data"
        )
    if "digest" in content:
        return
    with worker_pool(workers) as pool:
        for split in ("val", "train"):
            _write(folder, split, images, wanted, pool)
    made_by = {
        "commit": provenance.commit(),
        "versions": provenance.versions("numpy", "opencv-python-headless", "lmdb", "torch"),
    }
    write_json(folder / JSON, wanted | made_by | {"digest": digest(folder)})


def _write(folder: Path, split: str, images: Path, wanted: dict, pool: Executor) -> None:
    """Write the views of one split that are not there yet, and the teacher's answers to them."""
    for name in (split, f"{split}_answers"):
        (folder / name).mkdir(exist_ok=True)
    written = folder / f"{split}_answers"  # the later of the two
    count, side = wanted["counts"][split], wanted["side"]
    done = lmdb_io.count(written) if any(written.iterdir()) else 0
    jobs = [range(first, min(first + BATCH, count)) for first in range(done, count, BATCH)]
    with tqdm(total=count, initial=done, desc=f"views: {split}", unit="view", disable=None) as bar:
        for views, answers in pool.map(_draw, *map(repeat, (images, split, side, wanted["seed"])), jobs):
            lmdb_io.append(folder / split, views, count, side**2)
            lmdb_io.append(written, answers, count, 5 * teacher.CHANNELS * GRID**2)
            bar.update(len(views))


def _draw(images: Path, split: str, side: int, seed: int, numbers: range) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the Datums of the views of these numbers, and those of the teacher's answers, by key."""
    rngs = [np.random.default_rng([seed, split == "val", number]) for number in numbers]
    views = np.stack([draw_view(_photographs(images, split), teacher.SIDE, rng) for rng in rngs])
    maps, _ = _teacher()(views)
    keys = [lmdb_io.key_of(number, split) for number in numbers]
    small = [cv2.resize(view, (side, side), interpolation=cv2.INTER_AREA) for view in views]
    packed = [lmdb_io.pack(lmdb_io.Record(key, 0, view)) for key, view in zip(keys, small, strict=True)]
    answers = dict(zip(keys, map(lmdb_io.float_datum, at_places(maps)), strict=True))
    return {item.key: lmdb_io.image_datum(item, side) for item in packed}, answers


@cache
def _photographs(images: Path, split: str) -> list[np.ndarray]:
    photographs = read_photographs(images)
    return [each for number, each in enumerate(photographs) if (number % HELD_OUT == 0) == (split == "val")]


@cache
def _teacher():
    return teacher.load(threads=1)  # there is a process for each core already


def at_places(maps: np.ndarray) -> np.ndarray:
    """Return maps (n, channels, side, side) averaged to (n, channels, GRID, GRID); windows overlap as side asks for."""
    side = maps.shape[-1]
    windows = np.zeros((GRID, side), np.float32)
    for place in range(GRID):
        window = slice(place * side // GRID, -(-(place + 1) * side // GRID))
        windows[place, window] = 1 / (window.stop - window.start)
    return windows @ maps @ windows.T


def digest(folder: Path) -> str:
    """Return one SHA-256 for all views and answers, in the order in which Caffe reads them."""
    sha = hashlib.sha256()
    for name in ("train", "train_answers", "val", "val_answers"):
        for key, value in lmdb_io.items(folder / name):
            sha.update(key + value)
    return sha.hexdigest()
