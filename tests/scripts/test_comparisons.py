"""Figures by patient, operating points and paired tests (comparisons.py), against counting by hand."""

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, precision_recall_curve, precision_score, recall_score, roc_auc_score

from data_prep.core.errors import InputError
from scripts.evaluation import comparisons, metrics
from scripts.evaluation.predictions import Predictions


def sample(n: int, seed: int, decimals: int = 2, signal: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities with ties and some signal, and patients of two masses each, alike in label."""
    rng = np.random.default_rng(seed)
    patients = np.arange(n) // 2
    labels = rng.integers(0, 2, n // 2 + 1)[patients]
    return labels, rng.beta(2 + signal * labels, 3 - signal * labels).round(decimals), patients


def resampled_masses(patients: np.ndarray, draws: int) -> list[np.ndarray]:
    """Places of the masses in each resample, one by one, drawn as metrics.py draws."""
    names = np.unique(patients)
    drawn = np.random.default_rng(metrics.SEED).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return [
        np.concatenate([np.flatnonzero(patients == names[i]).repeat(k) for i, k in enumerate(row)]) for row in drawn
    ]


def highest_threshold(recall: float, labels: np.ndarray, probabilities: np.ndarray) -> float:
    """By trial of every threshold, from the highest."""
    for threshold in sorted(set(probabilities), reverse=True):
        if recall_score(labels, probabilities >= threshold) >= recall:
            return threshold
    raise AssertionError("the lowest threshold calls every mass malignant")


def test_patient_has_the_highest_probability_and_the_worst_label_of_its_masses():
    patients = np.array(["b", "a", "b", "a", "c"])
    found = comparisons.by_patient(np.array([0, 0, 1, 0, 1]), np.array([0.9, 0.2, 0.1, 0.4, 0.3]), patients)
    assert [array.tolist() for array in found] == [[0, 1, 1], [0.4, 0.9, 0.3], ["a", "b", "c"]]


def test_figures_by_patient_are_scikit_learns_of_the_patients():
    labels, probabilities, _ = sample(90, seed=1)
    patients = np.random.default_rng(1).integers(0, 30, 90)
    found = metrics.estimates(*comparisons.by_patient(labels, probabilities, patients))
    own = sorted(set(patients))
    truth = [max(labels[patients == patient]) for patient in own]
    highest = [max(probabilities[patients == patient]) for patient in own]
    assert found["auc"].value == pytest.approx(roc_auc_score(truth, highest))
    assert found["accuracy"].value == pytest.approx(accuracy_score(truth, np.array(highest) >= 0.5))


def test_masses_without_callback_are_told_from_other_benign_ones():
    pathologies = np.array(["BENIGN", "BENIGN_WITHOUT_CALLBACK", "MALIGNANT"])
    assert comparisons.called_back(pathologies).tolist() == [True, False, True]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 10)), min_size=2, max_size=30),
    st.sampled_from([0.1, 0.5, 0.745, 0.923, 1.0]),
)
def test_threshold_is_the_highest_that_reaches_the_recall(masses, recall):
    labels, tenths = np.array(masses).T
    probabilities = tenths / 10
    point = comparisons.at_recall(recall, labels, probabilities, np.arange(len(labels)))
    if not labels.any():
        assert point.threshold is None and point.figures["recall"].value is None
        return
    assert point.threshold == highest_threshold(recall, labels, probabilities)
    assert point.figures["recall"].value >= recall
    precision, recalls, _ = precision_recall_curve(labels, probabilities)
    assert (point.figures["precision"].value, point.figures["recall"].value) in set(
        zip(precision, recalls, strict=True)
    )


def test_recall_that_is_a_whole_number_of_masses_is_not_missed_by_rounding(monkeypatch):
    monkeypatch.setattr(comparisons, "DRAWS", 1)
    labels, probabilities = np.ones(100, int), np.arange(100) / 100
    for malignant in range(1, 101):  # 0.07 x 100 is more than 7
        point = comparisons.at_recall(malignant / 100, labels, probabilities, np.arange(100) // 50)
        assert point.figures["recall"].value == malignant / 100


def test_each_resample_chooses_its_own_threshold(monkeypatch):
    monkeypatch.setattr(comparisons, "DRAWS", 60)
    labels, probabilities, patients = sample(60, seed=3)
    found = comparisons.at_recall(0.745, labels, probabilities, patients).figures
    expected = []
    for places in resampled_masses(patients, 60):
        threshold = highest_threshold(0.745, labels[places], probabilities[places])
        expected.append(precision_score(labels[places], probabilities[places] >= threshold))
    assert found["precision"][1:] == pytest.approx((*np.quantile(expected, [0.025, 0.975]), 60))
    assert found["precision"].low < found["precision"].value < found["precision"].high


def test_threshold_of_other_masses_is_kept_in_every_resample(monkeypatch):
    monkeypatch.setattr(comparisons, "DRAWS", 60)
    labels, probabilities, patients = sample(60, seed=4)
    point = comparisons.at_threshold(0.3, labels, probabilities, patients)
    assert point.threshold == 0.3
    assert point.figures["specificity"].value == recall_score(labels, probabilities >= 0.3, pos_label=0)
    expected = [recall_score(labels[places], probabilities[places] >= 0.3) for places in resampled_masses(patients, 60)]
    assert point.figures["recall"][1:3] == pytest.approx(tuple(np.quantile(expected, [0.025, 0.975])))


def test_threshold_chosen_where_nothing_was_malignant_gives_no_figures():
    point = comparisons.at_threshold(None, np.array([1, 0, 0]), np.array([0.9, 0.4, 0.1]), np.arange(3))
    assert point.threshold is None
    assert all(estimate == (None, None, None, 0) for estimate in point.figures.values())


def test_threshold_chosen_on_the_masses_judged_flatters(monkeypatch):
    monkeypatch.setattr(comparisons, "DRAWS", 1)
    labels, probabilities, _ = sample(4000, seed=5, decimals=6)
    gained = []
    for part in np.split(np.arange(4000), 40):
        own = comparisons.at_recall(0.923, labels[part], probabilities[part], part).figures["recall"].value
        threshold = highest_threshold(0.923, labels[part - 100], probabilities[part - 100])
        gained.append(own - recall_score(labels[part], probabilities[part] >= threshold))
    assert np.mean(gained) > 0


def test_mcnemar_counts_the_masses_that_one_net_alone_calls_rightly():
    labels = np.array([1] * 8 + [0] * 2)
    first = np.array([0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.1, 0.1, 0.9])
    second = np.array([0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.9])
    found = comparisons.compare(labels, first, second, np.arange(10))
    assert (found.only_first, found.only_second) == (1, 5)
    assert found.mcnemar == pytest.approx(2 * (comb(6, 0) + comb(6, 1)) / 2**6)
    assert found.accuracy.value == pytest.approx(0.4)


def test_differences_are_of_the_same_patients_for_both_nets(monkeypatch):
    monkeypatch.setattr(comparisons, "DRAWS", 50)
    labels, first, patients = sample(60, seed=6)
    second = sample(60, seed=7)[1]
    found = comparisons.compare(labels, first, second, patients)
    drawn = resampled_masses(patients, 50)
    auc = [roc_auc_score(labels[i], second[i]) - roc_auc_score(labels[i], first[i]) for i in drawn]
    right = [np.mean((second[i] >= 0.5) == labels[i]) - np.mean((first[i] >= 0.5) == labels[i]) for i in drawn]
    for difference, values in ((found.auc, np.array(auc)), (found.accuracy, np.array(right))):
        assert difference[1:3] == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
        against = min(sum(values <= 1e-12), sum(values >= -1e-12))
        assert difference.p == pytest.approx(min(1, 2 * (against + 1) / 51))


def test_the_other_way_round_is_the_same_with_the_other_sign():
    labels, first, patients = sample(80, seed=8)
    second = sample(80, seed=8, signal=-0.5)[1]
    there, back = (comparisons.compare(labels, *pair, patients) for pair in ((first, second), (second, first)))
    assert (there.only_first, there.only_second) == (back.only_second, back.only_first)
    assert there.mcnemar == back.mcnemar
    for name in ("accuracy", "auc"):
        one, other = getattr(there, name), getattr(back, name)
        assert (-one.value, -one.high, -one.low, one.p) == pytest.approx(other)


def test_a_net_does_not_differ_from_itself():
    labels, probabilities, patients = sample(40, seed=9)
    found = comparisons.compare(labels, probabilities, probabilities, patients)
    assert found == ((0, 0, 0, 1), (0, 0, 0, 1), 0, 0, 1)


def test_difference_without_one_of_the_classes_or_of_one_patient_is_undefined():
    benign = comparisons.compare(np.zeros(4, int), np.full(4, 0.4), np.full(4, 0.6), np.arange(4))
    assert benign.auc == (None, None, None, None) and benign.accuracy.value == -1
    alone = comparisons.compare(np.array([0, 1]), np.array([0.1, 0.2]), np.array([0.1, 0.9]), np.array(["a", "a"]))
    assert alone.auc == (0, None, None, None)


def test_masses_seen_twice_leave_the_bootstrap_where_it_was_and_flatter_mcnemar():
    labels, first, _ = sample(120, seed=10)
    second = np.where(np.arange(120) % 4, first, np.abs(labels - 0.1))
    once = comparisons.compare(labels, first, second, np.arange(120))
    twice = np.repeat(np.arange(120), 2)
    double = comparisons.compare(labels[twice], first[twice], second[twice], twice)
    assert once.accuracy == pytest.approx(double.accuracy)
    assert once.auc == pytest.approx(double.auc)
    assert double.mcnemar < once.mcnemar


def test_equal_nets_are_found_different_about_as_often_as_the_level_says(monkeypatch):
    monkeypatch.setattr(comparisons, "DRAWS", 400)
    trials, found = 200, []
    for trial in range(trials):
        labels, first, patients = sample(120, seed=2 * trial, decimals=6)
        rng = np.random.default_rng(2 * trial + 1)
        second = rng.beta(2 + labels, 3 - labels)
        found.append(comparisons.compare(labels, first, second, patients).auc)
    outside = sum(not each.low <= 0 <= each.high for each in found)
    assert binomtest(outside, trials, 1 - metrics.LEVEL).pvalue > 0.001
    assert binomtest(sum(each.p < 0.05 for each in found), trials, 0.05).pvalue > 0.001


def predictions(order: list[int]) -> Predictions:
    """Five masses of three patients, in this order."""
    masses = np.array([f"P{i // 2}.{i}" for i in range(5)])
    patients, labels = np.array([f"P{i // 2}" for i in range(5)]), np.array([1, 1, 0, 0, 1])
    pathologies = np.where(labels, "MALIGNANT", "BENIGN")
    arrays = (masses, patients, pathologies, labels, np.arange(5) / 10, np.array([""] * 5))
    return Predictions(*(array[order] for array in arrays))


def test_masses_in_another_order_are_put_in_order():
    found = comparisons.aligned(predictions([0, 1, 2, 3, 4]), predictions([3, 0, 4, 2, 1]), "run")
    assert found.masses.tolist() == predictions([0, 1, 2, 3, 4]).masses.tolist()
    assert found.probabilities.tolist() == [0, 0.1, 0.2, 0.3, 0.4]
    assert found.labels.tolist() == [1, 1, 0, 0, 1]


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [0, 1, 2, 3, 4, 4], [0, 1, 2, 3, 3]])
def test_other_masses_are_refused(order):
    with pytest.raises(InputError, match=r"^run: not the masses"):
        comparisons.aligned(predictions([0, 1, 2, 3, 4]), predictions(order), "run")


@pytest.mark.parametrize("field", ["patients", "pathologies", "labels"])
def test_the_same_masses_with_other_truths_are_refused(field):
    other = predictions([0, 1, 2, 3, 4])
    getattr(other, field)[2:4] = getattr(other, field)[0]
    with pytest.raises(InputError, match=f"^run: .*{field}"):
        comparisons.aligned(predictions([0, 1, 2, 3, 4]), other, "run")


def test_spread_is_mean_range_and_deviation_of_a_sample():
    assert comparisons.spread([0.5, 0.7, 0.6]) == pytest.approx((0.6, 0.5, 0.7, 0.1))
    assert comparisons.spread([0.5]) is None and comparisons.spread([0.5, None]) is None
