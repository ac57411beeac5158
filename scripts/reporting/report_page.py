"""The report: finished runs on one HTML page and in one Markdown file."""

import base64
import io
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import markupsafe
import mistune
from PIL import Image

from data_prep.auditing import contact_sheet
from data_prep.core.files import atomic_write, write_text
from data_prep.core.json_files import write_json
from data_prep.core.provenance import public
from data_prep.core.tables import read_rows, write_csv
from data_prep.database import build_summary, manifest
from data_prep.database.split import SPLITS
from scripts.evaluation import curves, evaluation_table, metrics, paper_results, plots, predictions, run_files
from scripts.evaluation.predictions import Predictions
from scripts.reporting import finished_run, gallery, summary_text, svg_charts
from scripts.reporting.finished_run import FinishedRun
from scripts.reporting.page_templates import render

_MARKDOWN = mistune.create_markdown(plugins=["table"])
CLEAR = 4  # ROC curves that can be told apart: of more, only each net's first is shown at first


def examples(out: Path, of: FinishedRun) -> tuple[str, Path]:
    """Draw some validation masses of a run's data as the paper's Fig 1; return the figure's caption and path."""
    content, path = manifest.read_json(of.data, whole=True), out / "examples.png"
    masses = contact_sheet.read(of.data, content, contact_sheet.FIG1_MASSES, seed=1, splits=("val",))["val"]
    contact_sheet.save(contact_sheet.fig1(masses, content), path)
    return "Masses of the validation set, benign left and malignant right, as the nets see them.", path


def saliency(out: Path, of: FinishedRun) -> tuple[str, Path]:
    """Return the caption of a run's saliency figure, and the path where write_page will have put it."""
    caption = f"{of.title} ({of.name}): validation masses, and below each where its class score is most sensitive."
    return caption, out / of.name / "saliency.png"


def write_page(
    out: Path,
    runs: Sequence[FinishedRun],
    title: str,
    tables: Sequence = (),
    figures: Sequence[tuple[str, Path]] = (),
    text: str = "",
    anonymous: bool | None = None,
    guide: Path | None = None,
) -> None:
    """Write report.html, README.md and each run's files to the folder `out`.

    `runs` are finished_run.read's, at least one. `tables` have a title, a header, rows of texts (or texts(), which
    returns them) and notes, and perhaps a line `about` their data and the `name` of a CSV file in `out`; `figures` are
    captions and paths of images; `text` is a discussion in Markdown, whose HTML is escaped. With `anonymous` numbers
    stand in for patients and masses; None: where the films are a user's own. With a picture of a classified mass as
    `guide`, the page begins with what its readers need to know who have not read the paper.
    """
    if anonymous is None:
        anonymous = any(each.scores["source"] == "boxes" for each in runs)
    called = number_names([each.predictions() for each in runs]) if anonymous else {}
    for each in runs:
        copy_files(each, out / each.name, called)
    page = describe(runs, called) | {
        "title": title,
        "tables": [(table, *filled(table)) for table in tables if table.rows],
        "guide": guide and (embed(guide), os.path.relpath(guide, out)),
        "figures": [(caption, embed(path), os.path.relpath(path, out)) for caption, path in figures],
        "text": text,
        "discussion": markupsafe.Markup(_MARKDOWN(text)),
    }
    for template, name in (("report.md", "README.md"), ("report.html", "report.html")):
        write_text(out / name, render(template, **page))


def filled(table) -> tuple[list[str], list[list[str]]]:
    """Return a table's header and its rows of texts, without the columns that say nothing."""
    rows = table.texts() if hasattr(table, "texts") else table.rows
    nothing = {head: {""} | ({"1"} if head == "Seeds" else set()) for head in table.header}
    kept = [place for place, head in enumerate(table.header) if not {row[place] for row in rows} <= nothing[head]]
    return [table.header[place] for place in kept], [[row[place] for place in kept] for row in rows]


def number_names(found: Sequence[Predictions]) -> dict[str, str]:
    """Return what to call each mass and each patient in place of their names, which a hospital gave them."""
    called = {}
    for word, names in (("mass", [each.masses for each in found]), ("patient", [each.patients for each in found])):
        known = dict.fromkeys(name for each in names for name in each.tolist())
        called |= {name: f"{word} {number}" for number, name in enumerate(known, start=1)}
    return called


