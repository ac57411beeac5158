"""Convert mini-MIAS to a CSV of boxes.

    python data_prep/from_mini_mias.py data/mini-mias                     # writes data/mini-mias/boxes.csv
    python data_prep/build_lmdb.py --source boxes --root data/mini-mias/boxes.csv

The folder holds `Info.txt` and, anywhere in it, the 322 films `mdb001.pgm` ... of 1024 x 1024 pixels, or copies of them
of another kind or size (Suckling et al., 1994; peipa.essex.ac.uk/info/mias.html). A line of Info.txt is one
abnormality, or a normal film:

    mdb001 G CIRC B 535 425 197      film, tissue, class, severity, centre x and y, radius, in pixels
    mdb003 D NORM

x and y count from the BOTTOM-left corner. The box is the square about the circle. CIRC, SPIC and MISC are masses; other
classes are left out, and masses whose circle is missing (NOTE 3). Films are pairs of one patient, an odd number the
right breast and the even number after it the left; all are MLO views. They were digitized at 50 microns and shrunk to
200, so that their own size is 4096 x 4096.
"""

import argparse
import re
import sys
from collections import defaultdict

from data_prep.core.errors import run
from data_prep.sources.box_csv import LeftOut, Row, convert, find, images_below, in_image, parser_of

SIDE = 1024  # pixels, of every film
SHRUNK = 4  # 200 microns over 50
LINE = re.compile(r"(mdb(\d{3}))\s+[FGD]\s+([A-Z]{4})(?:\s+([BM]))?(?:\s+(\d+)\s+(\d+)\s+(\d+))?")
PATHOLOGY = {"B": "BENIGN", "M": "MALIGNANT"}
MARGINS = {"CIRC": "CIRCUMSCRIBED", "SPIC": "SPICULATED", "MISC": "ILL_DEFINED"}  # of the classes that are masses
OTHERS = {"NORM": "normal films", "CALC": "calcifications", "ARCH": "architectural distortions", "ASYM": "asymmetries"}


def read(args: argparse.Namespace) -> tuple[list[Row], LeftOut]:
    """Return a row for each mass of the set, and everything else by reason."""
    info = find(args.root, "Info.txt")
    films = images_below(args.root)
    rows: list[Row] = []
    left_out: LeftOut = defaultdict(list)
    # other lines describe the file
    for line in filter(None, map(LINE.match, info.read_text(encoding="latin-1").splitlines())):
        film, number, kind, severity, *circle = line.groups()
        if kind not in MARGINS:
            left_out[OTHERS.get(kind, kind)].append(film)
        elif None in circle:
            left_out["masses without a circle"].append(film)
        else:
            x, y, radius = map(int, circle)
            image = films.get(film, info.with_name(f"{film}.pgm"))
            box = (x - radius, SIDE - y - radius, 2 * radius, 2 * radius)
            rows.append(
                {
                    "image": image,
                    "patient_id": f"mias{(int(number) + 1) // 2:03}",
                    "pathology": PATHOLOGY.get(severity, "UNPROVEN"),
                    **in_image(box, SIDE, SIDE, image),
                    "side": "RIGHT" if int(number) % 2 else "LEFT",
                    "view": "MLO",
                    "film_width": SIDE * SHRUNK,
                    "film_height": SIDE * SHRUNK,
                    "mass_margins": MARGINS[kind],
                }
            )
    return rows, left_out


def main() -> None:
    convert(read, parser_of(__doc__))


if __name__ == "__main__":
    sys.exit(run(main))
