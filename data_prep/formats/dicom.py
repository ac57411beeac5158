"""DICOM files: the header and the pixels of one greyscale image, from whatever comes under that name.

Compressed transfer syntaxes are decoded by imagecodecs (JPEG, JPEG lossless, JPEG-LS, JPEG 2000) or by pydicom (RLE):
GDCM, which pydicom would take for all of them, ends the process on some damaged files. MONOCHROME1, where low values
are bright, is inverted (DICOM PS3.3 section C.7.6.3.1.2). Files that lack the preamble, or the name of their transfer
syntax, are read where they hold an image. Nothing is decoded before the header's claims are checked: a few damaged
bytes can claim a billion pixels.
"""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from pydicom import filereader, uid
from pydicom.dataelem import RawDataElement
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from data_prep.core.errors import InputError, one_line
from data_prep.core.files import check_regular
from data_prep.core.memory_limit import reads_file
from data_prep.formats.limits import MOST_PIXELS, check_size, row_blocks

DEEPEST = 16  # bits of a value
MOST_INFLATED = 2 * MOST_PIXELS + (1 << 24)  # bytes: pixels of 16 bits, and a header
JPEG_START = b"\xff\xd8"
JPEG_LS_FRAME = 0xFFF7  # SOF55
JPEG_2000_START = b"\xff\x4f\xff\x51"  # SOC and SIZ, ITU-T T.800 annex A
ITEM = b"\xfe\xff\x00\xe0"  # that compressed pixels begin with
BEFORE_SCAN = {
    *range(0xFFC0, 0xFFD0),
    *range(0xFFDB, 0xFFFF),
}  # markers with a length, but for that of the picture data
FRAME_HEADERS = {0xFFC0, 0xFFC1, 0xFFC2, 0xFFC3, JPEG_LS_FRAME}  # SOF0 to SOF3
FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")  # that a dataset without a preamble begins with
UNDEFINED_LENGTH = 0xFFFFFFFF  # of compressed pixels, which end with a delimiter
LONG_VALUE = 1 << 20  # bytes: a longer value is read only when it is asked for


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does, with its preamble or without; OSError when it cannot be read."""
    with path.open("rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or (start[:2] in FIRST_GROUPS and 0 in start[2:4])


@reads_file
def header(path: Path) -> pydicom.Dataset:
    """Return a file's header, without pixels; InputError when the file is not DICOM."""
    return _parse(path, stop_before_pixels=True)


def text(dataset: pydicom.Dataset, name: str) -> str:
    """Return a header value as text, "" where it is absent or damaged."""
    try:
        return str(dataset.get(name) or "").strip()
    except Exception:  # a value is parsed when it is asked for, and may turn out to be anything
        return ""


def frame_size(dataset: pydicom.Dataset, path: Path) -> tuple[int, int]:
    """Return (rows, columns) as the header gives them; InputError unless they are those of one greyscale image."""
    rows, columns = _number(dataset, "Rows", path), _number(dataset, "Columns", path)
    check_size(path, rows, columns)
    frames = _number(dataset, "NumberOfFrames", path, 1)
    if frames > 1:
        raise InputError(f"{path}: holds {frames} frames; give a file of the one film that is meant")
    kind = text(dataset, "PhotometricInterpretation")
    if kind not in ("MONOCHROME1", "MONOCHROME2") or _number(dataset, "SamplesPerPixel", path, 1) != 1:
        raise InputError(f"{path}: not a greyscale image (photometric interpretation '{kind}')")
    return rows, columns


@reads_file
def stored(path: Path) -> np.ndarray:
    """Return the stored values as uint8 or uint16 (rows, columns): all their bits, bright tissue high.

    Signed values are shifted so that their least possible one is 0. Raises InputError when there is no such image.
    """
    return _stored(path)[0]


@reads_file
def upper_8_bits(path: Path) -> np.ndarray:
    """Return the upper 8 of the stored values' bits, or all there are: uint8 (rows, columns), bright tissue high."""
    values, bits = _stored(path)
    return (values >> max(bits - 8, 0)).astype(np.uint8)


def _stored(path: Path) -> tuple[np.ndarray, int]:
    """Return what stored() does, and how many bits of a value are in use."""
    dataset, values = _pixels(path)
    bits = _number(dataset, "BitsStored", path)
    top = (1 << bits) - 1
    values = values.astype(np.int32)  # and all else in place: films are large
    if _number(dataset, "PixelRepresentation", path):
        values += (top + 1) // 2
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        np.subtract(top, values, out=values)
    return values.clip(0, top, out=values).astype(np.uint8 if top <= 255 else np.uint16), bits


@reads_file
def shown(path: Path) -> np.ndarray:
    """Return an image as its header asks to show it, float32 (rows, columns), bright tissue high.

    Its values are rescaled first (DICOM PS3.3 section C.11.1), then the header's look-up table or first window is
    applied (C.11.2). A window that cannot be applied, such as one without a width, or that shows nothing, is passed
    over. Raises InputError when there is no such image.
    """
    dataset, values = _pixels(path)
    for show in (
        lambda block: apply_voi_lut(apply_modality_lut(block, dataset), dataset),
        lambda block: apply_modality_lut(block, dataset),
        lambda block: block,
    ):
        try:
            image = _by_blocks(show, values)
        except MemoryError:
            raise
        except Exception:  # pydicom lets out whatever a damaged or unfinished header makes of it
            continue
        if image.min() < image.max():
            break
    dark_is_dense = dataset.PhotometricInterpretation == "MONOCHROME1"
    dark_is_dense |= text(dataset, "PresentationLUTShape") == "INVERSE"
    return np.negative(image, out=image) if dark_is_dense else image


