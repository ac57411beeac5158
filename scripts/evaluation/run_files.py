"""The files that a training keeps in its run's folder, read in one place: run.json and log.csv."""

from pathlib import Path

from data_prep.core.errors import InputError
from data_prep.core.json_files import read_json
from data_prep.core.tables import numbers, read_rows
from scripts.nets.definitions import NETS

JSON, LOG = "run.json", "log.csv"
COLUMNS = ("iteration", "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds")
NEEDED = {"net": str, "data": str, "weights": str | None, "iterations": int, "batch": int}
OPTIONAL = {"data_digest": str, "seed": int, "iteration": int, "seconds": float, "gpu": str | None, "command": str}
OPTIONAL |= {"base_lr": float | None}
EARLIER = {"parts": 1, "augmented": True}  # runs from before batches could be divided or images left unmirrored


def read_run(folder: Path) -> dict:
    """Return a run's run.json: settings, progress, code and machine. {} where there is none; InputError if damaged."""
    path = folder / JSON
    if not path.is_file():
        return {}
    content = EARLIER | read_json(path, NEEDED)
    for key in content.keys() & OPTIONAL.keys():
        read_json(path, {key: OPTIONAL[key]})
    if content["net"] not in NETS:
        raise InputError(f"{path}: damaged: its net is {content['net']!r}, not one of {', '.join(NETS)}")
    return content


def read_log(folder: Path) -> list[dict[str, float]]:
    """Return the rows of a run's log.csv, one per evaluation, without empty fields; InputError if damaged."""
    path = folder / LOG
    rows = read_rows(path, COLUMNS)
    return [numbers(path, row, **{name: float for name in COLUMNS if row[name]}) for row in rows]
