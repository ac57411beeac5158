"""Measure what data preparation promises: its speed, its memory, and that training never waits for data.

    python scripts/benchmark_data.py                    # all: about half an hour on two cores with nothing else to do
    python scripts/benchmark_data.py workers memory     # these parts only; the figures of the others stay
    python scripts/benchmark_data.py --toy              # tiny films and batches: shows that it runs, measures nothing

On synthetic films as fine as DDSM's; takes 10 GB of memory and 5 GB of disk. Each part writes its figures to --out as
JSON as soon as it is done; README.md there is made from whatever JSON files there are.
"""

import argparse
import sys
from pathlib import Path

from data_prep.core.errors import run
from scripts.benchmarks import data_layer, database_build
from scripts.reporting import benchmark_page

RESULTS, WORK = Path("results/data_benchmark"), Path("data/benchmark")
PACKAGES = ("numpy", "opencv-python-headless", "scikit-image", "lmdb")  # whose versions count
PARTS = {
    "workers": database_build.workers,
    "straightforward": database_build.straightforward,
    "memory": database_build.memory,
    "encodings": data_layer.encodings,
    "training": data_layer.training,
}


def main() -> None:
    args = parse_args()
    scale = database_build.TOY if args.toy else database_build.Scale()
    args.work.mkdir(parents=True, exist_ok=True)
    out = args.out or (args.work / "toy" if args.toy else RESULTS)
    for name in args.parts or PARTS:
        benchmark_page.measure(name, PARTS[name], (args.work, scale), out, PACKAGES)
        found = benchmark_page.measured(out, PARTS)
        benchmark_page.write_page(out, "data_benchmark.md", found, toy=args.toy)
    print(f"{out / 'README.md'}: the tables")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--out", type=Path, help=f"folder of the tables (default: {RESULTS}, or toy/ in --work)")
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder for films (default: {WORK})")
    parser.add_argument("--toy", action="store_true", help="tiny films and batches, whose figures mean nothing")
    args = parser.parse_args()
    benchmark_page.check_parts(args.parts, PARTS)
    return args


if __name__ == "__main__":
    sys.exit(run(main))
