"""Reader of CBIS-DDSM: the mass part of the archive as The Cancer Imaging Archive delivers it -> Mass records.

    ROOT/.../mass_case_description_train_set.csv, mass_case_description_test_set.csv     one row a mass
    ROOT/.../*.dcm                                                                       films, ROI masks, crops

(Lee et al., Scientific Data 4:170177, 2017.) Files may lie in any folders: they are told apart by their DICOM headers,
where a film's PatientID is "Mass-Training_P_00001_LEFT_CC" and that of its first mass's files ends in "_1" more. A
header without such a name leaves it to the file's folders, of which one may be that name or the series' UID from the
CSV. What the archive calls the mask of a mass may be its crop, and the other way round: the mask is the file that holds
two values only.
"""

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep.core.errors import InputError
from data_prep.core.files import read_table, walk
from data_prep.core.memory_limit import blaming
from data_prep.core.records import Box, Film, Mass, unproven
from data_prep.formats import dicom
from data_prep.formats.mask_box import mask_box

CSV_NAMES = "mass_case_description_*.csv"
NAME = re.compile(r"Mass-(Training|Test)_(P_\d+)_(LEFT|RIGHT)_(CC|MLO)")
"""Of a film: official set, patient, side, view."""
COLUMNS = (
    *("patient id", "left or right breast", "image view", "abnormality id", "abnormality type", "pathology"),
    *("image file path", "ROI mask file path", "cropped image file path"),
)


@dataclass(frozen=True)
class Image:
    """One DICOM file by its header: its unique id, its size in pixels, or what is wrong with it."""

    path: Path
    uid: str = ""
    rows: int = 0
    columns: int = 0
    problem: str = ""


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
        raise InputError(f"{root}: no such folder; name the folder that holds CBIS-DDSM's CSVs and DICOM files")
    files = [folder / name for folder, names in walk(root) for name in names]
    tables = sorted(path for path in files if path.match(CSV_NAMES))
    if not tables:
        raise InputError(f"{root}: no {CSV_NAMES} below it; put the archive's CSVs of masses beside its DICOM files")
    rows: dict[str, dict[str, str]] = {}
    for path in tables:
        for row in _rows(path):
            if rows.setdefault(_mass_id(row), row) != row:
                raise InputError(
                    f"{path}: its row of {_mass_id(row)} differs from another; keep the archive's CSVs only"
                )
    images = _images(sorted(path for path in files if path.suffix.lower() == ".dcm"), rows, each)
    cases = [_case(mass_id, row, images) for mass_id, row in sorted(rows.items())]
    return list(tqdm(each(_mass, cases), total=len(cases), desc="masks", unit="mass", disable=None))


def load_film(film: Film) -> np.ndarray:
    """Decode one film to uint8 (rows, columns), dense tissue bright: the upper 8 of its bits.

    The archive's 16-bit grey levels are optical densities already, each scanner's calibration applied.
    """
    return dicom.upper_8_bits(film.path)


def official_test(found: list[Mass]) -> set[str]:
    """Return the patients of the archive's own test set; InputError when one of them is in its training set too."""
    test = {mass.patient for mass in found if mass.mass_id.startswith("Mass-Test")}
    both = sorted(test & {mass.patient for mass in found if not mass.mass_id.startswith("Mass-Test")})
    if both:
        raise InputError(f"patient {both[0]} is in both official sets ({len(both)} such patients); split without them")
    return test


def _rows(path: Path) -> list[dict[str, str]]:
    """Return a CSV's rows; the two spellings of its column names ("breast_density") become one ("breast density")."""
    rows = [{key.strip().replace("_", " "): value for key, value in row.items()} for row in read_table(path)]
    missing = [name for name in COLUMNS if name not in rows[0]]
    if missing:
        raise InputError(f"{path}: no column {missing[0]}; not a case list of CBIS-DDSM's, or damaged")
    return rows


def _mass_id(row: dict[str, str]) -> str:
    """Return "Mass-Training_P_00001_LEFT_CC_1": a film can hold several masses, even of several pathologies."""
    return f"{_folders(row['image file path'])[0]}_{row['abnormality id']}"


