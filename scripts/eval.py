"""Evaluate a trained net on a split: figures with 95 % intervals, predictions, ROC, the paper's row beside.

    python scripts/eval.py                        # newest snapshot under runs/, its data, test split
    python scripts/eval.py --run runs/googlenet
    python scripts/eval.py --weights runs/alexnet_iter_5000.caffemodel --data data/lmdb --split val
    python scripts/eval.py --run runs/googlenet --at-recall 0.923      # after --split val, which gives the threshold

Writes to runs/NAME/eval_<split>/: predictions.csv (one row per record), metrics.json, metrics.md, confusion.png,
and roc.png and pr.png where both classes are present. A mass is called malignant from probability 0.5 on, or from what
--threshold or --at-recall says; the folder's name then says so too. Intervals resample patients
(scripts/evaluation/metrics.py).
"""

import sys

from data_prep.core.errors import run
from scripts.evaluation import evaluation_table, selection, thresholds
from scripts.evaluation.predictions import predict_split
from scripts.evaluation.split_evaluation import summarise, write
from scripts.nets import device


def main() -> None:
    """Choose, predict, judge, write, print."""
    parser = selection.parser(__doc__, split="test")
    thresholds.add_arguments(parser)
    args = parser.parse_args()
    target = selection.choose_target(args)
    threshold = thresholds.choose(args, target)
    out = selection.out_folder(target, args.out, "eval", threshold.suffix)
    device.set_mode(args.gpu)
    rows = list(predict_split(target, threshold.value))
    summary = summarise(target, rows, threshold)
    write(out, summary, rows)
    print(f"\n{evaluation_table.render(summary)}\n{out}: predictions.csv, metrics.json, metrics.md, figures")
    print(f"next: python scripts/saliency.py {selection.typed(target)}")


if __name__ == "__main__":
    sys.exit(run(main))
