"""Masks, images in which the pixels of a mass are not zero, and the mass's box on its film."""

import cv2
import numpy as np

from data_prep.core.records import Box

ASPECT_TOLERANCE = 0.02
"""Share by which width / height of a mask and its film may differ. Sizes rounded on the way stay well below it; a mask
that was cut, or belongs to another film, is seldom this close."""


def mask_box(mask: np.ndarray, film_height: int, film_width: int) -> Box:
    """Return the box, in film pixels, of a mask's largest connected part; specks beside it do not count.

    `mask` is of any number type and shaped (rows, columns); pixels that touch at a corner are connected. A mask of
    another size than the film's is stretched to it. Raises ValueError when all pixels are zero, or when the mask's
    aspect is not the film's.
    """
    rows, columns = mask.shape
    if abs(columns / rows * film_height / film_width - 1) > ASPECT_TOLERANCE:
        raise ValueError(f"mask of another aspect: {columns} x {rows} for a film of {film_width} x {film_height}")
    marked = (mask != 0).astype(np.uint8)
    left, top, width, height = cv2.boundingRect(marked)
    if not width:
        raise ValueError("mask is empty")
    stats = cv2.connectedComponentsWithStats(marked[top : top + height, left : left + width])[2]
    x, y, width, height, _ = max(stats[1:].tolist(), key=lambda part: part[cv2.CC_STAT_AREA])
    across, down = film_width / columns, film_height / rows
    x, y = left + x, top + y
    return Box(x * across, y * down, (x + width) * across, (y + height) * down)
