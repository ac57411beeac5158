"""Make the folder of a trained net that can be used away from its database: weights, crop recipe, figures, model card.

    python scripts/publish.py runs/googlenet --out results/nets/googlenet \\
        --about "CBIS-DDSM, mass training set (Lee et al. 2017), CC BY 3.0"

The run must be trained to its end and evaluated on both splits (eval.py --split val, then --split test). classify.py
takes the net in results/nets where no run is given.
"""

import argparse
import sys
from pathlib import Path

from data_prep.core.errors import run
from scripts.reporting.finished_run import FinishedRun
from scripts.reporting.model_card import publish


def main() -> None:
    args = parse_args()
    publish(FinishedRun(args.run), args.out, args.about)
    print(f"{args.out}: finished; README.md there is the model card")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the finished run")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--about", required=True, help="what the data is and its licence, for the model card")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run(main))
