"""Context crops of masses (paper, section 4.2): which square of the film, and its pixels.

All geometry is in film pixels, continuous: pixel i covers i to i + 1. A Window is a square of the film, perhaps
rotated; `warp` samples it in one affine step from the stored image, so no pixel is interpolated twice.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from data_prep.core.records import Box, Film

SIZE = 227  # side of the stored square: AlexNet's input; the 224-pixel nets cut theirs from it
SMALL_PADDING = 50  # film pixels on each side of the box (Small context)
LARGE_FACTOR = 2  # times the box (Large context)
SMALLEST_WINDOW = 0.8  # of the context square's side: the smallest of the random crops
CONTEXTS = ("small", "large")


@dataclass(frozen=True)
class Window:
    """A square of the film: centre and side in film pixels, turned by `angle` degrees (clockwise as seen).

    `name` tells augmented windows of a mass apart ("r3c0": fourth rotation, first crop); "" for the context itself.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0
    name: str = ""


def context_window(box: Box, context: str) -> Window:
    """Return the upright square around a mass.

    Small: the box and 50 pixels on each side. Large: twice the box. The shorter side is extended to the longer about
    the same centre, so that nothing is stretched.
    """
    longer = max(box.width, box.height)
    side = longer + 2 * SMALL_PADDING if context == "small" else longer * LARGE_FACTOR
    return Window(*box.centre, side)


class Recipe(NamedTuple):
    """The way a set's crops are cut, in the words of manifest.json. Without rotations none is augmented."""

    context: str
    rotations: int
    crops: int
    seed: int

    def augments(self, split: str) -> bool:
        """Whether the masses of a split are augmented: those of the training set, if any are."""
        return split == "train" and self.rotations > 0

    def records_per_mass(self, split: str) -> int:
        """Return how many windows of a mass of this split there are."""
        return self.rotations * self.crops if self.augments(split) else 1


def windows(box: Box, mass_id: str, split: str, recipe: Recipe) -> list[Window]:
    """Return the windows of a mass's records: augmented ones for training, else its upright context."""
    if recipe.augments(split):
        return augmented_windows(box, recipe.context, mass_id, recipe.seed, recipe.rotations, recipe.crops)
    return [context_window(box, recipe.context)]


def augmented_windows(
    box: Box, context: str, mass_id: str, seed: int, rotations: int = 5, crops: int = 5
) -> list[Window]:
    """Return `rotations` x `crops` random windows: the context turned about the box's centre, then cut.

    A crop is a random window of the rotated context square, 0.8 to 1 of its side, that always keeps the whole box
    inside. Where a turned box needs more (a large mass in Small context), the square grows until the smallest crop
    holds it. Randomness depends on `seed` and `mass_id` alone, so neither the order of the masses nor the number of
    worker processes changes a crop.
    """
    entropy = int.from_bytes(hashlib.sha256(f"{seed} {mass_id}".encode(errors="surrogateescape")).digest()[:16], "big")
    rng = np.random.default_rng(entropy)
    return [
        _random_crop(box, context_window(box, context).side, angle, f"r{rotation}c{crop}", rng)
        for rotation, angle in enumerate(rng.uniform(0, 360, rotations))
        for crop in range(crops)
    ]


def _random_crop(box: Box, region: float, angle: float, name: str, rng: np.random.Generator) -> Window:
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # extent of the box along the window's own axes
    across = box.width * abs(cos) + box.height * abs(sin)
    down = box.width * abs(sin) + box.height * abs(cos)
    region = max(region, max(across, down) / SMALLEST_WINDOW)
    side = rng.uniform(SMALLEST_WINDOW * region, region)
    slack = (region - side) / 2  # the window stays within the rotated context square ...
    u = rng.uniform(-1, 1) * min(slack, (side - across) / 2)  # ... and around the box
    v = rng.uniform(-1, 1) * min(slack, (side - down) / 2)
    x, y = box.centre
    return Window(x + u * cos - v * sin, y + u * sin + v * cos, side, float(angle), name)


def place(window: Window, x: float, y: float) -> tuple[float, float]:
    """Return where a film's point lies in the window's stored square: (column, row), the inverse of `warp`."""
    cos, sin = math.cos(math.radians(window.angle)), math.sin(math.radians(window.angle))
    right, down = x - window.x, y - window.y
    scale = SIZE / window.side
    return SIZE / 2 + scale * (cos * right + sin * down), SIZE / 2 + scale * (cos * down - sin * right)


def places(window: Window, points: np.ndarray) -> np.ndarray:
    """Return where a film's points (n, 2) lie in the window's stored square: (n, 2) of (column, row)."""
    return np.array([place(window, x, y) for x, y in points])


def warp(image: np.ndarray, film: Film, window: Window, size: int = SIZE) -> np.ndarray:
    """Return a window of a film as uint8 (size, size).

    `image` is the stored uint8 (rows, columns) film, of whatever scale; the crop has the film's true proportions.
    Where the window shrinks, each output pixel is the mean of k x k samples no further apart than the image's pixels,
    which is correct by area; outside the film its own pixels are mirrored.
    """
    scale = np.array([image.shape[1] / film.width, image.shape[0] / film.height])  # image pixels per film pixel
    step = window.side * scale.max() / size
    samples = max(1, math.ceil(step)) * size
    cos, sin = math.cos(math.radians(window.angle)), math.sin(math.radians(window.angle))
    turn = np.array([[cos, -sin], [sin, cos]])
    matrix = scale[:, None] * turn * (window.side / samples)
    # sample (0, 0) lies half a step inside the window's corner; OpenCV's pixel i has its centre at i, ours at i + 0.5
    middle = scale * (window.x, window.y)
    offset = middle + matrix @ np.full(2, (1 - samples) / 2) - 0.5
    fine = cv2.warpAffine(
        image,
        np.hstack([matrix, offset[:, None]]),
        (samples, samples),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return fine if samples == size else cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)
