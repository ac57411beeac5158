"""Predictions of a split's masses: computed by a net, written to and read from predictions.csv."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.core.errors import InputError
from data_prep.core.tables import numbers, read_rows
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
    folds: np.ndarray  # of a cross-validation, "1" to "5"; elsewhere ""


def read_predictions(path: Path) -> Predictions:
    """Return a predictions.csv of eval.py, or of a cross-validation; InputError when it is missing or damaged."""
    if not path.is_file():
        raise InputError(f"{path}: missing; make it with python scripts/eval.py")
    rows = read_rows(path, FIELDS)
    found = [numbers(path, row, label=int, probability=float) for row in rows]
    if any(row["label"] not in (0, 1) or not 0 <= row["probability"] <= 1 for row in found):
        raise InputError(f"{path}: damaged: a label other than 0 and 1, or a probability outside 0 to 1")
    masses, patients, pathologies = (
        np.array([row[name] for row in rows]) for name in ("mass_id", "patient", "pathology")
    )
    labels, probabilities = (np.array([row[name] for row in found]) for name in ("label", "probability"))
    folds = np.array([row.get("fold", "") for row in rows])
    return Predictions(masses, patients, pathologies, labels, probabilities, folds)


def predict_split(target: selection.EvaluationTarget, threshold: float = metrics.THRESHOLD) -> Iterator[dict]:
    """Yield a row of FIELDS for each record of the split, in key order; InputError when the net gives NaN."""
    about = manifest.read_csv(target.data)
    net = inference.load_deploy(target.net, target.weights, selection.BATCH)
    for keys, labels, inputs in selection.batches(target):
        outputs = inference.predict(net, inputs)
        selection.check_numbers(target, outputs)
        called = metrics.called_malignant(outputs[:, 1], threshold)
        for key, label, probability, malignant in zip(keys, labels, outputs[:, 1], called, strict=True):
            found = {"label": label, "probability": float(probability), "predicted": int(malignant)}
            yield {name: (about[lmdb_io.mass_id_of(key)] | found)[name] for name in FIELDS}


def name_of_weights(path: str | None) -> str:
    """Return what weights a run started from: random, ImageNet, distilled, fractals, or the file's own name."""
    if path is None:
        return "random"
    kinds = {"bvlc": "ImageNet", "distilled": "distilled", "fractal": "fractals"}
    return kinds.get(Path(path).name.partition("_")[0], Path(path).name)
