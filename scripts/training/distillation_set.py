"""The database that the nets are distilled from: views of photographs, and the teacher's answers to them.

    train/ val/                   LMDBs of grey views, SIDE pixels wide
    train_answers/ val_answers/   LMDBs of the teacher's answers, in the same order: CHANNELS x GRID x GRID floats
    views.json                    what the set is made from; "digest" comes last, when it is whole

Caffe reads a view and its answer in step. Both nets have last feature maps of GRID x GRID places for views of SIDE
pixels, so that one database does for both. Every HELD_OUT-th photograph gives views for validation alone. A view
depends on the photographs, the seed and its number, so that a set whose making was stopped is gone on with.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data_prep.core import provenance
from data_prep.core.errors import InputError
from data_prep.core.files import lock, write_json
from data_prep.database import lmdb_io
from scripts.nets import teacher
from scripts.training.views import draw_view, read_photographs

DEFAULT = Path("data/views")
SIDE, GRID = 144, 4
VIEWS = 20_000
HELD_OUT = 20
VAL_VIEWS = 1_000  # at most; and a HELD_OUT-th of the views
BATCH = 20
JSON = "views.json"


def read_content(folder: Path) -> dict:
    """Return what a whole set is made from; InputError when the folder holds no whole set."""
    content = _begun(folder)
    if "digest" not in content:
        raise InputError(f"{folder}: its making was stopped; go on with it by --images, the folder of its photographs")
    return content


def _begun(folder: Path) -> dict:
    try:
        return dict(json.loads((folder / JSON).read_text()))
    except (OSError, ValueError, TypeError):
        raise InputError(
            f"{folder}: holds no views of photographs (no sound {JSON}); give --images to make them, or another --data"
        ) from None


def make(folder: Path, images: Path, views: int, seed: int) -> None:
    """Make a set from a folder of photographs, or go on with one that was begun; a whole one is left as it is.

    InputError when `folder` holds something else or a set that was begun otherwise.
    """
    photographs = read_photographs(images)
    if len(photographs) < HELD_OUT:
        raise InputError(f"{images}: holds {len(photographs)} photographs; {HELD_OUT} or more are needed")
    wanted = {
        "photographs": len(photographs),
        "sha256_of_photographs": hashlib.sha256(b"".join(map(np.ndarray.tobytes, photographs))).hexdigest(),
        "teacher": teacher.NAME,
        "counts": {"train": views, "val": min(VAL_VIEWS, -(-views // HELD_OUT))},
        "seed": seed,
    }
    try:
        held = lock(folder)
    except OSError:
        raise InputError(f"{folder}: cannot be written, or another process is making it; wait for it to end") from None
    if not any(folder.iterdir()):
        write_json(folder / JSON, wanted)
    content = _begun(folder)
    differing = [name for name, value in wanted.items() if content.get(name) != value]
    if differing:
        raise InputError(
            f"{folder}: was made with other {differing[0]}; remove it (rm -r {folder}) or give another --data"
        )
    if "digest" in content:
        return
    answer = teacher.load()
    parts = {"val": photographs[::HELD_OUT], "train": [p for n, p in enumerate(photographs) if n % HELD_OUT]}
    for split, some in parts.items():
        _write(folder, split, some, wanted["counts"][split], seed, answer)
    made_by = {
        "commit": provenance.commit(),
        "versions": provenance.versions("numpy", "opencv-python-headless", "lmdb", "torch"),
    }
    write_json(folder / JSON, wanted | made_by | {"digest": _digest(folder)})
    os.close(held)


def _write(folder: Path, split: str, photographs: list[np.ndarray], count: int, seed: int, answer: Callable) -> None:
    """Write the views of one split that are not there yet, and the teacher's answers to them."""
    for name in (split, f"{split}_answers"):
        (folder / name).mkdir(exist_ok=True)
    written = folder / f"{split}_answers"  # the later of the two
    done = lmdb_io.count(written) if any(written.iterdir()) else 0
    with tqdm(total=count, initial=done, desc=f"views: {split}", unit="view", disable=None) as bar:
        for first in range(done, count, BATCH):
            numbers = range(first, min(first + BATCH, count))
            rngs = [np.random.default_rng([seed, split == "val", number]) for number in numbers]
            views = np.stack([draw_view(photographs, teacher.SIDE, rng) for rng in rngs])
            maps, _ = answer(views)
            small = [cv2.resize(view, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for view in views]
            keys = [lmdb_io.key_of(number, split) for number in numbers]
            packed = [lmdb_io.pack(lmdb_io.Record(key, 0, view)) for key, view in zip(keys, small, strict=True)]
            images = {item.key: lmdb_io.image_datum(item, SIDE) for item in packed}
            answers = dict(zip(keys, map(lmdb_io.float_datum, at_places(maps)), strict=True))
            lmdb_io.append(folder / split, images, count, SIDE**2)
            lmdb_io.append(folder / f"{split}_answers", answers, count, 5 * teacher.CHANNELS * GRID**2)
            bar.update(len(numbers))


def at_places(maps: np.ndarray) -> np.ndarray:
    """Return maps (n, channels, side, side) averaged to (n, channels, GRID, GRID); windows overlap as side asks for."""
    side = maps.shape[-1]
    windows = np.zeros((GRID, side), np.float32)
    for place in range(GRID):
        window = slice(place * side // GRID, -(-(place + 1) * side // GRID))
        windows[place, window] = 1 / (window.stop - window.start)
    return windows @ maps @ windows.T


def _digest(folder: Path) -> str:
    """Return one SHA-256 for all views and answers, in the order in which Caffe reads them."""
    sha = hashlib.sha256()
    for name in ("train", "train_answers", "val", "val_answers"):
        for key, value in lmdb_io.items(folder / name):
            sha.update(key + value)
    return sha.hexdigest()
