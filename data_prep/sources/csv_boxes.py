"""Reader of a CSV of boxes or masks: any set of mammograms in which masses are marked -> Mass records.

Columns of the CSV, one row per mass (other columns are ignored; case and spaces of headers do not matter, and fields
may be separated by commas, semicolons or tabs):

    image                     path of the film's image, relative to the CSV: PNG, JPEG, TIFF, PGM ... or DICOM, of any
                              depth. 8-bit films are taken as they are, colours as their luminance; deeper films and
                              DICOM are stretched from their own darkest to their brightest pixel
    patient_id                who; all masses of a patient go into one split
    pathology                 MALIGNANT (or M, 1), BENIGN (B, 0) or BENIGN_WITHOUT_CALLBACK, in any case; others are
                              left out and listed
    x, y, width, height       the mass's bounding box in the image's pixels, top-left corner first; or else
    x0, y0, x1, y1            its corners (or xmin, ymin, xmax, ymax); or else
    mask                      path of an image, of any kind, that is black but for the mass: of the film image's size,
                              or of another size and the same aspect. The box is that of its largest connected part.
                              Where a row gives both, the mask counts
    side, view                optional: LEFT or RIGHT, CC or MLO
    abnormality_id            optional: number of the mass in its image; counted where it is not given
    film_width, film_height   optional: the film's size in pixels before the image was shrunk or squashed. Where the
                              columns exist but a row leaves them empty, the median height and aspect of the rows
                              that have them are taken; without the columns the image's pixels are the film's
    mass_shape, mass_margins, assessment, subtlety    optional: BI-RADS descriptors
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path, PurePath
from statistics import median

import numpy as np
from tqdm import tqdm

from data_prep.core.errors import InputError
from data_prep.core.memory_limit import blaming, limited
from data_prep.core.records import Box, Film, Mass, pathology_of, unproven
from data_prep.core.tables import read_table
from data_prep.formats import image_files
from data_prep.formats.mask_box import mask_box

BOX = ("x", "y", "width", "height")
CORNERS = ("x0", "y0", "x1", "y1")
SPELLINGS = {"xmin": "x0", "ymin": "y0", "xmax": "x1", "ymax": "y1"}
COLUMNS = ("image", "patient_id", *BOX, "pathology")
COLUMN_HELP = __doc__[__doc__.index("Columns") :]
ROUNDED = re.compile(r"\d[.,]?\d*E\+\d+", re.IGNORECASE)  # how spreadsheets write a long number
LONGEST_NUMBER = 6  # digits: a longer abnormality_id is not a number of masses

Job = tuple[dict[str, str], str, int]  # a row, its mass_id, the number of the mass in its image


def masses(csv_path: Path, each: Callable = map) -> list[Mass]:
    """Return every row of the CSV as a Mass, in order of mass_id; a row that cannot be used carries the reason.

    Headers of images, and masks, are read through `each`, a map function. Raises InputError when the file or one of
    its needed columns is missing, or it has no row.
    """
    rows = _rows(csv_path)
    found = each(partial(_mass, csv_path.parent, _usual_film_size(rows)), _jobs(rows))
    bar = tqdm(found, total=len(rows), desc="films", unit="mass", disable=None)
    return sorted(bar, key=lambda mass: mass.mass_id)


def load_film(film: Film) -> np.ndarray:
    """Return one image as uint8 (rows, columns)."""
    return image_files.film(film.path)


def grey_levels(used: Iterable[Mass]) -> str:
    """Return what the 8 bits of films are, for the manifest."""
    return "8-bit films as they are; deeper ones, and DICOM as its header shows it, from darkest to brightest pixel"


def _rows(path: Path) -> list[dict[str, str]]:
    rows = [{SPELLINGS.get(name, name): value for name, value in row.items()} for row in read_table(path)]
    marked = "mask" in rows[0] or set(CORNERS) <= rows[0].keys()
    missing = [name for name in COLUMNS if name not in rows[0] and not (name in BOX and marked)]
    if missing:
        corners = f"{', '.join(CORNERS)} or mask for {', '.join(BOX)}"
        needed = f"{', '.join(COLUMNS)} ({corners}); see data_prep/sources/csv_boxes.py"
        raise InputError(f"{path}: no column {', '.join(missing)}; needed are {needed}")
    # a list made on Windows has backslashes
    return [row | {name: row.get(name, "").replace("\\", "/") for name in ("image", "mask")} for row in rows]


def _jobs(rows: list[dict[str, str]]) -> list[Job]:
    """Name every row's mass after its patient and file, and its folders too where a patient has that name twice."""
    files = defaultdict(set)
    for row in rows:
        files[row["patient_id"], PurePath(row["image"]).stem].add(row["image"])
    counted: Counter[str] = Counter()
    jobs = []
    for row in rows:
        patient, image, given = row["patient_id"], row["image"], row.get("abnormality_id", "")
        counted[image] += 1
        number = int(given) if given.isdecimal() and len(given) <= LONGEST_NUMBER else counted[image]
        stem = PurePath(image).stem
        name = stem if len(files[patient, stem]) == 1 else image.strip("/").replace("/", "-")
        jobs.append((row, f"{patient}.{name}.{number}", number))
    return jobs


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


