"""Image files of every usual kind and depth: PNG, JPEG, TIFF, PGM ... through Pillow, DICOM through dicom.py.

8-bit films are taken as they are, colours as their luminance. Deeper films and DICOM are stretched to 8 bit, for a
16-bit file may hold 12-bit values. Of a file with several pages the first is read. Nothing is decoded before the
header's claims are checked.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.core.errors import InputError, one_line
from data_prep.core.files import check_regular
from data_prep.core.memory_limit import reads_file
from data_prep.formats import dicom
from data_prep.formats.limits import check_size, row_blocks
from data_prep.formats.optical_density import stretch_to_8bit

FORMATS = ("PNG", "JPEG", "TIFF", "PPM", "JPEG2000", "BMP", "GIF", "WEBP")  # others may start other programs (EPS)
DEEP = ("I", "F")  # Pillow's modes of more than 8 bits begin so
WHITE_IS_ZERO, PHOTOMETRIC = 0, 262  # TIFF 6.0, PhotometricInterpretation


@reads_file
def frame_size(path: Path) -> tuple[int, int]:
    """Return an image's (rows, columns) from its header; InputError when there is no such image."""
    if holds_dicom(path):
        return dicom.frame_size(dicom.header(path), path)
    with _opened(path) as image:
        return image.height, image.width


@reads_file
def film(path: Path) -> np.ndarray:
    """Return an image as uint8 (rows, columns), bright tissue high; InputError when there is no such image."""
    values = dicom.shown(path) if holds_dicom(path) else stored(path)
    return values if values.dtype == np.uint8 else stretch_to_8bit(values)


@reads_file
def stored(path: Path) -> np.ndarray:
    """Return an image's grey values as they are stored (rows, columns), uint8 or deeper; InputError without one."""
    if holds_dicom(path):
        return dicom.stored(path)
    with _opened(path) as image:
        return _deep_values(image) if image.mode.startswith(DEEP) else np.asarray(image.convert("L"))


@reads_file
def upper_8_bits(path: Path) -> np.ndarray:
    """Return an 8-bit image as it is, of one with 16 bits their upper 8: uint8 (rows, columns), bright tissue high."""
    if holds_dicom(path):
        return dicom.upper_8_bits(path)
    values = stored(path)
    return values if values.dtype == np.uint8 else (values.astype(np.uint16) >> 8).astype(np.uint8)


@reads_file
def mask(path: Path) -> np.ndarray:
    """Return a mask's values (rows, columns), zero or less outside the mass; InputError when there is no such image."""
    if holds_dicom(path):
        values = dicom.stored(path)
        return values > values.min()  # signed values have their zero elsewhere
    with _opened(path) as image:
        if image.mode.startswith(DEEP):
            return _deep_values(image)
        # the brightest channel, for the luminance of a mask drawn in dark blue is zero
        values = np.asarray(image.convert("RGB")).max(axis=2)
        # JPEG leaves ripples of low values around whatever is white
        return values > values.max() / 2 if image.format == "JPEG" else values


def holds_dicom(path: Path) -> bool:
    """Whether a file is DICOM; InputError when it cannot be read."""
    check_regular(path)
    try:
        return path.suffix.lower() == ".dcm" or dicom.is_dicom(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image whose header can be believed; whatever goes wrong with it, then or later, is an InputError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                check_size(path, image.height, image.width)
                # Pillow would keep the upper 8 bits alone: for 12-bit films, 16 grey levels
                if not image.mode.startswith(DEEP) and ";16" in str(image.tile):
                    raise InputError(f"{path}: colour of 16 bits a channel; save it as 16-bit grey")
                yield image
    except (InputError, MemoryError):
        raise
    # of damaged files Pillow lets out SyntaxError, struct.error, IndexError, DecompressionBombError ...
    except Exception as error:
        raise InputError(f"{path}: cannot be read as an image ({one_line(error)})") from None


def _deep_values(image: Image.Image) -> np.ndarray:
    # strip by strip: of all at once Pillow makes two copies on the way
    values = np.empty((image.height, image.width), np.asarray(image.crop((0, 0, 1, 1))).dtype)
    for rows in row_blocks(values.shape):
        values[rows] = image.crop((0, rows.start, image.width, rows.stop))
    if image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # of 8 bits Pillow inverts by itself
        np.subtract(np.nanmax(values), values, out=values)
    return values
