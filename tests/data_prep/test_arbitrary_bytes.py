"""Whatever bytes lie in a file, its reader returns what it holds or raises InputError: nothing else, and in bounds."""

import csv
import io
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.encaps import encapsulate

from data_prep.core.errors import InputError
from data_prep.core.records import Mass
from data_prep.formats import dicom, ljpeg
from data_prep.sources import csv_boxes, ddsm
from tests.helpers.dicoms import save
from tests.helpers.readers import ENCODERS
from tests.helpers.synthetic_cbis import dataset

MEMORY = 600 << 20  # bytes that a reader may take for a small file, whatever that claims
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")  # of damaged values, by the hundred
quick = settings(derandomize=True, deadline=None, database=None, max_examples=100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("arbitrary")


@pytest.fixture(autouse=True, scope="module")
def bounded_memory():
    """Let this process take no more than MEMORY on top of what it has: a huge allocation fails the test."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def read(path: Path, content: bytes, reader: Callable):
    """Write `content` and return what `reader` makes of it; None for an InputError of one line that names the file."""
    path.write_bytes(content)
    try:
        return reader(path)
    except InputError as error:
        assert path.name in str(error)
        assert "\n" not in str(error)
        return None


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` after one to four changes: bytes lost, replaced, put in, or all that follows cut off."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.sampled_from([0, 1, 2, 8, 100, len(data)]))] = draw(st.binary(max_size=8))
    return bytes(data)


# .ics files

numbers = st.integers(1, 9999)
words = st.text("ABCXYZ059-/.", min_size=1, max_size=8)
spaces = st.sampled_from(["", " ", "  "])
line_ends = st.sampled_from(["\n", " \n", "\r\n", "\n\n", "\n \n"])
views = st.builds(ddsm.View, numbers, numbers, numbers, st.sampled_from([42, 43.5, 50]), st.booleans())
cases = st.builds(
    ddsm.Case,
    st.just("A-0001-1"),
    st.dictionaries(st.sampled_from(["LEFT_CC", "LEFT_MLO", "RIGHT_CC", "RIGHT_MLO"]), views, min_size=1),
    st.fixed_dictionaries(
        {"DIGITIZER": st.sampled_from(["DBA 21", "HOWTEK 43.5", "LUMISYS LASER"])},
        optional={
            "filename": words,
            "PATIENT_AGE": words,
            "DENSITY": words,
            "FILM": st.just(""),
            "SEQUENCE": st.just(""),
        },
    ),
)


@st.composite
def ics_files(draw: st.DrawFn) -> tuple[bytes, ddsm.Case]:
    """An .ics file in any of the spacings that real ones have, and the case in it."""
    case = draw(cases)
    lines = [f"{key} {value}" for key, value in case.values.items()]
    for name, view in case.views.items():
        size = f"LINES {view.lines} PIXELS_PER_LINE {view.pixels_per_line} BITS_PER_PIXEL {view.bits}"
        lines.append(f"{name} {size} RESOLUTION {view.resolution} {'OVERLAY' if view.overlay else 'NON_OVERLAY'}")
    text = draw(line_ends) + "".join(draw(spaces) + line + draw(line_ends) for line in lines)
    return text.encode(), case


@quick
@given(file=ics_files())
def test_a_sound_ics_file_is_read_exactly(folder, file):
    content, case = file
    assert read(folder / "A-0001-1.ics", content, ddsm.read_ics) == case


@quick
@given(content=st.binary(max_size=300) | ics_files().flatmap(lambda file: damaged(file[0])))
def test_any_bytes_as_an_ics_file_are_a_case_or_an_error(folder, content):
    case = read(folder / "A-0001-1.ics", content, ddsm.read_ics)
    assert case is None or (case.views and case.digitizer and case.patient == "A_0001")


# .OVERLAY files

STEPS = {0: (0, -1), 1: (1, -1), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (-1, 1), 6: (-1, 0), 7: (-1, -1)}
codes = st.lists(st.integers(0, 7), min_size=1, max_size=40)
outlines = st.tuples(st.tuples(st.integers(-50, 6000), st.integers(-50, 6000)), codes)
abnormalities = st.fixed_dictionaries(
    {
        "types": st.lists(
            st.builds("{} SHAPE {}".format, st.sampled_from(["MASS", "CALCIFICATION"]), words), max_size=3
        ),
        "values": st.dictionaries(st.sampled_from(["ASSESSMENT", "SUBTLETY", "PATHOLOGY", "TOTAL_OUTLINES"]), words),
        "outlines": st.lists(st.tuples(st.sampled_from(["BOUNDARY", "CORE"]), outlines), max_size=3),
    }
)


def points(outline: tuple[tuple[int, int], list[int]]) -> list[list[int]]:
    """The points of an outline, one after the other."""
    (x, y), found = outline[0], [list(outline[0])]
    for code in outline[1]:
        x, y = x + STEPS[code][0], y + STEPS[code][1]
        found.append([x, y])
    return found


@st.composite
def overlay_files(draw: st.DrawFn) -> tuple[bytes, int, list[dict]]:
    """An .OVERLAY file, the number of abnormalities that it announces, and those that it holds."""
    lesions = draw(st.lists(abnormalities, min_size=1, max_size=3))
    announced = draw(st.integers(0, 4))
    lines = [f"TOTAL_ABNORMALITIES {announced}"]
    for number, lesion in enumerate(lesions, start=1):
        lines.append(f"ABNORMALITY {number}")
        lines += [f"LESION_TYPE {kind}" for kind in lesion["types"]]
        lines += [f"{key} {value}" for key, value in lesion["values"].items()]
        for kind, ((x, y), chain) in lesion["outlines"]:
            lines += [kind, f"{x} {y}  {' '.join(map(str, chain))} #"]
    return "".join(draw(spaces) + line + draw(line_ends) for line in lines).encode(), announced, lesions


@quick
@given(file=overlay_files())
def test_a_sound_overlay_file_is_read_exactly(folder, file):
    content, announced, lesions = file
    found = read(folder / "x.OVERLAY", content, ddsm.read_overlay)
    lost = [each for each in found if each.problem.startswith("lost from its file")]
    assert len(found) - len(lost) == len(lesions)
    assert len(lost) == (announced > len(lesions))
    for number, (each, lesion) in enumerate(zip(found, lesions, strict=False), start=1):
        assert (each.number, each.lesion_types, each.values) == (number, lesion["types"], lesion["values"])
        assert [kind for kind, _ in each.outlines] == [kind for kind, _ in lesion["outlines"]]
        assert [read.tolist() for _, read in each.outlines] == [points(outline) for _, outline in lesion["outlines"]]
        assert not each.problem


@quick
@given(content=st.binary(max_size=300) | overlay_files().flatmap(lambda file: damaged(file[0])))
def test_any_bytes_as_an_overlay_file_are_abnormalities_or_an_error(folder, content):
    for each in read(folder / "x.OVERLAY", content, ddsm.read_overlay) or []:
        for _, outline in each.outlines:
            assert outline.dtype == np.int32 and outline.shape == (len(outline), 2) and len(outline) > 1
            assert np.abs(np.diff(outline, axis=0)).max() == 1


@quick
@given(line=st.text("0123456789-#. ", max_size=60))
def test_any_line_as_a_chain_code_is_an_outline_or_an_error(line):
    try:
        outline = ddsm.decode_chain(line)
    except ValueError as error:
        assert "chain code" in str(error)
    else:
        assert outline[0].tolist() == [int(word) for word in line.split()[:2]]


# whole DDSM cases, .LJPEG films included

GREY = np.add.outer(np.arange(60), np.arange(50)).astype(np.uint16)


@pytest.fixture(scope="module")
def film(folder) -> bytes:
    ljpeg.encode(GREY, folder / "film", precision=12)
    return (folder / "film").read_bytes()


@quick
@given(data=st.data())
def test_any_bytes_as_a_film_are_its_size_or_an_error(folder, film, data):
    head = film.index(b"\xff\xda")
    content = data.draw(st.binary(max_size=100) | damaged(film[:head]).map(lambda damaged: damaged + film[head:]))
    size = read(folder / "f.LJPEG", content, ljpeg.frame_size)
    assert size is None or size[0] * size[1] <= 8 * len(content)


SQUARE = f"5 5  {'2 ' * 20}{'4 ' * 30}{'6 ' * 20}{'0 ' * 30}#"
ICS = b"DIGITIZER HOWTEK 43.5\nLEFT_CC LINES 60 PIXELS_PER_LINE 50 BITS_PER_PIXEL 12 RESOLUTION 43.5 OVERLAY\n"
OVERLAY = (
    f"ABNORMALITY 1\nLESION_TYPE MASS SHAPE ROUND\nPATHOLOGY BENIGN\nTOTAL_OUTLINES 1\nBOUNDARY\n{SQUARE}\n".encode()
)


def check_mass(mass: Mass, load: Callable) -> None:
    """A mass says why it cannot be used; or it has a class, a box on its film, and a film that loads or is an error."""
    if mass.reason:
        return
    assert mass.label in (0, 1) and mass.patient
    assert 0 <= mass.box.x0 < mass.box.x1 <= mass.film.width
    assert 0 <= mass.box.y0 < mass.box.y1 <= mass.film.height
    try:
        image = load(mass.film)
    except InputError:
        return
    assert image.dtype == np.uint8 and image.ndim == 2


@quick
@given(data=st.data())
def test_a_case_of_damaged_files_gives_every_lesion_with_a_reason_or_a_film(film, data):
    files = {"A-0001-1.ics": ICS, "A_0001_1.LEFT_CC.OVERLAY": OVERLAY, "A_0001_1.LEFT_CC.LJPEG": film}
    for name in data.draw(st.sets(st.sampled_from(sorted(files)))):
        files[name] = data.draw(damaged(files[name]))
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ljpeg, "CPU_LIMIT_S", 2)  # damaged picture data can send the codec into an endless loop
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        masses = ddsm.masses(Path(folder))
        assert masses
        for mass in masses:
            check_mass(mass, ddsm.load_film)


# CSV files of boxes

HEADER = ["image", "patient_id", "x", "y", "width", "height", "pathology", "film_width", "abnormality_id"]
fields = st.sampled_from(["a.png", "", "0", "10", "-3", "1e9", "nan", "inf", "BENIGN", "P1"]) | st.text(max_size=6)
rows = st.tuples(
    st.sampled_from(["a.png", "none.png", ""]) | fields,
    st.sampled_from(["P1", "P2"]) | fields,
    *[st.sampled_from(["0", "5", "20", "1e3"]) | fields] * 4,
    st.sampled_from(["BENIGN", "MALIGNANT"]) | fields,
    *[fields] * 2,
)


def csv_file(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


@pytest.fixture(scope="module")
def films(folder) -> Path:
    (folder / "a.png").write_bytes(imagecodecs.png_encode(GREY.astype(np.uint8)))
    return folder


@quick
@given(rows=st.lists(rows, min_size=1, max_size=4))
def test_every_row_of_a_csv_is_a_mass_or_listed_with_its_reason(films, rows):
    masses = read(films / "masses.csv", csv_file([HEADER, *rows]), csv_boxes.masses)
    assert masses is None or len(masses) == len(rows)
    for mass in masses or []:
        check_mass(mass, csv_boxes.load_film)


whole = csv_file([HEADER, *[["a.png", f"P{number}", "5", "6", "20", "30", "BENIGN", "", ""] for number in range(3)]])


@quick
@given(content=st.binary(max_size=300) | damaged(whole))
def test_any_bytes_as_a_csv_are_masses_or_an_error(films, content):
    for mass in read(films / "masses.csv", content, csv_boxes.masses) or []:
        check_mass(mass, csv_boxes.load_film)


# DICOM files

pictures = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(9, 16), st.integers(0, 2**32 - 1))


@quick
@given(pictures, st.sampled_from(["MONOCHROME1", "MONOCHROME2"]), st.booleans())
def test_a_sound_dicom_file_is_read_exactly(folder, picture, kind, rle):
    rows, columns, bits, seed = picture
    pixels = np.random.default_rng(seed).integers(0, 2**bits, (rows, columns)).astype(np.uint16)
    path = save(folder / "a.dcm", pixels, bits, PhotometricInterpretation=kind)
    if rle:
        image = dicom.pydicom.dcmread(path)
        image.compress(uid.RLELossless, encoding_plugin="pydicom")
        image.save_as(path)
    bright = pixels if kind == "MONOCHROME2" else 2**bits - 1 - pixels
    assert np.array_equal(dicom.stored(path), bright)
    assert dicom.frame_size(dicom.header(path), path) == (rows, columns)


@pytest.fixture(scope="module", params=ENCODERS, ids=lambda syntax: syntax.keyword)
def dicom_file(request, folder) -> bytes:
    """A DICOM file in each transfer syntax, without the 128 bytes of nothing that begin it."""
    image, path = dataset(GREY), folder / "sound.dcm"
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    if ENCODERS[request.param]:
        image.file_meta.TransferSyntaxUID = request.param
        image.PixelData = encapsulate([bytes(ENCODERS[request.param](GREY))])
        image["PixelData"].VR, image["PixelData"].is_undefined_length = "OB", True
    elif request.param == uid.RLELossless:
        image.compress(uid.RLELossless, encoding_plugin="pydicom")
    image.save_as(path, enforce_file_format=True)
    assert np.array_equal(dicom.stored(path), GREY)
    return path.read_bytes()[128:]


@quick
@given(data=st.data())
def test_any_bytes_as_a_dicom_file_are_an_image_or_an_error(folder, dicom_file, data):
    content = bytes(128) + data.draw(st.binary(max_size=200) | damaged(dicom_file) | damaged(dicom_file[:1200]))
    header = read(folder / "d.dcm", content, dicom.header)
    size = header and read(folder / "d.dcm", content, lambda path: dicom.frame_size(header, path))
    for reader, kinds in ((dicom.stored, (np.uint8, np.uint16)), (dicom.shown, (np.float32,))):
        image = read(folder / "d.dcm", content, reader)
        assert image is None or (image.shape == size and image.dtype in kinds)


# headers that claim a billion pixels

ROWS, COLUMNS = 30000, 33334


def png() -> bytes:
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", COLUMNS, ROWS, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(10**6)))]
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff() -> bytes:
    entries = [
        (256, COLUMNS),
        (257, ROWS),
        (258, 8),
        (259, 8),
        (262, 1),
        (273, 200),
        (277, 1),
        (278, ROWS),
        (279, 1000),
    ]
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return (b"II*\x00\x08\x00\x00\x00" + ifd + bytes(4)).ljust(200, b"\x00") + zlib.compress(bytes(10**6))


IMAGES = {
    "png": png,
    "tif": tiff,
    "pgm": lambda: b"P5 %d %d 255\n" % (COLUMNS, ROWS) + bytes(1000),
    "bmp": lambda: b"BM" + struct.pack("<IIIIiiHHIIiiII", 1078, 0, 1078, 40, COLUMNS, ROWS, 1, 8, 0, 0, 1, 1, 256, 0),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_that_claims_a_billion_pixels_is_an_error(folder, kind):
    (folder / f"huge.{kind}").write_bytes(IMAGES[kind]())
    row = [f"huge.{kind}", "P1", "5", "6", "20", "30", "BENIGN", "", ""]
    (mass,) = read(folder / "masses.csv", csv_file([HEADER, row]), csv_boxes.masses)
    assert mass.reason.startswith("unreadable film")


def test_a_film_that_claims_a_billion_pixels_is_an_error(folder, film):
    at = film.index(b"\xff\xc3") + 5
    content = film[:at] + struct.pack(">HH", ROWS, COLUMNS) + film[at + 4 :]
    assert read(folder / "huge.LJPEG", content, ljpeg.frame_size) is None
    assert read(folder / "huge.LJPEG", content, ljpeg.decode) is None


@pytest.mark.parametrize("reader", [dicom.stored, dicom.shown])
def test_a_dicom_header_that_claims_a_billion_pixels_is_an_error(folder, reader):
    content = save(folder / "huge.dcm", GREY, 12, Rows=ROWS, Columns=COLUMNS).read_bytes()
    assert read(folder / "huge.dcm", content, reader) is None


@pytest.mark.parametrize(
    ("encode", "syntax", "marker", "skip"),
    [
        (imagecodecs.ljpeg_encode, uid.JPEGLosslessSV1, b"\xff\xc3", 5),
        (imagecodecs.jpegls_encode, uid.JPEGLSLossless, b"\xff\xf7", 5),
        (lambda pixels: imagecodecs.jpeg2k_encode(pixels, level=0), uid.JPEG2000Lossless, b"\xff\x51", 6),
    ],
    ids=["JPEG lossless", "JPEG-LS", "JPEG 2000"],
)
def test_a_frame_in_a_dicom_file_that_claims_a_billion_pixels_is_an_error(folder, encode, syntax, marker, skip):
    frame = bytearray(encode(GREY))
    at = frame.index(marker) + skip
    # in JPEG 2000 also the size of a tile, 16 bytes on
    sizes = struct.pack(">6I", COLUMNS, ROWS, 0, 0, COLUMNS, ROWS) if skip == 6 else struct.pack(">HH", ROWS, COLUMNS)
    frame[at : at + len(sizes)] = sizes
    image = dataset(GREY)
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = encapsulate([bytes(frame)])
    image["PixelData"].VR, image["PixelData"].is_undefined_length = "OB", True
    image.save_as(folder / "frame.dcm", enforce_file_format=True)
    assert read(folder / "frame.dcm", (folder / "frame.dcm").read_bytes(), dicom.stored) is None
