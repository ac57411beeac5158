"""Zones of a saliency map: the mass, its margin and what is around it, and the share of the map in each.

The databases keep a mass's box, not its outline, so here a mass is the ellipse inscribed in its box. A pixel's zone
follows from its elliptical radius, 0 at the centre and 1 on the ellipse. The band from 0.8 to 1.2 stands for the
margin: wide enough to hold most of a true outline, which no ellipse follows.

Positions are (column, row) in the net's input, continuous: pixel i covers i to i + 1.
"""

import numpy as np

from data_prep.database import context_crops, lmdb_io, manifest

ZONES = ("mass", "margin", "context")
BOUNDS = (0.8, 1.2)
"""Elliptical radius at which the margin begins, and at which it ends."""


def box_corners(keys: list[str], about: dict[str, dict[str, str]], content: dict, size: int) -> np.ndarray:
    """Return the corners of the records' boxes in a net's input of `size` pixels, clockwise: (n, 4, 2) float32.

    `about` and `content` are manifest.csv and manifest.json. A rotated record has a turned box.
    """
    rows = [about[lmdb_io.mass_id_of(key)] for key in keys]
    windows = [manifest.window_of(key, row, content) for key, row in zip(keys, rows, strict=True)]
    found = [seen(window, manifest.box_of(row).corners, size) for window, row in zip(windows, rows, strict=True)]
    return np.array(found, np.float32)


def seen(window: context_crops.Window, points: np.ndarray, size: int) -> np.ndarray:
    """Return where a film's points (n, 2) lie in a net's input of `size` pixels, cut from the window: (n, 2)."""
    return context_crops.places(window, points) - (context_crops.SIZE - size) // 2  # as inference.centre_crop cuts it


def radius(corners: np.ndarray, size: int) -> np.ndarray:
    """Return the elliptical radius of each pixel's centre for the box with these corners (4, 2): (size, size)."""
    rows, columns = np.mgrid[:size, :size] + 0.5
    centre = corners.mean(axis=0)
    along, down = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    off = np.stack([columns, rows], axis=-1) - centre
    return np.hypot(off @ along / (along @ along), off @ down / (down @ down))


def shares(heat: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return the share of a map (s, s) >= 0 in each of ZONES: (3,) float64, NaN where the map is zero everywhere."""
    zone = np.digitize(radius(corners, len(heat)), BOUNDS)
    inside = np.bincount(zone.ravel(), heat.ravel(), len(ZONES))
    return inside / inside.sum() if inside.any() else np.full(len(ZONES), np.nan)
