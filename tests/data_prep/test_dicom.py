"""DICOM images, as mammography files come: compressed, inverted, signed, windowed; and those that are refused."""

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate

from data_prep.core.errors import InputError
from data_prep.formats import dicom, image_files
from data_prep.formats.optical_density import stretch_to_8bit
from tests.helpers.synthetic_cbis import dataset


@pytest.fixture
def pixels() -> np.ndarray:
    ramp = np.linspace(0, 4095, 300 * 201).reshape(300, 201)
    return (ramp + np.random.default_rng(0).integers(0, 9, ramp.shape)).clip(0, 4095).astype(np.uint16)


def save(path, image: pydicom.Dataset, **values):
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    for name, value in values.items():
        setattr(image, name, value)
    image.save_as(path, enforce_file_format=True)
    return path


def compressed(pixels: np.ndarray, syntax: uid.UID, encode) -> pydicom.Dataset:
    image = dataset(pixels)
    if encode:
        image.file_meta.TransferSyntaxUID = syntax
        image.PixelData = encapsulate([bytes(encode(pixels))])
        image["PixelData"].VR, image["PixelData"].is_undefined_length = "OB", True
    else:
        image.compress(syntax, encoding_plugin="pydicom")
    return image


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (uid.ExplicitVRBigEndian, None),
        (uid.ImplicitVRLittleEndian, None),
        (uid.DeflatedExplicitVRLittleEndian, None),
        (uid.RLELossless, None),
        (uid.JPEGLosslessSV1, imagecodecs.ljpeg_encode),
        (uid.JPEGLSLossless, imagecodecs.jpegls_encode),
        (uid.JPEG2000Lossless, lambda p: imagecodecs.jpeg2k_encode(p, level=0, reversible=True)),
    ],
    ids=lambda value: getattr(value, "keyword", None) or "",
)
def test_every_lossless_transfer_syntax_gives_the_same_pixels(tmp_path, pixels, syntax, encode):
    if encode or syntax == uid.RLELossless:
        image = compressed(pixels, syntax, encode)
    else:
        image = dataset(pixels)
        image.file_meta.TransferSyntaxUID = syntax
        if syntax == uid.ExplicitVRBigEndian:
            image.PixelData = pixels.byteswap().tobytes()
    read = dicom.stored(save(tmp_path / "a.dcm", image))
    assert read.dtype == np.uint16
    assert np.array_equal(read, pixels)


@pytest.mark.parametrize("bits", [8, 12])
def test_lossy_jpeg_is_close(tmp_path, pixels, bits):
    values = (pixels >> 4).astype(np.uint8) if bits == 8 else pixels
    syntax = uid.JPEGBaseline8Bit if bits == 8 else uid.JPEGExtended12Bit
    image = compressed(values, syntax, lambda p: imagecodecs.jpeg_encode(p, level=95, bitspersample=bits))
    image.BitsStored, image.HighBit = bits, bits - 1
    read = dicom.stored(save(tmp_path / "a.dcm", image)).astype(int)
    assert np.abs(read - values).max() < 2**bits / 100


def test_monochrome1_is_inverted_within_the_bits_in_use(tmp_path, pixels):
    image = dataset(pixels)
    image.BitsStored, image.HighBit, image.PhotometricInterpretation = 12, 11, "MONOCHROME1"
    path = save(tmp_path / "a.dcm", image)
    assert np.array_equal(dicom.stored(path), 4095 - pixels)
    assert np.array_equal(dicom.shown(path), -pixels.astype(np.float32))


def test_signed_values_keep_their_order(tmp_path, pixels):
    signed = pixels.astype(np.int16) - 2048
    image = dataset(signed.view(np.uint16))
    image.PixelRepresentation, image.BitsStored, image.HighBit = 1, 12, 11
    assert np.array_equal(dicom.stored(save(tmp_path / "a.dcm", image)), pixels)


def test_the_headers_window_is_applied_where_the_image_is_to_be_shown(tmp_path, pixels):
    path = save(tmp_path / "a.dcm", dataset(pixels), WindowCenter=2000, WindowWidth=1000)
    shown = dicom.shown(path)
    assert shown[pixels < 1400].max() == shown.min()
    assert shown[pixels > 2600].min() == shown.max()
    assert np.array_equal(dicom.stored(path), pixels)


WINDOW = {"WindowCenter": 2000, "WindowWidth": 1000}


