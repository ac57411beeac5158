"""A DICOM file for tests."""

from pathlib import Path

import numpy as np
from pydicom.uid import generate_uid

from tests.helpers import synthetic_cbis


def save(path: Path, pixels: np.ndarray, bits: int, **header: object) -> Path:
    """Write uint8 or uint16 (rows, columns) as a mammogram of `bits` bits, with other values of the header changed."""
    image = synthetic_cbis.dataset(pixels)
    image.BitsStored, image.HighBit = bits, bits - 1
    for name, value in header.items():
        setattr(image, name, value)
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)
    return path
