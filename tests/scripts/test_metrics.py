"""Figures of merit and their intervals (metrics.py), and the paper's numbers (paper_results.py)."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, precision_score, recall_score, roc_auc_score

from scripts.evaluation import metrics, paper_results
from scripts.evaluation.metrics import Counts


def sample(n: int, seed: int, decimals: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities that carry some signal; few decimals make ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    probabilities = rng.beta(2 + labels, 3 - labels)
    return labels, probabilities if decimals is None else probabilities.round(decimals)


def sample_with(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities with exactly these confusion counts."""
    labels = np.repeat([1, 0, 1, 0], counts)
    probabilities = np.repeat([0.9, 0.8, 0.2, 0.1], counts)
    return labels, probabilities


@pytest.mark.parametrize("net", paper_results.TEST)
def test_counts_recovered_from_table_3_round_to_every_published_figure(net):
    row = paper_results.TEST[net]
    values = metrics.values(*sample_with(row.counts))
    assert metrics.confusion(*sample_with(row.counts)) == row.counts
    assert row.counts.tp + row.counts.fn == paper_results.TEST_MALIGNANT
    assert row.counts.fp + row.counts.tn == paper_results.TEST_BENIGN
    for name in ("accuracy", "precision", "recall"):
        assert round(values[name], 3) == getattr(row, name)


def test_only_one_set_of_counts_explains_each_row_of_table_3():
    every = [
        Counts(tp, fp, paper_results.TEST_MALIGNANT - tp, paper_results.TEST_BENIGN - fp)
        for tp in range(paper_results.TEST_MALIGNANT + 1)
        for fp in range(paper_results.TEST_BENIGN + 1)
    ]
    rates = metrics.rates(*np.array(every).T)
    for row in paper_results.TEST.values():
        names = ("accuracy", "precision", "recall")
        fits = np.all([np.round(rates[name], 3) == getattr(row, name) for name in names], axis=0)
        assert [every[i] for i in np.flatnonzero(fits)] == [row.counts]


def test_test_set_is_a_tenth_of_the_papers_images():
    assert paper_results.TEST_MALIGNANT + paper_results.TEST_BENIGN == paper_results.IMAGES // 10


def test_wilson_interval_follows_its_formula():
    counts = paper_results.TEST["googlenet"].counts
    k, n, z = counts.tp, counts.tp + counts.fn, 1.959963984540054
    p = k / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert paper_results.wilson(counts)["recall"] == pytest.approx((centre - half, centre + half))
    assert "precision" not in paper_results.wilson(Counts(0, 0, 5, 5))


@pytest.mark.parametrize("seed", range(5))
def test_values_equal_scikit_learns(seed):
    labels, probabilities = sample(150, seed, decimals=1)
    called = probabilities >= 0.5
    assert metrics.values(labels, probabilities) == pytest.approx(
        {
            "accuracy": accuracy_score(labels, called),
            "precision": precision_score(labels, called),
            "recall": recall_score(labels, called),
            "specificity": recall_score(labels, called, pos_label=0),
            "auc": roc_auc_score(labels, probabilities),
        }
    )


def test_probability_of_one_half_is_called_malignant():
    assert metrics.confusion(np.array([1, 0]), np.array([0.5, 0.49999])) == Counts(1, 0, 0, 1)


def test_undefined_figures_are_none_and_not_numbers():
    nothing_called = metrics.values(np.array([0, 1]), np.array([0.1, 0.2]))
    assert nothing_called["precision"] is None and nothing_called["recall"] == 0
    benign_only = metrics.values(np.array([0, 0]), np.array([0.1, 0.9]))
    assert benign_only["auc"] is None and benign_only["recall"] is None and benign_only["specificity"] == 0.5
    malignant_only = metrics.values(np.array([1, 1]), np.array([0.1, 0.9]))
    assert malignant_only["auc"] is None and malignant_only["specificity"] is None


def test_weighted_auc_equals_scikit_learns_draw_by_draw():
    labels, probabilities = sample(60, seed=3, decimals=1)
    weights = np.random.default_rng(0).integers(0, 4, size=(50, 60)).astype(float)
    expected = [roc_auc_score(labels, probabilities, sample_weight=w) for w in weights]
    assert metrics.weighted_auc(labels, probabilities, weights) == pytest.approx(expected)


def test_resampling_equals_counting_the_drawn_masses_one_by_one():
    labels, probabilities = sample(40, seed=5, decimals=2)
    patients = np.array([f"P{i // 3}" for i in range(40)])
    found = metrics.resample(labels, probabilities, patients, draws=20, seed=9)
    names = np.unique(patients)
    drawn = np.random.default_rng(9).multinomial(len(names), np.full(len(names), 1 / len(names)), size=20)
    for i, times in enumerate(drawn):
        times_of = dict(zip(names, times, strict=True))
        chosen = np.repeat(np.arange(40), [times_of[patient] for patient in patients])
        for name, value in metrics.values(labels[chosen], probabilities[chosen]).items():
            assert found[name][i] == pytest.approx(value)


