"""Build the LMDB databases that the nets train on, from mammograms with outlined masses.

    python data_prep/build_lmdb.py                                      # data/ddsm or data/cbis, else the synthetic set
    python data_prep/build_lmdb.py --source ddsm --root data/ddsm
    python data_prep/build_lmdb.py --source cbis --root data/cbis --official-split
    python data_prep/build_lmdb.py --source boxes --root masses.csv --context small --no-aug --out data/small
    python data_prep/build_lmdb.py --source ddsm --split data/lmdb/split.csv --no-aug --out data/large_noaug

Patients are split 80/10/10 with validation and test balanced. Every mass gives its context square; in the training set
(unless --no-aug) 5 random rotations x 5 random crops of it instead. data_prep/database/manifest.py says what the
folder then holds. The same seed and input give the same digest, whatever the number of workers. An interrupted build
leaves nothing that a later step would take for a database: type the command again.
"""

import argparse
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from data_prep.core import provenance
from data_prep.core.errors import InputError, natural, run
from data_prep.core.files import atomic_folder, check_absent, pasted
from data_prep.core.process_pool import worker_pool
from data_prep.core.records import Mass
from data_prep.database import build_summary, context_crops, lmdb_io, lmdb_writer, manifest
from data_prep.database.split import SPLITS, read_split, split_patients, write_split
from data_prep.sources import cbis_ddsm, csv_boxes
from data_prep.sources.registry import DEFAULT_ROOT, READERS
from data_prep.synthesis import cbis_set, ddsm_set

ROTATIONS, CROPS = 5, 5  # paper, section 4.2: 25 times the training set


def main() -> None:
    args = parse_args()
    choose_source(args)
    check_absent(args.out)
    with worker_pool(args.workers) as pool:
        masses = read_masses(args, pool)
        with atomic_folder(args.out) as folder:
            table, account = build(folder, masses, args, pool)
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
    parser.add_argument("--no-aug", action="store_true", help="one upright crop a mass in the training set as well")
    parser.add_argument("--callback-only", action="store_true", help="leave BENIGN_WITHOUT_CALLBACK masses out")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--split", type=Path, help="use this split (CSV: patient,split) instead of a new one")
    which.add_argument(
        "--official-split", action="store_true", help="CBIS-DDSM's own test set; val out of its training"
    )
    parser.add_argument("--seed", type=natural, default=1, help="of split, augmentation and order (default: 1)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: cores)")
    return parser.parse_args()


def choose_source(args: argparse.Namespace) -> None:
    """Settle args.source and args.root from what was typed or what is there, saying which."""
    if args.source is None:
        if args.root is not None:
            raise InputError(f"{args.root}: --root needs --source ({', '.join(READERS)}) to say what it holds")
        args.source = next((name for name in ("ddsm", "cbis") if DEFAULT_ROOT[name].is_dir()), "synthetic")
        there = "neither data/ddsm nor data/cbis" if args.source == "synthetic" else DEFAULT_ROOT[args.source]
        print(f"{there} is there: building from --source {args.source}")
    args.root = args.root or DEFAULT_ROOT.get(args.source)
    if args.root is None:
        raise InputError(f"--source {args.source} needs --root, the file or folder to read")
    if args.source == "synthetic":
        ddsm_set.ensure(args.root)
    if args.official_split and args.source != "cbis":
        raise InputError(f"--official-split: --source {args.source} has none; CBIS-DDSM (--source cbis) has")


