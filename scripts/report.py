"""Make one page of finished runs: the answer beside the paper's, the evidence, and where each number comes from.

    python scripts/report.py runs/baseline runs/alexnet runs/googlenet --out results/mine
    python scripts/report.py --live runs                  # runs/live.html: the trainings there, while they go on

Each run must have been trained (scripts/train.py), evaluated (eval.py), explained (saliency.py) and pictured
(gallery.py). Writes to --out: report.html, one file that needs no other; README.md, the same in short; and a folder per
run with its log, predictions, metrics and figures. What the page computes itself, such as the bands of the ROC curves,
it computes from these predictions.
"""

import argparse
import sys
from pathlib import Path

from data_prep.core.errors import run
from scripts.reporting import finished_run, live_page
from scripts.reporting.report_page import examples, saliency, write_page


def main() -> None:
    args = parse_args()
    if args.live:
        live_page.follow(args.live)
        return
    runs = [finished_run.read(folder) for folder in args.runs]
    write_page(
        args.out,
        runs,
        args.title,
        figures=[examples(args.out, runs[0]), *(saliency(args.out, each) for each in runs)],
        anonymous=args.anonymous,
        guide=args.guide,
    )
    print(f"{args.out / 'report.html'}: open it in a browser; {args.out / 'README.md'} is the same in short")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="folders of finished runs")
    parser.add_argument("--live", type=Path, metavar="FOLDER", help="show the trainings below it, while they go on")
    parser.add_argument("--out", type=Path, help="folder for the page and its files")
    parser.add_argument("--title", default="Breast masses, benign or malignant", help="the page's heading")
    parser.add_argument(
        "--guide", type=Path, metavar="PNG", help="explain the matter first, with this picture of classify.py"
    )
    parser.add_argument(
        "--anonymous",
        action=argparse.BooleanOptionalAction,
        help="numbers in place of patients' and masses' names (default: where the films are your own)",
    )
    args = parser.parse_args()
    if bool(args.live) == bool(args.runs and args.out):
        parser.error("give finished runs and --out, or --live and a folder of runs")
    return args


if __name__ == "__main__":
    sys.exit(run(main))
