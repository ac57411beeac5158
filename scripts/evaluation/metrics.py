"""Metrics of a two-class prediction with 95 % intervals that resample patients, as functions of arrays.

Throughout: `labels` (n,) of 0 benign and 1 malignant, `probabilities` (n,) of malignancy in [0, 1], `patients`
(n,) of whatever numpy sorts. The positive class is malignant, as in the paper's precision and recall.

A figure whose denominator is zero is undefined and given as None, never as 0 or 1: precision when no mass is
called malignant, recall without malignant masses, specificity without benign ones, AUC when a class is absent.
"""

from typing import NamedTuple

import numpy as np

THRESHOLD = 0.5
"""A mass is called malignant from this probability on. For two classes that is the larger softmax output."""

NAMES = ("accuracy", "precision", "recall", "specificity", "auc")
LEVEL = 0.95
DRAWS = 2000
SEED = 0
INTERVAL = {"level": LEVEL, "by": "patient", "draws": DRAWS, "seed": SEED}
"""The method of the intervals, as results record it."""

CELLS_AT_ONCE = 2_000_000


class Counts(NamedTuple):
    """The confusion matrix, malignant being positive."""

    tp: int
    fp: int
    fn: int
    tn: int


class Estimate(NamedTuple):
    """A figure and its interval, None where undefined; `draws` is how many resamples defined it."""

    value: float | None
    low: float | None
    high: float | None
    draws: int


