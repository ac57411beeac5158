"""Images of every kind and depth."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep.core.errors import InputError
from data_prep.formats import image_files
from data_prep.formats.optical_density import stretch_to_8bit
from tests.helpers import dicoms

GREY = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4) * 7 + 40
DEEP = np.arange(6 * 4, dtype=np.uint16).reshape(6, 4) * 150 + 300  # 12-bit values


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm", "a.bmp", "a.PNG"])
def test_an_8bit_film_is_taken_as_it_is(tmp_path, name):
    Image.fromarray(GREY).save(tmp_path / name)
    assert image_files.frame_size(tmp_path / name) == (6, 4)
    assert np.array_equal(image_files.film(tmp_path / name), GREY)


def test_of_a_colour_film_the_luminance_is_taken_of_a_palette_its_colours(tmp_path):
    Image.new("RGB", (4, 6), (10, 200, 30)).save(tmp_path / "rgb.png")
    assert (image_files.film(tmp_path / "rgb.png") == round(0.299 * 10 + 0.587 * 200 + 0.114 * 30)).all()
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([90, 90, 90, 7, 7, 7])
    palette.save(tmp_path / "p.png")
    assert image_files.film(tmp_path / "p.png").tolist() == [[90, 7]]


def write_deep(path: Path, kind: str) -> None:
    if kind == "dcm":
        dicoms.save(path, DEEP, bits=12)
    elif kind in ("png", "pgm"):
        cv2.imwrite(str(path), DEEP)
    else:
        number = {"tif 16": "<u2", "tif big-endian": ">u2", "tif 32": "<i4", "tif float": "<f4"}[kind]
        tifffile.imwrite(path, DEEP.astype(number[1:]), byteorder=number[0])


@pytest.mark.parametrize("kind", ["dcm", "png", "pgm", "tif 16", "tif big-endian", "tif 32", "tif float"])
def test_a_deep_film_is_stretched_from_its_own_darkest_to_its_brightest_pixel(tmp_path, kind):
    path = tmp_path / f"a.{kind.split()[0]}"
    write_deep(path, kind)
    assert image_files.frame_size(path) == (6, 4)
    film = image_files.film(path)
    assert film.dtype == np.uint8
    assert np.array_equal(film, stretch_to_8bit(DEEP))
    assert (film.min(), film.max()) == (0, 255)


@pytest.mark.parametrize("number", ["u1", "u2"])
def test_a_tiff_whose_zero_is_white_is_turned_bright_side_up(tmp_path, number):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 255]], number), photometric="miniswhite")
    assert image_files.film(tmp_path / "a.tif").tolist() == [[255, 0]]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16bit_colour_is_refused_for_pillow_would_drop_half_its_bits(tmp_path, name):
    cv2.imwrite(str(tmp_path / name), np.dstack([DEEP] * 3))
    with pytest.raises(InputError, match="save it as 16-bit grey"):
        image_files.film(tmp_path / name)


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize("size", [(40_000, 30_000), (12_000, 12_000)])
def test_a_header_that_claims_too_many_pixels_is_refused(tmp_path, size):
    (tmp_path / "a.png").write_bytes(png_header(*size) + b"\0\0\0\0IDAT")
    for read in (image_files.frame_size, image_files.film, image_files.mask):
        with pytest.raises(InputError, match=r"a.png: (claims|cannot be read)"):
            read(tmp_path / "a.png")


def test_a_dicom_header_that_claims_too_many_pixels_is_refused(tmp_path):
    dicoms.save(tmp_path / "a.dcm", DEEP, bits=12, Rows=40_000, Columns=30_000)
    with pytest.raises(InputError, match="claims 40000 x 30000"):
        image_files.frame_size(tmp_path / "a.dcm")


def test_a_mask_is_what_is_not_black_in_any_colour_or_depth(tmp_path):
    expected = GREY > 100
    Image.fromarray(expected).save(tmp_path / "1bit.png")
    blue = np.zeros((*GREY.shape, 3), np.uint8)
    blue[expected, 2] = 1
    Image.fromarray(blue).save(tmp_path / "blue.png")
    cv2.imwrite(str(tmp_path / "deep.png"), expected.astype(np.uint16))
    tifffile.imwrite(tmp_path / "float.tif", np.where(expected, 0.5, 0).astype(np.float32))
    dicoms.save(tmp_path / "signed.dcm", expected.astype(np.uint16), bits=16, PixelRepresentation=1)
    for path in tmp_path.iterdir():
        assert np.array_equal(image_files.mask(path) > 0, expected), path.name


def test_ripples_about_a_mask_in_jpeg_do_not_count(tmp_path):
    expected = np.zeros((64, 64), bool)
    expected[13:43, 21:50] = True
    Image.fromarray(np.where(expected, 255, 0).astype(np.uint8)).save(tmp_path / "m.jpg", quality=50)
    assert (np.asarray(Image.open(tmp_path / "m.jpg")) > 0).sum() > expected.sum()
    assert np.array_equal(image_files.mask(tmp_path / "m.jpg") > 0, expected)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["png", "jpg", "tif", "pgm", "dcm"]),
    start=st.integers(0, 400),
    damage=st.binary(max_size=16),
    keep=st.integers(0, 2000),
)
def test_a_damaged_file_gives_an_image_or_an_error_of_ours(tmp_path, kind, start, damage, keep):
    path = tmp_path / f"a.{kind}"
    if kind == "dcm":
        dicoms.save(path, DEEP, bits=12)
    else:
        Image.fromarray(GREY).save(path)
    whole = path.read_bytes()
    path.write_bytes((whole[:start] + damage + whole[start + len(damage) :])[:keep])
    for read in (image_files.frame_size, image_files.film, image_files.mask):
        try:
            read(path)
        except InputError as error:
            assert str(error).startswith(f"{path}: ")
            assert "\n" not in str(error)
