"""Measure how much of the saliency falls on the mass, on its margin and around it: a test of the paper's Fig 3.

    python scripts/saliency_share.py                                   # newest snapshot, whole validation split
    python scripts/saliency_share.py --run runs/googlenet --split test

Section 5.3 concludes from five maps that the nets "learn to attend to the edges of the mass". Here every mass of the
split is counted: its map (scripts/saliency.py's, of the predicted class), scaled to a sum of 1, is added up in the
zones of scripts/evaluation/saliency_zones.py, where a mass is the ellipse inscribed in its box, as outlines are not
kept. Beside the shares of the trained net stand

    area      the zones' own sizes
    random    shares of nets with random weights (scripts/nets/random_init.py), the mean of three: pooling and the
              image's border shape every net's map
    place     shares of the trained net's mean map: what a net would give that looks at the same place whatever it is
              shown. Masses lie in the middle of their crops, so only what exceeds this follows the mass

Intervals resample patients, differences are of the same masses. Concentration is a share divided by the area's. Writes
saliency_share.json, .md and .csv (every record's shares) to runs/NAME/saliency_share_<split>/.
"""

import sys

from data_prep.core.errors import run
from data_prep.core.files import write_text
from data_prep.core.json_files import write_json
from data_prep.core.tables import write_csv
from scripts.evaluation import selection
from scripts.evaluation.saliency_shares import heading, measure, render, rows_of, summarise
from scripts.nets import device


def main() -> None:
    """Choose, measure, judge, write, print."""
    args = selection.parser(__doc__, split="val").parse_args()
    target = selection.choose_target(args)
    out = selection.out_folder(target, args.out, "saliency_share")
    device.set_mode(args.gpu)
    rows = rows_of(target, *measure(target))
    summary = summarise(target, rows)
    write_csv(out / "saliency_share.csv", list(rows[0]), rows)
    write_text(out / "saliency_share.md", f"# {heading(summary)}\n\n{render(summary)}")
    write_json(out / "saliency_share.json", summary)
    print(f"\n{render(summary)}\n{out}: saliency_share.json, saliency_share.md, saliency_share.csv")


if __name__ == "__main__":
    sys.exit(run(main))