def _folders(path: str) -> list[str]:
    """Return the parts of a path in the CSV: name, study, series, file."""
    return path.replace("\\", "/").split("/")


def _images(paths: list[Path], rows: dict[str, dict[str, str]], each: Callable) -> dict[str, list[Image]]:
    """Read every header; return the images by PatientID or, for want of a usable one, by series UID and folders."""
    wanted = {part for row in rows.values() for name in COLUMNS[-3:] for part in _folders(row[name])[:-1]} | rows.keys()
    found: dict[str, dict[str, Image]] = defaultdict(dict)
    headers = tqdm(each(_read_header, paths), total=len(paths), desc="headers", unit="file", disable=None)
    for patient, series, image in headers:
        for name in [patient] if NAME.match(patient) else wanted.intersection([series, *image.path.parts]):
            found[name].setdefault(image.uid or str(image.path), image)  # the same file twice is one image
    return {name: list(images.values()) for name, images in found.items()}


def _read_header(path: Path) -> tuple[str, str, Image]:
    """Return a file's PatientID, its SeriesInstanceUID, and what its header says of the image."""
    try:
        header = dicom.header(path)
    except InputError as error:
        return "", "", Image(path, problem=str(error))
    patient, series, uid = (
        str(header.get(n, "")).strip() for n in ("PatientID", "SeriesInstanceUID", "SOPInstanceUID")
    )
    try:
        return patient, series, Image(path, uid, *dicom.frame_size(header, path))
    except InputError as error:
        return patient, series, Image(path, uid, problem=str(error))


def _case(mass_id: str, row: dict[str, str], images: dict[str, list[Image]]) -> Case:
    """Find a row's files by name, else by the UIDs of the series that the CSV gives for them."""
    film, mask, crop = (_folders(row[name]) for name in ("image file path", *COLUMNS[-2:]))
    series = {parts[-2] for parts in (mask, crop) if len(parts) > 1}
    masks = images.get(mass_id) or [image for uid in sorted(series) for image in images.get(uid, [])]
    return Case(mass_id, row, images.get(film[0]) or images.get(film[-2] if len(film) > 1 else "", []), masks)


def _mass(case: Case) -> Mass:
    row, (film, reason) = case.row, _film(case)
    reason = _not_a_sample(case) or reason
    box = None
    if not reason:
        box, reason = _box(case.masks, film)
    return Mass(
        mass_id=case.name,
        patient=row["patient id"],
        film=film,
        side=row["left or right breast"],
        view=row["image view"],
        abnormality=int(row["abnormality id"]) if row["abnormality id"].isdecimal() else 0,
        pathology=row["pathology"],
        box=box,
        shape=row.get("mass shape", ""),
        margins=row.get("mass margins", ""),
        assessment=row.get("assessment", ""),
        subtlety=row.get("subtlety", ""),
        reason=reason,
    )


def _not_a_sample(case: Case) -> str:
    row = case.row
    name = NAME.match(case.name)
    if not name or name.groups()[1:] != (row["patient id"], row["left or right breast"], row["image view"]):
        return f"row contradicts itself: {row['patient id']} {row['image view']} with film {row['image file path']}"
    if row["abnormality type"] != "mass":
        return f"not a mass: {row['abnormality type']}"
    return unproven(row["pathology"])


def _film(case: Case) -> tuple[Film, str]:
    """Return a case's film, and the reason why it cannot be used ("" when it can)."""
    nowhere = Film(Path(case.row["image file path"]), 0, 0)
    if not case.films:
        return nowhere, f"film missing: no DICOM file of {case.name.rpartition('_')[0]}"
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
                pixels = dicom.stored(image.path)
                lowest, highest = pixels.min(), pixels.max()
                if not ((pixels == lowest) | (pixels == highest)).all():
                    continue  # a crop
                return mask_box(pixels > lowest, film.height, film.width), ""
        except InputError as error:
            problems.append(str(error))
        except ValueError as error:
            problems.append(f"{error} ({image.path})")
    if problems:
        return None, problems[0] if problems[0].startswith("mask") else f"unreadable mask: {problems[0]}"
    names = ", ".join(image.path.name for image in sound)
    return None, f"mask missing: {f'none of {names} holds two values only' if names else 'no DICOM file of it'}"
