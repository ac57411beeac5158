"""Curves with bands by patient (scripts/evaluation/curves.py): what they draw is scikit-learn's, draw by draw."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, roc_curve

from scripts.evaluation import curves, metrics


def sample(n: int, seed: int, decimals: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities that carry some signal, and patients of two masses; few decimals make ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    return labels, rng.beta(2 + labels, 3 - labels).round(decimals), np.arange(n) // 2


@pytest.mark.parametrize("decimals", [1, 8])
def test_recall_equals_scikit_learns_draw_by_draw(decimals):
    labels, probabilities, patients = sample(60, 3, decimals)
    weights = curves.patient_weights(patients, draws=30)
    found = curves.weighted_recall(labels, probabilities, weights)
    for weight, curve in zip(weights, found, strict=True):
        false, true, _ = roc_curve(labels, probabilities, sample_weight=weight, drop_intermediate=False)
        np.testing.assert_allclose(curve, np.interp(curves.GRID, false, true), atol=1e-12)


def test_a_draw_without_one_of_the_classes_has_no_curve():
    found = curves.weighted_recall(np.array([1, 0]), np.array([0.9, 0.1]), np.array([[1.0, 0.0], [1.0, 1.0]]))
    assert np.isnan(found[0]).all()
    np.testing.assert_array_equal(found[1], np.ones(101))


def test_band_holds_the_curve_and_narrows_with_more_patients():
    widths = []
    for n in (80, 800):
        labels, probabilities, patients = sample(n, 5, 8)
        low, high = curves.roc_band(labels, probabilities, patients)
        curve = curves.weighted_recall(labels, probabilities, np.ones((1, n)))[0]
        assert np.mean((low <= curve) & (curve <= high)) > 0.95
        widths.append((high - low).mean())
    assert widths[1] < widths[0] / 2


def test_draws_are_the_same_patients_as_those_of_the_other_figures():
    labels, probabilities, patients = sample(40, 1, 8)
    right = metrics.called_malignant(probabilities) == labels
    weights = curves.patient_weights(patients)
    drawn = metrics.interval(weights @ right / weights.sum(axis=1))
    assert metrics.estimates(labels, probabilities, patients)["accuracy"][1:3] == pytest.approx(drawn)


@pytest.mark.parametrize(("n", "decimals", "bins"), [(130, 8, 6), (12, 8, 1), (600, 8, 10), (130, 1, 6)])
def test_calibration_is_scikit_learns_and_its_bins_hold_every_mass(n, decimals, bins):
    labels, probabilities, patients = sample(n, 2, decimals)
    found = curves.calibration(labels, probabilities, patients)
    observed, predicted = calibration_curve(labels, probabilities, n_bins=bins, strategy="quantile")
    np.testing.assert_array_equal(found.observed, observed)
    np.testing.assert_array_equal(found.predicted, predicted)
    assert found.counts.sum() == n
    assert (found.observed * found.counts).sum() == pytest.approx(labels.sum())
    assert ((found.low <= found.observed) & (found.observed <= found.high)).all()


def test_a_net_that_always_says_the_same_has_one_bin_with_the_share_of_malignant_masses():
    labels, _, patients = sample(130, 2, 8)
    found = curves.calibration(labels, np.full(130, 0.7), patients)
    assert found.counts.tolist() == [130] and found.observed[0] == labels.mean()


def test_brier_score_is_scikit_learns_and_that_of_one_half_is_a_quarter_without_doubt():
    labels, probabilities, patients = sample(90, 4, 2)
    found = curves.brier(labels, probabilities, patients)
    assert found.value == pytest.approx(brier_score_loss(labels, probabilities))
    assert found.low < found.value < found.high
    assert curves.brier(labels, np.full(90, 0.5), patients)[:3] == (0.25, 0.25, 0.25)
