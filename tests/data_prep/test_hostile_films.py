"""Films made to harm: each costs its own masses, with a reason, and neither the machine's memory nor the build."""

import os
import resource
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate

from data_prep.core import memory_limit
from data_prep.core.errors import InputError
from data_prep.core.files import check_regular, read_bytes
from data_prep.core.records import Box, Film
from data_prep.core.tables import read_table
from data_prep.database import context_crops, crop_films, manifest
from data_prep.formats import dicom, image_files, limits, ljpeg
from data_prep.sources import ddsm
from tests.helpers import databases
from tests.helpers.synthetic_cbis import dataset

ROOT = Path(__file__).resolve().parents[2]
GREY = np.add.outer(np.arange(60), np.arange(50)).astype(np.uint16)


# claims of a compressed frame


def with_frame(path: Path, frame: bytes, syntax: str) -> Path:
    """Write a DICOM file of GREY's size whose pixels are this compressed frame."""
    image = dataset(GREY)
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = encapsulate([frame])
    image["PixelData"].VR, image["PixelData"].is_undefined_length = "OB", True
    image.save_as(path, enforce_file_format=True)
    return path


def jpeg_2000(components: int, depth: int) -> bytes:
    """GREY's codestream, its header claiming so many components of so many bits."""
    frame = imagecodecs.jpeg2k_encode(GREY, level=0, reversible=True, codecformat="J2K")
    at = frame.index(b"\xff\x4f\xff\x51") + 40
    size = struct.pack(">H", 38 + 3 * components)
    header = struct.pack(">H", components) + struct.pack("3B", depth - 1, 1, 1) * components
    return frame[: at - 36] + size + frame[at - 34 : at] + header + frame[at + 5 :]


def in_frame(frame: bytes, marker: bytes, skip: int, value: int) -> bytes:
    at = frame.index(marker) + skip
    return frame[:at] + bytes([value]) + frame[at + 1 :]


FRAMES = {
    "JPEG 2000 of 16384 components": (jpeg_2000(16384, 16), uid.JPEG2000Lossless),
    "JPEG 2000 of 3 components": (jpeg_2000(3, 16), uid.JPEG2000),
    "JPEG 2000 of 38 bits": (jpeg_2000(1, 38), uid.JPEG2000Lossless),
    "JPEG of 200 components": (
        in_frame(imagecodecs.ljpeg_encode(GREY), b"\xff\xc3", 9, 200),
        uid.JPEGLosslessSV1,
    ),
    "JPEG of 200 bits": (in_frame(imagecodecs.ljpeg_encode(GREY), b"\xff\xc3", 4, 200), uid.JPEGLosslessSV1),
    "JPEG-LS of 200 components": (in_frame(imagecodecs.jpegls_encode(GREY), b"\xff\xf7", 9, 200), uid.JPEGLSLossless),
    "JPEG with a second start before the frame": (
        b"\xff\xd8\xff\xd0\x00\x02" + imagecodecs.ljpeg_encode(GREY)[2:],
        uid.JPEGLosslessSV1,
    ),
}


@pytest.mark.parametrize("frame", FRAMES)
def test_what_a_frame_claims_is_refused_before_it_is_decoded(tmp_path, monkeypatch, frame):
    def decode(*_):
        raise AssertionError("given to the decoder")

    sound = with_frame(tmp_path / "sound.dcm", imagecodecs.ljpeg_encode(GREY), uid.JPEGLosslessSV1)
    assert np.array_equal(dicom.stored(sound), GREY)
    path = with_frame(tmp_path / "film.dcm", *FRAMES[frame])
    for codec in ("jpeg_decode", "jpegls_decode", "jpeg2k_decode"):
        monkeypatch.setattr(imagecodecs, codec, decode)
    with pytest.raises(InputError, match=r"film\.dcm: its pixels cannot be decoded") as caught:
        dicom.stored(path)
    assert "given to the decoder" not in str(caught.value)


def test_a_codestream_behind_the_first_is_not_decoded(tmp_path):
    first = imagecodecs.jpeg2k_encode(GREY, level=0, reversible=True, codecformat="J2K")
    path = with_frame(tmp_path / "film.dcm", b"\0\0\0\x40uuid" + first + jpeg_2000(16384, 16), uid.JPEG2000Lossless)
    assert np.array_equal(dicom.stored(path), GREY)


# memory

PEAK = """
import resource, sys
from pathlib import Path
from data_prep.core.errors import InputError, one_line
from data_prep.formats import dicom, image_files
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    found = "x".join(map(str, getattr(image_files, sys.argv[1])(Path(sys.argv[2])).shape))
except InputError as error:
    found = one_line(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, found)
"""


def peak(path: Path, reader: str = "film") -> tuple[float, str]:
    """The megabytes that reading an image takes at most, and its size or what was wrong."""
    command = [sys.executable, "-c", PEAK, reader, str(path)]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    kilobytes, _, found = out.strip().partition(" ")
    return int(kilobytes) / 1e3, found


def deep_tiff(path: Path, side: int) -> None:
    Image.fromarray(np.zeros((side, side), np.int32)).save(path, compression="tiff_adobe_deflate")


def deep_png(path: Path, side: int) -> None:
    Image.fromarray(np.zeros((side, side), np.uint16)).save(path)


