"""The work of every engine of the speed benchmark: one net, with a batch of random images."""

from dataclasses import dataclass

import numpy as np

RATE = 0.0
"""The solvers' base_lr here: an update takes as long as ever, and all keep the weights that they were compared with."""


@dataclass(frozen=True)
class Job:
    """A net in training: `train_val` and `solver` are its messages as plain dicts, `side` is of its square images."""

    net: str
    batch: int
    side: int
    dropout: bool
    train_val: dict
    solver: dict

    def images(self) -> np.ndarray:
        """Return grey images in three channels less ImageNet's mean, as the data layers feed: float32 (n, 3, s, s)."""
        grey = np.random.default_rng(0).integers(0, 256, (self.batch, 1, self.side, self.side), np.uint8)
        return grey - np.array([104, 117, 123], np.float32)[:, None, None]

    def labels(self) -> np.ndarray:
        """Return int64 (n,) labels, 0 or 1."""
        return np.random.default_rng(1).integers(0, 2, self.batch)