@limited()
def _mass(folder: Path, usual: tuple[int, int] | None, job: Job) -> Mass:
    row, mass_id, number = job
    film, box, reason = marked(folder, row, usual)
    return Mass(
        mass_id=mass_id,
        patient=row["patient_id"],
        film=film,
        side=row.get("side", ""),
        view=row.get("view", ""),
        abnormality=number,
        pathology=pathology_of(row["pathology"]),
        box=box,
        shape=row.get("mass_shape", ""),
        margins=row.get("mass_margins", ""),
        assessment=row.get("assessment", ""),
        subtlety=row.get("subtlety", ""),
        reason=_not_a_sample(row) or reason,
    )


def marked(folder: Path, row: dict[str, str], usual: tuple[int, int] | None = None) -> tuple[Film, Box | None, str]:
    """Return a row's film and its mass's box in film pixels, or None and the reason why there is no such box.

    `folder` is that of the CSV; `usual` the (width, height) in pixels of a film whose row does not give its own.
    """
    path = folder / row["image"]
    size, reason = _image_size(path)
    width, height = _given_film_size(row) or usual or size
    film = Film(path, width, height)
    if reason:
        return film, None, reason
    box, reason = box_of(folder, row, size)
    if box:
        across, down = width / size[0], height / size[1]
        box = Box(box.x0 * across, box.y0 * down, box.x1 * across, box.y1 * down)
    return film, box, reason


def _not_a_sample(row: dict[str, str]) -> str:
    if not row["patient_id"]:
        return "no patient_id"
    if ROUNDED.fullmatch(row["patient_id"]):
        return f"patient_id rounded by a spreadsheet: {row['patient_id']}; enter it as text"
    return unproven(pathology_of(row["pathology"]))


def _image_size(path: Path) -> tuple[tuple[int, int], str]:
    """Return an image's (columns, rows) from its header, or the reason why it cannot be used."""
    if not os.path.isfile(path):  # unlike Path.is_file it has an answer for every string
        return (0, 0), f"film missing: {path.name}"
    try:
        rows, columns = image_files.frame_size(path)
    except InputError as error:
        return (0, 0), f"unreadable film: {error}"
    return (columns, rows), ""


def box_of(folder: Path, row: dict[str, str], size: tuple[int, int]) -> tuple[Box | None, str]:
    """Return the row's box in pixels of its image of `size` (columns, rows), or None and the reason why not."""
    if row["mask"]:
        return _box_of_mask(folder / row["mask"], size)
    return _given_box(row, size)


def _box_of_mask(path: Path, size: tuple[int, int]) -> tuple[Box | None, str]:
    if not os.path.isfile(path):
        return None, f"mask missing: {path.name}"
    try:
        with blaming(path):
            return mask_box(image_files.mask(path), film_height=size[1], film_width=size[0]), ""
    except InputError as error:
        return None, f"unreadable mask: {error}"
    except ValueError as error:  # it is empty, or of another aspect
        return None, str(error)


def _given_box(row: dict[str, str], size: tuple[int, int]) -> tuple[Box | None, str]:
    fields, corners = ([row.get(name, "") for name in names] for names in (BOX, CORNERS))
    if not any(fields + corners):
        return None, "neither box nor mask given"
    try:
        x, y, width, height = map(float, corners if any(corners) else fields)
    except ValueError:
        return None, "box is not four numbers"
    if any(corners):
        width, height = width - x, height - y
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + width, size[0]), min(y + height, size[1])
    # "not >=" also catches boxes with a NaN in them
    if not (x1 - x0 >= 1 and y1 - y0 >= 1):
        return None, f"box not on the image: {x:g}, {y:g}, {width:g} x {height:g}"
    return Box(x0, y0, x1, y1), ""
