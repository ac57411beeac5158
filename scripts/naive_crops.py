"""The straightforward way to cut the crops, with scikit-image: what data_prep/database/context_crops.py is measured against.

The whole film is turned once for each rotation, then each window of it is cut and reduced. So a pixel is interpolated
twice, and fifteen million pixels are turned for crops that show a tenth of them.
"""

from collections.abc import Iterator
from itertools import groupby

import numpy as np
from skimage.transform import resize, rotate

from data_prep.core.records import Box
from data_prep.database.context_crops import SIZE, Window


def cut(image: np.ndarray, box: Box, windows: list[Window], enlarge: bool) -> Iterator[np.ndarray]:
    """Yield the windows of one mass as uint8 (227, 227), in order.

    `image` is the film, uint8 (rows, columns) at the full resolution that `box` and `windows` are measured in; windows
    of one angle must stand together, as crops.augmented_windows returns them. A turned film needs more room; unless
    it is given (`enlarge`), what is carried out of the frame is lost, and crops near the film's edge are wrong.
    """
    for angle, same_angle in groupby(windows, key=lambda window: window.angle):
        turned, origin = image, np.zeros(2)
        if angle:
            middle = np.array(box.centre) - 0.5  # scikit-image's pixel i has its centre at i, ours at i + 0.5
            turned = rotate(image, angle, enlarge, middle, mode="reflect", preserve_range=True)
            if enlarge:
                rows, columns = image.shape
                corners = np.array([(0, 0), (columns - 1, 0), (0, rows - 1), (columns - 1, rows - 1)])
                origin = _turn(corners, middle, angle).min(axis=0)
        for window in same_angle:
            x, y = _turn(np.array([(window.x, window.y)]), np.array(box.centre), angle)[0] - origin
            crop = resize(_square(turned, x, y, window.side), (SIZE, SIZE), anti_aliasing=True, preserve_range=True)
            yield np.rint(crop).astype(np.uint8)


def _turn(points: np.ndarray, middle: np.ndarray, angle: float) -> np.ndarray:
    """Return where points (n, 2) come to lie when the film is turned back by `angle` degrees about its `middle`."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return middle + (points - middle) @ np.array([[cos, -sin], [sin, cos]])


def _square(image: np.ndarray, x: float, y: float, side: float) -> np.ndarray:
    """Return the square about a point, to whole pixels; mirrored where it leaves the image."""
    side = round(side)
    left, top = round(x - side / 2), round(y - side / 2)
    inside = image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    rows, columns = image.shape
    before, after = (max(-top, 0), max(-left, 0)), (max(top + side - rows, 0), max(left + side - columns, 0))
    return np.pad(inside, list(zip(before, after, strict=True)), mode="reflect")
