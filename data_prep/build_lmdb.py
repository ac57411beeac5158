"""Build the LMDB databases that the nets train on, from mammograms with outlined masses.

    python data_prep/build_lmdb.py                                      # data/ddsm or data/cbis, else the synthetic set
    python data_prep/build_lmdb.py --source ddsm --root data/ddsm
    python data_prep/build_lmdb.py --source cbis --root data/cbis --official-split
    python data_prep/build_lmdb.py --source boxes --root masses.csv --context small --no-aug --out data/small
    python data_prep/build_lmdb.py --source ddsm --split data/lmdb/split.csv --no-aug --out data/large_noaug
    python data_prep/build_lmdb.py --source ddsm --fold 1/5 --out data/fold1    # cross-validation: 1/5 to 5/5

Patients are split 80/10/10 with validation and test balanced; with --fold 1/5 the test set is the first of five equal
parts, and validation still a tenth. Every mass gives its context square; in the training set (unless --no-aug) 5 random
rotations x 5 random crops of it instead. data_prep/database/manifest.py says what the folder then holds. The same seed
and input give the same digest, whatever the number of workers. An interrupted build leaves nothing that a later step
would take for a database: type the command again.
"""

import argparse
import os
import sys
from pathlib import Path

from data_prep.building.database import Options, build, read_masses
from data_prep.core.errors import InputError, natural, run
from data_prep.core.files import atomic_folder, check_absent, pasted
from data_prep.core.process_pool import worker_pool
from data_prep.database import build_summary, context_crops, manifest
from data_prep.database.split import SHARE, parse_fold
from data_prep.sources import csv_boxes
from data_prep.sources.registry import DEFAULT_ROOT, READERS, default_source
from data_prep.synthesis import ddsm_set

ROTATIONS, CROPS = 5, 5  # paper, section 4.2: 25 times the training set


def main() -> None:
    args = parse_args()
    source, root = choose_source(args.source, args.root)
    if args.official_split and source != "cbis":
        raise InputError(f"--official-split: --source {source} has none; CBIS-DDSM (--source cbis) has")
    if source == "synthetic":
        ddsm_set.ensure(root)
    check_absent(args.out)
    recipe = context_crops.Recipe(args.context, *((0, 0) if args.no_aug else (ROTATIONS, CROPS)), args.seed)
    about = {name: text for name in ("name", "credit") if (text := getattr(args, name))}
    which = (args.split, args.official_split, args.test_share, args.workers, args.fold, about)
    options = Options(source, root, recipe, args.callback_only, *which)
    with worker_pool(args.workers) as pool:
        masses = read_masses(options, pool)
        with atomic_folder(args.out) as folder:
            table, account = build(folder, masses, options, pool)
    print(build_summary.render(table, account))
    print(f"{args.out}: finished; next: python scripts/train.py --net baseline --data {pasted(args.out)}")


def parse_args() -> argparse.Namespace:
    style = argparse.RawDescriptionHelpFormatter
    columns = f"--source boxes:\n\n{csv_boxes.COLUMN_HELP}"
    parser = argparse.ArgumentParser(description=__doc__, epilog=columns, formatter_class=style)
    parser.add_argument("--source", choices=READERS, help="what --root holds (default: that of data/ddsm or data/cbis)")
    parser.add_argument("--root", type=Path, help="the set's folder, or the CSV of boxes")
    parser.add_argument("--out", type=Path, default=manifest.DEFAULT, help="new folder (default: data/lmdb)")
    parser.add_argument(
        "--context", choices=context_crops.CONTEXTS, default="large", help="large: 2 x box; small: box + 50 px"
    )
    parser.add_argument("--no-aug", action="store_true", help="one upright crop per mass in the training set as well")
    parser.add_argument("--callback-only", action="store_true", help="leave BENIGN_WITHOUT_CALLBACK masses out")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--split", type=Path, help="use this split (CSV: patient,split) instead of a new one")
    which.add_argument(
        "--official-split", action="store_true", help="CBIS-DDSM's own test set; val out of its training"
    )
    which.add_argument("--fold", type=parse_fold, metavar="K/N", help="test on the K-th of N parts of the patients")
    which.add_argument(
        "--test-share", type=_share, default=SHARE, help="the test set's part of the masses (default: the paper's 0.1)"
    )
    parser.add_argument("--name", help="the set's name, for pages and figures (default: that of --source)")
    parser.add_argument("--credit", help="whom to thank or cite for the set, for the pages")
    parser.add_argument("--seed", type=natural, default=1, help="of split, augmentation and order (default: 1)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: cores)")
    return parser.parse_args()


def _share(text: str) -> float:
    """Parse a part of the masses for testing; validation's and the training set's must remain."""
    if not 0 < float(text) < 1 - 2 * SHARE:
        raise ValueError
    return float(text)


def choose_source(source: str | None, root: Path | None) -> tuple[str, Path]:
    """Return the source and its root: what was typed, or what is there, which is then said."""
    if source is None:
        if root is not None:
            raise InputError(f"{root}: --root needs --source ({', '.join(READERS)}) to say what it holds")
        source = default_source()
        there = "neither data/ddsm nor data/cbis" if source == "synthetic" else DEFAULT_ROOT[source]
        print(f"{there} is there: building from --source {source}")
    root = root or DEFAULT_ROOT.get(source)
    if root is None:
        raise InputError(f"--source {source} needs --root, the file or folder to read")
    return source, root


if __name__ == "__main__":
    sys.exit(run(main))
