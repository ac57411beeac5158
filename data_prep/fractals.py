"""Make a set of fractals to pre-train nets on, for a machine that cannot have ImageNet weights.

    python data_prep/fractals.py                             # data/fractals: 100 categories, 20,000 + 1,000 images
    python data_prep/fractals.py --out data/few --categories 10 --images 500 --seed 2

A category is a random iterated function system (iterated_functions.py); its images show the system's attractor with the
parameters jittered, turned and mirrored. The folder holds the LMDBs train/ and val/ (128 x 128, labelled with the
category), sheet.png with examples, a category a row, and manifest.json. The same arguments give the same digest,
whatever the number of workers. A folder that holds the very set asked for is left as it is.
"""

import argparse
import os
import sys
from pathlib import Path

from data_prep.core.errors import run
from data_prep.synthesis.fractal_set import DEFAULT, DEFAULTS, ensure


def main() -> None:
    args = parse_args()
    made = ensure(args.out, args.categories, args.images, args.seed, args.workers)
    print(
        f"{args.out}: {args.categories} categories, {'finished' if made else 'already there'}; "
        f"next: python scripts/pretrain.py --net alexnet --data {args.out}"
    )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DEFAULT, help=f"folder (default: {DEFAULT})")
    for name, default in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: cores)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run(main))
