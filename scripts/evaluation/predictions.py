"""Predictions of a split's masses: computed by a net, written to and read from predictions.csv."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.core.errors import InputError
from data_prep.database import lmdb_io, manifest
from scripts.evaluation import metrics, selection
from scripts.nets import inference

FIELDS = ("mass_id", "patient", "film", "side", "view", "pathology", "label", "probability", "predicted")


@dataclass(frozen=True)
class Predictions:
    """A split's masses in the order of its database: arrays of one length."""

    masses: np.ndarray  # mass_id
    patients: np.ndarray
    pathologies: np.ndarray
    labels: np.ndarray  # 1 malignant, 0 benign
    probabilities: np.ndarray  # of malignancy, float64


def read_predictions(path: Path) -> Predictions:
    """Return a predictions.csv of eval.py; InputError when it is missing or lacks a column."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        text = (np.array([row[name] for row in rows]) for name in ("mass_id", "patient", "pathology"))
        labels = np.array([int(row["label"]) for row in rows])
        return Predictions(*text, labels, np.array([float(row["probability"]) for row in rows]))
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error!r}); make it with python scripts/eval.py") from None


def predict_split(target: selection.EvaluationTarget) -> Iterator[dict]:
    """Yield a row of FIELDS for each record of the split, in key order; InputError when the net gives NaN."""
    about = manifest.read_csv(target.data)
    net = inference.load_deploy(target.net, target.weights, selection.BATCH)
    for keys, labels, inputs in selection.batches(target):
        outputs = inference.predict(net, inputs)
        selection.check_numbers(target, outputs)
        called = metrics.called_malignant(outputs[:, 1])
        for key, label, probability, malignant in zip(keys, labels, outputs[:, 1], called, strict=True):
            found = {"label": label, "probability": float(probability), "predicted": int(malignant)}
            yield {name: (about[lmdb_io.mass_id_of(key)] | found)[name] for name in FIELDS}


def name_of_weights(path: str | None) -> str:
    """Return what weights a run started from: random, ImageNet, distilled, fractals, or the file's own name."""
    if path is None:
        return "random"
    kinds = {"bvlc": "ImageNet", "distilled": "distilled", "fractal": "fractals"}
    return kinds.get(Path(path).name.partition("_")[0], Path(path).name)
