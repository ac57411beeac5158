"""Random views of photographs, grey as mammograms are: what the teacher and the net that learns from it both see.

A thousand photographs teach a net what the teacher knows if their views are varied enough (Asano and Saeed,
"Extrapolating from a Single Image to a Thousand Classes using Distillation", ICLR 2023): cut from any place and at any
scale, turned, mirrored, blended with another view or holding a piece of one. And in every light, for a mass's crop is
bright and of low contrast.
"""

from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data_prep.core.errors import InputError
from data_prep.core.memory_limit import blaming, limited

SMALLEST = 0.06  # of a photograph's largest square, by area
BLENDED, PATCHED = 0.25, 0.2  # shares of the views
INVERTED, FULL_CONTRAST, BLURRED, NOISY = 0.25, 0.3, 0.3, 0.3
LEAST_CONTRAST = 0.12  # of the grey scale
ENDINGS = (".jpg", ".jpeg", ".png")


def read_photographs(folder: Path) -> list[np.ndarray]:
    """Return the photographs in a folder (JPEG, PNG), by name, as uint8 (rows, columns, 3).

    InputError when there are none, or one cannot be read.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in ENDINGS)
    if not paths:
        raise InputError(f"{folder}: holds no photographs ({', '.join(ENDINGS)}); give --images another folder")
    photographs = []
    for path in tqdm(paths, desc="photographs", unit="file", disable=None):
        with limited(), blaming(path):
            photograph = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if photograph is None:
            raise InputError(f"{path}: cannot be read as an image; remove it from the folder")
        photographs.append(photograph)
    return photographs


def draw_view(photographs: list[np.ndarray], side: int, rng: np.random.Generator) -> np.ndarray:
    """Return one view, (side, side) uint8."""
    view, kind = _piece(photographs, side, rng), rng.uniform()
    if kind < BLENDED:
        weight = rng.uniform(0.3, 0.7)
        view = weight * view + (1 - weight) * _piece(photographs, side, rng)
    elif kind < BLENDED + PATCHED:
        size = rng.integers(side // 4, 3 * side // 4, 2)
        top, left = rng.integers(0, side - size)
        patch = np.s_[top : top + size[0], left : left + size[1]]
        view[patch] = _piece(photographs, side, rng)[patch]
    return _light(view, rng)


def _piece(photographs: list[np.ndarray], side: int, rng: np.random.Generator) -> np.ndarray:
    """Return a square of a photograph, float32: turned, stretched, perhaps mirrored, its colours weighted at random."""
    photograph = photographs[rng.integers(len(photographs))]
    rows, columns = photograph.shape[:2]
    width = np.sqrt(np.exp(rng.uniform(np.log(SMALLEST), 0))) * min(rows, columns)
    centre = rng.uniform(width / 2, [columns - width / 2, rows - width / 2])
    stretch, angle = np.exp(rng.uniform(-0.25, 0.25)), rng.uniform(0, 2 * np.pi)
    scale = np.array([stretch * rng.choice([-1, 1]), 1 / stretch]) * width / side
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    if (coarser := np.abs(scale).max()) > 1.3:
        photograph = cv2.GaussianBlur(photograph, None, 0.4 * coarser)  # against aliasing, where the warp shrinks
    warp = np.column_stack([turn, centre - turn @ [side / 2, side / 2]])
    piece = cv2.warpAffine(
        photograph, warp, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101
    )
    return piece.astype(np.float32) @ rng.dirichlet([2, 2, 2]).astype(np.float32)


def _light(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a view as uint8 in a random gamma and range of grey levels, perhaps inverted, blurred or noisy."""
    view = (view - view.min()) / max(np.ptp(view), 1)
    view = view ** np.exp(rng.normal(0, 0.4))
    if rng.uniform() < INVERTED:
        view = 1 - view
    low, high = (0, 1) if rng.uniform() < FULL_CONTRAST else np.sort(rng.uniform(0, 1, 2))
    view = 255 * (low + max(high - low, LEAST_CONTRAST) * view)
    if rng.uniform() < BLURRED:
        view = cv2.GaussianBlur(view, None, rng.uniform(0.5, 3))
    if rng.uniform() < NOISY:
        view = view + rng.normal(0, rng.uniform(1, 8), view.shape)
    return np.clip(np.rint(view), 0, 255).astype(np.uint8)
