"""Optical density of a digitized DDSM film from its grey levels, and its image in 8 bits.

Each scanner that DDSM used has its own calibration, published with the database (University of South Florida,
"DDSM: Volumes, image and software information"); the letter of a case names the hospital and so, with the DIGITIZER
line of its .ics file, the scanner. Optical density is the film's own unit, so films of all four scanners become alike.
"""

from collections.abc import Callable

import cv2
import numpy as np

from data_prep.formats.limits import row_blocks

OD_MIN, OD_MAX = 0.05, 3.0
"""Densities that film can hold: below lies clear film base, above it is too dark to tell apart."""

CALIBRATION: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "DBA MGH": lambda grey: (np.log10(grey) - 4.80662) / -1.07553,
    "HOWTEK MGH": lambda grey: 3.789 - 0.00094568 * grey,
    "LUMISYS WFU": lambda grey: (grey - 4096.99) / -1009.01,
    "HOWTEK ISMD": lambda grey: 3.96604095240593 - 0.00099055807612 * grey,
}
"""Optical density from grey level, a float array, by scanner and hospital."""

SCANNER = {
    ("A", "DBA"): "DBA MGH",
    ("A", "HOWTEK"): "HOWTEK MGH",
    ("B", "LUMISYS"): "LUMISYS WFU",
    ("C", "LUMISYS"): "LUMISYS WFU",
    ("D", "HOWTEK"): "HOWTEK ISMD",
}
"""Calibration of a case, by its first letter and the first word of its DIGITIZER line."""


def optical_density(grey: np.ndarray, scanner: str) -> np.ndarray:
    """Return float64 optical densities, clipped to what film can hold, of grey levels from `scanner`."""
    with np.errstate(divide="ignore"):  # log10(0) is -inf: infinitely dark, which the clip makes OD_MAX
        density = CALIBRATION[scanner](grey.astype(np.float64))
    return np.clip(density, OD_MIN, OD_MAX)


def to_8bit(density: np.ndarray) -> np.ndarray:
    """Map optical density linearly to uint8; low density, where dense tissue stopped the X-rays, is bright."""
    return np.rint((OD_MAX - density) / (OD_MAX - OD_MIN) * 255).astype(np.uint8)


def grey_to_8bit(grey: np.ndarray, scanner: str) -> np.ndarray:
    """Return a uint16 film as uint8 through its scanner's calibration, by one look-up table."""
    # by OpenCV: NumPy's indexing takes four times as long, and 8 bytes per pixel on the way
    return cv2.LUT(grey, to_8bit(optical_density(np.arange(1 << 16), scanner)))


def stretch_to_8bit(values: np.ndarray) -> np.ndarray:
    """Map an image's own darkest to brightest value linearly to uint8 0 to 255, whatever its number type.

    For films of more than 8 bits without a calibration, since a 16-bit file may hold 12-bit values. NaN counts as the
    darkest, infinity as the brightest; an image of one value becomes black.
    """
    low, high = np.inf, -np.inf
    for rows in row_blocks(values.shape):
        grey = _floats(values[rows])
        finite = np.isfinite(grey)
        low = min(low, float(grey.min(where=finite, initial=np.inf)))
        high = max(high, float(grey.max(where=finite, initial=-np.inf)))
    stretched = np.zeros(values.shape, np.uint8)
    for rows in row_blocks(values.shape) if low < high else ():
        grey = _floats(values[rows])
        np.nan_to_num(grey, copy=False, nan=low, posinf=high, neginf=low)
        grey -= low
        grey *= 255 / (high - low)
        stretched[rows] = np.rint(grey, out=grey)
    return stretched


def _floats(values: np.ndarray) -> np.ndarray:
    """Return a copy as floating point numbers: float32 holds integers of 16 bits exactly."""
    return values.astype(np.result_type(values, np.float32))
