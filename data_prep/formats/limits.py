"""Limits that keep one file from taking the machine: how large a film may be, and how much of it is worked on at once.

Sizes are checked of what a file's header claims, before anything is decoded.
"""

from collections.abc import Iterator
from pathlib import Path

from data_prep.core.errors import InputError

MOST_PIXELS = 1 << 27  # three times the largest film of DDSM
MOST_SIDE = (1 << 15) - 2  # OpenCV counts rows and columns of what it warps in 16 bits
BLOCK = 1 << 20  # pixels


def check_size(path: Path, rows: int, columns: int) -> tuple[int, int]:
    """Return (rows, columns), the size that `path` claims; InputError when no film has it."""
    if not (1 <= rows <= MOST_SIDE and 1 <= columns <= MOST_SIDE and rows * columns <= MOST_PIXELS):
        raise InputError(f"{path}: claims {rows} x {columns} pixels, which no film has: damaged, or another file")
    return rows, columns


def row_blocks(shape: tuple[int, int]) -> Iterator[slice]:
    """Yield slices of an image's rows of about BLOCK pixels, so that what is made of them on the way stays small."""
    step = max(BLOCK // max(shape[1], 1), 1)
    for top in range(0, shape[0], step):
        yield slice(top, min(top + step, shape[0]))