def called_malignant(probabilities: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """(n,) bool: the prediction at a threshold; a probability that equals it is called malignant."""
    return np.asarray(probabilities) >= threshold


def confusion(labels: np.ndarray, probabilities: np.ndarray, threshold: float = THRESHOLD) -> Counts:
    """Confusion counts at a threshold."""
    from sklearn.metrics import confusion_matrix  # here: it takes a second, which a training need not wait

    (tn, fp), (fn, tp) = confusion_matrix(labels, called_malignant(probabilities, threshold), labels=[0, 1])
    return Counts(int(tp), int(fp), int(fn), int(tn))


def fractions(tp, fp, fn, tn) -> dict[str, tuple]:
    """Part and whole of each figure that is a proportion of the counts (whole numbers, or equal arrays)."""
    return {
        "accuracy": (tp + tn, tp + fp + fn + tn),
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "specificity": (tn, tn + fp),
    }


def rates(tp, fp, fn, tn) -> dict[str, np.ndarray]:
    """The quotients of `fractions` as float64, NaN where undefined."""
    return {name: _divide(part, whole) for name, (part, whole) in fractions(tp, fp, fn, tn).items()}


def values(labels: np.ndarray, probabilities: np.ndarray, threshold: float = THRESHOLD) -> dict[str, float | None]:
    """The figures of NAMES on the whole sample."""
    from sklearn.metrics import roc_auc_score

    found = {name: float(rate) for name, rate in rates(*confusion(labels, probabilities, threshold)).items()}
    both = len(np.unique(labels)) == 2
    found["auc"] = float(roc_auc_score(labels, probabilities)) if both else np.nan
    return {name: None if np.isnan(value) else value for name, value in found.items()}


def estimates(
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    draws: int = DRAWS,
    seed: int = SEED,
    threshold: float = THRESHOLD,
) -> dict[str, Estimate]:
    """The figures of NAMES, each with the percentile interval of a bootstrap by patient.

    Masses of one patient (two views of one lesion, above all) are not independent, so whole patients are drawn with
    replacement, as many as there are. A draw that leaves a figure undefined is left out of that figure's interval, and
    `draws` says how many remained. No interval is given (None) with fewer than two patients or when no draw remained.
    The percentile interval of a figure that is exactly 0 or 1 has no width, which says only that no draw held the
    other outcome, not that the figure is certain.

    Raises ValueError for arrays of unequal length or none at all, labels besides 0 and 1, and probabilities outside
    [0, 1] (NaN included: a diverged net gives those).
    """
    labels, patients = np.asarray(labels), np.asarray(patients)
    probabilities = np.asarray(probabilities, np.float64)
    _check(labels, probabilities, patients)
    resampled = resample(labels, probabilities, patients, draws, seed, threshold)
    figures = values(labels, probabilities, threshold)
    return {name: estimate(value, resampled[name], patients) for name, value in figures.items()}


def estimate(value: float | None, drawn: np.ndarray, patients: np.ndarray) -> Estimate:
    """Return a figure with the interval of its values in the resamples, `drawn` (draws,), NaN where undefined."""
    defined = drawn[~np.isnan(drawn)]
    known = value is not None and len(defined) > 0 and len(np.unique(patients)) > 1
    return Estimate(value, *(interval(defined) if known else (None, None)), len(defined))


def interval(drawn: np.ndarray) -> tuple[float, float]:
    """Return the percentile interval at LEVEL of a figure's values in the resamples."""
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def resample(
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    draws: int,
    seed: int,
    threshold: float = THRESHOLD,
) -> dict[str, np.ndarray]:
    """Each figure of NAMES in each of `draws` resamples of patients: (draws,) float64, NaN where undefined.

    A resample is a vector of weights: how often each patient was drawn, given to all masses of that patient.
    """
    owner = np.unique(patients, return_inverse=True)[1]
    n_patients = owner.max() + 1
    called = called_malignant(probabilities, threshold)
    cells = np.stack([(labels == t) & (called == c) for t, c in ((1, 1), (0, 1), (1, 0), (0, 0))], axis=1)
    rng = np.random.default_rng(seed)
    parts = []
    for chunk in np.array_split(np.arange(draws), 1 + draws * len(labels) // CELLS_AT_ONCE):
        drawn = draw_patients(rng, n_patients, len(chunk))
        weights = drawn[:, owner].astype(np.float64)
        found = rates(*(weights @ cells.astype(np.float64)).T)
        found["auc"] = weighted_auc(labels, probabilities, weights)
        parts.append(found)
    return {name: np.concatenate([part[name] for part in parts]) for name in NAMES}


def resampled_means(values: np.ndarray, patients: np.ndarray, draws: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """Return the means over the masses of values (n, ...) in each of `draws` resamples of patients: (draws, ...)."""
    owner = np.unique(patients, return_inverse=True)[1]
    sums = np.zeros((owner.max() + 1, *values.shape[1:]))
    np.add.at(sums, owner, values)
    drawn = draw_patients(np.random.default_rng(seed), len(sums), draws)
    return np.tensordot(drawn / (drawn @ np.bincount(owner))[:, None], sums, axes=1)


def draw_patients(rng: np.random.Generator, n_patients: int, draws: int) -> np.ndarray:
    """Return how often each patient is drawn, with replacement, as many as there are: (draws, n_patients) int."""
    return rng.multinomial(n_patients, np.full(n_patients, 1 / n_patients), size=draws)


def weighted_auc(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC under each row of `weights` (draws, n): (draws,) float64, NaN where a class has no weight.

    It is the Mann-Whitney form, all draws at once: the weighted share of (malignant, benign) pairs that are in the
    right order, a tie counting one half. roc_auc_score(sample_weight=...) gives the same, one draw at a time.
    """
    order = np.argsort(probabilities, kind="stable")
    starts = np.unique(probabilities[order], return_index=True)[1]
    malignant = np.add.reduceat((weights * (labels == 1))[:, order], starts, axis=1)
    benign = np.add.reduceat((weights * (labels == 0))[:, order], starts, axis=1)
    below = np.cumsum(benign, axis=1) - benign
    pairs = malignant.sum(axis=1) * benign.sum(axis=1)
    return _divide((malignant * (below + benign / 2)).sum(axis=1), pairs)


def _divide(part, whole) -> np.ndarray:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _check(labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray) -> None:
    if not len(labels) == len(probabilities) == len(patients) > 0:
        raise ValueError("labels, probabilities and patients must be as many, and at least one")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("a label is neither 0 (benign) nor 1 (malignant)")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("a probability is not a number between 0 and 1")
