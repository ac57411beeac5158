"""Further figures of a net's predictions: by patient, at a wanted recall, against another net's.

Functions of arrays, named as in metrics.py: `labels` (n,), `probabilities` (n,) of malignancy, `patients` (n,). Every
interval is the percentile interval of a bootstrap by patient, with metrics.py's level, draws and seed; one seed draws
the same patients for whatever is compared.
"""

from collections.abc import Callable
from dataclasses import astuple
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from data_prep.core.errors import InputError
from scripts.evaluation import metrics
from scripts.evaluation.metrics import DRAWS, SEED, Estimate
from scripts.evaluation.predictions import Predictions

NO_CALLBACK = "BENIGN_WITHOUT_CALLBACK"
ROUNDING = 1e-9  # 0.07 x 100 is a little more than 7


class OperatingPoint(NamedTuple):
    """A threshold and what it gives; None where the masses that it is chosen on hold no malignant one."""

    threshold: float | None
    figures: dict[str, Estimate]  # accuracy, precision, recall, specificity


class Difference(NamedTuple):
    """A figure of the second net minus that of the first, interval and two-sided p; None where undefined."""

    value: float | None
    low: float | None
    high: float | None
    p: float | None


class Comparison(NamedTuple):
    """Two nets on the same masses; `only_first` and `only_second` count the masses that one alone calls rightly."""

    accuracy: Difference
    auc: Difference
    only_first: int
    only_second: int
    mcnemar: float


class Spread(NamedTuple):
    """Mean, lowest and highest of a figure over a net's seeds, and the standard deviation (of a sample)."""

    value: float
    low: float
    high: float
    deviation: float


