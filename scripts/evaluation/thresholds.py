"""The threshold from which a mass is called malignant: one half, one that is typed, or one chosen on validation."""

import argparse
from typing import NamedTuple

from data_prep.core.errors import InputError
from data_prep.core.files import pasted
from data_prep.core.json_files import read_json
from scripts.evaluation import comparisons, metrics, selection
from scripts.evaluation.predictions import read_predictions
from scripts.nets.caffemodel import sha256_of


class Threshold(NamedTuple):
    """A probability, how it was chosen ("" for the default), and what a folder's name says of it."""

    value: float
    chosen: str = ""
    suffix: str = ""

    def __str__(self) -> str:
        return f"threshold {self.value:.4g}" + (f", {self.chosen}" if self.chosen else "")


DEFAULT = Threshold(metrics.THRESHOLD)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options by which a user chooses a threshold."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--threshold", type=share, metavar="P", help="malignant from here on (default: 0.5)")
    which.add_argument("--at-recall", type=share, metavar="R", help="threshold with this recall on validation")


def share(text: str) -> float:
    """Parse a number above 0, at most 1."""
    if not 0 < float(text) <= 1:
        raise ValueError
    return float(text)


def choose(args: argparse.Namespace, trained: selection.TrainedNet) -> Threshold:
    """Return the threshold; for a wanted recall the highest one that reaches it on the net's own validation set.

    InputError where eval.py has not predicted that with these weights.
    """
    if args.threshold is not None:
        return Threshold(args.threshold, "as typed", f"_threshold{args.threshold:g}")
    if args.at_recall is None:
        return DEFAULT
    folder = selection.output_of(trained, "eval", "val")
    told = read_json(folder / "metrics.json") if (folder / "metrics.json").is_file() else {}
    if told.get("weights_sha256") != sha256_of(trained.weights):
        raise InputError(
            f"{folder}: holds no predictions by these weights, on which to choose a threshold; make them with "
            f"python scripts/eval.py --weights {pasted(trained.weights)} --split val"
        )
    found = read_predictions(folder / "predictions.csv")
    point = comparisons.at_recall(args.at_recall, found.labels, found.probabilities, found.patients)
    if point.threshold is None:
        raise InputError(f"{folder}: no malignant masses, so no recall; give --threshold")
    return Threshold(point.threshold, f"recall {args.at_recall:g} on validation", f"_recall{args.at_recall:g}")
