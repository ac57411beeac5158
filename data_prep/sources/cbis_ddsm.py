"""Reader of CBIS-DDSM: the mass part of the archive, in any of the copies that are about -> Mass records.

    ROOT/.../mass_case_description_train_set.csv, mass_case_description_test_set.csv     one row a mass
    ROOT/.../*.dcm, or *.png, *.tif, *.jpg                                               films, ROI masks, crops

(Lee et al., Scientific Data 4:170177, 2017.) Files may lie in any folders. DICOM files are told apart by their headers,
where a film's PatientID is "Mass-Training_P_00001_LEFT_CC" and that of its first mass's files ends in "_1" more. A
header without such a name leaves it to the file's folders, and so does any other image: one of them is that name, or
the series' UID from the CSV, as in the copy of JPEG files on Kaggle (csv/*.csv, jpeg/UID/1-001.jpg).

What the archive calls the mask of a mass may be its crop, and the other way round: the mask is the file that holds two
values only, or nearly so where JPEG has blurred them.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data_prep.core.errors import InputError
from data_prep.core.files import files_below
from data_prep.core.memory_limit import blaming, limited
from data_prep.core.records import Box, Film, Mass, pathology_of, unproven
from data_prep.core.tables import read_table
from data_prep.formats import dicom, image_files
from data_prep.formats.mask_box import mask_box

CSV_NAMES = "mass_case_description_*.csv"
NAME = re.compile(r"Mass-(Training|Test)_(P_\d+)_(LEFT|RIGHT)_(CC|MLO)")
"""Of a film: official set, patient, side, view."""
ANY_NAME = re.compile(r"(Mass|Calc)-(Training|Test)_P_\d+_")
"""Of any file of the archive, its calcifications too: how its PatientID begins."""
FILM, MASK, CROP = "image_file_path", "roi_mask_file_path", "cropped_image_file_path"
COLUMNS = (
    *("patient_id", "left_or_right_breast", "image_view", "abnormality_id", "abnormality_type", "pathology"),
    *(FILM, MASK, CROP),
)
DICOM = ".dcm"
GREY_LEVELS = {
    DICOM: "DICOM: the upper 8 of the archive's bits, optical density",
    ".png": "PNG: the upper 8 of 16 bits, or 8 as this copy has them",
    ".tif": "TIFF: the upper 8 of 16 bits, or 8 as this copy has them",
    ".jpg": "JPEG: 8 bits as this copy has them, perhaps windowed",
}
"""What the 8 bits of a film are, by the ending of its file; the earlier kind is taken where a copy holds two."""
ENDINGS = {ending: ending for ending in GREY_LEVELS} | {".tiff": ".tif", ".jpeg": ".jpg"}
BLUR = 1 / 8, 0.01
"""Of a mask that JPEG has blurred: pixels this share of its range away from both its values, and how many there are."""
FILM_SIDE, LIKENESS = 2000, 0.8  # of the shrunken film in which a crop is looked for; the correlation that finds it
SLACK = 0.1  # of a crop's sides by which a mass's box may leave it


@dataclass(frozen=True)
class Image:
    """One image by its header: a name that is its own, its size in pixels, or what is wrong with it."""

    path: Path
    uid: str = ""
    rows: int = 0
    columns: int = 0
    problem: str = ""

    @property
    def kind(self) -> str:
        """One of GREY_LEVELS."""
        return _kind(self.path)


@dataclass(frozen=True)
class Case:
    """One row of a CSV, with the files that may be its film, and those that may be its mask."""

    name: str
    row: dict[str, str]
    films: list[Image]
    masks: list[Image]


def masses(root: Path, each: Callable = map) -> list[Mass]:
    """Return every row of the archive's mass CSVs as a Mass, usable or not, in order of mass_id.

    `each` is the map function that reads headers and masks, perhaps in many processes. Raises InputError when `root`
    is missing or holds no such CSV, or one that is not the archive's.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; name the folder that holds CBIS-DDSM's CSVs and images")
    files = files_below(root)
    tables = [path for path in files if path.match(CSV_NAMES)]
    if not tables:
        raise InputError(f"{root}: no {CSV_NAMES} below it; put the archive's CSVs of masses beside its images")
    rows: dict[str, dict[str, str]] = {}
    for path in tables:
        for row in _rows(path):
            mass_id = f"{_film_name(row, path)}_{row['abnormality_id']}"
            if rows.setdefault(mass_id, row) != row:
                raise InputError(f"{path}: its row of {mass_id} differs from another; keep the archive's CSVs only")
    images = _images([path for path in files if _kind(path)], rows, each)
    cases = [_case(mass_id, row, images) for mass_id, row in sorted(rows.items())]
    return list(tqdm(each(_mass, cases), total=len(cases), desc="masks", unit="mass", disable=None))


def load_film(film: Film) -> np.ndarray:
    """Decode one film to uint8 (rows, columns), dense tissue bright: the upper 8 of its bits, or the 8 there are.

    The archive's 16-bit grey levels are optical densities already, each scanner's calibration applied.
    """
    return image_files.upper_8_bits(film.path)