def rgba_png(path: Path, side: int) -> None:
    Image.new("RGBA", (side, side)).save(path)


def windowed_dicom(path: Path, side: int) -> None:
    image = dataset(np.arange(side * side, dtype=np.uint32).reshape(side, side).astype(np.uint16))
    image.RescaleSlope, image.RescaleIntercept = 2, -7
    image.WindowCenter, image.WindowWidth = 30000, 40000
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    image.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("make", [deep_tiff, deep_png, rgba_png, windowed_dicom])
@pytest.mark.parametrize("reader", ["film", "mask"])
def test_reading_takes_a_few_times_the_film_as_16_bits(tmp_path, make, reader):
    side = 4000
    path = tmp_path / ("film.dcm" if make is windowed_dicom else "film.tif" if make is deep_tiff else "film.png")
    make(path, side)
    megabytes, found = peak(path, reader)
    assert found == f"{side}x{side}"
    assert megabytes < 6.5 * 2 * side**2 / 1e6


def column_png(path: Path) -> None:
    rows = limits.MOST_PIXELS // 4
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 1, rows, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(2 * rows), 1))]
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def deflated_dicom(path: Path) -> None:
    image = dataset(GREY)
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    image.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    image.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = content.index(uid.DeflatedExplicitVRLittleEndian.encode())
    header = content[: start + 22]  # with the byte that makes the UID's length even
    image = dataset(GREY)
    body = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, 1 << 30)
    packed = packer.compress(body) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(1 << 10)) + packer.flush()
    path.write_bytes(header + packed)


@pytest.mark.parametrize(("name", "make"), [("film.png", column_png), ("film.dcm", deflated_dicom)])
def test_a_small_file_that_would_become_huge_is_refused(tmp_path, name, make):
    make(tmp_path / name)
    assert (tmp_path / name).stat().st_size < 2e6
    megabytes, found = peak(tmp_path / name)
    assert found.startswith(f"{tmp_path / name}: ")
    assert megabytes < 100


# what ends in a reason, and never the build


def job(load: Callable[[Film], np.ndarray], side: int = 300) -> crop_films.FilmJob:
    mass = crop_films.MassJob("M", 1, Box(0, 0, side, side), np.array([0]))
    film = Film(Path("film.png"), side, side)
    return crop_films.FilmJob(film, load, "val", context_crops.Recipe("large", 0, 0, 1), [mass])


def fails(film: Film) -> np.ndarray:
    raise ZeroDivisionError("of a reader")


FAILURES = {
    "too wide for OpenCV": lambda film: np.zeros((2, 1 << 16), np.uint8),
    "a fault in the reader": fails,
    "more memory than a film takes": lambda film: np.zeros((1 << 14, 1 << 14), np.uint8),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_whatever_fails_while_a_film_is_cut_is_its_problem(monkeypatch, failure):
    monkeypatch.setattr(memory_limit, "ROOM", 100 << 20)
    with memory_limit.limited():
        found = crop_films.cut_film(job(FAILURES[failure]))
    assert found.problem.startswith("film.png: ") and "\n" not in found.problem
    assert not found.packed and not found.pixel_sum.any()


def test_a_machine_without_memory_does_not_blame_the_film():
    def load(film: Film) -> np.ndarray:
        low = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (50 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (low, resource.getrlimit(resource.RLIMIT_AS)[1]))
        return np.zeros((1 << 14, 1 << 14), np.uint8)

    with pytest.raises(MemoryError), memory_limit.limited():
        crop_films.cut_film(job(load))


def test_a_film_with_a_side_that_no_film_has_is_listed(tmp_path):
    films = {f"P{index:02}": databases.texture(index) for index in range(14)}
    films["Wide"] = np.zeros((2, limits.MOST_SIDE + 1), np.uint8)
    csv_path = databases.write_films(tmp_path / "set", films, {"Wide": (0, 0, 1000, 2)})
    rows = manifest.read_csv(databases.build(csv_path, tmp_path / "lmdb", "--no-aug"))
    assert "claims 2 x 32767 pixels" in rows["Wide.Wide.1"]["reason"]
    assert sum(not row["reason"] for row in rows.values()) == 14


# what is no file


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def a_socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    return path


def link_to_a_device(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


READERS = {
    "film.png": [image_files.film, image_files.mask, image_files.frame_size],
    "film.dcm": [image_files.film, dicom.header, dicom.stored, dicom.shown],
    "film.LJPEG": [ljpeg.frame_size, ljpeg.decode],
    "A-0001-1.ics": [ddsm.read_ics],
    "A.OVERLAY": [ddsm.read_overlay],
    "boxes.csv": [read_table],
    "any": [check_regular, lambda path: read_bytes(path, 10)],
}


@pytest.mark.parametrize("make", [pipe, a_socket, link_to_a_device, folder])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_at_once(tmp_path, name, make):
    path = make(tmp_path / name)
    for reader in READERS[name]:
        with pytest.raises(InputError, match=name) as caught:
            reader(path)
        assert "\n" not in str(caught.value)


def test_more_than_a_file_can_hold_is_not_read(tmp_path):
    (tmp_path / "a.json").touch()
    os.truncate(tmp_path / "a.json", 1 << 40)
    with pytest.raises(InputError, match="far too many"):
        read_bytes(tmp_path / "a.json", 1 << 20)
