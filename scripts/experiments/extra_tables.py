"""Tables beyond the paper's, of every experiment: by patient, by callback, by threshold, by seed, of saliency."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data_prep.core.json_files import read_json
from scripts.evaluation import comparisons, metrics, paper_results, saliency_zones
from scripts.evaluation.comparisons import Difference, OperatingPoint
from scripts.evaluation.metrics import Estimate
from scripts.evaluation.predictions import Predictions
from scripts.evaluation.results_table import Cell, Table
from scripts.experiments import claims_table
from scripts.experiments.matrix import Experiment, Runs
from scripts.experiments.results import (
    FIRST_SEED,
    HEADS,
    INTERVALS,
    NOT_RUN,
    POOLED,
    UNIT,
    WORDS,
    Results,
    figures,
    model,
    sizes,
)

SIZES = ("Malignant", "Benign")
POINT = ("recall", "precision", "specificity")
SHOWN = ("accuracy", "auc")  # of each fold
SHARE_HEADER = (
    "Model",
    "Zone",
    "Area",
    "Trained net",
    "Random nets",
    "Mean map",
    "Trained - random",
    "Trained - mean map",
    "Verdict",
)
ENDS = ("value", "low", "high")
SHARE_FIGURES = ("area", "trained", "random", "place")
SHARE_DIFFERENCES = ("trained_minus_random", "trained_minus_place")
SHARE = {"value": float, "low": float | None, "high": float | None, "draws": int}
COUNTED = {
    "bounds": list,
    "zones": dict.fromkeys(saliency_zones.ZONES, dict.fromkeys(SHARE_FIGURES + SHARE_DIFFERENCES, SHARE)),
}
"""What the table takes of saliency_share.json."""


def per_patient(results: Results) -> Table:
    """The test set's figures with the patient as the unit."""
    rows = []
    for experiment in results.experiments:
        found = results.first(experiment, "test")
        if not found:
            rows.append((model(experiment), None, None, None, *[NOT_RUN] * len(HEADS)))
            continue
        patients = comparisons.by_patient(*found.arrays)
        rows.append((model(experiment), *sizes(patients[0]), *metrics.estimates(*patients).values()))
    notes = (
        "A patient's probability is the highest of its masses', and a patient is malignant when any of its masses is. "
        "So a patient with more masses is more likely to be called malignant.",
        "Patients have another balance of classes than masses have, which changes accuracy and precision.",
        f"{INTERVALS}.",
        FIRST_SEED,
    )
    header = ("Model", "Patients", *SIZES, *HEADS.values())
    return Table("per_patient", "Test set, patient by patient", results.about, header, rows, notes)


def callback(results: Results) -> Table:
    """The test set's figures on all masses, and without the benign ones that no radiologist called back."""
    rows = []
    for experiment in results.experiments:
        found = results.first(experiment, "test")
        if not found:
            rows.append((model(experiment), None, None, None, None, *[NOT_RUN] * len(HEADS)))
            continue
        rows.append((model(experiment), "all", *sizes(found.predictions.labels), *figures(found)))
        kept = comparisons.called_back(found.predictions.pathologies)
        if kept.any() and not kept.all():
            part = [array[kept] for array in found.arrays]
            rows.append((model(experiment), "called back", *sizes(part[0]), *metrics.estimates(*part).values()))
    notes = (
        f"Called back: without the masses of pathology {comparisons.NO_CALLBACK}, benign ones that a radiologist did "
        "not think worth a second look. An experiment with one row has none of them in its test set.",
        "Leaving them out changes the balance of classes, and with it accuracy and precision.",
        f"{INTERVALS}.",
        UNIT,
        FIRST_SEED,
    )
    header = ("Model", "Which", "Masses", *SIZES, *HEADS.values())
    title = "Test set, with and without benign masses that were not called back"
    return Table("callback", title, results.about, header, rows, notes)


def operating(results: Results) -> Table:
    """The test set at the radiologists' recall, with the threshold chosen on validation, and on test itself."""
    rows = []
    for experiment in results.experiments:
        test = results.first(experiment, "test")
        for recall in paper_results.RADIOLOGISTS_RECALL:
            if not test:
                rows.append((model(experiment), recall, None, *[NOT_RUN] * (1 + len(POINT))))
                continue
            there = from_validation(results.runs[experiment.name][0].predictions("val"), test.predictions, recall)
            rows.append((model(experiment), recall, WORDS["val"], *point_cells(there)))
            here = comparisons.at_recall(recall, *test.arrays)
            rows.append((model(experiment), recall, results.splits["test"], *point_cells(here)))
    best = paper_results.TEST["googlenet"]
    notes = (
        "The threshold is the highest whose recall is at least the wanted one: the lowest and the highest recall of "
        "the radiologists whom the paper cites. All figures are the test set's.",
        "From validation: as in use. Recall may miss the wanted one; the intervals are those of this threshold.",
        f"From {results.splits['test']}: optimistic, as it is chosen on the masses judged by it. Each draw of patients "
        "chooses its own.",
        f"The paper: GoogLeNet's recall {best.recall} at precision {best.precision}, at its own threshold.",
        f"{INTERVALS}.",
        FIRST_SEED,
    )
    header = ("Model", "Wanted recall", "Threshold from", "Threshold", *(HEADS[name] for name in POINT))
    return Table("operating", "Test set at the radiologists' recall", results.about, header, rows, notes)


