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
import tempfile
from pathlib import Path

import jinja2
import numpy as np
from tqdm import tqdm

from data_prep.core import provenance
from data_prep.core.errors import InputError, run
from data_prep.core.files import whole_file, write_json
from scripts.benchmarks import compare_nets
from scripts.benchmarks.compare_nets import in_caffe
from scripts.benchmarks.engine_process import STOCK, check_stock
from scripts.nets import definitions
from scripts.reporting.report_page import TEMPLATES

RESULTS = Path("results/benchmark")
PASSES = {"TRAIN": "in training", "TEST": "deployed"}
SAME_PASS = 1e-4
"""Bound of the difference of an output or gradient: max |a - b| / max |a|."""
ITERATIONS, REPEATED = 50, 10
RATES = {"1": "at its rate", "0.01": "at a hundredth of it"}
"""Factors of the solver's rate, as the JSON file names them."""
TIMES_OWN = 10
ALWAYS_ALLOWED = {"losses": 1e-5, "weights": 1e-2}
"""Whatever stock Caffe on one thread does: on a machine with one core it does the same as on all."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def main() -> None:
    """Compute, write, print."""
    args = parse_args()
    check_stock()
    figures = {}
    for net in tqdm(args.nets, disable=None):
        with tempfile.TemporaryDirectory() as folder:
            figures[net] = compare(net, Path(folder))
    broken = [line for net, found in figures.items() for line in outside(net, found)]
    about = {"command": provenance.command(), "commit": provenance.commit(), "hardware": provenance.hardware()}
    page = make_page(about, figures, broken)
    write_json(args.out / "same_caffe.json", {"about": about, "figures": figures, "broken": broken})
    with whole_file(args.out / "same_caffe.md") as path:
        path.write_text(page)
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


def compare(net: str, folder: Path) -> dict:
    """Return all differences of a net's passes and trainings. `folder` takes what the Caffes compute, up to 2 GB."""
    in_caffe(STOCK, {}, compare_nets.make_weights, net, folder)
    return {
        "passes": {phase: compare_passes(net, phase, folder) for phase in PASSES},
        "training": {factor: compare_training(net, float(factor), folder) for factor in RATES},
        "repeated": [repeat(net, folder) for _ in range(2)],
    }


def compare_passes(net: str, phase: str, folder: Path) -> dict[str, dict]:
    """Return the largest difference of each kind, which array has it, and of how many."""
    in_caffe(STOCK, {}, compare_nets.write_pass, net, phase, folder)
    found = in_caffe(None, {}, compare_nets.compare_pass, net, phase, folder)
    return {
        kind: {"largest": max(each.values()), "of": max(each, key=each.get), "arrays": len(each)}
        for kind, each in found.items()
    }


def compare_training(net: str, factor: float, folder: Path) -> dict[str, dict]:
    """Return how far trainings in our Caffe, and in stock Caffe on one thread, come from stock Caffe's; all losses."""
    rate = factor * own_rate(net)
    losses = {
        who: in_caffe(package, threads, compare_nets.train, net, folder, ITERATIONS, rate, f"{who}.npz")
        for who, package, threads in (("stock", STOCK, {}), ("one thread", STOCK, ONE_THREAD), ("ours", None, {}))
    }
    found = {
        who: {
            "losses": compare_nets.difference(np.array(losses["stock"]), np.array(losses[who])),
            "weights": compare_nets.way_apart(folder, "stock.npz", f"{who}.npz"),
        }
        for who in ("ours", "one thread")
    }
    allowed = {what: max(TIMES_OWN * found["one thread"][what], least) for what, least in ALWAYS_ALLOWED.items()}
    return found | {"allowed": allowed, "all losses": losses}


def own_rate(net: str) -> float:
    """Return the base_lr of a net's solver."""
    return definitions.read_prototxt(definitions.solver_prototxt(net), "SolverParameter").base_lr


def repeat(net: str, folder: Path) -> str:
    """Return a digest of the weights that a short training in our Caffe ends with."""
    in_caffe(None, {}, compare_nets.train, net, folder, REPEATED, own_rate(net), "repeated.npz")
    return compare_nets.digest(folder / "repeated.npz")


def outside(net: str, found: dict) -> list[str]:
    """Return a line for each bound that a net's figures break."""
    lines = [
        f"{net}, {PASSES[phase]}: {kind} differ by {each['largest']:.1e} ({each['of']}); allowed are {SAME_PASS:g}"
        for phase, kinds in found["passes"].items()
        for kind, each in kinds.items()
        if not each["largest"] <= SAME_PASS
    ]
    lines += [
        f"{net}, {RATES[factor]}: {what} differ by {training['ours'][what]:.1e}; allowed are {bound:.1e}"
        for factor, training in found["training"].items()
        for what, bound in training["allowed"].items()
        if not training["ours"][what] <= bound
    ]
    if len(set(found["repeated"])) > 1:
        lines.append(f"{net}: {REPEATED} iterations in our Caffe, twice, end with different weights")
    return lines


def make_page(about: dict, figures: dict, broken: list[str]) -> str:
    """Return the tables in Markdown."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("same_caffe.md").render(
        about=about,
        figures=figures,
        broken=broken,
        batch=compare_nets.BATCH,
        passes=PASSES,
        same_pass=SAME_PASS,
        rates=RATES,
        iterations=ITERATIONS,
        times_own=TIMES_OWN,
        repeated=REPEATED,
    )


if __name__ == "__main__":
    sys.exit(run(main))
