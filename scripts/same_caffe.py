"""Show that our Caffe computes what stock Caffe computes, and the same twice. Exit status 1 where it does not.

    scripts/install/setup.sh --stock            # stock Caffe, to compare with; once
    python scripts/same_caffe.py                # about ten minutes on two cores; results/benchmark/same_caffe.*
    python scripts/same_caffe.py baseline --out FOLDER

Each of the three nets, with the same weights and images in both Caffes:
- one pass forward and backward, in training and as deployed: the outputs of all layers and all gradients;
- 50 iterations of its solver, at the solver's rate and at a hundredth of it. Training magnifies rounding, at the former
  much, at the latter little. How much, stock Caffe on one thread shows; ours may differ ten times as much as it;
- 10 iterations in our Caffe, twice: not a bit may differ.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from data_prep.core import provenance
from data_prep.core.errors import InputError, run
from data_prep.core.files import scratch_folder, write_text
from data_prep.core.json_files import write_json
from scripts.benchmarks.compare_nets import (
    compare,
    make_page,
    outside,
)
from scripts.benchmarks.engine_process import check_stock
from scripts.nets import definitions

RESULTS = Path("results/benchmark")


def main() -> None:
    """Compute, write, print."""
    args = parse_args()
    check_stock()
    figures = {}
    for net in tqdm(args.nets, disable=None):
        with scratch_folder() as folder:
            figures[net] = compare(net, folder)
    broken = [line for net, found in figures.items() for line in outside(net, found)]
    about = {"command": provenance.command(), "commit": provenance.commit(), "hardware": provenance.hardware()}
    page = make_page(about, figures, broken)
    write_json(args.out / "same_caffe.json", {"about": about, "figures": figures, "broken": broken})
    write_text(args.out / "same_caffe.md", page)
    print(page)
    if broken:
        sys.exit(1)


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", metavar="NET", help=f"{', '.join(definitions.NETS)} (default: all)")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"folder of the tables (default: {RESULTS})")
    args = parser.parse_args()
    args.nets = args.nets or list(definitions.NETS)
    for net in args.nets:
        if net not in definitions.NETS:
            raise InputError(f"{net}: no such net; there are {', '.join(definitions.NETS)}")
    return args


if __name__ == "__main__":
    sys.exit(run(main))
