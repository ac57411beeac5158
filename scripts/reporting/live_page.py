"""The page of trainings while they go on: how far, how fast, the curves; drawn from what is in the runs' folders.

The page reloads itself, so that neither a server nor a script is needed. train.py writes a run's own at its start and
after each evaluation; `report.py --live` writes one of all runs in a folder.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from data_prep.core.errors import InputError
from data_prep.core.files import write_text
from scripts.evaluation import run_files
from scripts.reporting import svg_charts
from scripts.reporting.finished_run import FinishedRun
from scripts.reporting.page_templates import render

NAME = "live.html"
SECONDS = 10  # from one reload to the next
CHARTS = {"accuracy": svg_charts.accuracy, "loss": svg_charts.loss}  # a net that is distilled has no accuracy


def write(page: Path, folders: Sequence[Path]) -> bool:
    """Write a page of the runs in these folders; return whether one of them is not at its end."""
    shown = [show(folder, page.parent) for folder in folders]
    going_on = any(each["left"] for each in shown)
    text = render("live.html", shown=shown, reload=SECONDS if going_on else None, now=time.strftime("%H:%M:%S"))
    write_text(page, text)
    return going_on


def write_own(folder: Path) -> None:
    """Write a run's own page to its folder."""
    write(folder / NAME, [folder])


def follow(folder: Path) -> None:
    """Write the page of all runs below a folder again and again, until each of them is at its end.

    InputError where there is none.
    """
    page = folder / NAME
    print(f"{page}: open it in a browser; it is written anew every {SECONDS} s, until Ctrl-C or the last run's end")
    while write(page, runs_below(folder)):
        time.sleep(SECONDS)


def runs_below(folder: Path) -> list[Path]:
    """Return the folders of runs at or below a folder, the latest first; InputError where there is none."""
    runs = [path.parent for path in folder.rglob(run_files.JSON) if (path.parent / run_files.LOG).is_file()]
    if not runs:
        raise InputError(f"{folder}: no training has begun there; start one with scripts/train.py")
    return sorted(runs, key=lambda run: (run / run_files.LOG).stat().st_mtime, reverse=True)


def show(folder: Path, beside: Path) -> dict:
    """Return what the template shows of a run; its name is its path from the folder `beside`."""
    run = FinishedRun(folder)
    log, settings = run.log, run.settings
    shown = {"run": run, "name": os.path.relpath(folder, beside) if folder != beside else folder.name}
    shown |= {"done": 0, "iterations": settings["iterations"], "left": settings["iterations"], "history": {}}
    if log:
        last, before = log[-1], log[-2] if len(log) > 1 else {"iteration": 0, "seconds": 0}
        steps, seconds = (last[name] - before[name] for name in ("iteration", "seconds"))
        left = settings["iterations"] - int(last["iteration"])
        shown |= {
            "done": int(last["iteration"]),
            "left": left,
            "last": last,
            "speed": steps * settings["batch"] / max(seconds, 0.1),
            "seconds_left": left * last["seconds"] / last["iteration"],
            "history": {name: draw(log) for name, draw in CHARTS.items() if f"val_{name}" in last},
        }
    return shown
