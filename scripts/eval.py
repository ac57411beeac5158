"""Evaluate a trained net on a split: figures with 95 % intervals, predictions, ROC, the paper's row beside.

    python scripts/eval.py                        # newest snapshot under runs/, its data, test split
    python scripts/eval.py --run runs/googlenet
    python scripts/eval.py --weights runs/alexnet_iter_5000.caffemodel --data data/lmdb --split val

Writes to runs/NAME/eval_<split>/: predictions.csv (a row a record), metrics.json, metrics.md, confusion.png,
and roc.png and pr.png where both classes are present. A mass is called malignant from probability 0.5 on;
intervals resample patients (scripts/evaluation/metrics.py).
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.core import provenance
from data_prep.core.files import whole_file, write_json
from data_prep.core.records import run
from data_prep.database import lmdb_io, manifest
from scripts.evaluation import evaluation_table, metrics, plots, selection
from scripts.nets import definitions

FIELDS = ("mass_id", "patient", "film", "side", "view", "pathology", "label", "probability", "predicted")


def main() -> None:
    """Choose, predict, judge, write, print."""
    args = selection.parser(__doc__, split="test").parse_args()
    chosen = selection.choose(args)
    out = selection.out_folder(chosen, args.out, "eval")
    definitions.set_mode(args.gpu)
    rows = list(predictions(chosen))
    summary = summarise(chosen, rows)
    write(out, summary, rows)
    print(f"\n{evaluation_table.render(summary)}\n{out}: predictions.csv, metrics.json, metrics.md, figures")


def predictions(chosen: selection.Chosen) -> Iterator[dict]:
    """Yield a row of FIELDS for each record of the split, in key order; InputError when the net gives NaN."""
    about = manifest.read_csv(chosen.data)
    net = definitions.load_deploy(chosen.net, chosen.weights, selection.BATCH)
    for keys, labels, inputs in selection.batches(chosen):
        outputs = definitions.predict(net, inputs)
        selection.check_numbers(chosen, outputs)
        called = metrics.called_malignant(outputs[:, 1])
        for key, label, probability, malignant in zip(keys, labels, outputs[:, 1], called, strict=True):
            found = {"label": label, "probability": float(probability), "predicted": int(malignant)}
            yield {name: (about[lmdb_io.mass_id_of(key)] | found)[name] for name in FIELDS}


def summarise(chosen: selection.Chosen, rows: list[dict]) -> dict:
    """Return what metrics.json holds: figures, counts, and everything needed to know what was evaluated on what."""
    labels, probabilities, patients = (
        np.array([row[name] for row in rows]) for name in ("label", "probability", "patient")
    )
    estimates = metrics.estimates(labels, probabilities, patients)
    return {
        **selection.describe(chosen),
        "n": len(rows),
        "masses": len({row["mass_id"] for row in rows}),
        "patients": len(set(patients)),
        "malignant": int(labels.sum()),
        "benign": int((1 - labels).sum()),
        "threshold": metrics.THRESHOLD,
        "counts": metrics.confusion(labels, probabilities)._asdict(),
        "metrics": {name: estimate._asdict() for name, estimate in estimates.items()},
        "interval": metrics.INTERVAL,
        "doubts": selection.doubts(chosen),
        "command": provenance.command(),
        "commit": provenance.commit(),
        "versions": provenance.versions("numpy", "scikit-learn"),
    }


def write(out: Path, summary: dict, rows: list[dict]) -> None:
    """Write everything to `out`; metrics.json comes last, and is absent while the others are replaced."""
    (out / "metrics.json").unlink(missing_ok=True)
    with whole_file(out / "predictions.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(out, summary, rows)
    heading = evaluation_table.heading(summary["net"], summary["split"], summary["source"])
    with whole_file(out / "metrics.md") as path:
        path.write_text(f"# {heading}\n\n{evaluation_table.render(summary)}")
    write_json(out / "metrics.json", summary)


def draw(out: Path, summary: dict, rows: list[dict]) -> None:
    """Write the figures; where a class is absent, those that need both are left out and old ones removed."""
    labels, probabilities = (np.array([row[name] for row in rows]) for name in ("label", "probability"))
    makers = {"confusion.png": plots.confusion, "roc.png": plots.roc, "pr.png": plots.precision_recall}
    for name, make in makers.items():
        if name != "confusion.png" and summary["metrics"]["auc"]["value"] is None:
            (out / name).unlink(missing_ok=True)
            continue
        with whole_file(out / name) as path:
            make(summary, labels, probabilities).savefig(path)


if __name__ == "__main__":
    sys.exit(run(main))
