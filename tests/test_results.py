"""Committed results: what the pages and the README show is what the metrics files say."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from scripts.evaluation import evaluation_table, metrics, paper_results, predictions

ROOT = Path(__file__).resolve().parent.parent
REPRODUCTIONS = sorted(path.parent for path in (ROOT / "results").glob("*/*/table3.csv"))
RUNS = sorted(path.parent for path in (ROOT / "results").glob("*/*/*/metrics.json"))
REAL = ROOT / "results/cbis_ddsm_mass_800/scaled"
README = (ROOT / "README.md").read_text()
NOT_MEASURED = {
    "0.05": "the lowest optical density that is kept",
    "5,000": "the last iteration of the paper's Fig 2",
    "1612.00542": "the paper's number",
    "2101.08515": "another's",
    "10.7937": "a DOI",
    "56.9": "AlexNet's parameters in millions; prototxt/alexnet",
    "5.98": "GoogLeNet's; prototxt/googlenet",
    "7.5": "a compute capability of GPUs",
    "12.0": "another",
    "12.12": "a release of Debian",
}

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the committed results are not here: an image has none")


def named(path: Path) -> str:
    return "/".join(path.relative_to(ROOT / "results").parts)


@pytest.mark.parametrize("run", RUNS, ids=named)
def test_each_row_shown_is_its_runs_own(run):
    scores = json.loads((run / "metrics.json").read_text())
    cells = [
        evaluation_table.interval(*evaluation_table.ends(scores, name))
        for name in ("accuracy", "precision", "recall", "auc")
    ]
    (row,) = (
        line for line in (run.parent / "README.md").read_text().splitlines() if line.startswith(f"| [{run.name}]")
    )
    assert " | ".join(cells) in row


@pytest.mark.parametrize("run", RUNS, ids=named)
def test_each_runs_figures_follow_from_its_predictions(run):
    scores = json.loads((run / "metrics.json").read_text())
    found = predictions.read_predictions(run / "predictions.csv")
    estimates = metrics.estimates(found.labels, found.probabilities, found.patients)
    for name, estimate in estimates.items():
        shown = scores["metrics"][name]
        assert (shown["value"], shown["low"], shown["high"]) == pytest.approx(tuple(estimate[:3]), nan_ok=True), name


def test_results_name_their_commit_and_seed():
    assert RUNS
    for run in RUNS:
        content = json.loads((run / "run.json").read_text())
        assert content["commit"] not in ("", "unknown")
        assert "dirty" not in content["commit"]
        assert isinstance(content["seed"], int)


def test_no_aug_results_from_mirrored_masses_say_so():
    """The paper's No Aug is without mirroring; runs whose run.json does not say that they were trained so were not."""
    for run in RUNS:
        content = json.loads((run / "run.json").read_text())
        if "noaug" in content["data"] and content.get("augmented", True):
            assert "shown mirrored masses" in (run.parent / "README.md").read_text(), run


def test_real_and_synthetic_results_are_never_in_one_folder():
    assert REPRODUCTIONS
    for folder in REPRODUCTIONS:
        sources = {json.loads(path.read_text())["source"] for path in folder.glob("*/metrics.json")}
        assert len(sources) == 1
        assert ("synthetic" in sources) == (folder.parent.name == "synthetic")


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a Markdown table, each by the header's names."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(header, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("table1", ("Model", "Validation accuracy", "The paper's", "Images", "Start")),
        ("table2", ("Model", "Validation accuracy", "The paper's", "Images", "Start")),
        ("table3", ("Model", "Whose", "Accuracy", "Precision", "Recall", "AUC", "Images", "Start")),
    ],
)
def test_the_readme_shows_the_papers_tables_row_by_row(table, columns):
    for row in rows_of(REAL / f"{table}.md"):
        assert f"| {' | '.join(row[name] for name in columns)} |".replace("|  |", "| |") in README


def test_every_measured_number_of_the_readme_stands_in_results():
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)", "", README)
    prose = "\n".join(line for line in prose.splitlines() if not line.startswith("    "))
    numbers = set(re.findall(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?![\d,])|(?<![\w.,/])\d+\.\d+(?![\w.])", prose))
    files = [path for path in (ROOT / "results").rglob("*") if path.suffix in (".md", ".csv", ".json", ".txt")]
    measured = "\n".join(path.read_text() for path in files if "demo" not in path.parts)
    unknown = [
        number
        for number in sorted(numbers - set(NOT_MEASURED))
        if not re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", measured)
    ]
    assert not unknown


def test_the_readmes_training_times_are_the_benchmarks():
    rows = json.loads((ROOT / "results/benchmark/training.json").read_text())["figures"]["rows"]
    for net, row in rows.items():
        ours, *others = (f"{np.median(seconds):.3f}" for seconds in row["seconds"].values())
        times = (f"{np.median(ratios):.2f}" for ratios in row["ratios"].values())
        cells = [ours, *(f"{seconds} ({ratio} times)" for seconds, ratio in zip(others, times, strict=True))]
        assert f"| {paper_results.TITLES[net]}, {row['batch']} | {' | '.join(cells)} |" in README
