"""The reader of CBIS-DDSM, on DICOM files of the archive's sizes with each of its faults, and on its own case list."""

import csv
import shutil
from collections import Counter
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate

from data_prep.core.errors import InputError
from data_prep.core.records import Box, Film
from data_prep.database.split import split_patients
from data_prep.formats import dicom
from data_prep.sources import cbis_ddsm
from tests.helpers import dicoms
from tests.helpers.synthetic_cbis import dataset

NAME = "Mass-Training_P_00001_LEFT_CC"
ROWS, COLUMNS = 4808, 3024
BOX = Box(1201, 2002, 1703, 2404)
HEADER = (
    *("patient_id", "breast_density", "left or right breast", "image view", "abnormality id", "abnormality type"),
    *("mass shape", "mass margins", "assessment", "pathology", "subtlety"),
    *("image file path", "cropped image file path", "ROI mask file path"),
)


@pytest.fixture(scope="session")
def film() -> np.ndarray:
    across, down = np.arange(COLUMNS, dtype=np.uint16), np.arange(ROWS, dtype=np.uint16)[:, None]
    texture = np.random.default_rng(0).integers(0, 2000, (ROWS // 8, COLUMNS // 8), np.uint16)
    return across * 8 + down * 8 + cv2.resize(texture, (COLUMNS, ROWS), interpolation=cv2.INTER_LINEAR)


def mask_of(box: Box = BOX, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    mask = np.zeros((rows, columns), np.uint8)
    mask[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)] = 255
    return mask


def put(path: Path, pixels: np.ndarray, patient: str = "", series: str = "1.2.3", **header) -> Path:
    bits = 8 * pixels.itemsize
    return dicoms.save(path, pixels, bits, PatientID=patient, SeriesInstanceUID=series, **header)


def row(name: str = NAME, number: int = 1, pathology: str = "MALIGNANT", kind: str = "mass", mask: str = "") -> dict:
    _, patient, side, view = cbis_ddsm.NAME.match(name).groups()
    roi = f"{name}_{number}/1.77/1.88/000000.dcm"
    paths = (f"{name}/1.55/1.66/000000.dcm", roi, (mask or roi.replace("000000", "000001")) + "\n")
    values = (patient, "3", side, view, number, kind, "OVAL", "SPICULATED", "4", pathology, "5", *paths)
    return dict(zip(HEADER, values, strict=True))


def write_csv(root: Path, *rows: dict, official: str = "train", header=HEADER) -> None:
    root.mkdir(exist_ok=True)
    with (root / f"mass_case_description_{official}_set.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *([r[name] for name in HEADER] for r in rows)])


def write_case(root: Path, film: np.ndarray, mask: np.ndarray | None = None, name: str = NAME) -> None:
    """Write a case of one mass in one folder a series."""
    put(root / "1.66" / "1-1.dcm", film, name)
    put(root / "1.88" / "1-1.dcm", film[2002:2404, 1201:1703], f"{name}_1")
    put(root / "1.88" / "1-2.dcm", mask_of() if mask is None else mask, f"{name}_1")
    write_csv(root, row(name))


def only(root: Path):
    (mass,) = cbis_ddsm.masses(root)
    return mass


@pytest.mark.parametrize("layout", ["csv", "retriever", "flat"])
@pytest.mark.parametrize("named", [True, False], ids=["named in the header", "named by folders"])
def test_a_case_is_found_in_every_layout(tmp_path, film, layout, named):
    folders = {
        "csv": (f"{NAME}/1.55/1.66", f"{NAME}_1/1.77/1.88"),
        "retriever": (
            f"CBIS-DDSM/{NAME}/07-20-2016-DDSM-NA-1/1.0-full",
            f"CBIS-DDSM/{NAME}_1/07-20-2016-DDSM-NA-2/1.0-ROI",
        ),
        "flat": ("1.66", "1.88"),
    }[layout]
    put(tmp_path / folders[0] / "1-1.dcm", film, NAME if named else "anonymous")
    put(tmp_path / folders[1] / "1-1.dcm", mask_of(), f"{NAME}_1" if named else "")
    put(tmp_path / folders[1] / "1-2.dcm", film[:400, :500], f"{NAME}_1" if named else "")
    write_csv(tmp_path, row())
    mass = only(tmp_path)
    assert (mass.reason, mass.box, mass.label) == ("", BOX, 1)
    assert (mass.mass_id, mass.patient, mass.side, mass.view) == (f"{NAME}_1", "P_00001", "LEFT", "CC")
    assert (mass.shape, mass.margins, mass.assessment, mass.subtlety) == ("OVAL", "SPICULATED", "4", "5")
    assert (mass.film.height, mass.film.width) == (ROWS, COLUMNS)
    assert np.array_equal(cbis_ddsm.load_film(mass.film), film >> 8)


def test_a_series_uid_in_the_header_is_enough(tmp_path, film):
    put(tmp_path / "a.dcm", film, "?", series="1.66")
    put(tmp_path / "b.dcm", mask_of(), "?", series="1.88")
    write_csv(tmp_path, row())
    assert only(tmp_path).box == BOX


def test_mask_and_crop_are_told_apart_by_content_not_by_place_or_name(tmp_path, film):
    put(tmp_path / "film" / "000000.dcm", film, NAME)
    # in each other's places, the crop with as many bits as the mask and as large as the film
    put(tmp_path / "series one" / "000000.dcm", mask_of(), f"{NAME}_1", SeriesDescription="cropped images")
    put(tmp_path / "series two" / "000000.dcm", (film >> 8).astype(np.uint8), f"{NAME}_1", SeriesDescription="ROI mask")
    write_csv(tmp_path, row(mask=f"{NAME}_1/1.77/1.99/000000.dcm"))
    assert only(tmp_path).box == BOX


def test_a_mask_of_16_bits_and_of_values_0_and_1_is_a_mask(tmp_path, film):
    write_case(tmp_path, film, (mask_of() // 255).astype(np.uint16))
    assert only(tmp_path).box == BOX


def test_a_mask_of_another_size_is_rescaled_when_its_aspect_fits(tmp_path, film):
    write_case(tmp_path, film, mask_of(Box(600, 1001, 851, 1202), ROWS // 2, COLUMNS // 2))
    assert only(tmp_path).box == Box(1200, 2002, 1702, 2404)


def test_a_mask_of_another_aspect_is_excluded_with_the_reason(tmp_path, film):
    write_case(tmp_path, film, mask_of(rows=4000, columns=3024))
    mass = only(tmp_path)
    assert mass.box is None
    assert mass.reason.startswith("mask of another aspect: 3024 x 4000 for a film of 3024 x 4808")


@pytest.mark.parametrize(
    ("rows", "shift", "used"),
    [(ROWS // 2 + 15, 0, True), (ROWS // 2 + 15, 80, False), (ROWS // 2, 80, False)],
    ids=["another aspect by rounding", "another aspect, elsewhere", "elsewhere"],
)
def test_a_mask_of_another_size_must_lie_where_the_crop_does(tmp_path, film, rows, shift, used):
    scale = rows / ROWS
    y0, y1 = (y * scale + shift for y in (BOX.y0, BOX.y1))
    write_case(tmp_path, film, mask_of(Box(600, y0, 851, y1), rows, COLUMNS // 2))
    mass = only(tmp_path)
    assert mass.reason.startswith("" if used else f"mask of another size: 1512 x {rows} for a film of 3024 x 4808")
    if used:
        assert np.abs(mass.box.corners - BOX.corners).max() <= 4


def test_without_a_crop_a_mask_of_another_size_must_have_its_films_aspect_to_the_pixel(tmp_path, film):
    write_case(tmp_path, film, mask_of(Box(600, 1001, 851, 1202), ROWS // 2, COLUMNS // 2))
    (tmp_path / "1.88" / "1-1.dcm").unlink()
    assert only(tmp_path).box == Box(1200, 2002, 1702, 2404)
    put(tmp_path / "1.88" / "1-2.dcm", mask_of(Box(600, 1001, 851, 1202), ROWS // 2 + 15, COLUMNS // 2), f"{NAME}_1")
    assert only(tmp_path).reason.startswith("mask of another size: ")


def picture(path: Path, pixels: np.ndarray) -> None:
    """Write an image as a copy has it: 8 bits where that is JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels if path.suffix == ".png" or pixels.itemsize == 1 else pixels >> 8)


def write_copy(root: Path, film: np.ndarray, folder: str, ending: str, paths: tuple[str, str]) -> None:
    """Write the case in a copy of other images: film in `folder` 1.66, crop and mask in 1.88."""
    picture(root / folder.format(name=NAME, study="1.55", series="1.66") / f"1-083{ending}", film)
    both = root / folder.format(name=f"{NAME}_1", study="1.77", series="1.88")
    picture(both / f"1-046{ending}", film[2002:2404, 1201:1703])
    picture(both / f"2-047{ending}", mask_of())
    write_csv(root / "csv", row() | dict(zip(HEADER[-3:], (*paths, paths[1] + "\n"), strict=True)))


KAGGLE = row()["image file path"], row()["cropped image file path"]
COPIES = {
    "Kaggle": ("jpeg/{series}", ".jpg", KAGGLE),
    "Kaggle, paths changed": (
        "jpeg/{series}",
        ".jpg",
        ("CBIS-DDSM/jpeg/1.66/1-083.jpg", "CBIS-DDSM/jpeg/1.88/1-046.jpg"),
    ),
    "PNG in the archive's tree": (
        "CBIS-DDSM/{name}/{study}/{series}",
        ".png",
        tuple(p.replace(".dcm", ".png") for p in KAGGLE),
    ),
    "PNG by name": ("{name}", ".png", KAGGLE),
}


@pytest.mark.parametrize(("kind", "bits"), [*((kind, 8) for kind in COPIES), ("PNG in the archive's tree", 16)])
def test_a_copy_of_other_images_gives_the_same_mass(tmp_path, film, kind, bits):
    write_copy(tmp_path, film if bits == 16 else (film >> 8).astype(np.uint8), *COPIES[kind])
    (tmp_path / "jpeg" / "1.99").mkdir(parents=True)  # an empty folder, links of Windows, tables of other things
    (tmp_path / "1.66.jpg - Shortcut.lnk").write_bytes(b"L\0\0\0")
    (tmp_path / "csv" / "dicom_info.csv").write_text("file_path,image_path\n")
    mass = only(tmp_path)
    assert (mass.reason, mass.mass_id, mass.label) == ("", f"{NAME}_1", 1)
    assert np.abs(mass.box.corners - BOX.corners).max() <= 1
    close = 0 if "PNG" in kind else 12
    assert np.abs(cbis_ddsm.load_film(mass.film).astype(int) - (film >> 8)).max() <= close


def test_a_mask_blurred_by_jpeg_is_told_from_its_crop_in_either_place(tmp_path, film):
    write_copy(tmp_path, film, *COPIES["Kaggle"])
    mask = tmp_path / "jpeg" / "1.88" / "2-047.jpg"
    crop = mask.with_name("1-046.jpg")
    cv2.imwrite(str(mask), cv2.GaussianBlur(mask_of(), (0, 0), 1), [cv2.IMWRITE_JPEG_QUALITY, 50])
    assert len(np.unique(cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE))) > 12
    for _ in range(2):
        assert np.abs(only(tmp_path).box.corners - BOX.corners).max() <= 2
        content = crop.read_bytes(), mask.read_bytes()
        mask.write_bytes(content[0])
        crop.write_bytes(content[1])
    mask.unlink()
    assert only(tmp_path).reason == "mask missing: none of 1-046.jpg holds two values only"


def test_dicom_counts_more_than_a_copy_of_it_and_a_second_copy_changes_nothing(tmp_path, film):
    write_copy(tmp_path, film, *COPIES["Kaggle"])
    before = only(tmp_path)
    shutil.copytree(tmp_path / "jpeg", tmp_path / "again")
    assert only(tmp_path).reason == ""
    put(tmp_path / "film.dcm", film, NAME)
    mass = only(tmp_path)
    assert (mass.film.path.suffix, mass.box) == (".dcm", before.box)
    assert cbis_ddsm.grey_levels([mass]).startswith("1 films DICOM: the upper 8")
    assert cbis_ddsm.grey_levels([before]).startswith("1 films JPEG: 8 bits as this copy has them")


def test_several_masses_in_a_film_keep_their_own_masks_and_pathologies(tmp_path, film):
    write_case(tmp_path, film)
    other = Box(100, 4000, 300, 4200)
    put(tmp_path / "1.99" / "1-1.dcm", mask_of(other), f"{NAME}_2")
    write_csv(tmp_path, row(number=2, pathology="BENIGN"), row())
    first, second = cbis_ddsm.masses(tmp_path)
    assert (first.box, first.label, second.box, second.label) == (BOX, 1, other, 0)
    assert first.film == second.film
    assert (first.abnormality, second.abnormality) == (1, 2)


def test_both_spellings_of_the_columns_and_newlines_in_paths_are_read(tmp_path, film):
    write_case(tmp_path, film)
    test_name = "Mass-Test_P_00016_RIGHT_MLO"
    put(tmp_path / "t" / "1.dcm", film, test_name)
    put(tmp_path / "t" / "2.dcm", mask_of(), f"{test_name}_1")
    spelled = [name.replace("breast_density", "breast density") for name in HEADER]
    write_csv(tmp_path, row(test_name), official="test", header=spelled)
    assert '.dcm\n"' in (tmp_path / "mass_case_description_test_set.csv").read_text()
    assert [(mass.mass_id, mass.reason) for mass in cbis_ddsm.masses(tmp_path)] == [
        (f"{test_name}_1", ""),
        (f"{NAME}_1", ""),
    ]


def test_compressed_and_inverted_films_give_the_same_pixels(tmp_path, film):
    plain = put(tmp_path / "plain" / "1.dcm", film, NAME)
    image = dataset(film)
    image.PatientID, image.SOPInstanceUID, image.SeriesInstanceUID = NAME, "1.2", "1.3"
    image.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1
    image.PixelData = encapsulate([imagecodecs.ljpeg_encode(film)])
    image["PixelData"].VR, image["PixelData"].is_undefined_length = "OB", True
    image.save_as(tmp_path / "compressed.dcm", enforce_file_format=True)
    inverted = put(tmp_path / "inverted.dcm", ~film, NAME, PhotometricInterpretation="MONOCHROME1")
    size = COLUMNS, ROWS
    expected = cbis_ddsm.load_film(Film(plain, *size))
    for path in (tmp_path / "compressed.dcm", inverted):
        assert np.array_equal(cbis_ddsm.load_film(Film(path, *size)), expected)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda root, film: shutil.rmtree(root / "1.66"), f"film missing: no image of {NAME}"),
        (lambda root, film: (root / "1.66" / "1-1.dcm").write_bytes(b"gone"), "unreadable film: "),
        (lambda root, film: put(root / "1.66" / "1-1.dcm", film, NAME, NumberOfFrames=2), "unreadable film: "),
        (lambda root, film: put(root / "other" / "1-1.dcm", film[:99], NAME), "several films under one name: "),
        (
            lambda root, film: (root / "1.88" / "1-2.dcm").unlink(),
            "mask missing: none of 1-1.dcm holds two values only",
        ),
        (lambda root, film: shutil.rmtree(root / "1.88"), "mask missing: no image of it"),
        (lambda root, film: put(root / "1.88" / "1-2.dcm", mask_of() * 0, f"{NAME}_1"), "mask is empty"),
        (lambda root, film: write_csv(root, row(pathology="UNPROVEN")), "pathology unproven or unknown: UNPROVEN"),
        (lambda root, film: write_csv(root, row(kind="calcification")), "not a mass: calcification"),
        (lambda root, film: write_csv(root, row() | {"image view": "MLO"}), "row contradicts itself: P_00001 MLO"),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
)
def test_what_cannot_be_used_is_listed_with_its_reason(tmp_path, film, spoil, reason):
    write_case(tmp_path, film)
    spoil(tmp_path, film)
    mass = only(tmp_path)
    assert mass.reason.startswith(reason)
    assert "\n" not in mass.reason


def test_a_mask_cut_short_is_listed_as_such(tmp_path, film):
    write_case(tmp_path, film)
    path = tmp_path / "1.88" / "1-2.dcm"
    path.write_bytes(path.read_bytes()[:100_000])
    assert only(tmp_path).reason.startswith("unreadable mask: ")


def test_a_second_copy_of_the_same_files_changes_nothing(tmp_path, film):
    write_case(tmp_path, film)
    before = only(tmp_path)
    shutil.copytree(tmp_path / "1.66", tmp_path / "again" / "film")
    shutil.copytree(tmp_path / "1.88", tmp_path / "again" / "masks")
    shutil.copy(tmp_path / "mass_case_description_train_set.csv", tmp_path / "again")
    assert only(tmp_path) == before


def test_calcification_files_beside_them_are_passed_over(tmp_path, film):
    write_case(tmp_path, film)
    put(tmp_path / "c" / "1-1.dcm", film, NAME.replace("Mass", "Calc"))
    put(tmp_path / "c" / "1-2.dcm", mask_of(Box(0, 0, 9, 9)), NAME.replace("Mass", "Calc") + "_1")
    assert only(tmp_path).box == BOX


def test_folders_without_a_usable_case_list_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        cbis_ddsm.masses(tmp_path / "none")
    with pytest.raises(InputError, match=r"no mass_case_description_\*\.csv below it"):
        cbis_ddsm.masses(tmp_path)
    (tmp_path / "mass_case_description_train_set.csv").write_text("patient_id,pathology\nP_00001,BENIGN\n")
    with pytest.raises(InputError, match="no column left_or_right_breast"):
        cbis_ddsm.masses(tmp_path)
    write_csv(tmp_path, row(), row(pathology="BENIGN"))
    with pytest.raises(InputError, match=f"its row of {NAME}_1 differs from another"):
        cbis_ddsm.masses(tmp_path)


def test_the_official_test_set_is_kept_and_validation_comes_out_of_training(tmp_path):
    rows = [row(f"Mass-Training_P_{i:05}_LEFT_CC", pathology=("BENIGN", "MALIGNANT")[i % 2]) for i in range(80)]
    tests = [row(f"Mass-Test_P_{i:05}_LEFT_CC", pathology=("BENIGN", "MALIGNANT")[i % 3 == 0]) for i in range(100, 120)]
    write_csv(tmp_path, *rows)
    write_csv(tmp_path, *tests, official="test")
    masses = cbis_ddsm.masses(tmp_path)
    split = split_patients(masses, 1, cbis_ddsm.official_test(masses))
    assert {patient for patient, name in split.items() if name == "test"} == {f"P_{i:05}" for i in range(100, 120)}
    labels = Counter(mass.label for mass in masses if split[mass.patient] == "val")
    assert labels == {0: 5, 1: 5}  # a tenth of all 100 masses
    write_csv(tmp_path, *tests, row("Mass-Test_P_00001_LEFT_MLO"), official="test")
    with pytest.raises(InputError, match="P_00001 is in both official sets"):
        cbis_ddsm.official_test(cbis_ddsm.masses(tmp_path))


def test_the_archives_own_case_list_is_read_whole(tmp_path, shared):
    shutil.copy(shared / "cbis_ddsm_mass_800" / "mass_case_description_train_set.csv", tmp_path)
    masses = cbis_ddsm.masses(tmp_path)
    assert len(masses) == 1318
    assert len({mass.patient for mass in masses}) == 691
    assert len({(mass.patient, mass.side, mass.view) for mass in masses}) == 1231
    assert Counter(mass.pathology for mass in masses) == {
        "MALIGNANT": 637,
        "BENIGN": 577,
        "BENIGN_WITHOUT_CALLBACK": 104,
    }
    assert {mass.reason.partition(":")[0] for mass in masses} == {"film missing"}


def test_headers_alone_are_read_of_large_files(tmp_path, film):
    path = put(tmp_path / "a.dcm", film, NAME)
    assert "PixelData" not in dicom.header(path)


def test_what_a_download_has_in_work_is_not_read(tmp_path, film):
    write_case(tmp_path, film)
    put(tmp_path / "unfinished" / "a" / "1-1.dcm", film[:99], NAME)
    assert only(tmp_path).box == BOX
