"""The command line that the converters of published sets share, and the CSV of boxes that they write."""

import argparse
import csv
import os
import sys
from collections.abc import Callable
from pathlib import Path

from data_prep.core.errors import InputError
from data_prep.core.files import atomic_write, files_below, pasted
from data_prep.formats import image_files
from data_prep.sources.csv_boxes import BOX

Row = dict[str, object]
"""Columns of data_prep/sources/csv_boxes.py; `image` is a Path that can be opened from here."""

BIRADS = {"2": "BENIGN", "3": "BENIGN", "4c": "MALIGNANT", "5": "MALIGNANT", "6": "MALIGNANT"}
IMAGES = (".dcm", ".dicom", ".pgm", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

LeftOut = dict[str, list[str]]
"""The films of what a converter leaves out, once for each thing left out, by reason."""


def convert(read: Callable[[argparse.Namespace], tuple[list[Row], LeftOut]], parser: argparse.ArgumentParser) -> None:
    """Run a converter: parse its command line, `read` the set, write the CSV, list what is left out."""
    args = parser.parse_args()
    out = args.out or (args.root if args.root.is_dir() else args.root.parent) / "boxes.csv"
    if out.exists():
        raise InputError(f"{out}: exists already; remove it, or give another --out")
    rows, left_out = read(args)
    for reason, films in left_out.items():
        print(f"left out: {reason}: {len(films)} (in {', '.join(dict.fromkeys(films))})", file=sys.stderr)
    if not rows:
        raise InputError(f"{args.root}: no mass in it that can be used")
    write_boxes(out, rows)
    patients = len({row["patient_id"] for row in rows})
    print(f"{out}: {len(rows)} masses of {patients} patients")
    print(f"next: python data_prep/build_lmdb.py --source boxes --root {pasted(out)}")


def parser_of(description: str, by_birads: bool = False) -> argparse.ArgumentParser:
    """Return the parser that converters share; `by_birads`: where BI-RADS must stand in for pathology."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder of the set, as it was unpacked")
    parser.add_argument("--out", type=Path, help="new CSV of boxes (default: boxes.csv in that folder)")
    if by_birads:
        rule = "the rule of many papers: BI-RADS above 3 is malignant, 1 to 3 benign"
        parser.add_argument("--malignant-above-3", action="store_true", help=rule)
    return parser


def pathology_of_birads(birads: str, malignant_above_3: bool) -> str:
    """Return what stands in for a pathology where only BI-RADS ("3", "4a", "BI-RADS 5") is known.

    2 and 3 are benign; 4c, more likely malignant than not, 5 and 6 malignant; the rest is unproven.
    """
    grade = birads.lower().removeprefix("bi-rads").strip()
    if malignant_above_3 and grade[:1] in tuple("123456"):
        return "MALIGNANT" if grade[:1] > "3" else "BENIGN"
    return BIRADS.get(grade, f"UNPROVEN (BI-RADS {grade or 'not given'})")


def in_image(box: tuple[float, float, float, float], width: float, height: float, image: Path) -> Row:
    """Return x, y, width and height of a box in the pixels of `image`, given it in pixels of one of another size.

    Where the image cannot be read, which the reader of the CSV will say, they stay as they are.
    """
    try:
        rows, columns = image_files.frame_size(image)
    except InputError:
        rows, columns = height, width
    across, down = columns / width, rows / height
    return dict(zip(BOX, (box[0] * across, box[1] * down, box[2] * across, box[3] * down), strict=True))


def write_boxes(path: Path, rows: list[Row]) -> None:
    """Write a CSV of boxes, images' paths relative to it; InputError when it cannot be written."""
    with atomic_write(path) as working, working.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(row | {"image": os.path.relpath(str(row["image"]), path.parent)})


def find(root: Path, *names: str) -> Path:
    """Return a file with one of these names, or in other case, at or below `root`; InputError when there is none."""
    files = files_below(root)
    for name in names:
        for path in files:
            if path.name.lower() == name.lower():
                return path
    raise InputError(f"{root}: no {' or '.join(names)} in it; give the folder of the set, as it was unpacked")


def images_below(root: Path) -> dict[str, Path]:
    """Return the images at or below `root`, of any kind, by their names without the ending, in lower case."""
    return {path.stem.lower(): path for path in files_below(root) if path.suffix.lower() in IMAGES}
