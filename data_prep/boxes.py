"""Reader of a CSV of boxes: any set of 8-bit mammograms whose masses are marked with rectangles -> Mass records.

Columns (others are ignored):

    image                     path of the film's image (PNG, JPEG, TIFF ...; 8-bit grey), relative to the CSV
    patient_id                who; all masses of a patient go into one split
    x, y, width, height       the mass's bounding box in the image's pixels, top-left corner first
    pathology                 MALIGNANT, BENIGN or BENIGN_WITHOUT_CALLBACK; others are left out and listed
    side, view                optional: LEFT or RIGHT, CC or MLO
    abnormality_id            optional: number of the mass in its image; counted where it is not given
    film_width, film_height   optional: the film's size in pixels before the image was shrunk or squashed. Where the
                              columns exist but a row leaves them empty, the median height and aspect of the rows
                              that have them are taken; without the columns the image's pixels are the film's
    mass_shape, mass_margins, assessment, subtlety    optional: BI-RADS descriptors
"""

import csv
from collections import Counter
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from data_prep.mass import LABELS, Box, Film, InputError, Mass

COLUMNS = ("image", "patient_id", "x", "y", "width", "height", "pathology")


def masses(csv_path: Path) -> list[Mass]:
    """Return every row of the CSV as a Mass, in order of mass_id; a row that cannot be used carries the reason.

    Raises InputError when the file or one of its needed columns is missing, or it has no row.
    """
    rows = _rows(csv_path)
    usual = _usual_film_size(rows)
    numbers: Counter[str] = Counter()
    found = []
    for row in rows:
        numbers[row["image"]] += 1
        given = row.get("abnormality_id", "")
        number = int(given) if given.isdecimal() else numbers[row["image"]]
        found.append(_mass(csv_path.parent, row, number, usual))
    return sorted(found, key=lambda mass: mass.mass_id)


def load_film(film: Film) -> np.ndarray:
    """Return one image as uint8 (rows, columns), taken as it is."""
    try:
        with Image.open(film.path) as image:
            return np.asarray(image.convert("L"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{film.path}: cannot be read as an image ({error})") from None


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a CSV of boxes (its columns: data_prep/boxes.py)")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restval="", strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV file ({error})") from None
    if not rows:
        raise InputError(f"{path}: no rows; give one row a mass")
    missing = [name for name in COLUMNS if name not in rows[0]]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}; needed are {', '.join(COLUMNS)}")
    return [{key: value.strip() for key, value in row.items() if key} for row in rows]


def _usual_film_size(rows: list[dict[str, str]]) -> tuple[int, int] | None:
    """Return the median film's (width, height) of the rows that give one, None where no row does."""
    sizes = [size for row in rows if (size := _given_film_size(row))]
    if not sizes:
        return None
    height = median(height for _, height in sizes)
    return round(height * median(width / height for width, height in sizes)), round(height)


def _given_film_size(row: dict[str, str]) -> tuple[int, int] | None:
    try:
        width, height = round(float(row["film_width"])), round(float(row["film_height"]))
    except (KeyError, ValueError, OverflowError):
        return None
    return (width, height) if min(width, height) > 0 else None


def _mass(folder: Path, row: dict[str, str], number: int, usual: tuple[int, int] | None) -> Mass:
    path = folder / row["image"]
    size, reason = _image_size(path)
    width, height = _given_film_size(row) or usual or size
    film = Film(path, width, height)
    box, box_reason = _box(row, film, size) if not reason else (None, "")
    return Mass(
        mass_id=f"{row['patient_id']}.{Path(row['image']).stem}.{number}",
        patient=row["patient_id"],
        film=film,
        side=row.get("side", ""),
        view=row.get("view", ""),
        abnormality=number,
        pathology=row["pathology"],
        box=box,
        shape=row.get("mass_shape", ""),
        margins=row.get("mass_margins", ""),
        assessment=row.get("assessment", ""),
        subtlety=row.get("subtlety", ""),
        reason=_not_a_sample(row) or reason or box_reason,
    )


def _not_a_sample(row: dict[str, str]) -> str:
    if not row["patient_id"]:
        return "no patient_id"
    if row["pathology"] not in LABELS:
        return f"pathology unproven or unknown: {row['pathology'] or 'none given'}"
    return ""


def _image_size(path: Path) -> tuple[tuple[int, int], str]:
    """Return an image's (columns, rows) from its header, or the reason why it cannot be used."""
    if not path.is_file():
        return (0, 0), f"film missing: {path.name}"
    try:
        with Image.open(path) as image:
            if image.mode in ("L", "RGB", "P", "1"):
                return image.size, ""
            return image.size, f"film not 8-bit: {path.name} is of mode {image.mode}"
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        return (0, 0), f"unreadable film: {path.name} ({error})"


def _box(row: dict[str, str], film: Film, size: tuple[int, int]) -> tuple[Box | None, str]:
    """Return the row's box in film pixels, clipped to the film, or the reason why there is none."""
    try:
        x, y, width, height = (float(row[name]) for name in ("x", "y", "width", "height"))
    except ValueError:
        return None, "box is not four numbers"
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + width, size[0]), min(y + height, size[1])
    # "not >=" also catches boxes with a NaN in them
    if not (x1 - x0 >= 1 and y1 - y0 >= 1):
        return None, f"box not on the image: {row['x']}, {row['y']}, {row['width']} x {row['height']}"
    across, down = film.width / size[0], film.height / size[1]
    return Box(x0 * across, y0 * down, x1 * across, y1 * down), ""
