"""The paper's tables from finished arms (scripts/experiments/paper_tables.py and the modules of its tables)."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_score, recall_score, roc_auc_score

from data_prep.core.errors import InputError, run
from data_prep.database import manifest
from scripts import eval as evaluation
from scripts.evaluation import evaluation_table, metrics, paper_results, plots, predictions
from scripts.evaluation.comparisons import Difference
from scripts.evaluation.metrics import Estimate
from scripts.evaluation.results_table import Table
from scripts.evaluation.run_files import COLUMNS
from scripts.experiments import claims_table, paper_tables
from scripts.experiments.matrix import Runs, read_experiments, run_name
from scripts.reporting.finished_run import FinishedRun
from tests.helpers import databases, random_nets

EXPERIMENTS = read_experiments()
NAMES = ("table1", "table2", "table3", "extra", "per_patient", "callback", "operating", "seeds", "claims")
MANIFEST = {"source": "cbis", "digest": "d", "context": "large", "rotations": 5, "crops": 5, "seed": 1}
PATIENTS = 25  # of two masses each, in a split
LOG = [{name: (i + 1) / 10 + place / 100 for place, name in enumerate(COLUMNS)} for i in range(3)]


def finished(folder: Path, arm: str, seed: int = 1, skill: float = 1.0, shuffled: bool = False) -> FinishedRun:
    """Write the run of an arm as train.py and eval.py leave it, with probabilities as good as `skill` makes them."""
    found = FinishedRun(folder / run_name(EXPERIMENTS["arms"][arm], seed))
    rng = np.random.default_rng([seed, *arm.encode()])
    for split in ("val", "test"):
        out = found.folder / f"eval_{split}"
        out.mkdir(parents=True)
        rows = []
        for i in range(2 * PATIENTS):
            label = (i // 2) % 2
            pathology = "MALIGNANT" if label else "BENIGN_WITHOUT_CALLBACK" if i < 8 else "BENIGN"
            probability = round(rng.beta(2 + skill * label, 2 + skill * (1 - label)), 3)
            about = {"mass_id": f"{split}{i}", "patient": f"{split}{i // 2}", "pathology": pathology, "label": label}
            rows.append(dict.fromkeys(predictions.FIELDS, "") | about | {"probability": probability})
        with (out / "predictions.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, predictions.FIELDS)
            writer.writeheader()
            writer.writerows(rng.permutation(rows) if shuffled else rows)
    settings = {
        "net": EXPERIMENTS["arms"][arm].net,
        "data": str(folder / "lmdb"),
        "seed": seed,
        "iterations": 313,
        "batch": 64,
        "train_images": 26100,
        "weights": None if arm == "baseline" else "x/bvlc",
    }
    (found.folder / "run.json").write_text(json.dumps(settings))
    (folder / "lmdb").mkdir(exist_ok=True)
    manifest.write_json(folder / "lmdb", MANIFEST)
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    """Some of the arms, the baseline with three seeds, the last first, masses in several orders."""
    folder = tmp_path_factory.mktemp("runs")
    several = [finished(folder, "baseline", seed, 0.5) for seed in (3, 2, 1)]
    return {
        "baseline": several,
        "alexnet": [finished(folder, "alexnet", skill=4, shuffled=True)],
        "alexnet_random": [finished(folder, "alexnet_random", skill=0)],
    }


@pytest.fixture(scope="module")
def out(runs, tmp_path_factory) -> Path:
    """The folder of tables of real masses."""
    folder = tmp_path_factory.mktemp("tables")
    paper_tables.write(folder, runs, EXPERIMENTS, "scaled", "cbis")
    return folder


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def figure(row: dict[str, str], name: str) -> list[float]:
    """Value, low and high."""
    return [float(row[name + end]) for end in ("", ": low", ": high")]


def arrays(finished: FinishedRun, split: str) -> tuple[np.ndarray, np.ndarray]:
    found = finished.predictions(split)
    return found.labels, found.probabilities


def test_every_table_is_written_as_csv_and_as_markdown(runs, out, tmp_path):
    tables = paper_tables.write(tmp_path, runs, EXPERIMENTS, "scaled", "cbis")
    assert [table.name for table in tables] == list(NAMES)
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.{end}" for name in NAMES for end in ("csv", "md")}
    for table in tables:
        assert {len(row) for row in [*table.texts(), *table.rows]} <= {len(table.header)}
        assert len(set(table.header)) == len(table.header)
        for end in ("csv", "md"):  # the same again
            name = f"{table.name}.{end}"
            assert (tmp_path / name).read_text() == (out / name).read_text()


def test_table_1_has_validation_accuracy_in_the_papers_order(runs, out):
    baseline, alexnet = rows_of(out, "table1")
    assert baseline["Model"] == "Baseline (Aug - Large Context)" and alexnet["Model"].startswith("AlexNet (Aug - Large")
    for row, finished, accuracy in ((baseline, runs["baseline"][2], 0.66), (alexnet, runs["alexnet"][0], 0.90)):
        labels, probabilities = arrays(finished, "val")
        value, low, high = figure(row, "Validation accuracy")
        assert value == accuracy_score(labels, probabilities >= 0.5)
        assert low < value < high
        wilson = binomtest(round(accuracy * 182), 182).proportion_ci(method="wilson")
        assert figure(row, "The paper's") == pytest.approx([accuracy, wilson.low, wilson.high])
        assert int(row["Images"]) == 20032 and float(row["Epochs"]) == pytest.approx(20032 / 26100)
    assert (baseline["Start"], alexnet["Start"]) == ("random", "ImageNet")
    assert "182" in (out / "table1.md").read_text()


def test_validation_counts_round_to_what_the_paper_prints():
    for row in paper_results.VALIDATION:
        assert round(round(row.accuracy * paper_results.HELD_OUT) / paper_results.HELD_OUT, 2) == row.accuracy


def test_table_2_of_arms_that_were_not_run_says_so_beside_the_papers(out):
    small, large = rows_of(out, "table2")
    assert small["Validation accuracy"] == large["Validation accuracy"] == "not run"
    assert (small["The paper's"], large["The paper's"]) == ("0.64", "0.71")
    assert small["Model"] == "AlexNet (No Aug - Small Context)"
    assert (out / "table2.md").read_text().count("not run") == 2


def test_table_3_has_our_figures_and_beneath_them_the_papers(runs, out):
    rows = rows_of(out, "table3")
    assert [row["Whose"] for row in rows] == ["ours", "the paper's"] * 3
    assert [row["Model"].split()[0] for row in rows[::2]] == ["Baseline", "AlexNet", "GoogLeNet"]
    labels, probabilities = arrays(runs["alexnet"][0], "test")
    called = probabilities >= 0.5
    expected = {
        "Accuracy": accuracy_score(labels, called),
        "Precision": precision_score(labels, called),
        "Recall": recall_score(labels, called),
        "Specificity": recall_score(labels, called, pos_label=0),
        "AUC": roc_auc_score(labels, probabilities),
    }
    assert {name: float(rows[2][name]) for name in expected} == pytest.approx(expected)
    tn, fp, fn, tp = confusion_matrix(labels, called).ravel()
    assert [int(rows[2][name]) for name in ("TP", "FP", "FN", "TN")] == [tp, fp, fn, tn]
    for name, value in expected.items():
        _, low, high = figure(rows[2], name)
        assert low <= value <= high
    assert rows[4]["Accuracy"] == rows[4]["AUC"] == "not run"


@pytest.mark.parametrize(("place", "net"), [(1, "baseline"), (3, "alexnet"), (5, "googlenet")])
def test_papers_rows_of_table_3_are_those_it_prints(out, place, net):
    row, printed = rows_of(out, "table3")[place], paper_results.TEST[net]
    for name in ("accuracy", "precision", "recall"):
        assert round(float(row[name.capitalize()]), 3) == getattr(printed, name)
        assert f"{getattr(printed, name):.3f} (" in (out / "table3.md").read_text()
    assert int(row["Epochs"]) == printed.epochs and row["AUC"] == ""
    assert tuple(int(row[name]) for name in ("TP", "FP", "FN", "TN")) == printed.counts
    assert int(row["Images"]) == printed.epochs * 25 * 1456


def test_arm_is_shown_by_its_first_seed_and_all_seeds_in_columns_of_their_own(runs, out):
    row = rows_of(out, "table3")[0]
    accuracies = [accuracy_score(labels, p >= 0.5) for labels, p in (arrays(each, "test") for each in runs["baseline"])]
    assert len(set(accuracies)) > 1
    assert float(row["Accuracy"]) == accuracies[2] and row["Seeds"] == "3"
    spread = [np.mean(accuracies), min(accuracies), max(accuracies)]
    assert figure(row, "Accuracy, mean of seeds (lowest-highest)") == pytest.approx(spread)
    alone = rows_of(out, "table3")[2]
    assert alone["Seeds"] == "1" and alone["Accuracy, mean of seeds (lowest-highest)"] == ""


def test_seeds_have_a_row_each_and_one_for_all(runs, out):
    rows = [row for row in rows_of(out, "seeds") if row["Split"] == "test"]
    assert [row["Seed"] for row in rows] == ["1", "2", "3", "all 3"]
    auc = [roc_auc_score(*arrays(each, "test")) for each in runs["baseline"][::-1]]
    assert [float(row["AUC"]) for row in rows[:3]] == pytest.approx(auc)
    assert figure(rows[3], "AUC") == pytest.approx([np.mean(auc), min(auc), max(auc)])
    assert float(rows[3]["AUC's SD"]) == pytest.approx(np.std(auc, ddof=1))


def test_extra_arms_say_that_their_start_is_not_the_papers(runs, out):
    row = rows_of(out, "extra")[0]
    assert row["Model"] == "AlexNet (Aug - Large Context, random start)"
    labels, probabilities = arrays(runs["alexnet_random"][0], "test")
    assert float(row["AUC"]) == pytest.approx(roc_auc_score(labels, probabilities))
    assert float(row["Validation accuracy"]) == accuracy_score(
        *(a >= 0.5 for a in arrays(runs["alexnet_random"][0], "val"))
    )


def test_patients_are_counted_once(runs, out):
    row = rows_of(out, "per_patient")[0]
    assert [int(row[name]) for name in ("Patients", "Malignant", "Benign")] == [25, 12, 13]
    labels, probabilities = arrays(runs["baseline"][2], "test")
    auc = roc_auc_score(labels.reshape(-1, 2).max(axis=1), probabilities.reshape(-1, 2).max(axis=1))
    assert float(row["AUC"]) == pytest.approx(auc)


def test_masses_without_callback_are_left_out_of_a_second_row(runs, out):
    whole, part = rows_of(out, "callback")[:2]
    assert (whole["Masses"], whole["Benign"], part["Masses"], part["Benign"]) == ("50", "26", "46", "22")
    found = runs["baseline"][2].predictions("test")
    kept = found.pathologies != "BENIGN_WITHOUT_CALLBACK"
    assert whole["Recall"] == part["Recall"]
    expected = recall_score(found.labels[kept], found.probabilities[kept] >= 0.5, pos_label=0)
    assert float(part["Specificity"]) == pytest.approx(expected)


def test_threshold_from_validation_is_applied_to_test(runs, out):
    rows = [row for row in rows_of(out, "operating") if row["Model"].startswith("AlexNet (Aug - Large Context)")]
    assert [row["Wanted recall"] for row in rows] == ["0.745", "0.745", "0.923", "0.923"]
    labels, probabilities = arrays(runs["alexnet"][0], "test")
    for row in rows:
        threshold = float(row["Threshold"])
        chosen_on, chosen_by = arrays(runs["alexnet"][0], "val" if row["Threshold from"] == "validation" else "test")
        assert recall_score(chosen_on, chosen_by >= threshold) >= float(row["Wanted recall"])
        assert recall_score(chosen_on, chosen_by > threshold) < float(row["Wanted recall"])
        assert float(row["Precision"]) == precision_score(labels, probabilities >= threshold)
        assert float(row["Recall"]) == recall_score(labels, probabilities >= threshold)


def test_claims_are_tested_on_masses_in_one_order_and_judged_by_rule(runs, out):
    rows = rows_of(out, "claims")
    assert len(rows) == 2 * sum(map(len, EXPERIMENTS["claims"].values()))
    val, test = rows[:2]  # baseline against AlexNet
    first, second = runs["baseline"][2].predictions("test"), runs["alexnet"][0].predictions("test")
    places = [second.masses.tolist().index(mass) for mass in first.masses]
    assert places != sorted(places)
    rights = [(p >= 0.5) == first.labels for p in (first.probabilities, second.probabilities[places])]
    alone = [int((rights[0] & ~rights[1]).sum()), int((rights[1] & ~rights[0]).sum())]
    assert [int(test[f"Right: {name} only"]) for name in ("first", "second")] == alone
    assert float(test["p by McNemar"]) == pytest.approx(binomtest(alone[0], sum(alone)).pvalue)
    value, low, high = figure(test, "AUC, second - first")
    assert value == pytest.approx(
        roc_auc_score(*arrays(runs["alexnet"][0], "test")) - roc_auc_score(*arrays(runs["baseline"][2], "test"))
    )
    assert 0 < low < value < high and test["Verdict"] == "supported"
    assert float(val["The paper's accuracy, second - first"]) == 0.24
    assert float(test["The paper's accuracy, second - first"]) == 0.286
    assert [row["Verdict"] for row in rows[4:6]] == ["not run"] * 2
    text = (out / "claims.md").read_text()
    tested = sum(row["Verdict"] != "not run" for row in rows)
    assert f"- {tested} comparisons, none corrected for their number" in text and "seeds.md" in text


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [((0.01, 0.2), "supported"), ((-0.2, -0.01), "contradicted"), ((-0.1, 0.3), "open"), ((0, 0.3), "open")],
)
def test_verdict_follows_the_interval(ends, verdict):
    assert claims_table.verdict(Difference(sum(ends) / 2, *ends, 0.1)) == verdict
    assert claims_table.verdict(Difference(None, None, None, None)) == "open"


def test_paper_has_figures_only_for_its_own_arms():
    found = {
        (name, split): claims_table.papers_accuracy(arm, split)
        for name, arm in EXPERIMENTS["arms"].items()
        for split in ("val", "test")
    }
    assert {key: value for key, value in found.items() if value} == {
        ("baseline", "val"): 0.66,
        ("alexnet", "val"): 0.90,
        ("alexnet_noaug_small", "val"): 0.64,
        ("alexnet_noaug_large", "val"): 0.71,
        ("baseline", "test"): 0.604,
        ("alexnet", "test"): 0.890,
        ("googlenet", "test"): 0.929,
    }


def test_nothing_run_gives_tables_that_say_so(tmp_path):
    for table in paper_tables.write(tmp_path, {}, EXPERIMENTS, "paper", "ddsm"):
        assert table.name == "seeds" or "not run" in table.to_markdown()
        assert "35 epochs" in table.about and "DDSM" in table.about
    assert "0 comparisons" in (tmp_path / "claims.md").read_text()


def test_experiments_of_fewer_arms_tables_and_claims_give_shorter_tables(runs, tmp_path):
    arms = {"baseline": EXPERIMENTS["arms"]["baseline"]}
    fewer = {"arms": arms, "tables": {"3": ["baseline"]}, "budgets": EXPERIMENTS["budgets"]}
    tables = paper_tables.write(tmp_path, {"baseline": runs["baseline"][:1]}, fewer, "quick", "cbis")
    assert {table.name: len(table.rows) for table in tables} == dict.fromkeys(NAMES, 0) | {
        "table3": 2,
        "per_patient": 1,
        "callback": 2,
        "operating": 4,
    }


def test_each_page_says_which_data_and_budget_and_shouts_synthetic(runs, out, tmp_path):
    paper_tables.write(tmp_path, runs, EXPERIMENTS, "quick", "synthetic")
    scaled, quick = (
        f"{name} ({EXPERIMENTS['budgets'][name]['images']:,} images per experiment)" for name in ("scaled", "quick")
    )
    for name in NAMES:
        real, made_up = ((folder / f"{name}.md").read_text().splitlines()[2] for folder in (out, tmp_path))
        assert f"Data: CBIS-DDSM. Budget: {scaled}. Our masses differ from the paper's" in real
        assert "SYNTHETIC" in made_up and quick in made_up and "SYNTHETIC" not in real


def test_arms_judged_on_other_masses_are_refused(runs, tmp_path):
    stranger = finished(tmp_path, "googlenet")
    path = stranger.folder / "eval_test" / "predictions.csv"
    path.write_text(path.read_text().replace("test7,", "test70,"))
    with pytest.raises(InputError, match="googlenet_seed1/eval_test: not the masses"):
        paper_tables.write(tmp_path / "out", runs | {"googlenet": [stranger]}, EXPERIMENTS, "scaled", "cbis")
    assert not (tmp_path / "out").exists()


def test_figures_of_a_run_are_those_that_eval_wrote(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    patients = {"train": ["T0", "T1"], "val": ["V0", "V1", "V2"], "test": ["E0", "E1", "E2", "E3"]}
    data = databases.write(tmp_path / "lmdb", patients)
    folder = tmp_path / "runs" / "baseline_seed1"
    random_nets.run(folder, data, train_images=4, seed=1)
    for split in ("val", "test"):
        monkeypatch.setattr(sys, "argv", ["eval.py", "--run", str(folder), "--split", split])
        assert run(evaluation.main) == 0
    paper_tables.write(tmp_path / "out", {"baseline": [FinishedRun(folder)]}, EXPERIMENTS, "quick", "synthetic")
    row = rows_of(tmp_path / "out", "table3")[0]
    scores = json.loads((folder / "eval_test" / "metrics.json").read_text())
    for name in metrics.NAMES:
        head = "AUC" if name == "auc" else name.capitalize()
        ends = [scores["metrics"][name][end] for end in ("value", "low", "high")]
        assert [row[head + end] for end in ("", ": low", ": high")] == ["" if end is None else str(end) for end in ends]
    assert {name.lower(): int(row[name]) for name in ("TP", "FP", "FN", "TN")} == scores["counts"]


def test_a_cross_validation_is_judged_on_all_masses_and_on_each_fold(tmp_path):
    several = {}
    for name, skill in (("baseline", 0.5), ("alexnet", 3)):
        run = finished(tmp_path / "runs", name, skill=skill)
        for split in ("val", "test"):  # as pooling.py writes them, three folds
            path = run.folder / f"eval_{split}" / "predictions.csv"
            with path.open(newline="") as file:
                rows = [row | {"fold": 1 + int(row["patient"][len(split) :]) % 3} for row in csv.DictReader(file)]
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, (*predictions.FIELDS, "fold"))
                writer.writeheader()
                writer.writerows(rows)
        several[name] = [run]
    tables = paper_tables.write(tmp_path, several, EXPERIMENTS, "folds", "cbis")
    assert [table.name for table in tables] == [*NAMES[:-1], "folds", "claims"]
    val, test = (several["alexnet"][0].predictions(split) for split in ("val", "test"))
    of_fold = {fold: test.folds == fold for fold in "123"}

    rows = [row for row in rows_of(tmp_path, "folds") if row["Model"].startswith("AlexNet (Aug - Large Context)")]
    auc = [roc_auc_score(test.labels[here], test.probabilities[here]) for here in of_fold.values()]
    assert [float(row["AUC"]) for row in rows[:3]] == pytest.approx(auc)
    assert float(rows[3]["AUC"]) == pytest.approx(roc_auc_score(test.labels, test.probabilities))
    assert figure(rows[4], "AUC") == pytest.approx([np.mean(auc), min(auc), max(auc)])

    claimed = rows_of(tmp_path, "claims")[:4]
    assert [row["Split"] for row in claimed] == ["out-of-fold", "fold 1", "fold 2", "fold 3"]
    first = several["baseline"][0].predictions("test")
    for row, here in zip(claimed, [slice(None), *of_fold.values()], strict=True):
        aucs = [roc_auc_score(each.labels[here], each.probabilities[here]) for each in (first, test)]
        assert float(row["AUC, second - first"]) == pytest.approx(aucs[1] - aucs[0])
    assert [row["The paper's accuracy, second - first"] for row in claimed] == ["0.286", "", "", ""]

    operating = [row for row in rows_of(tmp_path, "operating") if row["Threshold from"] == "validation"][2:]
    for row in operating:  # AlexNet's, at each fold's own threshold
        called = np.zeros(len(test.labels), bool)
        for fold, here in of_fold.items():
            malignant = np.sort(val.probabilities[(val.folds == fold) & (val.labels == 1)])[::-1]
            enough = int(np.ceil(float(row["Wanted recall"]) * len(malignant) - 1e-9))
            called[here] = test.probabilities[here] >= malignant[enough - 1]
        assert row["Threshold"] == "each fold's own"
        assert float(row["Recall"]) == recall_score(test.labels, called)
        assert float(row["Precision"]) == precision_score(test.labels, called)
    assert "Out-of-fold accuracy" in rows_of(tmp_path, "table1")[0]
    about = (tmp_path / "claims.md").read_text()
    assert "5-fold cross-validation by patient" in about and "Validation" not in (tmp_path / "extra.md").read_text()


def test_figures_become_three_columns_in_csv_and_one_text_in_markdown():
    rows = [
        ("a", Estimate(0.5, 0.25, 0.75, 9), 1234),
        ("b", "not run", None),
        ("c", Estimate(None, None, None, 0), 2.5),
    ]
    table = Table("name", "Title", "About.", ("which", "figure", "n"), rows, ("note",))
    assert table.to_csv() == [
        ["which", "figure", "figure: low", "figure: high", "n"],
        ["a", 0.5, 0.25, 0.75, 1234],
        ["b", "not run", None, None, None],
        ["c", None, None, None, 2.5],
    ]
    assert table.texts() == [["a", "0.500 (0.250-0.750)", "1,234"], ["b", "not run", ""], ["c", "undefined", "2.500"]]
    assert table.to_markdown().splitlines()[:3] == ["# Title", "", "About."]


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        ((0.035, -0.02, 0.09), "+0.035 (-0.020 to +0.090)"),
        ((-0.24, None, None), "-0.240"),
        ((None, None, None), "undefined"),
    ],
)
def test_differences_show_their_sign(difference, text):
    assert evaluation_table.difference(*difference) == text


def test_fig_2_draws_both_arms_logs_on_one_scale():
    higher = [{**row, "val_accuracy": row["val_accuracy"] + 0.3} for row in LOG]
    found = plots.augmentation_curves("AlexNet, large context, synthetic films", higher, LOG)
    assert found.get_suptitle() == "AlexNet, large context, synthetic films"
    left, right = found.axes
    assert (left.get_title(), right.get_title()) == ("No Aug", "Aug")
    assert left.get_ylim() == right.get_ylim()
    for axes, log in ((left, higher), (right, LOG)):
        for line, name in zip(axes.lines, ("train_accuracy", "val_accuracy"), strict=True):
            assert line.get_xdata().tolist() == [row["iteration"] for row in log]
            assert line.get_ydata().tolist() == [row[name] for row in log]


def test_a_last_row_of_a_few_batches_is_no_point_of_the_training_curve():
    rows = [{**LOG[0], "iteration": iteration} for iteration in (10, 20, 30, 31)]
    figure = plots.augmentation_curves("", rows, rows[:3])
    drawn = [[list(line.get_xdata()) for line in axes.get_lines()] for axes in figure.axes]
    assert drawn == [[[10, 20, 30], [10, 20, 30, 31]], [[10, 20, 30], [10, 20, 30]]]
