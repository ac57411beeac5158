"""Run the paper's whole procedure on the embedded synthetic set, in ten minutes: `make demo`.

    python scripts/demo.py                  # films, databases, three nets, test figures, saliency maps, one page
    python scripts/demo.py --seed 2 --work /somewhere                      # all of it with other random numbers
    python scripts/demo.py --patients 40 --iterations 2 --work /elsewhere  # smaller

Runs the commands that a user would type, and prints each. The films (data/synthetic_demo) are kept from one time to the
next; the database (data/demo), the runs (runs/demo) and the page (results/demo) are made again, so that every number
on the page was measured in this run. Folders of these names that the demo did not make are left alone, with an error.

Ten minutes go furthest with many masses on few small films, and with a test set that is large beside the training set,
for narrow intervals. The nets are trained by the paper's solvers, far shorter than its 30 epochs, with smaller batches
for more steps, and baseline and AlexNet at lower rates than the paper's; the page says so. AlexNet and GoogLeNet start
from results/starts.
"""

import argparse
import sys
import time
from pathlib import Path

from data_prep.core.errors import natural, positive, run
from data_prep.core.files import make_empty
from scripts.experiments import plan
from scripts.experiments.command_runner import python

FILMS = ("--masses", 2, "--resolution", 200)  # one of each class: whole patients can then be split into balanced sets
TEST_SHARE = 0.25
ITERATIONS = {"baseline": 260, "alexnet": 110, "googlenet": 150}
BATCH = {"baseline": 32, "alexnet": 32, "googlenet": 16}
RATES = {"baseline": ("--base-lr", 1e-4), "alexnet": ("--base-lr", 1e-5), "googlenet": ()}
"""Adam's first steps at the paper's 1e-3 throw both nets so far off that some hundred iterations do not bring them
back: they end at chance. AlexNet's start has large features (results/starts), so it wants the smallest rate."""


def main() -> None:
    args = parse_args()
    started = time.monotonic()
    runs = args.work / "runs" / "demo"
    for folder in (args.work / "data" / "demo", runs):  # never --out: of the page only its own files are replaced
        if folder.exists():
            print(f"{folder}: made anew")
        make_empty(folder)
    data = args.work / "data" / "demo" / "lmdb"
    films = args.work / "data" / "synthetic_demo"
    seed = ("--seed", args.seed)
    python("data_prep/synthetic.py", "--out", films, "--patients", args.patients, *FILMS, *seed)
    source = ("--source", "synthetic", "--root", films)
    python("data_prep/build_lmdb.py", *source, "--test-share", TEST_SHARE, *seed, "--out", data)
    for net, iterations in ITERATIONS.items():
        start = () if net == "baseline" else ("--weights", plan.pretrained(net))
        length = ("--iterations", args.iterations or iterations, "--batch", BATCH[net], *RATES[net])
        python("scripts/train.py", "--net", net, *start, "--data", data, *length, *seed, "--out", runs / net)
        for script in ("eval", "saliency", "gallery"):
            python(f"scripts/{script}.py", "--run", runs / net)
    out = args.out or args.work / "results" / "demo"
    out.mkdir(parents=True, exist_ok=True)
    guide = out / "example.png"
    python("scripts/classify.py", "--example", "--run", runs / "googlenet", "--out", guide)
    page = ("--out", out, "--guide", guide, "--title", "The demo: synthetic films")
    python("scripts/report.py", *(runs / net for net in ITERATIONS), *page)
    print(f"\ndone in {(time.monotonic() - started) / 60:.1f} min; open {out / 'report.html'}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=positive, default=180, help="synthetic patients (default: 180)")
    parser.add_argument("--iterations", type=positive, help="of each net (default: 110 to 260)")
    parser.add_argument("--seed", type=natural, default=1, help="of films, split and trainings (default: 1)")
    parser.add_argument("--work", type=Path, default=Path("."), help="where data/ and runs/ are (default: here)")
    parser.add_argument("--out", type=Path, help="the page's folder (default: results/demo in --work)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run(main))
