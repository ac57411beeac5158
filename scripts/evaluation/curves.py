"""Curves of a prediction with pointwise 95 % bands by patient: ROC and calibration.

The arrays are as in metrics.py, whose resamples of patients these are too: the same seed draws the same patients.
"""

from typing import NamedTuple

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from scripts.evaluation import metrics

GRID = np.linspace(0, 1, 101)
"""False positive rates at which the band of a ROC curve is given."""
MASSES_PER_BIN = 20  # about; with fewer, a bin's share of malignant masses says little
MOST_BINS = 10


class Calibration(NamedTuple):
    """A reliability curve by bins of equally many masses: arrays of one length.

    `predicted` is the mean probability of a bin, `observed` its share of malignant masses, `low` and `high` the
    interval of that share (NaN where no draw held a mass of the bin) and `counts` its masses.
    """

    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    counts: np.ndarray


def roc_band(
    labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, draws: int = metrics.DRAWS
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper end of the recall at each false positive rate of GRID, (101,) float64 each.

    Both classes must be present; draws that lack one are left out.
    """
    curves = weighted_recall(labels, probabilities, patient_weights(patients, draws))
    low, high = np.nanquantile(curves, [(1 - metrics.LEVEL) / 2, (1 + metrics.LEVEL) / 2], axis=0)
    return low, high


def weighted_recall(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the recall at each false positive rate of GRID under each row of `weights` (draws, n): (draws, 101).

    Between two thresholds a curve is straight, as scikit-learn's roc_curve is. NaN where a class has no weight.
    """
    order = np.argsort(-probabilities, kind="stable")
    ends = np.flatnonzero(np.diff(probabilities[order], append=np.nan))  # the last mass of each threshold
    positive, negative = (np.cumsum((weights * (labels == label))[:, order], axis=1)[:, ends] for label in (1, 0))
    curves = np.full((len(weights), len(GRID)), np.nan)
    for curve, true, false in zip(curves, positive, negative, strict=True):
        if true[-1] and false[-1]:
            curve[:] = np.interp(GRID, np.append(0, false / false[-1]), np.append(0, true / true[-1]))
    return curves


def calibration(labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray) -> Calibration:
    """Return the reliability curve; a threshold shared by many masses can leave fewer bins than planned."""
    bins = int(np.clip(len(labels) // MASSES_PER_BIN, 1, MOST_BINS))
    observed, predicted = calibration_curve(labels, probabilities, n_bins=bins, strategy="quantile")
    edges = np.quantile(probabilities, np.linspace(0, 1, bins + 1)[1:-1])
    places = np.unique(np.searchsorted(edges, probabilities), return_inverse=True)[1]
    members = np.equal.outer(places, np.arange(len(observed))).astype(np.float64)
    weights = patient_weights(patients)
    held = weights @ members
    shares = np.divide((weights * labels) @ members, held, out=np.full(held.shape, np.nan), where=held > 0)
    low, high = np.nanquantile(shares, [(1 - metrics.LEVEL) / 2, (1 + metrics.LEVEL) / 2], axis=0)
    return Calibration(predicted, observed, low, high, members.sum(axis=0).astype(int))


def brier(labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray) -> metrics.Estimate:
    """Return the Brier score, the mean of (probability - label) squared, with its interval."""
    weights = patient_weights(patients)
    drawn = weights @ (probabilities - labels) ** 2 / weights.sum(axis=1)
    return metrics.estimate(float(brier_score_loss(labels, probabilities)), drawn, patients)


def patient_weights(patients: np.ndarray, draws: int = metrics.DRAWS, seed: int = metrics.SEED) -> np.ndarray:
    """Return how often each mass's patient is drawn in each resample: (draws, n) float64."""
    names, owner = np.unique(patients, return_inverse=True)
    return metrics.draw_patients(np.random.default_rng(seed), len(names), draws)[:, owner].astype(np.float64)
