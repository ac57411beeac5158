"""The PVRG codec's wrapper: exact round trips, and one clear error for every kind of broken film."""

import struct

import numpy as np
import pytest

from data_prep.core.errors import InputError
from data_prep.core.process_pool import worker_pool
from data_prep.formats import ljpeg


def noisy_ramp(rows: int, columns: int, precision: int, seed: int = 0) -> np.ndarray:
    """A film-like test picture: a gradient with noise, over the whole grey range."""
    ramp = np.add.outer(np.linspace(0, 0.5, rows), np.linspace(0, 0.5, columns))
    noise = np.random.default_rng(seed).normal(0, 0.02, (rows, columns))
    return (np.clip(ramp + noise, 0, 1) * (2**precision - 1)).astype(np.uint16)


@pytest.fixture
def film(tmp_path):
    """A whole film of 12 bits, (path, its pixels)."""
    pixels = noisy_ramp(90, 70, 12)
    ljpeg.encode(pixels, tmp_path / "A.LEFT_CC.LJPEG", precision=12)
    return tmp_path / "A.LEFT_CC.LJPEG", pixels


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("precision", [9, 12, 16])
@pytest.mark.parametrize("shape", [(64, 48), (1, 1), (1, 73), (73, 1), (37, 289), (33, 145)])
def test_round_trip_is_exact(tmp_path, predictor, precision, shape):
    pixels = noisy_ramp(*shape, precision)
    ljpeg.encode(pixels, tmp_path / "f.LJPEG", precision, predictor)
    assert ljpeg.frame_size(tmp_path / "f.LJPEG") == (*shape, precision)
    decoded = ljpeg.decode(tmp_path / "f.LJPEG")
    assert decoded.dtype == np.uint16
    np.testing.assert_array_equal(decoded, pixels)


@pytest.mark.parametrize("precision", [12, 16])
def test_round_trip_keeps_the_extremes(tmp_path, precision):
    top = 2**precision - 1
    checker = np.indices((20, 150)).sum(0) % 2 * top
    for pixels in (checker, np.zeros((20, 30), int), np.full((20, 30), top)):
        for predictor in (1, 2, 4, 7):
            ljpeg.encode(pixels, tmp_path / "f.LJPEG", precision, predictor)
            np.testing.assert_array_equal(ljpeg.decode(tmp_path / "f.LJPEG"), pixels)


@pytest.mark.parametrize(
    "pixels, precision, predictor",
    [
        (np.full((4, 4), 4096), 12, 1),
        (np.full((4, 4), -1), 12, 1),
        (np.zeros((4, 4), int), 8, 1),
        (np.zeros((4, 4), int), 12, 0),
        (np.zeros((2, 65536), np.uint16), 12, 1),
        (np.zeros((4, 4, 3), int), 12, 1),
        (np.zeros((0, 4), int), 12, 1),
    ],
)
def test_encode_refuses_what_the_codec_would_spoil(tmp_path, pixels, precision, predictor):
    with pytest.raises(ValueError):
        ljpeg.encode(pixels, tmp_path / "f.LJPEG", precision, predictor)
    assert not list(tmp_path.iterdir())


