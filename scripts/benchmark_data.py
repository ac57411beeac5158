"""Measure what data preparation promises: its speed, its memory, and that training never waits for data.

    python scripts/benchmark_data.py                    # all: about half an hour on two cores with nothing else to do
    python scripts/benchmark_data.py workers memory     # these parts only; the figures of the others stay
    python scripts/benchmark_data.py --toy              # tiny films and batches: shows that it runs, measures nothing

On synthetic films as fine as DDSM's; takes 10 GB of memory and 5 GB of disk. Each part writes its figures to --out as
JSON as soon as it is done; README.md there is made from whatever JSON files there are.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import jinja2

from data_prep import provenance
from data_prep.mass import InputError, run
from data_prep.whole_file import whole_file, write_json
from scripts import build_benchmarks, caffe_benchmarks
from scripts.report import TEMPLATES

RESULTS, WORK = Path("results/data_benchmark"), Path("data/benchmark")
PARTS = {
    "workers": build_benchmarks.workers,
    "straightforward": build_benchmarks.straightforward,
    "memory": build_benchmarks.memory,
    "encodings": caffe_benchmarks.encodings,
    "training": caffe_benchmarks.training,
}


def main() -> None:
    args = parse_args()
    scale = build_benchmarks.TOY if args.toy else build_benchmarks.Scale()
    args.work.mkdir(parents=True, exist_ok=True)
    out = args.out or (args.work / "toy" if args.toy else RESULTS)
    for name in args.parts or PARTS:
        print(f"{name} ...", flush=True)
        began = time.monotonic()
        figures = PARTS[name](args.work, scale)
        write_json(out / f"{name}.json", {"about": about(time.monotonic() - began), "figures": figures})
        write_page(out, args.toy)
    print(f"{out / 'README.md'}: the tables")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--out", type=Path, help=f"folder of the tables (default: {RESULTS}, or toy/ in --work)")
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder for films (default: {WORK})")
    parser.add_argument("--toy", action="store_true", help="tiny films and batches, whose figures mean nothing")
    args = parser.parse_args()
    for part in args.parts:
        if part not in PARTS:
            raise InputError(f"{part}: no such part; there are {', '.join(PARTS)}")
    return args


def about(seconds: float) -> dict:
    """Return where figures come from."""
    return {
        "command": provenance.command(),
        "commit": provenance.commit(),
        "versions": provenance.versions("numpy", "opencv-python-headless", "scikit-image", "lmdb"),
        "hardware": provenance.hardware(),
        "minutes": seconds / 60,
    }


def write_page(out: Path, toy: bool) -> None:
    """Write README.md from the parts' JSON files."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"median": statistics.median, "spread": spread}
    found = {name: json.loads((out / f"{name}.json").read_text()) for name in PARTS if (out / f"{name}.json").is_file()}
    with whole_file(out / "README.md") as path:
        path.write_text(environment.get_template("data_benchmark.md").render(parts=found, toy=toy))


def spread(values: list[float], digits: int = 2) -> str:
    """Return the median, and in brackets the smallest and the largest value."""
    middle, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


if __name__ == "__main__":
    sys.exit(run(main))