def _by_blocks(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
    """Return what a function of single pixels makes of an image, float32; pydicom would take 24 bytes a pixel."""
    made = np.empty(values.shape, np.float32)
    for rows in row_blocks(values.shape):
        made[rows] = function(values[rows])
    return made


def _pixels(path: Path) -> tuple[pydicom.Dataset, np.ndarray]:
    """Return the whole file's dataset and its pixels as they are stored, integers (rows, columns)."""
    size = frame_size(header(path), path)
    dataset = _parse(path, stop_before_pixels=False)
    bits = _number(dataset, "BitsStored", path), _number(dataset, "BitsAllocated", path)
    if not 1 <= bits[0] <= bits[1] <= DEEPEST:
        raise InputError(f"{path}: {bits[0]} bits stored of {bits[1]} allocated; at most {DEEPEST} can be read")
    try:
        values = _decode(dataset, size)
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(f"{path}: its pixels cannot be decoded ({one_line(error)})") from None
    if values.shape != size:
        raise InputError(f"{path}: holds {values.shape} pixels where its header says {size}; the file is damaged")
    return dataset, values


def _decode(dataset: pydicom.Dataset, size: tuple[int, int]) -> np.ndarray:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        implicit, little = dataset.original_encoding
        plain = uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = plain if little else uid.ExplicitVRBigEndian
    compressed = dataset.PixelData.startswith(ITEM) if syntax is None else syntax.is_encapsulated
    if not compressed or syntax == uid.RLELossless:
        return dataset.pixel_array
    decode, frame, claimed = _frame(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    if claimed != (*size, 1):
        raise ValueError(f"compressed {claimed} rows, columns and components where the header says {size}")
    values = decode(frame)
    return values.astype(np.int16) if dataset.PixelRepresentation else values


def _frame(frame: bytes) -> tuple[Callable, bytes, tuple[int, int, int]]:
    """Return a compressed frame's decoder, what to give it, and the rows, columns and components that it claims.

    JPEG and JPEG-LS: segments of a marker and a length up to the frame header, ITU-T T.81 B.2. JPEG 2000: T.800 A.5.1;
    a JP2 file about the codestream is left away, so that what is decoded is what was looked at here. Raises
    struct.error or ValueError where there is no such header, or it claims more than DEEPEST bits.
    """
    if not frame.startswith(JPEG_START):
        frame = frame[frame.index(JPEG_2000_START) :]
        right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
        components, depth, across, down = struct.unpack_from(">H3B", frame, 40)
        if (depth & 0x7F) >= DEEPEST or (across, down) != (1, 1):
            raise ValueError(f"JPEG 2000 of {(depth & 0x7F) + 1} bits, every {across} x {down} pixels")
        return imagecodecs.jpeg2k_decode, frame, (bottom - top, right - left, components)
    at = 2
    while True:
        marker, length = struct.unpack_from(">HH", frame, at)
        if marker in FRAME_HEADERS:
            decode = imagecodecs.jpegls_decode if marker == JPEG_LS_FRAME else imagecodecs.jpeg_decode
            depth, *size, components = struct.unpack_from(">BHHB", frame, at + 4)
            if depth > DEEPEST:
                raise ValueError(f"JPEG of {depth} bits")
            return decode, frame, (*size, components)
        if marker not in BEFORE_SCAN:  # a decoder might find another frame header than is found here
            raise ValueError("its segments are damaged")
        at += 2 + length


def _parse(path: Path, stop_before_pixels: bool) -> pydicom.Dataset:
    check_regular(path)
    try:
        if not is_dicom(path):
            raise ValueError("it begins as no DICOM file does")
        _check_inflated(path)
        dataset = pydicom.dcmread(path, defer_size=LONG_VALUE, stop_before_pixels=stop_before_pixels, force=True)
        if (claimed := _longest_unread(dataset)) > path.stat().st_size:
            raise ValueError(f"a value claims {claimed} bytes")
        return dataset
    # pydicom lets out whatever goes wrong inside it: struct.error, KeyError, RecursionError ... and MemoryError where a
    # value claims gigabytes: long values are not read here, so a sound file's header takes little
    except Exception as error:
        raise InputError(f"{path}: cannot be read as DICOM ({one_line(error)})") from None


def _check_inflated(path: Path) -> None:
    """Raise ValueError when a deflated file would become too large: even for the header pydicom inflates all of it."""
    with path.open("rb") as file:
        filereader.read_preamble(file, force=True)
        syntax = filereader._read_file_meta_info(file).get("TransferSyntaxUID")
        if syntax != uid.DeflatedExplicitVRLittleEndian:
            return
        inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while packed := file.read(1 << 14):  # which can become 17 MB
            size += len(inflater.decompress(packed))
            if size > MOST_INFLATED:
                raise ValueError("it is deflated, and larger than any film when it is inflated")


def _longest_unread(dataset: pydicom.Dataset) -> int:
    """The most bytes that a value not read yet claims; Python would make room for them all before it reads."""
    values = (dataset.get_item(tag, keep_deferred=True) for tag in dataset.keys())  # noqa: SIM118
    unread = (value.length for value in values if isinstance(value, RawDataElement) and value.value is None)
    return max((length for length in unread if length != UNDEFINED_LENGTH), default=0)


def _number(dataset: pydicom.Dataset, name: str, path: Path, otherwise: int = 0) -> int:
    try:
        return int(dataset.get(name) or otherwise)
    except Exception:
        raise InputError(f"{path}: {name} in its DICOM header is not a number; the file is damaged") from None
