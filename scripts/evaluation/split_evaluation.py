"""Evaluation of a net on a split: the summary with intervals, the tables and figures that eval.py writes."""

from pathlib import Path

import numpy as np

from data_prep.core import provenance
from data_prep.core.files import atomic_write, write_text
from data_prep.core.json_files import write_json
from data_prep.core.tables import write_csv
from scripts.evaluation import evaluation_table, metrics, plots, selection
from scripts.evaluation.thresholds import DEFAULT, Threshold


def summarise(target: selection.EvaluationTarget, rows: list[dict], threshold: Threshold) -> dict:
    """Return the content of metrics.json: figures, counts, and which weights were evaluated on which data."""
    return {
        **selection.describe(target),
        **measure(rows, threshold),
        "doubts": selection.doubts(target),
        **provenance.made_by("numpy", "scikit-learn"),
    }


def measure(rows: list[dict], threshold: Threshold = DEFAULT) -> dict:
    """Return the figures and counts of predictions."""
    labels, probabilities, patients = (
        np.array([row[name] for row in rows]) for name in ("label", "probability", "patient")
    )
    estimates = metrics.estimates(labels, probabilities, patients, threshold=threshold.value)
    return {
        "n": len(rows),
        "masses": len({row["mass_id"] for row in rows}),
        "patients": len(set(patients)),
        "malignant": int(labels.sum()),
        "benign": int((1 - labels).sum()),
        "threshold": threshold.value,
        "threshold_chosen": threshold.chosen,
        "counts": metrics.confusion(labels, probabilities, threshold.value)._asdict(),
        "metrics": {name: estimate._asdict() for name, estimate in estimates.items()},
        "interval": metrics.INTERVAL,
    }


def write(out: Path, summary: dict, rows: list[dict]) -> None:
    """Write everything to `out`; metrics.json comes last, and is absent while the others are replaced."""
    (out / "metrics.json").unlink(missing_ok=True)
    write_csv(out / "predictions.csv", list(rows[0]), rows)
    draw(out, summary, rows)
    heading = evaluation_table.heading(summary["net"], summary["split"], summary)
    write_text(out / "metrics.md", f"# {heading}\n\n{evaluation_table.render(summary)}")
    write_json(out / "metrics.json", summary)


def draw(out: Path, summary: dict, rows: list[dict]) -> None:
    """Write the figures; where a class is absent, those that need both are left out and old ones removed."""
    labels, probabilities = (np.array([row[name] for row in rows]) for name in ("label", "probability"))
    makers = {"confusion.png": plots.confusion, "roc.png": plots.roc, "pr.png": plots.precision_recall}
    for name, make in makers.items():
        if name != "confusion.png" and summary["metrics"]["auc"]["value"] is None:
            (out / name).unlink(missing_ok=True)
            continue
        with atomic_write(out / name) as path:
            make(summary, labels, probabilities).savefig(path)