def grey_levels(used: Iterable[Mass]) -> str:
    """Return what the 8 bits of these masses' films are, for the manifest."""
    kinds = Counter(_kind(path) for path in {mass.film.path for mass in used})
    return "; ".join(f"{number:,} films {GREY_LEVELS[kind]}" for kind, number in kinds.most_common())


def holds(path: Path) -> bool:
    """Whether a file is one of the archive's DICOM files, by its header."""
    return image_files.holds_dicom(path) and bool(ANY_NAME.match(dicom.text(dicom.header(path), "PatientID")))


def official_test(found: list[Mass]) -> set[str]:
    """Return the patients of the archive's own test set; InputError when one of them is in its training set too."""
    test = {mass.patient for mass in found if mass.mass_id.startswith("Mass-Test")}
    both = sorted(test & {mass.patient for mass in found if not mass.mass_id.startswith("Mass-Test")})
    if both:
        raise InputError(f"patient {both[0]} is in both official sets ({len(both)} such patients); split without them")
    return test


def _rows(path: Path) -> list[dict[str, str]]:
    rows = read_table(path)
    missing = [name for name in COLUMNS if name not in rows[0]]
    if missing:
        raise InputError(f"{path}: no column {missing[0]}; not a case list of CBIS-DDSM's, or damaged")
    return rows


def _film_name(row: dict[str, str], table: Path) -> str:
    """Return "Mass-Training_P_00001_LEFT_CC" from the path of a row's film, or, where a copy changed it, the row."""
    official = "Test" if "test" in table.name else "Training"
    said = f"Mass-{official}_{row['patient_id']}_{row['left_or_right_breast']}_{row['image_view']}"
    return next((part for part in _folders(row[FILM]) if NAME.fullmatch(part)), said)


def _folders(path: str) -> list[str]:
    """Return the parts of a path in the CSV: name, study, series, file."""
    return path.replace("\\", "/").split("/")


def _series(row: dict[str, str], *columns: str) -> set[str]:
    """Return the series that these columns' paths give: the folder of the file."""
    return {parts[-2] for column in columns if len(parts := _folders(row[column])) > 1}


def _kind(path: Path) -> str:
    """Return the kind of an image by its ending, as in GREY_LEVELS; "" for another file."""
    return ENDINGS.get(path.suffix.lower(), "")


def _images(paths: list[Path], rows: dict[str, dict[str, str]], each: Callable) -> dict[str, list[Image]]:
    """Read every header; return the images by PatientID or, for want of a usable one, by series UID and folders."""
    wanted = rows.keys() | {mass_id.rpartition("_")[0] for mass_id in rows}
    wanted = wanted.union(*(_series(row, FILM, MASK, CROP) for row in rows.values()))
    found: dict[str, dict[str, Image]] = defaultdict(dict)
    paths = [path for path in paths if _kind(path) == DICOM or wanted.intersection([path.stem, *path.parts])]
    headers = tqdm(each(_read_header, paths), total=len(paths), desc="headers", unit="file", disable=None)
    for patient, series, image in headers:
        named = [patient] if NAME.match(patient) else wanted.intersection([series, image.path.stem, *image.path.parts])
        for name in named:
            found[name].setdefault(image.uid or str(image.path), image)  # the same file twice is one image
    return {name: _best(list(images.values())) for name, images in found.items()}


def _best(images: list[Image]) -> list[Image]:
    """Return the images of the kind that has lost least: a folder may hold two copies of the archive."""
    return [image for image in images if image.kind == min((i.kind for i in images), key=list(GREY_LEVELS).index)]


@limited()
def _read_header(path: Path) -> tuple[str, str, Image]:
    """Return a file's PatientID, its SeriesInstanceUID, both "" where it is not DICOM, and what its header says."""
    patient = series = uid = ""
    try:
        if _kind(path) == DICOM:
            header = dicom.header(path)
            names = "PatientID", "SeriesInstanceUID", "SOPInstanceUID"
            patient, series, uid = (dicom.text(header, name) for name in names)
            size = dicom.frame_size(header, path)
        else:
            uid = f"{path.parent.name}/{path.name} of {path.stat().st_size} bytes"
            size = image_files.frame_size(path)
        return patient, series, Image(path, uid, *size)
    except InputError as error:
        return patient, series, Image(path, uid, problem=str(error))


def _case(mass_id: str, row: dict[str, str], images: dict[str, list[Image]]) -> Case:
    """Find a row's files by name, else by the UIDs of the series that the CSV gives for them."""

    def find(name: str, *columns: str) -> list[Image]:
        return images.get(name) or [image for uid in sorted(_series(row, *columns)) for image in images.get(uid, [])]

    return Case(mass_id, row, find(mass_id.rpartition("_")[0], FILM), find(mass_id, MASK, CROP))


