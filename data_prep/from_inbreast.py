"""Convert INbreast to a CSV of boxes.

    python data_prep/from_inbreast.py "data/INbreast Release 1.0"         # writes boxes.csv into that folder
    python data_prep/build_lmdb.py --source boxes --root "data/INbreast Release 1.0/boxes.csv"

The folder is the set's own (Moreira et al., Academic Radiology 19:236, 2012):

    INbreast.csv                                               one line per film, separated by semicolons
    AllDICOMs/20586908_6c613a14b80a8591_MG_R_CC_ANON.dcm       the second part names the patient; the CSV does not
    AllXML/20586908.xml                                        an OsiriX property list of the outlines in the film

Each outline named "Mass" gives a box; others (calcifications, clusters, spiculated regions ...) are left out.

These files say how suspicious a film is (BI-RADS), not what a biopsy found. Here 2 and 3 are written as BENIGN; 4c,
more likely malignant than not, 5 and 6 as MALIGNANT; 4a, 4b and whatever else as UNPROVEN, which build_lmdb.py leaves
out and lists. That stands in for a proof and is none, and the worst finding in a film need not be its mass: say so with
any result. Many papers count 4a and 4b as malignant too: change the column `pathology` to do so.
"""

import plistlib
import re
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from data_prep.core.errors import InputError, run
from data_prep.core.files import read_table
from data_prep.sources.box_csv import LeftOut, Row, convert, find

FILM = re.compile(r"(\d+)_([0-9a-f]+)_MG_")
PATHOLOGY = {"2": "BENIGN", "3": "BENIGN", "4c": "MALIGNANT", "5": "MALIGNANT", "6": "MALIGNANT"}  # by BI-RADS
SIDE = {"L": "LEFT", "R": "RIGHT"}
NEEDED = {"File Name", "Laterality", "View", "Bi-Rads"}


def read(root: Path) -> tuple[list[Row], LeftOut]:
    """Return a row for each outlined mass of the set, and everything else by reason."""
    films = {name[1]: path for path in sorted(root.rglob("*.dcm")) if (name := FILM.match(path.name))}
    outlines = {path.stem: path for path in sorted(root.rglob("*.xml"))}
    rows: list[Row] = []
    left_out: LeftOut = defaultdict(list)
    for line in _table(find(root, "INbreast.csv")):
        name = line["File Name"]
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
                rows.append(_row(films[name], line, points))
    return rows, left_out


def _table(path: Path) -> list[dict[str, str]]:
    lines = read_table(path, delimiter=";")
    if missing := NEEDED - lines[0].keys():
        raise InputError(f"{path}: no column {', '.join(sorted(missing))}; fields are separated by semicolons")
    return lines


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


def _row(film: Path, line: dict[str, str], points: np.ndarray) -> Row:
    (x, y), (width, height) = points.min(axis=0), np.ptp(points, axis=0)
    return {
        "image": film,
        "patient_id": FILM.match(film.name)[2],
        "pathology": PATHOLOGY.get(line["Bi-Rads"].lower(), f"UNPROVEN (BI-RADS {line['Bi-Rads']})"),
        "x": x,
        "y": y,
        "width": width,
        "height": height,
        "side": SIDE.get(line["Laterality"], ""),
        "view": line["View"],
        "assessment": line["Bi-Rads"],
    }


def main() -> None:
    convert(read, __doc__)


if __name__ == "__main__":
    sys.exit(run(main))
