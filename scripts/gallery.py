"""Make the gallery of a split for the report: every mass as a net sees it and its saliency map, as thumbnails.

    python scripts/gallery.py                                     # the newest snapshot under runs/, its test split
    python scripts/gallery.py --run runs/googlenet --split val

Writes to runs/NAME/gallery_<split>/ two sheets of tiles, crops.webp and maps.webp, and index.csv, one row per mass in
the tiles' order (from left to right, and down): mass_id, patient, pathology, label, probability, predicted and outcome
(TP, FP, FN or TN, malignant being positive). A map is of the predicted class's score (scripts/saliency.py).
"""

import sys
from pathlib import Path

from data_prep.core.errors import run
from data_prep.core.files import pasted
from scripts.evaluation import selection
from scripts.nets import device
from scripts.reporting.gallery import FILES, sheet, tiles, write


def main() -> None:
    """Choose, explain all, write."""
    args = selection.parser(__doc__, split="test").parse_args()
    target = selection.choose_target(args)
    out = selection.out_folder(target, args.out, "gallery")
    device.set_mode(args.gpu)
    rows, crops, maps = zip(*tiles(target), strict=True)
    write(out, list(rows), {"crops": sheet(crops), "maps": sheet(maps)})
    print(f"{out}: {', '.join(FILES)}")
    if target.run:
        run_folder = target.weights.parent
        print(f"next: python scripts/report.py {pasted(run_folder)} --out {pasted('results' / Path(run_folder.name))}")


if __name__ == "__main__":
    sys.exit(run(main))