@limited()
def _mass(case: Case) -> Mass:
    row, (film, reason) = case.row, _film(case)
    reason = _not_a_sample(case) or reason
    box = None
    if not reason:
        box, reason = _box(case.masks, film)
    return Mass(
        mass_id=case.name,
        patient=row["patient_id"],
        film=film,
        side=row["left_or_right_breast"],
        view=row["image_view"],
        abnormality=int(row["abnormality_id"]) if row["abnormality_id"].isdecimal() else 0,
        pathology=pathology_of(row["pathology"]),
        box=box,
        shape=row.get("mass_shape", ""),
        margins=row.get("mass_margins", ""),
        assessment=row.get("assessment", ""),
        subtlety=row.get("subtlety", ""),
        reason=reason,
    )


def _not_a_sample(case: Case) -> str:
    row = case.row
    name = NAME.match(case.name)
    if not name or name.groups()[1:] != (row["patient_id"], row["left_or_right_breast"], row["image_view"]):
        return f"row contradicts itself: {row['patient_id']} {row['image_view']} with film {row[FILM]}"
    if row["abnormality_type"] != "mass":
        return f"not a mass: {row['abnormality_type']}"
    return unproven(pathology_of(row["pathology"]))


def _film(case: Case) -> tuple[Film, str]:
    """Return a case's film, and the reason why it cannot be used ("" when it can)."""
    nowhere = Film(Path(case.row[FILM]), 0, 0)
    if not case.films:
        return nowhere, f"film missing: no image of {case.name.rpartition('_')[0]}"
    sound = [image for image in case.films if not image.problem]
    if not sound:
        return nowhere, f"unreadable film: {case.films[0].problem}"
    if len(sound) > 1:
        return nowhere, f"several films under one name: {', '.join(str(image.path) for image in sound)}"
    return Film(sound[0].path, sound[0].columns, sound[0].rows), ""


def _box(candidates: list[Image], film: Film) -> tuple[Box | None, str]:
    """Return the mass's box from whichever file is its mask, or None and the reason why there is none.

    Files of the film's own size are tried first: the others are seldom it.
    """
    sizes = (film.height, film.width)
    sound = sorted((i for i in candidates if not i.problem), key=lambda i: ((i.rows, i.columns) != sizes, str(i.path)))
    problems = [image.problem for image in candidates if image.problem]
    for image in sound:
        try:
            with blaming(image.path):
                mask = _mask(image)
                if mask is None:
                    continue
                box = mask_box(mask, film.height, film.width)
                if mask.shape == sizes or _fits(box, image, [other for other in sound if other != image], film):
                    return box, ""
            problems.append(f"mask of another size: {image.columns} x {image.rows} for a film of {film.width} x ")
            problems[-1] += f"{film.height}, and not where the crop lies in it ({image.path})"
        except InputError as error:
            problems.append(str(error))
        except ValueError as error:
            problems.append(f"{error} ({image.path})")
    if problems:
        return None, problems[0] if problems[0].startswith("mask") else f"unreadable mask: {problems[0]}"
    names = ", ".join(image.path.name for image in sound)
    return None, f"mask missing: {f'none of {names} holds two values only' if names else 'no image of it'}"


def _mask(image: Image) -> np.ndarray | None:
    """Return an image as a mask, bool (rows, columns); None where it holds more than two values."""
    values = image_files.stored(image.path)
    low, high = float(values.min()), float(values.max())
    blur, share = (0, 0) if image.kind == DICOM else BLUR
    blur *= high - low
    between = (values > low + blur) & (values < high - blur)
    return values > (low + high) / 2 if between.mean() <= share else None


def _fits(box: Box, mask: Image, others: list[Image], film: Film) -> bool:
    """Whether the box from a mask of another size than its film's is where the mass's crop lies in the film.

    An aspect that is the film's but for rounding could be chance. Where no crop is found in the film it must do.
    """
    shown = image_files.upper_8_bits(film.path)
    for crop in others:
        place = _place(image_files.upper_8_bits(crop.path), shown, film.width / mask.columns)
        if place:
            across, down = SLACK * place.width, SLACK * place.height
            return (
                min(box.x0 - place.x0, place.x1 - box.x1) >= -across
                and min(box.y0 - place.y0, place.y1 - box.y1) >= -down
            )
    return abs(mask.columns - film.width * mask.rows / film.height) <= 1


def _place(crop: np.ndarray, film: np.ndarray, zoom: float) -> Box | None:
    """Return where in its film a crop lies, which has the film's pixels or `zoom` times larger ones; None: nowhere."""
    shrink = min(1, FILM_SIDE / max(film.shape))
    small = cv2.resize(film, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    found: list[tuple[float, Box]] = []
    for scale in {1.0, zoom}:
        size = [max(round(side * shrink * scale), 1) for side in crop.shape[::-1]]
        part = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
        if part.shape[0] <= small.shape[0] and part.shape[1] <= small.shape[1]:
            _, likeness, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(small, part, cv2.TM_CCOEFF_NORMED))
            edges = (x, y, x + part.shape[1], y + part.shape[0])
            found.append((likeness, Box(*(edge / shrink for edge in edges))))
    likeness, place = max(found, key=lambda one: one[0], default=(0, None))
    return place if likeness >= LIKENESS else None
