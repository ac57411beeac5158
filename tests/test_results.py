"""Committed results: what the pages and the README show is what the metrics files say."""

import json
from pathlib import Path

import pytest

from scripts.evaluation import evaluation_table, metrics, predictions

ROOT = Path(__file__).resolve().parent.parent
REPRODUCTIONS = sorted(path.parent for path in (ROOT / "results").glob("*/*/table3.csv"))
RUNS = sorted(path.parent for path in (ROOT / "results").glob("*/*/*/metrics.json") if "nets" not in path.parts)
REAL = ROOT / "results/cbis_ddsm_mass_800/scaled"
README = (ROOT / "README.md").read_text()

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


def test_the_readme_shows_table_3_row_by_row():
    columns = ("Model", "Whose", "Accuracy", "Precision", "Recall", "AUC", "Images", "Start")
    for row in rows_of(REAL / "table3.md"):
        assert f"| {' | '.join(row[name] for name in columns)} |".replace("|  |", "| |") in README