def copy_files(each: FinishedRun, out: Path, called: dict[str, str]) -> None:
    """Copy what the page shows and rests on, all into one folder a run, and draw the run's curves there.

    Paths are public()'s, and where names are `called` otherwise, they are so in the copies.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in each.files:
        shutil.copyfile(each.folder / name, out / Path(name).name)
    settings = {name: public(each.settings[name]) for name in ("data", "weights") if each.settings[name]}
    write_json(out / run_files.JSON, each.settings | settings)
    if called:
        write_json(out / "metrics.json", each.scores | {"doubts": []})  # they name patients
        copy_without_names(each.folder / "eval_test" / "predictions.csv", out / "predictions.csv", called)
    with atomic_write(out / "curves.png") as path:
        plots.curves(each.title, each.log).savefig(path)


def copy_without_names(source: Path, path: Path, called: dict[str, str]) -> None:
    """Copy predictions.csv with numbers in place of the names of masses and patients, and without the films'."""
    rows = [
        row | {name: called[row[name]] for name in ("mass_id", "patient")} | {"film": ""}
        for row in read_rows(source, predictions.FIELDS)
    ]
    write_csv(path, list(rows[0]), rows)


def describe(runs: Sequence[FinishedRun], called: dict[str, str]) -> dict:
    """Return what both templates show of the runs."""
    sheets: dict[str, str] = {}  # a name for each data URI
    databases = {str(each.data): manifest.read_json(each.data, whole=True) for each in runs}
    return {
        "synthetic": summary_text.is_synthetic(runs),
        "answer": summary_text.answer(runs),
        "caveats": summary_text.caveats(runs),
        "shown": [show(each, runs, sheets, called) for each in runs],
        "sheets": sheets,
        "databases": [
            {"name": public(name), "content": content, "table": count_table(content), "left_out": left_out(content)}
            for name, content in databases.items()
        ],
        "paper": paper_results,
        "wilson": {net: paper_results.wilson(row.counts) for net, row in paper_results.TEST.items()},
        "rates": {net: metrics.rates(*row.counts) for net, row in paper_results.TEST.items()},
        "ends": evaluation_table.ends,
        "films": evaluation_table.films,
        "cell": evaluation_table.interval,
        "square": svg_charts.SQUARE,
        "halves": summary_text.halves,
    }


def show(each: FinishedRun, runs: Sequence[FinishedRun], sheets: dict[str, str], called: dict[str, str]) -> dict:
    """Return what the templates show of one run; a gallery's sheets join `sheets`, those alike once."""
    kin = [other.name for other in runs if other.net == each.net]
    found = each.predictions()
    arrays = found.labels, found.probabilities, found.patients
    pictures = {
        name: embed(each.folder / finished_run.GALLERY / f"{name}.webp") for name in gallery.SHEETS if each.masses
    }
    return {
        "run": each,
        "stroke": kin.index(each.name),
        "drawn": len(runs) <= CLEAR or each.name == kin[0],
        "roc": svg_charts.roc(found),
        "calibration": curves.calibration(*arrays),
        "brier": curves.brier(*arrays),
        "strokes": svg_charts.strokes(*arrays[:2]),
        "history": {"accuracy": svg_charts.accuracy(each.log), "loss": svg_charts.loss(each.log)},
        "sheets": {name: sheets.setdefault(uri, f"sheet{len(sheets)}") for name, uri in pictures.items()},
        "columns": 1 + max((mass["tile_column"] for mass in each.masses), default=0),
        "rows": 1 + max((mass["tile_row"] for mass in each.masses), default=0),
        "masses": [
            mass | {"mass_id": called.get(mass["mass_id"], mass["mass_id"])}
            for mass in sorted(each.masses, key=lambda mass: -abs(mass["label"] - mass["probability"]))
        ],
    }


def embed(path: Path) -> str:
    """Return a picture as a data URI; in WebP, a fifth of a PNG's size, as the page holds them all."""
    content = path.read_bytes()
    if path.suffix != ".webp":
        buffer = io.BytesIO()
        with Image.open(path) as image:
            image.convert("RGB").save(buffer, "WEBP", quality=90)
        content = buffer.getvalue()
    return "data:image/webp;base64," + base64.b64encode(content).decode()


def count_table(content: dict) -> list[tuple[str, list[int], str]]:
    """Return rows of counts by split, their sum, and the paper's figure as text ("" where it gives none)."""
    rows = []
    for name in build_summary.ROWS:
        values = [content["counts"][split][name] for split in SPLITS]
        paper = f"{build_summary.PAPER[name]:,}" if name in build_summary.PAPER else ""
        rows.append((name, [*values, sum(values)], paper))
    return rows


def left_out(content: dict) -> list[tuple[str, int]]:
    """Return each reason for which lesions were left out, and how many."""
    ends = (build_summary.FOUND, build_summary.SEVERAL, build_summary.USED)
    return [(reason, row["lesions"]) for reason, row in content["account"].items() if reason not in ends]