def read_masses(args: argparse.Namespace, pool: Executor) -> list[Mass]:
    """Return every lesion of the source; InputError when none can be used, or two have one name."""
    # outlines have done their part in the boxes: they would take 10 kB a mass
    masses = [replace(mass, outline=None) for mass in READERS[args.source].masses(args.root, pool.map)]
    if args.callback_only:
        dropped = [mass for mass in masses if mass.pathology == "BENIGN_WITHOUT_CALLBACK"]
        masses = leave_out(masses, {mass.mass_id: "benign without callback" for mass in dropped})
    for one, other in pairwise(masses):
        if one.mass_id == other.mass_id:
            raise InputError(f"{args.root}: two lesions are called {one.mass_id} ({one.film.path}, {other.film.path})")
    if all(mass.reason for mass in masses):
        reasons = Counter(mass.reason.partition(":")[0] for mass in masses)
        kinds = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
        raise InputError(f"{args.root}: none of its {len(masses)} lesions can be used ({kinds}; {masses[0].reason})")
    return masses


def leave_out(masses: Iterable[Mass], reasons: dict[str, str]) -> list[Mass]:
    """Return the masses; those named in `reasons` carry theirs, unless they were left out before."""
    return [replace(m, reason=m.reason or reasons.get(m.mass_id, "")) for m in masses]


def build(
    folder: Path, masses: list[Mass], args: argparse.Namespace, pool: Executor
) -> tuple[build_summary.Table, build_summary.Account]:
    """Fill `folder`; return its counts, and the account of what was left out.

    Some damage shows only when a film is decoded. Such a film's masses are listed, then split and databases are made
    anew without them, so that validation and test stay balanced.
    """
    recipe = context_crops.Recipe(args.context, *((0, 0) if args.no_aug else (ROTATIONS, CROPS)), args.seed)
    load = READERS[args.source].load_film
    while True:
        used = [mass for mass in masses if not mass.reason]
        split = choose_split(used, args)
        written = lmdb_writer.write(folder, lmdb_writer.film_jobs(used, split, recipe, load), pool, args.workers)
        if not written.unreadable:
            break
        for problem in written.unreadable.values():
            print(f"left out: {problem}; starting anew without it", file=sys.stderr)
        reasons = {film: f"unreadable film: {problem}" for film, problem in written.unreadable.items()}
        masses = leave_out(masses, {m.mass_id: reasons[m.film] for m in used if m.film in reasons})
        for name in SPLITS:
            shutil.rmtree(folder / name)
    lmdb_io.write_mean(folder / lmdb_io.MEAN, written.mean)
    write_split(folder / "split.csv", split)
    manifest.write_csv(folder, masses, split, args.root if args.root.is_dir() else args.root.parent)
    table = build_summary.counts(used, split, {name: len(written.fingerprints[name]) for name in SPLITS})
    account = build_summary.account(masses)
    found = {
        "grey_levels": READERS[args.source].grey_levels(used),
        "histogram": written.histogram.tolist(),
        "counts": table,
        "account": account,
        "digest": lmdb_writer.digest(written.fingerprints),
        "ties": {name: manifest.ties(folder, name) for name in SPLITS},
    }
    manifest.write_json(folder, describe(args, recipe) | found)
    return table, account


def choose_split(masses: list[Mass], args: argparse.Namespace) -> dict[str, str]:
    """Return each patient's set: from the file given, around the official test set, or anew."""
    if args.split:
        return read_split(args.split, masses)
    return split_patients(masses, args.seed, cbis_ddsm.official_test(masses) if args.official_split else ())


def describe(args: argparse.Namespace, recipe: context_crops.Recipe) -> dict:
    """Return what manifest.json says of how a database was made."""
    return {
        # made films are never passed off as real ones, however they are named
        "source": "synthetic" if is_made(args.source, args.root) else args.source,
        "root": provenance.public(args.root),
        **recipe._asdict(),
        "callback_only": args.callback_only,
        "split": provenance.public(args.split) if args.split else "official" if args.official_split else "made by seed",
        "commit": provenance.commit(),
        "versions": provenance.versions("numpy", "opencv-python-headless", "lmdb"),
    }


def is_made(source: str, root: Path) -> bool:
    """Whether the films are of a synthetic set."""
    return (cbis_set if source == "cbis" else ddsm_set).is_synthetic(root)


if __name__ == "__main__":
    sys.exit(run(main))
