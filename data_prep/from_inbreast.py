"""Convert INbreast to a CSV of boxes.

    python data_prep/from_inbreast.py "data/INbreast Release 1.0"         # writes boxes.csv into that folder
    python data_prep/build_lmdb.py --source boxes --root "data/INbreast Release 1.0/boxes.csv"

The folder is the set's own (Moreira et al., Academic Radiology 19:236, 2012):

    INbreast.csv, or INbreast.xls                              one line per film
    AllDICOMs/20586908_6c613a14b80a8591_MG_R_CC_ANON.dcm       the second part names the patient; the CSV does not
    AllXML/20586908.xml                                        an OsiriX property list of the outlines in the film

Each outline named "Mass" gives a box; others (calcifications, clusters, spiculated regions ...) are left out.

These files say how suspicious a film is (BI-RADS), not what a biopsy found. Here 2 and 3 are written as BENIGN; 4c,
more likely malignant than not, 5 and 6 as MALIGNANT; 4a, 4b and whatever else as UNPROVEN, which build_lmdb.py leaves
out and lists. That stands in for a proof and is none, and the worst finding in a film need not be its mass: say so with
any result. `--malignant-above-3` counts as many papers do: 4a and 4b as malignant too, 1 as benign.
"""

import argparse
import plistlib
import re
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from data_prep.core.errors import InputError, run
from data_prep.core.files import files_below
from data_prep.core.tables import read_table
from data_prep.sources.box_csv import LeftOut, Row, convert, find, parser_of, pathology_of_birads

FILM = re.compile(r"(\d+)_([0-9a-f]+)_MG_")
SIDE = {"L": "LEFT", "R": "RIGHT"}
NEEDED = {"file_name", "laterality", "view", "bi_rads"}


def read(args: argparse.Namespace) -> tuple[list[Row], LeftOut]:
    """Return a row for each outlined mass of the set, and everything else by reason."""
    files = files_below(args.root)
    films = {name[1]: path for path in files if path.suffix == ".dcm" and (name := FILM.match(path.name))}
    outlines = {path.stem: path for path in files if path.suffix == ".xml"}
    rows: list[Row] = []
    left_out: LeftOut = defaultdict(list)
    for line in _table(find(args.root, "INbreast.csv", "INbreast.xls")):
        name = line["file_name"]
        if name not in outlines:
            left_out["films without outlines"].append(name)
            continue
        for kind, points in _outlines(outlines[name]):
            if kind.lower() != "mass":
                left_out[f"outlines of kind {kind or 'unnamed'}"].append(name)
            elif len(points) < 3:
                left_out["masses without an outline"].append(name)
            elif name not in films:
                left_out["masses without a film"].append(name)
            else:
                rows.append(_row(films[name], line, points, args.malignant_above_3))
    return rows, left_out


def _table(path: Path) -> list[dict[str, str]]:
    lines = read_table(path)
    if missing := NEEDED - lines[0].keys():
        raise InputError(f"{path}: no column {', '.join(sorted(missing))}; unpack the set again")
    return [line for line in lines if line["file_name"]]  # the sheet ends with notes


def _outlines(path: Path) -> list[tuple[str, np.ndarray]]:
    """Return the name and the (n, 2) float (column, row) points of each outline in an OsiriX file."""
    try:
        regions = plistlib.loads(path.read_bytes(), fmt=plistlib.FMT_XML)["Images"][0]["ROIs"]
        return [
            (region["Name"].strip(), np.array([point.strip("()").split(",") for point in region["Point_px"]], float))
            for region in regions
        ]
    # a damaged file makes plistlib or what follows raise nearly anything
    except Exception as error:
        raise InputError(f"{path}: not a list of outlines ({error}); unpack the set again") from None


def _row(film: Path, line: dict[str, str], points: np.ndarray, malignant_above_3: bool) -> Row:
    (x, y), (width, height) = points.min(axis=0), np.ptp(points, axis=0)
    return {
        "image": film,
        "patient_id": FILM.match(film.name)[2],
        "pathology": pathology_of_birads(line["bi_rads"], malignant_above_3),
        "x": x,
        "y": y,
        "width": width,
        "height": height,
        "side": SIDE.get(line["laterality"], ""),
        "view": line["view"],
        "assessment": line["bi_rads"],
    }


def main() -> None:
    convert(read, parser_of(__doc__, by_birads=True))


if __name__ == "__main__":
    sys.exit(run(main))
