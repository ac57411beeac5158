"""Committed results: what the pages and the README show is what the metrics files say."""

import json
from pathlib import Path

import numpy as np
import pytest

from scripts import paper, score_table

ROOT = Path(__file__).resolve().parent.parent
RUNS = sorted(path.parent for path in (ROOT / "results").glob("*/*/metrics.json") if path.parts[-3] != "demo")


@pytest.mark.parametrize("run", RUNS, ids=[f"{run.parent.name}/{run.name}" for run in RUNS])
def test_each_row_shown_is_its_runs_own(run):
    scores = json.loads((run / "metrics.json").read_text())
    cells = [
        score_table.interval(*score_table.ends(scores, name)) for name in ("accuracy", "precision", "recall", "auc")
    ]
    (row,) = (
        line for line in (run.parent / "README.md").read_text().splitlines() if line.startswith(f"| [{run.name}]")
    )
    assert " | ".join(cells) in row
    assert " | ".join(cells) in (ROOT / "README.md").read_text()


def test_results_name_their_commit_and_seed():
    assert RUNS
    for run in RUNS:
        content = json.loads((run / "run.json").read_text())
        assert content["commit"] not in ("", "unknown")
        assert isinstance(content["seed"], int)


def test_the_readmes_training_times_are_the_benchmarks():
    rows = json.loads((ROOT / "results/benchmark/training.json").read_text())["figures"]["rows"]
    readme = (ROOT / "README.md").read_text()
    for net, row in rows.items():
        ours, *others = (f"{np.median(seconds):.3f}" for seconds in row["seconds"].values())
        times = (f"{np.median(ratios):.2f}" for ratios in row["ratios"].values())
        cells = [ours, *(f"{seconds} ({ratio} times)" for seconds, ratio in zip(others, times, strict=True))]
        assert f"| {paper.TITLES[net]}, {row['batch']} | {' | '.join(cells)} |" in readme