def from_validation(val: Predictions, test: Predictions, recall: float) -> OperatingPoint:
    """The test set at the threshold that reaches a recall on validation, in a cross-validation at each fold's own."""
    thresholds = {}
    for fold in np.unique(val.folds):
        here = val.folds == fold
        arrays = val.labels[here], val.probabilities[here], val.patients[here]
        thresholds[fold] = comparisons.at_recall(recall, *arrays).threshold
    if len(thresholds) == 1:
        return comparisons.at_threshold(*thresholds.values(), test.labels, test.probabilities, test.patients)
    above = test.probabilities - np.array([thresholds[fold] for fold in test.folds])
    return comparisons.at_threshold(0, test.labels, above, test.patients)._replace(threshold="each fold's own")


def point_cells(point: OperatingPoint) -> tuple[Cell, ...]:
    """Threshold, and the figures of POINT there."""
    threshold = "undefined" if point.threshold is None else point.threshold
    return threshold, *(point.figures[name] for name in POINT)


def seeds(results: Results) -> Table:
    """Accuracy and AUC of each seed of the experiments that have several, and of all together."""
    rows = []
    for experiment in results.experiments:
        runs = results.runs.get(experiment.name, [])
        for split in results.splits if len(runs) > 1 else ():
            for run in runs:
                found = results.evaluated[run.name, split].estimates
                rows.append(
                    (
                        model(experiment),
                        results.splits[split],
                        str(run.settings["seed"]),
                        found["accuracy"],
                        None,
                        found["auc"],
                        None,
                    )
                )
            cells = []
            for name in ("accuracy", "auc"):
                spread = results.over_seeds(experiment, split, name)
                cells += [spread, spread.deviation] if spread else ["undefined", None]
            rows.append((model(experiment), results.splits[split], f"all {len(runs)}", *cells))
    notes = (
        f"{INTERVALS}, for one seed. For all: mean (lowest-highest), and the standard deviation, of a sample.",
        "A seed decides start, dropout and mirroring; split and crops stay the same. A seed's interval holds the "
        "uncertainty of the patients, the range over seeds that of the training; neither holds both.",
        "Experiments that are not here have one seed, or were not run.",
    )
    header = ("Model", "Split", "Seed", "Accuracy", "Accuracy's SD", "AUC", "AUC's SD")
    return Table("seeds", "How much the figures vary from seed to seed", results.about, header, rows, notes)


def folds(results: Results) -> Table:
    """Accuracy and AUC of each fold, of all masses together, and over the folds."""
    rows = []
    for experiment in results.experiments:
        found = results.first(experiment, "test")
        if not found:
            rows.append((model(experiment), NOT_RUN, *[None] * 5))
            continue
        each = []
        for fold in results.folds:
            arrays = [array[found.predictions.folds == fold] for array in found.arrays]
            each.append(metrics.estimates(*arrays))
            rows.append((model(experiment), fold, *sizes(arrays[0]), each[-1]["accuracy"], each[-1]["auc"]))
        rows.append((model(experiment), "together", *sizes(found.predictions.labels), *figures(found, SHOWN)))
        spreads = [comparisons.spread([fold[name].value for fold in each]) for name in SHOWN]
        rows.append((model(experiment), "mean of folds (lowest-highest)", *[None] * 3, *spreads))
    notes = (
        f"{INTERVALS}. Each fold: its masses, by the net that was trained on the other folds' patients.",
        "Together: all masses at once, so that AUC also compares masses that different nets judged.",
        UNIT,
        FIRST_SEED,
    )
    header = ("Model", "Fold", "Masses", *SIZES, *(HEADS[name] for name in SHOWN))
    return Table("folds", "Cross-validation, fold by fold", results.about, header, rows, notes)


def saliency_shares(out: Path, experiments: Iterable[Experiment], runs: Runs, about: str, shares: str) -> list[Table]:
    """Write saliency.csv and .md of the runs whose saliency was counted, and return the table; nothing without any.

    `shares` is the file of it in a run's folder.
    """
    counted = [
        (experiment, read_json(run.folder / shares, COUNTED))
        for experiment in experiments
        for run in runs[experiment.name]
        if (run.folder / shares).is_file()
    ]
    if not counted:
        return []
    inner, outer = counted[0][1]["bounds"]
    notes = (
        "Share of the saliency on each zone, the mean over the {} masses, with 95% intervals by patient.".format(
            POOLED["test"] if "folds" in counted[0][1] else WORDS["val"]
        ),
        f"A mass is the ellipse inscribed in its box; its margin is the band from {inner} to {outer} of its radius.",
        "Random nets: the same architecture with fresh weights, the mean of three.",
        "Mean map: what a net would give that looks at the same place whatever it is shown. Masses lie in the middle, "
        "so only what exceeds it follows the mass.",
        "Verdict on the paper's claim that the nets look at the margin, by rule: supported where both differences' "
        "intervals lie above 0, contradicted where one lies below, else open.",
    )
    rows = [row for experiment, shares in counted for row in _rows_by_zone(experiment, shares)]
    table = Table("saliency", "Fig 3 in numbers: where the saliency falls", about, SHARE_HEADER, rows, notes)
    table.write(out)
    return [table]


def _rows_by_zone(experiment: Experiment, shares: dict) -> list[tuple]:
    """A row for each zone, and in a cross-validation one for each fold's margin."""
    folds = enumerate(shares.get("folds", ()), start=1)
    margins = {f"margin, fold {number}": fold["zones"]["margin"] for number, fold in folds}
    rows = []
    for zone, found in (shares["zones"] | margins).items():
        differences = [Difference(*(found[name][end] for end in ENDS), None) for name in SHARE_DIFFERENCES]
        verdicts = {claims_table.verdict(difference) for difference in differences}
        judged = "contradicted" if "contradicted" in verdicts else "open" if "open" in verdicts else "supported"
        estimates = (Estimate(**found[name]) for name in SHARE_FIGURES)
        rows.append((model(experiment), zone, *estimates, *differences, judged if zone.startswith("margin") else None))
    return rows