@pytest.mark.parametrize(
    ("header", "shows"),
    [
        ({"WindowCenter": [2000, 9], "WindowWidth": [1000, 9]}, WINDOW),  # the first of several
        ({"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 976, "WindowWidth": 1000}, WINDOW),
        ({"RescaleSlope": 2, "RescaleIntercept": 0, "WindowCenter": 4000, "WindowWidth": 2000}, WINDOW),
        ({"RescaleSlope": "", "RescaleIntercept": 0}, {}),
        ({"WindowCenter": 2000, "WindowWidth": 0}, {}),
        ({"WindowCenter": 2000}, {}),
        ({"WindowCenter": "", "WindowWidth": ""}, {}),
        ({"WindowCenter": 9000, "WindowWidth": 10}, {}),  # shows nothing
        (WINDOW | {"VOILUTFunction": "CUBIC"}, {}),
    ],
)
def test_values_are_rescaled_before_their_window_and_one_without_sense_is_passed_over(tmp_path, pixels, header, shows):
    shown = stretch_to_8bit(dicom.shown(save(tmp_path / "a.dcm", dataset(pixels), **header)))
    expected = stretch_to_8bit(dicom.shown(save(tmp_path / "b.dcm", dataset(pixels), **shows)))
    assert expected.std() > 50
    assert np.abs(shown.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [("MONOCHROME2", "IDENTITY", False), ("MONOCHROME2", "INVERSE", True), ("MONOCHROME1", "INVERSE", True)],
)
def test_an_inverse_presentation_is_turned_bright_side_up_once(tmp_path, pixels, photometric, shape, inverted):
    header = {"PhotometricInterpretation": photometric, "PresentationLUTShape": shape}
    shown = stretch_to_8bit(dicom.shown(save(tmp_path / "a.dcm", dataset(pixels), **header)))
    expected = stretch_to_8bit(pixels)
    assert np.array_equal(shown, 255 - expected if inverted else expected)


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_a_file_without_preamble_and_transfer_syntax_is_read(tmp_path, pixels, implicit, little):
    image = dataset(pixels if little else pixels.byteswap())
    del image.file_meta
    path = tmp_path / "bare"
    with path.open("wb") as file:
        pydicom.dcmwrite(file, image, implicit_vr=implicit, little_endian=little)
    assert not path.read_bytes()[128:].startswith(b"DICM")
    assert np.array_equal(image_files.film(path), stretch_to_8bit(pixels))


@pytest.mark.parametrize("encode", [imagecodecs.ljpeg_encode, imagecodecs.jpegls_encode])
def test_a_compressed_file_without_transfer_syntax_is_read_by_its_frame(tmp_path, pixels, encode):
    image = compressed(pixels, uid.JPEGLosslessSV1, encode)
    del image.file_meta
    with (tmp_path / "a.dcm").open("wb") as file:
        pydicom.dcmwrite(file, image, implicit_vr=False, little_endian=True)
    assert np.array_equal(dicom.stored(tmp_path / "a.dcm"), pixels)


@pytest.mark.parametrize("content", [b"", b"not DICOM", b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", bytes(200)])
def test_a_file_without_an_image_is_one_line_that_names_no_option_of_a_library(tmp_path, content):
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(InputError) as caught:
        dicom.stored(tmp_path / "a.dcm")
    assert str(caught.value).startswith(f"{tmp_path / 'a.dcm'}: ")
    assert "force" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"Rows": 60000, "Columns": 60000}, "claims 60000 x 60000 pixels"),
        ({"Rows": 0}, "claims 0 x 201 pixels"),
        ({"Rows": 400}, "cannot be decoded"),
        ({"NumberOfFrames": 3}, "holds 3 frames"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "not a greyscale image"),
        ({"BitsStored": 24}, "24 bits stored of 16"),
    ],
)
def test_what_is_not_one_sound_grey_image_is_one_clear_line(tmp_path, pixels, values, message):
    path = save(tmp_path / "a.dcm", dataset(pixels), **values)
    with pytest.raises(InputError, match=message) as caught:
        dicom.stored(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_multi_frame_file_of_one_frame_is_an_image(tmp_path, pixels):
    assert np.array_equal(dicom.stored(save(tmp_path / "a.dcm", dataset(pixels), NumberOfFrames=1)), pixels)


def test_a_file_cut_short_and_one_that_is_not_dicom_are_one_clear_line(tmp_path, pixels):
    path = save(tmp_path / "a.dcm", dataset(pixels))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="cannot be decoded"):
        dicom.stored(path)
    path.write_bytes(b"not DICOM")
    with pytest.raises(InputError, match="cannot be read as DICOM"):
        dicom.header(path)
