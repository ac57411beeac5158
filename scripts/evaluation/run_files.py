"""The files that a training keeps in its run's folder, read in one place: run.json and log.csv."""

import csv
import json
from pathlib import Path

from data_prep.core.errors import InputError

JSON, LOG = "run.json", "log.csv"
EARLIER = {"parts": 1, "augmented": True}  # runs from before batches could be divided or images left unmirrored


def read_run(folder: Path) -> dict:
    """Return a run's run.json: settings, progress, code and machine. {} where there is none; InputError if damaged."""
    path = folder / JSON
    if not path.is_file():
        return {}
    try:
        return EARLIER | json.loads(path.read_text())
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error}); remove the run (rm -r {folder}) and train again") from None


def read_log(folder: Path) -> list[dict[str, float]]:
    """Return the rows of a run's log.csv, one per evaluation, without the cells that are empty."""
    with (folder / LOG).open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