def by_patient(
    labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, probabilities and names of the patients, (p,) each: each patient's highest of its masses.

    So a patient is malignant when any of its masses is, and called malignant when any of them is.
    """
    names, owner = np.unique(patients, return_inverse=True)
    highest, label = np.zeros(len(names)), np.zeros(len(names), int)
    np.maximum.at(highest, owner, probabilities)
    np.maximum.at(label, owner, labels)
    return label, highest, names


def called_back(pathologies: np.ndarray) -> np.ndarray:
    """(n,) bool: the masses besides those of BENIGN_WITHOUT_CALLBACK, which no radiologist thought suspicious."""
    return pathologies != NO_CALLBACK


def at_recall(recall: float, labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray) -> OperatingPoint:
    """The highest threshold whose recall is at least `recall`, and the figures there.

    The threshold is chosen on the masses that are judged, which flatters it. Each resample chooses its own, so the
    intervals hold the uncertainty of the choice, but not that bias.
    """

    def choose(weights: np.ndarray) -> np.ndarray:
        return _highest_thresholds(recall, labels, probabilities, weights)

    return _operating_point(choose, labels, probabilities, patients)


def at_threshold(
    threshold: float | None, labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray
) -> OperatingPoint:
    """The figures at a threshold that was chosen on other masses; the intervals are those of this threshold."""
    fixed = np.nan if threshold is None else threshold
    return _operating_point(lambda weights: np.full(len(weights), fixed), labels, probabilities, patients)


def compare(labels: np.ndarray, first: np.ndarray, second: np.ndarray, patients: np.ndarray) -> Comparison:
    """Compare two nets' probabilities (n,) for the same masses.

    The differences resample patients, the same ones for both nets. A p is twice the share of resamples on the other
    side of 0 (or at it), one added to both counts, so that it is never below 1 / 1000. McNemar's exact test asks
    whether the masses that one net alone calls rightly fall to both nets equally; it takes masses as independent,
    which those of one patient are not.
    """
    rights = [metrics.called_malignant(probabilities) == labels for probabilities in (first, second)]
    only_first, only_second = int((rights[0] & ~rights[1]).sum()), int((rights[1] & ~rights[0]).sum())
    values = [metrics.values(labels, probabilities) for probabilities in (first, second)]
    drawn = [metrics.resample(labels, probabilities, patients, DRAWS, SEED) for probabilities in (first, second)]
    accuracy, auc = (
        _difference(values[0][name], values[1][name], drawn[1][name] - drawn[0][name], patients)
        for name in ("accuracy", "auc")
    )
    discordant = only_first + only_second
    mcnemar = float(binomtest(only_second, discordant).pvalue) if discordant else 1.0
    return Comparison(accuracy, auc, only_first, only_second, mcnemar)


def aligned(reference: Predictions, other: Predictions, name: str) -> Predictions:
    """Return `other` with its masses in the order of `reference`'s.

    Raises InputError, which begins with `name`, when they are not the same masses of the same patients and classes.
    """
    places = {mass: place for place, mass in enumerate(other.masses)}
    if len(places) != len(other.masses) or sorted(places) != sorted(reference.masses):
        raise InputError(f"{name}: not the masses that the other nets were judged on; evaluate all on one split")
    order = [places[mass] for mass in reference.masses]
    found = Predictions(*(array[order] for array in astuple(other)))
    for field in ("patients", "pathologies", "labels", "folds"):
        if not np.array_equal(getattr(found, field), getattr(reference, field)):
            raise InputError(f"{name}: the same masses have other {field} there; build all databases from one source")
    return found


def spread(values: list[float | None]) -> Spread | None:
    """Return how a figure varies over seeds; None for fewer than two, or where it is undefined for one."""
    if len(values) < 2 or None in values:
        return None
    return Spread(float(np.mean(values)), min(values), max(values), float(np.std(values, ddof=1)))


def _highest_thresholds(
    recall: float, labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the threshold under each row of `weights` (draws, n): (draws,), NaN where no malignant mass has weight."""
    malignant = np.flatnonzero(labels == 1)
    if not len(malignant):
        return np.full(len(weights), np.nan)
    falling = malignant[np.argsort(-probabilities[malignant], kind="stable")]
    found = np.cumsum(weights[:, falling], axis=1)
    total = found[:, -1:]
    first = (found >= recall * total - ROUNDING).argmax(axis=1)
    return np.where(total[:, 0] > 0, probabilities[falling][first], np.nan)


def _operating_point(
    choose: Callable[[np.ndarray], np.ndarray], labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray
) -> OperatingPoint:
    """`choose` takes weights (draws, n) and returns thresholds (draws,), NaN where there is none."""
    owner = np.unique(patients, return_inverse=True)[1]
    drawn = metrics.draw_patients(np.random.default_rng(SEED), owner.max() + 1, DRAWS)[:, owner].astype(float)
    everyone = np.ones((1, len(labels)))
    threshold, whole = float(choose(everyone)[0]), _rates_at(choose(everyone), labels, probabilities, everyone)
    resampled = _rates_at(choose(drawn), labels, probabilities, drawn)
    figures = {}
    for name, (value,) in whole.items():
        figures[name] = metrics.estimate(None if np.isnan(value) else float(value), resampled[name], patients)
    return OperatingPoint(None if np.isnan(threshold) else threshold, figures)


def _rates_at(
    thresholds: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Return metrics.rates at each row's own threshold, NaN where that is NaN."""
    called = probabilities >= thresholds[:, None]
    weights = weights * np.isfinite(thresholds)[:, None]
    cells = ((weights * (called == c)) @ (labels == t) for t, c in ((1, 1), (0, 1), (1, 0), (0, 0)))
    return metrics.rates(*cells)


def _difference(first: float | None, second: float | None, drawn: np.ndarray, patients: np.ndarray) -> Difference:
    value = None if first is None or second is None else second - first
    found = metrics.estimate(value, drawn, patients)
    if found.low is None:
        return Difference(found.value, None, None, None)
    against = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return Difference(*found[:3], min(1.0, 2 * float(against + 1) / (found.draws + 1)))