def test_a_film_cut_anywhere_is_an_error(film):
    path, _ = film
    whole = path.read_bytes()
    for length in [*range(0, 90), *range(90, len(whole), len(whole) // 40), len(whole) - 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"A\.LEFT_CC\.LJPEG: "):
            ljpeg.decode(path)


def test_a_cut_film_with_an_end_marker_put_back_is_an_error(film):
    path, _ = film
    whole = path.read_bytes()
    for length in range(100, len(whole) - 20, len(whole) // 15):
        path.write_bytes(whole[:length] + b"\xff\xd9")
        with pytest.raises(InputError):
            ljpeg.decode(path)


def test_random_bytes_are_an_error(tmp_path):
    rng = np.random.default_rng(1)
    for n in range(40):
        data = rng.bytes(5000)
        # Half of them begin like a film, to reach deeper.
        path = tmp_path / "f.LJPEG"
        path.write_bytes(data if n % 2 else b"\xff\xd8\xff\xc3\x00\x0b\x0c" + data)
        with pytest.raises(InputError):
            ljpeg.decode(path)


def test_a_codec_that_never_ends_is_ended(film, tmp_path, monkeypatch):
    program = tmp_path / "codec"
    program.write_text("#!/bin/sh\nwhile :; do :; done\n")
    program.chmod(0o755)
    monkeypatch.setattr(ljpeg, "codec", lambda: program)
    monkeypatch.setattr(ljpeg, "CPU_LIMIT_S", 1)
    with pytest.raises(InputError, match="cannot decode it"):
        ljpeg.decode(film[0])


def test_a_codec_that_does_not_run_here_does_not_blame_the_film(film, tmp_path, monkeypatch):
    program = tmp_path / "codec"
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o755)
    monkeypatch.setattr(ljpeg, "codec", lambda: program)
    with pytest.raises(InputError, match="codec: does not run here"):
        ljpeg.decode(film[0])


def test_random_picture_data_under_a_sound_header_is_an_error(film):
    path, _ = film
    whole = path.read_bytes()
    scan = whole.index(b"\xff\xda") + 10
    for seed in range(20):
        noise = np.random.default_rng(seed).integers(0, 255, len(whole) - scan - 2, np.uint8).tobytes()
        path.write_bytes(whole[:scan] + noise + b"\xff\xd9")
        with pytest.raises(InputError):
            ljpeg.decode(path)


def with_frame(film: bytes, rows: int, columns: int, precision: int = 12) -> bytes:
    """The film with another frame header."""
    at = film.index(b"\xff\xc3") + 4
    return film[:at] + struct.pack(">BHH", precision, rows, columns) + film[at + 5 :]


@pytest.mark.parametrize(
    "rows, columns", [(65535, 65535), (30000, 33334), (90, 71), (91, 70), (89, 70), (0, 70), (90, 0)]
)
def test_a_header_that_lies_about_the_size_is_an_error(film, rows, columns):
    path, _ = film
    path.write_bytes(with_frame(path.read_bytes(), rows, columns))
    with pytest.raises(InputError):
        ljpeg.decode(path)


def test_a_claim_of_a_billion_pixels_is_refused_from_the_header(film):
    path, _ = film
    path.write_bytes(with_frame(path.read_bytes(), 30000, 33334))
    with pytest.raises(InputError, match="30000 x 33334 pixels, which no film has"):
        ljpeg.frame_size(path)


def test_a_grey_level_beyond_the_precision_is_an_error(film):
    path, _ = film
    path.write_bytes(with_frame(path.read_bytes(), 90, 70, precision=11))
    with pytest.raises(InputError, match="grey level"):
        ljpeg.decode(path)


def test_a_baseline_jpeg_is_an_error(tmp_path):
    cv2 = pytest.importorskip("cv2")
    _, jpeg = cv2.imencode(".jpg", np.zeros((30, 30), np.uint8))
    (tmp_path / "f.LJPEG").write_bytes(jpeg.tobytes())
    with pytest.raises(InputError, match="baseline DCT"):
        ljpeg.decode(tmp_path / "f.LJPEG")


def test_missing_film_and_folder_are_errors(tmp_path):
    for path in (tmp_path / "none.LJPEG", tmp_path):
        with pytest.raises(InputError):
            ljpeg.decode(path)
        with pytest.raises(InputError):
            ljpeg.frame_size(path)


def test_bytes_after_the_end_marker_do_no_harm(film):
    path, pixels = film
    path.write_bytes(path.read_bytes() + bytes(512))
    np.testing.assert_array_equal(ljpeg.decode(path), pixels)


def test_nothing_is_left_beside_the_film(film, tmp_path):
    path, _ = film
    ljpeg.decode(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError):
        ljpeg.decode(path)
    assert list(tmp_path.iterdir()) == [path]


def test_films_decode_from_a_read_only_folder_with_an_awkward_name(tmp_path):
    folder = tmp_path / "a b;$(touch x) 'é"
    folder.mkdir()
    pixels = noisy_ramp(20, 30, 12)
    ljpeg.encode(pixels, folder / "f.LJPEG", precision=12)
    folder.chmod(0o555)
    try:
        np.testing.assert_array_equal(ljpeg.decode(folder / "f.LJPEG"), pixels)
    finally:
        folder.chmod(0o755)


def test_several_processes_share_one_film(film):
    path, pixels = film
    with worker_pool(4) as pool:
        for decoded in pool.map(ljpeg.decode, [path] * 16):
            np.testing.assert_array_equal(decoded, pixels)


def decode_as_the_standard_says(data: bytes) -> np.ndarray:
    """Decode a one-component lossless JPEG by ITU-T T.81 annex H, a pixel at a time.

    H.1.2.1: the first row is predicted from the left neighbour, the first column from above, whatever the predictor.
    """
    frame, table, scan = data.index(b"\xff\xc3"), data.index(b"\xff\xc4"), data.index(b"\xff\xda")
    precision, rows, columns = struct.unpack_from(">BHH", data, frame + 4)
    counts, values = data[table + 5 : table + 21], iter(data[table + 21 :])
    code, codes = 0, {}
    for length, count in enumerate(counts, start=1):  # annex C: codes in order, one bit longer at each step
        for _ in range(count):
            codes[f"{code:0{length}b}"] = next(values)
            code += 1
        code <<= 1
    predictor = data[scan + 7]
    stuffed = data[scan + 10 : data.rindex(b"\xff\xd9")]
    bits = "".join(f"{byte:08b}" for byte in stuffed.replace(b"\xff\x00", b"\xff"))
    at, pixels = 0, np.zeros((rows, columns), int)
    for y in range(rows):
        for x in range(columns):
            size = next(n for n in range(1, 17) if bits[at : at + n] in codes)
            category = codes[bits[at : at + size]]
            extra = bits[at + size : at + size + category]
            at += size + category
            difference = int(extra, 2) if extra else 0
            if extra and extra[0] == "0":
                difference -= 2**category - 1
            left, up = pixels[y, x - 1], pixels[y - 1, x]
            inner = {1: left, 2: up, 4: left + up - pixels[y - 1, x - 1], 7: (left + up) >> 1}[predictor]
            first = 1 << (precision - 1)
            prediction = inner if x and y else left if x else up if y else first
            pixels[y, x] = (prediction + difference) & 0xFFFF
    return pixels


@pytest.mark.parametrize("predictor, agrees", [(1, True), (4, True), (2, False), (7, False)])
def test_a_standard_decoder_is_wrong_for_predictors_2_and_7(tmp_path, predictor, agrees):
    """The trap that ljpeg.py's docstring warns of; also an independent check of predictors 1 and 4."""
    pixels = noisy_ramp(25, 20, 12)
    ljpeg.encode(pixels, tmp_path / "f.LJPEG", 12, predictor)
    standard = decode_as_the_standard_says((tmp_path / "f.LJPEG").read_bytes())
    assert np.array_equal(standard, pixels) == agrees
