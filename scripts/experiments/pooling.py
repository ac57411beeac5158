"""The folds of a cross-validation as one run: every mass with its probability by the net that never saw its patient.

Its folder is like that of any finished run:

    run.json               the first fold's settings, the time that all folds took, and each fold's own run.json
    log.csv                the mean over the folds, evaluation by evaluation
    eval_test/             every mass, as the fold that tests it predicted it; `fold` says which that is
    eval_val/              each fold's predictions of its validation set: a mass may be in several
    saliency_share_test/   the shares of every mass (saliency_share.py), where they were counted
"""

from pathlib import Path

from data_prep.core.json_files import read_json, write_json
from data_prep.core.provenance import command, made_by, public
from data_prep.core.tables import numbers, read_rows, write_csv
from scripts.evaluation import run_files, saliency_shares, split_evaluation
from scripts.evaluation.predictions import FIELDS
from scripts.reporting.finished_run import FinishedRun

WHICH = ("weights", "weights_sha256", "data", "data_digest")


def pool(runs: list[FinishedRun], folder: Path) -> FinishedRun:
    """Write the run of all folds to the folder, from theirs in order, and return it."""
    for name in ("eval_val", "eval_test"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = joined(runs, "eval_val/predictions.csv", FIELDS)
    write_csv(folder / "eval_val/predictions.csv", list(rows[0]), rows)
    pool_evaluation(runs, folder / "eval_test")
    if all((run.folder / "saliency_share_test/saliency_share.json").is_file() for run in runs):
        pool_shares(runs, folder / "saliency_share_test")
    settings = [
        run.settings | {name: public(run.settings[name]) for name in ("data", "weights") if run.settings[name]}
        for run in runs
    ]
    together = {"seconds": sum(each["seconds"] for each in settings), "command": command(), "folds": settings}
    write_json(folder / run_files.JSON, settings[0] | together)
    log = [
        {name: sum(row[name] for row in rows) / len(rows) for name in run_files.COLUMNS}
        for rows in zip(*(run.log for run in runs), strict=False)
    ]
    write_csv(folder / run_files.LOG, run_files.COLUMNS, log)
    return FinishedRun(folder)


def pool_evaluation(runs: list[FinishedRun], out: Path) -> None:
    """Write what eval.py writes, of all folds' test sets."""
    rows = joined(runs, "eval_test/predictions.csv", FIELDS, label=int, probability=float)
    each = [read_json(run.folder / "eval_test/metrics.json") for run in runs]
    summary = {name: value for name, value in each[0].items() if name not in WHICH} | split_evaluation.measure(rows)
    summary["weights"] = f"{len(runs)} nets, each on the fold that it was not trained on"
    summary["doubts"] = list(dict.fromkeys(doubt for fold in each for doubt in fold["doubts"]))
    summary["folds"] = [{name: fold[name] for name in WHICH} for fold in each]
    split_evaluation.write(out, summary | made_by("numpy", "scikit-learn"), rows)


def pool_shares(runs: list[FinishedRun], out: Path) -> None:
    """Write what saliency_share.py writes, of all folds, and the figures of each fold."""
    out.mkdir(parents=True, exist_ok=True)
    columns = ("mass_id", "patient", *saliency_shares.SHARES)
    rows = joined(runs, f"{out.name}/saliency_share.csv", columns, **dict.fromkeys(saliency_shares.SHARES, float))
    each = [read_json(run.folder / out.name / "saliency_share.json") for run in runs]
    summary = {name: value for name, value in each[0].items() if name not in WHICH} | saliency_shares.measured(rows)
    summary["left_out"] = sum(fold["left_out"] for fold in each)
    summary["folds"] = [{name: fold[name] for name in (*WHICH, "n", "zones")} for fold in each]
    write_csv(out / "saliency_share.csv", [*columns, "fold"], rows)
    write_json(out / "saliency_share.json", summary | made_by("numpy"))


def joined(runs: list[FinishedRun], name: str, columns: tuple[str, ...], **kinds: type) -> list[dict]:
    """Return the rows of a table of every fold, with the fold's number; some columns are numbers, of these kinds."""
    return [
        row | numbers(run.folder / name, row, **kinds) | {"fold": number}
        for number, run in enumerate(runs, start=1)
        for row in read_rows(run.folder / name, columns)
    ]
