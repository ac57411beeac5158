"""Measure how fast our Caffe trains, beside stock Caffe and PyTorch, on this machine.

    .venv/bin/pip install -r requirements-benchmark.txt   # PyTorch, once
    scripts/install/setup.sh --stock                      # stock Caffe, once
    python scripts/benchmark.py                           # all: about 25 minutes on two cores with nothing else to do
    python scripts/benchmark.py training layers           # these parts only; the figures of the others stay
    python scripts/benchmark.py --toy                     # one net, a tiny batch: shows that it runs

All engines compute the same, which is checked first, and take turns. Each part writes its figures to --out as JSON as
soon as it is done; README.md and layers.png there are made from whatever JSON files there are.
"""

import argparse
import sys
from pathlib import Path

from data_prep.core.errors import InputError, run
from data_prep.core.files import atomic_write
from scripts.benchmarks import chart, engine_process, measurements
from scripts.evaluation import paper_results
from scripts.reporting import benchmark_page

RESULTS, TOY_RESULTS = Path("results/benchmark"), Path("data/benchmark/toy_speed")
PACKAGES = ("numpy", "torch")
PARTS = {
    "training": measurements.training,
    "layers": measurements.layers,
    "inference": measurements.inference,
    "saliency": measurements.saliency,
    "memory": measurements.memory,
}


def main() -> None:
    """Measure the parts that were asked for; after each, write the page."""
    args = parse_args()
    engine_process.check_engines()
    scale = measurements.TOY if args.toy else measurements.Scale(turns=args.repeats)
    out = args.out or (TOY_RESULTS if args.toy else RESULTS)
    for name in args.parts or PARTS:
        benchmark_page.measure(name, PARTS[name], (scale,), out, PACKAGES)
        page = write_page(out, args.toy)
    print(page)
    print(f"{out / 'README.md'}: the tables; layers.png: the chart")


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments; InputError for a part that there is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--out", type=Path, help=f"folder of the tables (default: {RESULTS}, or {TOY_RESULTS})")
    parser.add_argument("--toy", action="store_true", help="one net and a tiny batch, whose figures mean nothing")
    parser.add_argument(
        "--repeats", type=int, default=measurements.Scale.turns, help="timed training iterations (default: %(default)s)"
    )
    args = parser.parse_args()
    benchmark_page.check_parts(args.parts, PARTS)
    if args.repeats < 1:
        raise InputError(f"--repeats {args.repeats}: at least one iteration is to be timed")
    return args


def engines_of(figures: dict) -> set[str]:
    """Return the engines that a part's figures are of."""
    return set(figures["engines"] if "engines" in figures else next(iter(figures["rows"].values()))["engines"])


def write_page(out: Path, toy: bool) -> str:
    """Write the chart and README.md from the parts' JSON files; return the page."""
    found = benchmark_page.measured(out, PARTS)
    for name in [
        name for name, part in found.items() if not engines_of(part["figures"]) <= engine_process.ENGINES.keys()
    ]:
        print(f"{out / name}.json: left out of the page, for its engines are not today's; measure it again")
        del found[name]
    if "layers" in found:
        with atomic_write(out / "layers.png") as path:
            chart.chart(found["layers"]["figures"]["rows"]).savefig(path)
    return benchmark_page.write_page(
        out,
        "benchmark.md",
        found,
        toy=toy,
        engines=engine_process.ENGINES,
        titles=paper_results.TITLES,
        by_kind=chart.by_kind,
        by_layer=chart.by_layer,
        together=chart.together,
        gain=chart.gain,
        patches=chart.PATCHES,
        bounds=(measurements.SAME_OUTPUTS, measurements.SAME_GRADIENTS),
    )


if __name__ == "__main__":
    sys.exit(run(main))
