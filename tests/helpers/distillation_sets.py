"""A small set of views and answers for tests that distil: real LMDBs, made without a teacher."""

from pathlib import Path

import cv2
import numpy as np

from data_prep.core.json_files import write_json
from data_prep.database import lmdb_io
from scripts.nets import teacher
from scripts.training import distillation_set
from scripts.training.distillation_set import GRID, JSON


def answer_to(view: np.ndarray) -> np.ndarray:
    """Return numbers (CHANNELS, GRID, GRID) that a net can learn: each channel a share of the grey level of a place."""
    places = cv2.resize(view, (GRID, GRID), interpolation=cv2.INTER_AREA).astype(np.float32)
    return places * np.linspace(-1, 1, teacher.CHANNELS, dtype=np.float32)[:, None, None]


def make(folder: Path, train: int, val: int, side: int = 112) -> Path:
    """Write so many views of `side` pixels, patches of random grey levels, each with its answer; return `folder`."""
    rng = np.random.default_rng(1)
    for split, count in (("train", train), ("val", val)):
        levels = rng.integers(0, 256, (count, GRID, GRID), np.uint8)
        views = [cv2.resize(each, (side, side), interpolation=cv2.INTER_NEAREST) for each in levels]
        keys = [lmdb_io.key_of(number, split) for number in range(count)]
        packed = [lmdb_io.pack(lmdb_io.Record(key, 0, view)) for key, view in zip(keys, views, strict=True)]
        lmdb_io.write(folder / split, packed, side, count)
        (folder / f"{split}_answers").mkdir()
        answers = {key: lmdb_io.float_datum(answer_to(view)) for key, view in zip(keys, views, strict=True)}
        lmdb_io.append(folder / f"{split}_answers", answers, count, 5 * teacher.CHANNELS * GRID**2)
    content = {
        "side": side,
        "counts": {"train": train, "val": val},
        "seed": 1,
        "digest": distillation_set.digest(folder),
    }
    write_json(folder / JSON, content)
    return folder
