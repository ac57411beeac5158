"""Figures 1 to 3 and the page of a reproduction, made from finished runs and their tables."""

import shutil
from pathlib import Path

from data_prep.core.files import atomic_write
from scripts.evaluation import evaluation_table, plots
from scripts.experiments.command_runner import python
from scripts.experiments.matrix import Runs
from scripts.experiments.plan import KINDS, Data
from scripts.reporting import finished_run, report_page
from scripts.reporting.finished_run import FinishedRun

TITLE = "Breast mass classification, reproduced"
DISCUSSION = "discussion.md"


def write(out: Path, runs: Runs, tables: list, data: Data, shown: dict[str, list[str]]) -> None:
    """Write fig1.png to fig3_*.png, report.html and README.md to `out`; `shown` names the experiments of each figure.

    Without any run that is trained and evaluated, Fig 1 is all.
    """
    firsts = {name: several[0] for name, several in runs.items() if several}  # of several seeds the first
    pictures = [
        figure1(out, data),
        *figure2(out, [firsts[name] for name in shown["2"] if name in firsts]),
        *(figure3(out, firsts[name]) for name in shown["3"] if name in firsts and not firsts[name].folds),
    ]
    if not firsts:
        print(f"\n{pictures[0][1]}: Fig 1; the tables and other figures need experiments that are trained")
        return
    discussion = out / DISCUSSION
    films = next(iter(firsts.values())).films
    named = films if films != evaluation_table.SOURCES[data.source] else f"{films} ({data.name})"
    report_page.write_page(
        out,
        [finished_run.read(run.folder) for run in firsts.values()],
        title=f"{TITLE}: {named}",
        tables=tables,
        figures=pictures,
        text=discussion.read_text() if discussion.is_file() else "",
    )
    print(f"\n{out / 'report.html'}: open it in a browser; {out / 'README.md'} is the same in short")


def figure1(out: Path, data: Data) -> tuple[str, Path]:
    """Draw example masses of the first database that is there; return caption and file."""
    folder = next(data.folder(kind) for kind in KINDS if data.folder(kind).is_dir())
    python("data_prep/preview.py", folder, "--out", out / "preview.png")
    path = out / "fig1.png"
    (out / "preview_fig1.png").replace(path)
    (out / "preview.png").unlink()  # of its two pictures the one that no page shows
    return "Fig 1: benign (left) and malignant (right) masses of the data.", path


def figure2(out: Path, pair: list[FinishedRun]) -> list[tuple[str, Path]]:
    """Draw the accuracy curves of the unaugmented and the augmented experiment, if both are there."""
    if len(pair) < 2:
        return []
    path = out / "fig2.png"
    without, augmented = pair
    context = augmented.scores["context"]
    images = f"{without.images:,} and {augmented.images:,} images"
    heading = f"{augmented.net_title}, {context} context, start: {augmented.start}; {augmented.films}; {images}"
    with atomic_write(path) as working:
        plots.augmentation_curves(heading, without.log, augmented.log).savefig(working)
    return [("Fig 2: accuracy in training, without (left) and with augmentation (right).", path)]


def figure3(out: Path, run: FinishedRun) -> tuple[str, Path]:
    """Copy an experiment's saliency maps of five validation masses."""
    path = out / f"fig3_{run.net}.png"
    shutil.copyfile(run.folder / "saliency_val" / "saliency.png", path)
    return f"Fig 3: saliency maps of {run.net_title} on five validation masses.", path
