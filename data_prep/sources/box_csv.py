"""What the converters of published sets share: their command line, and the CSV of boxes that they write."""

import argparse
import csv
import os
import sys
from collections.abc import Callable
from pathlib import Path

from data_prep.core.errors import InputError
from data_prep.core.files import atomic_write, pasted

Row = dict[str, object]
"""Columns of data_prep/sources/csv_boxes.py; `image` is a Path that can be opened from here."""

LeftOut = dict[str, list[str]]
"""The films of what a converter leaves out, once for each thing left out, by reason."""


def convert(read: Callable[[Path], tuple[list[Row], LeftOut]], description: str) -> None:
    """Run a converter: parse its command line, `read` the set's folder, write the CSV, list what is left out."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder of the set, as it was unpacked")
    parser.add_argument("--out", type=Path, help="new CSV of boxes (default: boxes.csv in that folder)")
    args = parser.parse_args()
    out = args.out or args.root / "boxes.csv"
    if out.exists():
        raise InputError(f"{out}: exists already; remove it, or give another --out")
    rows, left_out = read(args.root)
    for reason, films in left_out.items():
        print(f"left out: {reason}: {len(films)} (in {', '.join(dict.fromkeys(films))})", file=sys.stderr)
    if not rows:
        raise InputError(f"{args.root}: no mass in it that can be used")
    write_boxes(out, rows)
    patients = len({row["patient_id"] for row in rows})
    print(f"{out}: {len(rows)} masses of {patients} patients")
    print(f"next: python data_prep/build_lmdb.py --source boxes --root {pasted(out)}")


def write_boxes(path: Path, rows: list[Row]) -> None:
    """Write a CSV of boxes, images' paths relative to it; InputError when it cannot be written."""
    with atomic_write(path) as working, working.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(row | {"image": os.path.relpath(row["image"], path.parent)})


def find(root: Path, name: str) -> Path:
    """Return the file called `name`, in any case of letters, at or below `root`; InputError when there is none."""
    found = sorted(path for path in root.rglob("*") if path.name.lower() == name.lower())
    if not found:
        raise InputError(f"{root}: no {name} in it; give the folder of the set, as it was unpacked")
    return found[0]
