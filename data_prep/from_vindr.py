"""VinDr-Mammo -> a CSV of boxes.

    python data_prep/from_vindr.py data/vindr-mammo                       # writes data/vindr-mammo/boxes.csv
    python data_prep/build_lmdb.py --source boxes --root data/vindr-mammo/boxes.csv

The folder is the set's own (Nguyen et al., Scientific Data 10:277, 2023), or a copy of it in other images of any size:

    finding_annotations.csv       a line a finding: image_id, study_id, xmin, ymin, xmax, ymax, finding_categories ...
    images/STUDY/IMAGE.dicom

Each finding that is a Mass, whatever else it is, gives a box; a study is a patient's only one, so it stands for the
patient. These files say how suspicious a finding is (BI-RADS 3 to 5), not what a biopsy found. Here 3 is written as
BENIGN, 5 as MALIGNANT, 4 as UNPROVEN, which build_lmdb.py leaves out and lists; `--malignant-above-3` counts 4 as
malignant too. That stands in for a proof and is none: say so with any result.
"""

import argparse
import re
import sys
from collections import defaultdict

from data_prep.core.errors import InputError, run
from data_prep.core.tables import read_table
from data_prep.sources.box_csv import (
    LeftOut,
    Row,
    convert,
    find,
    images_below,
    in_image,
    parser_of,
    pathology_of_birads,
)

CORNERS = ("xmin", "ymin", "xmax", "ymax")
NEEDED = ("study_id", "image_id", "height", "width", "finding_categories", "finding_birads", *CORNERS)
SIDE = {"L": "LEFT", "R": "RIGHT"}


def read(args: argparse.Namespace) -> tuple[list[Row], LeftOut]:
    """Return a row for each mass of the set, and everything else by reason."""
    table = find(args.root, "finding_annotations.csv")
    films = images_below(args.root)
    rows: list[Row] = []
    left_out: LeftOut = defaultdict(list)
    for line in read_table(table):
        if missing := [name for name in NEEDED if name not in line]:
            raise InputError(f"{table}: no column {', '.join(missing)}; get it from the set again")
        image, kinds = line["image_id"], re.findall(r"'([^']+)'", line["finding_categories"])
        if "Mass" not in kinds:
            left_out[f"findings of kind {', '.join(kinds) or 'unnamed'}"].append(image)
            continue
        if image.lower() not in films:
            left_out["masses without a film"].append(image)
            continue
        try:
            x0, y0, x1, y1, width, height = (float(line[name]) for name in (*CORNERS, "width", "height"))
        except ValueError:
            left_out["masses whose box or film size is not given in numbers"].append(image)
            continue
        rows.append(
            {
                "image": films[image.lower()],
                "patient_id": line["study_id"],
                "pathology": pathology_of_birads(line["finding_birads"], args.malignant_above_3),
                **in_image((x0, y0, x1 - x0, y1 - y0), width, height, films[image.lower()]),
                "side": SIDE.get(line.get("laterality", ""), ""),
                "view": line.get("view_position", ""),
                "film_width": line["width"],
                "film_height": line["height"],
                "assessment": line["finding_birads"],
            }
        )
    return rows, left_out


def main() -> None:
    convert(read, parser_of(__doc__, by_birads=True))


if __name__ == "__main__":
    sys.exit(run(main))
