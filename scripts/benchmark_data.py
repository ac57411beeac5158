"""Measure that two workers prepare data nearly twice as fast as one, and that training never waits for data.

    python scripts/benchmark_data.py                    # all: about ten minutes on two cores with nothing else to do
    python scripts/benchmark_data.py workers            # this part only; the figures of the others stay
    python scripts/benchmark_data.py --toy              # tiny films and batches: shows that it runs, measures nothing

It uses synthetic films as fine as DDSM's, 10 GB of memory and 5 GB of disk. Each part writes its figures to --out as
JSON as soon as it is done; README.md there is made from whatever JSON files there are, among them those of parts that
were measured once, at the commit that they name.
"""

import argparse
import sys
from pathlib import Path

from data_prep.core.errors import run
from scripts.benchmarks import data_layer, database_build
from scripts.reporting import benchmark_page

RESULTS, WORK = Path("results/data_benchmark"), Path("data/benchmark")
PACKAGES = ("numpy", "opencv-python-headless", "scikit-image", "lmdb")  # whose versions count
PARTS = {"workers": database_build.workers, "training": data_layer.training}
MEASURED_ONCE = ("straightforward", "memory", "encodings")


def main() -> None:
    args = parse_args()
    scale = database_build.TOY if args.toy else database_build.Scale()
    args.work.mkdir(parents=True, exist_ok=True)
    out = args.out or (args.work / "toy" if args.toy else RESULTS)
    for name in args.parts or PARTS:
        benchmark_page.measure(name, PARTS[name], (args.work, scale), out, PACKAGES)
        found = benchmark_page.measured(out, (*PARTS, *MEASURED_ONCE))
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
