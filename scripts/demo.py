"""Run the paper's whole procedure on the embedded synthetic set, in minutes: `make demo`.

    python scripts/demo.py                  # films, databases, three nets, test figures, saliency maps, one page
    python scripts/demo.py --patients 40 --iterations 2 --out /somewhere   # smaller

Runs the commands that a user would type, and prints each. The films (data/synthetic) are kept from one time to the
next; the database (data/demo), the runs (runs/demo) and the page (results/demo) are made again, so that every number
on the page was measured in this run. Folders of these names that the demo did not make are left alone, with an error.

The nets are trained briefly, AlexNet and GoogLeNet from the starts of results/starts: enough to see them learn or not,
far from the paper's 30 epochs.
"""

import argparse
import sys
import time
from pathlib import Path

from data_prep.core.errors import run
from data_prep.core.files import make_empty
from scripts.experiments import plan
from scripts.experiments.command_runner import python

ITERATIONS = {"baseline": 60, "alexnet": 80, "googlenet": 100}
BATCH = {"baseline": 32, "alexnet": 32, "googlenet": 16}  # smaller than the paper's: more steps in the time there is


def main() -> None:
    args = parse_args()
    started = time.monotonic()
    runs = args.work / "runs" / "demo"
    for folder in (args.work / "data" / "demo", runs):  # never --out: of the page only its own files are replaced
        if folder.exists():
            print(f"{folder}: made anew")
        make_empty(folder)
    data = args.work / "data" / "demo" / "lmdb"
    films = args.work / "data" / "synthetic"
    python("data_prep/synthetic.py", "--out", films, "--patients", args.patients)
    python("data_prep/build_lmdb.py", "--source", "synthetic", "--root", films, "--out", data)
    for net in ITERATIONS:
        train(net, data, runs / net, args.iterations or ITERATIONS[net])
        python("scripts/eval.py", "--run", runs / net)
        python("scripts/saliency.py", "--run", runs / net)
        python("scripts/gallery.py", "--run", runs / net)
    folders = [runs / net for net in ITERATIONS]
    python("scripts/report.py", *folders, "--out", args.out, "--title", "The demo: synthetic films")
    print(f"\ndone in {(time.monotonic() - started) / 60:.1f} min; open {args.out / 'report.html'}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=120, help="synthetic patients (default: 120)")
    parser.add_argument("--iterations", type=int, help="of each net (default: 60 to 100)")
    parser.add_argument("--work", type=Path, default=Path("."), help="where data/ and runs/ are (default: here)")
    parser.add_argument("--out", type=Path, default=Path("results/demo"), help="default: results/demo")
    return parser.parse_args()


def train(net: str, data: Path, out: Path, iterations: int) -> None:
    """Train one net: the baseline from random weights, the others from the pre-trained ones that are here."""
    start = [] if net == "baseline" else ["--weights", plan.pretrained(net)]
    options = ("--iterations", iterations, "--batch", BATCH[net], "--out", out)
    python("scripts/train.py", "--net", net, *start, "--data", data, *options)


if __name__ == "__main__":
    sys.exit(run(main))
