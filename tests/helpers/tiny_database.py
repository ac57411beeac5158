"""A small finished database for tests that train: real LMDBs and mean, made-up images."""

import hashlib
from pathlib import Path

import numpy as np

from data_prep.database import lmdb_io, manifest

SIZE = 227


def image_of(label: int, rng: np.random.Generator) -> np.ndarray:
    """A bright disc on noise, (227, 227) uint8; class 1's is the larger, with some overlap."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    row, column = rng.uniform(90, 137, 2)
    radius = rng.normal(60 if label else 40, 6)
    disc = np.hypot(rows - row, columns - column) < radius
    return np.clip(70 + 90 * disc + rng.normal(0, 20, (SIZE, SIZE)), 0, 255).astype(np.uint8)


def make(folder: Path, train: int = 10, val: int = 6, seed: int = 0, **about) -> Path:
    """Write `train` and `val` images, half of each class, as build_lmdb.py would; return `folder`.

    `about` goes into the manifest.
    """
    rng = np.random.default_rng(seed)
    means = []
    sha = hashlib.sha256()
    for split, count in (("train", train), ("val", val), ("test", val)):
        labels = rng.permutation(np.arange(count) % 2)
        records = [
            lmdb_io.Record(lmdb_io.key_of(index, f"M{split}{index}"), int(label), image_of(label, rng))
            for index, label in enumerate(labels)
        ]
        packed = [lmdb_io.pack(record) for record in records]
        lmdb_io.write(folder / split, packed, SIZE, count)
        sha.update(b"".join(item.sha256 for item in packed))
        means.append(np.mean([record.image for record in records], axis=0))
    lmdb_io.write_mean(folder / lmdb_io.MEAN, means[0])
    manifest.write_json(folder, {"source": "synthetic", "rotations": 5, "digest": sha.hexdigest()} | about)
    return folder