def test_resampled_means_equal_the_means_of_the_drawn_masses_one_by_one():
    rng = np.random.default_rng(3)
    values, patients = rng.random((9, 2, 3)), np.array(list("aabcccdde"))
    drawn = metrics.draw_patients(np.random.default_rng(5), 5, 40)
    for times, means in zip(drawn, metrics.resampled_means(values, patients, draws=40, seed=5), strict=True):
        masses = [i for i, patient in enumerate(patients) for _ in range(times["abcde".index(patient)])]
        np.testing.assert_allclose(means, values[masses].mean(axis=0))


def test_resamples_do_not_depend_on_how_they_are_split_for_memory(monkeypatch):
    labels, probabilities = sample(50, seed=1)
    whole = metrics.resample(labels, probabilities, np.arange(50), draws=100, seed=0)
    monkeypatch.setattr(metrics, "CELLS_AT_ONCE", 300)
    parts = metrics.resample(labels, probabilities, np.arange(50), draws=100, seed=0)
    for name in metrics.NAMES:
        np.testing.assert_array_equal(whole[name], parts[name])


@pytest.mark.parametrize("net", paper_results.TEST)
def test_interval_of_independent_patients_is_close_to_wilsons(net):
    counts = paper_results.TEST[net].counts
    labels, probabilities = sample_with(counts)
    found = metrics.estimates(labels, probabilities, np.arange(len(labels)))
    for name, ends in paper_results.wilson(counts).items():
        assert found[name][1:3] == pytest.approx(ends, abs=0.02)


def test_interval_widens_by_root_two_when_every_mass_is_seen_twice_in_a_patient():
    labels, probabilities = sample(200, seed=2)
    twice = np.repeat(np.arange(200), 2)
    by_mass = metrics.estimates(labels[twice], probabilities[twice], np.arange(400))
    by_patient = metrics.estimates(labels[twice], probabilities[twice], twice)
    for name in metrics.NAMES:
        assert by_mass[name].value == by_patient[name].value
        ratio = (by_patient[name].high - by_patient[name].low) / (by_mass[name].high - by_mass[name].low)
        assert ratio == pytest.approx(np.sqrt(2), rel=0.12)


def test_interval_covers_the_true_accuracy_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    true_accuracy, patients, trials = 0.8, np.repeat(np.arange(80), 2), 200
    covered = 0
    for _ in range(trials):
        right = np.repeat(rng.random(80) < true_accuracy, 2)  # both views of a lesion go the same way
        labels = rng.integers(0, 2, 160)
        probabilities = np.where(right, labels, 1 - labels)
        found = metrics.estimates(labels, probabilities, patients, draws=400)["accuracy"]
        covered += found.low <= true_accuracy <= found.high
    assert binomtest(covered, trials, metrics.LEVEL).pvalue > 0.001


def test_same_seed_gives_the_same_interval_whatever_the_order_of_the_masses():
    labels, probabilities = sample(90, seed=4)
    patients = np.arange(90) // 2
    order = np.random.default_rng(0).permutation(90)
    first = metrics.estimates(labels, probabilities, patients)
    second = metrics.estimates(labels[order], probabilities[order], patients[order])
    assert metrics.estimates(labels, probabilities, patients) == first
    assert metrics.estimates(labels, probabilities, patients, seed=1) != first
    for name in metrics.NAMES:
        assert second[name] == pytest.approx(first[name])


def test_draws_without_one_of_the_classes_are_left_out_and_counted():
    found = metrics.estimates(np.array([1, 0, 0]), np.array([0.9, 0.1, 0.6]), np.array(["a", "b", "c"]))
    assert found["accuracy"].draws == metrics.DRAWS
    no_malignant, only_malignant = (2 / 3) ** 3, (1 / 3) ** 3
    expected = metrics.DRAWS * (1 - no_malignant - only_malignant)
    assert found["auc"].draws == pytest.approx(expected, rel=0.07)
    assert found["auc"][:3] == (1, 1, 1)


def test_one_patient_has_no_interval():
    found = metrics.estimates(np.array([1, 0]), np.array([0.9, 0.6]), np.array(["a", "a"]))
    assert found["accuracy"].value == 0.5
    assert all(estimate.low is None and estimate.high is None for estimate in found.values())


@pytest.mark.parametrize(
    ("labels", "probabilities", "patients"),
    [([], [], []), ([1, 0], [0.5], [1, 2]), ([1, 2], [0.5, 0.5], [1, 2]), ([1, 0], [np.nan, 0.5], [1, 2])],
)
def test_arrays_that_are_no_prediction_are_refused(labels, probabilities, patients):
    with pytest.raises(ValueError, match=r"label|probabilit"):
        metrics.estimates(np.array(labels), np.array(probabilities), np.array(patients))
