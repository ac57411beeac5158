"""Search for records that show the same tissue, however they were turned, cut, mirrored or changed.

A record is looked at in two ways, both as a small grey patch. Its core is the part of the film that every window of a
mass holds, turned back upright and brought to one scale: all 25 training crops of a mass have the same core, which is
also that of the mass's upright context. The whole is the record as it is stored. Two patches that have nearly the same
perceptual hash (imagehash.phash) are compared again, detail by detail.

How the thresholds were chosen, and what share of changed copies they find, is in results/near_duplicates/README.md.
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import imagehash
import numpy as np
from PIL import Image

from data_prep.core.records import Box, Film
from data_prep.database import context_crops
from data_prep.database.context_crops import SIZE, Window

SIDE = 48  # of a patch, pixels: what imagehash takes for a hash of 12 x 12 bits
HASH_SIDE = 12
NEAR = 36  # of 144 bits
ALIKE = 0.82  # correlation of the details
BLOCK = 64  # patches compared at once with all others: bounds memory

CORE = 2 * context_crops.SMALLEST_WINDOW - 1
"""Diameter of the core, a disc about the box's centre, as a share of the context square's side R.

A window's side is at least 0.8 R, and its centre is off the box's by at most (R - side) / 2 along each of its axes; so
its nearest edge is at least side / 2 - (R - side) / 2 = side - R / 2 >= 0.3 R away. R may grow for a turned box.
"""

_distance = np.hypot(*(np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2)) / (SIDE / 2)
TAPER = np.where(_distance < 1, 0.5 + 0.5 * np.cos(np.pi * _distance), 0).astype(np.float32)
"""Weight of a patch's pixels: the disc's edge and what lies outside do not count."""

WHOLE = Window(SIZE / 2, SIZE / 2, SIZE)
"""The whole of a record, as a window of it."""


def core(window: Window, box: Box, context: str) -> Window:
    """Return the core of the mass in `box` as a window of the record (its pixels) that `window` of the film gave."""
    side = CORE * context_crops.context_window(box, context).side * SIZE / window.side
    return Window(*context_crops.place(window, *box.centre), side, -window.angle)


def patch(image: np.ndarray, window: Window) -> np.ndarray:
    """Return a window of a record as uint8 (SIDE, SIDE)."""
    return context_crops.warp(image, Film(Path(), SIZE, SIZE), window, SIDE)


def hashes(patches: np.ndarray) -> np.ndarray:
    """Return the perceptual hashes of uint8 patches (n, SIDE, SIDE) as uint64 (n, 3), 144 bits each."""
    bits = np.array([np.ravel(imagehash.phash(_tapered(each), HASH_SIDE).hash) for each in patches], bool)
    packed = np.zeros((len(patches), 24), np.uint8)
    packed[:, : HASH_SIDE**2 // 8] = np.packbits(bits.reshape(len(patches), HASH_SIDE**2), axis=1)
    return packed.view(np.uint64)


def similar_pairs(some: np.ndarray, others: np.ndarray) -> list[tuple[int, int, float]]:
    """Return which of `some` patches (n, SIDE, SIDE) are like which of `others`, and the correlation of their details.

    All quarter turns and mirror images of `some` are tried.
    """
    known = hashes(others)
    found: dict[tuple[int, int], float] = {}
    for mirrored in (some, some[:, :, ::-1]):
        for quarters in range(4):
            turned = np.ascontiguousarray(np.rot90(mirrored, quarters, axes=(1, 2)))
            for i, j in _near(hashes(turned), known):
                if (i, j) not in found and (value := correlation(turned[i], others[j])) >= ALIKE:
                    found[i, j] = value
    return [(i, j, value) for (i, j), value in sorted(found.items())]


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two patches' details within the disc, at the shift (up to 7 pixels) that suits best."""
    margin = round(SIDE * (1 - 0.5**0.5) / 2)  # the rest is the square that the disc holds
    inner = _details(other)[margin:-margin, margin:-margin]
    return float(cv2.matchTemplate(_details(one), inner, cv2.TM_CCOEFF_NORMED).max())


def _tapered(each: np.ndarray) -> Image.Image:
    """Return a patch with its mean as the zero, the disc's edge faded out and the contrast spread over all 8 bits."""
    faded = (each - np.average(each, weights=TAPER)) * TAPER
    return Image.fromarray(np.uint8(np.rint(128 + 127 * faded / max(np.abs(faded).max(), 1))))


def _details(each: np.ndarray) -> np.ndarray:
    """Return a patch's structures of a few pixels, all at one local contrast.

    Neither noise, nor the broad brightness that all masses share. Without the even contrast, two masses beside the
    film's white edge, or with a bright marker in one place, would be alike for that.
    """
    values = each.astype(np.float32)
    details = cv2.GaussianBlur(values, (0, 0), 1) - cv2.GaussianBlur(values, (0, 0), 3)
    return details / np.sqrt(cv2.GaussianBlur(details**2, (0, 0), 3) + 1)  # 1: less than a grey level stays faint


def _near(some: np.ndarray, others: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the pairs of hashes, (n, 3) and (m, 3), that differ in NEAR bits at most."""
    for start in range(0, len(some), BLOCK):
        block = some[start : start + BLOCK]
        distance = np.zeros((len(block), len(others)), np.uint8)
        for word in range(block.shape[1]):
            distance += np.bitwise_count(block[:, None, word] ^ others[None, :, word])
        for i, j in np.argwhere(distance <= NEAR).tolist():
            yield start + i, j
