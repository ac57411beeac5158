"""One page from finished runs: their figures beside the paper's, curves, pictures, and where each number comes from.

    python scripts/report.py runs/baseline runs/alexnet runs/googlenet --out results/mine

Each run must have been trained (scripts/train.py), evaluated (scripts/eval.py) and explained (scripts/saliency.py).
Writes to --out: report.html (pictures inside, opens anywhere), README.md (the same in short), and a folder a run with
its log, predictions, metrics and figures. Nothing is computed here but counts and curves' drawings: every number
comes from a file of the run, which is copied beside the page.
"""

import argparse
import base64
import csv
import io
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import jinja2
from PIL import Image

from data_prep import lmdb_io, manifest, summary
from data_prep.mass import InputError, run
from data_prep.whole_file import whole_file
from scripts import figures, paper, score_table

TEMPLATES = Path(__file__).resolve().parent / "templates"
RUN_FILES = ("run.json", "log.csv", "eval_test/metrics.json", "eval_test/predictions.csv")
PICTURES = ("eval_test/roc.png", "eval_test/confusion.png", "saliency_val/saliency.png")
EXAMPLES = 5  # masses of each class in the opening picture, as in the paper's Fig 1


@dataclass(frozen=True)
class Run:
    """A finished run: its folder's name, run.json, log.csv's rows, and metrics.json of the test split."""

    name: str
    folder: Path
    settings: dict
    log: list[dict[str, float]]
    scores: dict

    @property
    def title(self) -> str:
        return paper.TITLES[self.settings["net"]]

    @property
    def data(self) -> Path:
        return Path(self.settings["data"])


def main() -> None:
    args = parse_args()
    runs = [read_run(folder) for folder in args.runs]
    for each in runs:
        copy_files(each, args.out / each.name)
        with whole_file(args.out / each.name / "curves.png") as path:
            figures.curves(each.title, each.log).savefig(path)
    first = runs[0]
    with whole_file(args.out / "examples.png") as path:
        figures.examples(*examples(first.data), first.scores["source"]).savefig(path)
    page = describe(runs, args.title, args.out)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=jinja2.select_autoescape(["html"]), trim_blocks=True
    )
    for template, name in (("report.md", "README.md"), ("report.html", "report.html")):
        with whole_file(args.out / name) as path:
            path.write_text(environment.get_template(template).render(page))
    print(f"{args.out / 'report.html'}: open it in a browser; {args.out / 'README.md'} is the same in short")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--out", type=Path, required=True, help="folder for the page and its files")
    parser.add_argument("--title", default="Breast masses, benign or malignant", help="the page's heading")
    return parser.parse_args()


def read_run(folder: Path) -> Run:
    """Return a run's files; InputError names the first one missing and the command that makes it."""
    makers = {"eval_test": "eval.py", "saliency_val": "saliency.py"}
    for name in (*RUN_FILES, *PICTURES):
        if not (folder / name).is_file():
            maker = makers.get(name.partition("/")[0], "train.py")
            raise InputError(f"{folder / name}: missing; make it with python scripts/{maker}")
    with (folder / "log.csv").open(newline="") as file:
        log = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    settings, scores = (json.loads((folder / name).read_text()) for name in ("run.json", "eval_test/metrics.json"))
    return Run(folder.name, folder, settings, log, scores)


def copy_files(each: Run, out: Path) -> None:
    """Copy what the page shows and rests on, all into one folder a run."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (*RUN_FILES, *PICTURES):
        shutil.copyfile(each.folder / name, out / Path(name).name)


def examples(data: Path) -> tuple[list, list]:
    """Return the first benign and malignant validation crops, (227, 227) uint8 each."""
    found: tuple[list, list] = ([], [])
    for record in lmdb_io.records(data / "val"):
        if len(found[record.label]) < EXAMPLES:
            found[record.label].append(record.image)
    return found


def describe(runs: list[Run], title: str, out: Path) -> dict:
    """Return what the templates show."""
    databases = {str(each.data): manifest.read_json(each.data) for each in runs}
    return {
        "title": title,
        "source": score_table.SOURCES[runs[0].scores["source"]],
        "synthetic": any(each.scores["source"] == "synthetic" for each in runs),
        "runs": runs,
        "databases": [
            {"name": name, "content": content, "table": count_table(content), "left_out": left_out(content)}
            for name, content in databases.items()
        ],
        "paper": paper,
        "wilson": {net: paper.wilson(row.counts) for net, row in paper.TEST.items()},
        "cell": score_table.interval,
        "picture": lambda name: embed(out / name),
    }


def embed(path: Path) -> str:
    """Return a picture as a data URI, in WebP: a fifth of the PNG's size, as the page holds them all."""
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(buffer, "WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def count_table(content: dict) -> list[tuple[str, list[int], str]]:
    """Return rows of counts by split, their sum, and the paper's figure as text ("" where it gives none)."""
    rows = []
    for name in summary.ROWS:
        values = [content["counts"][split][name] for split in content["counts"]]
        rows.append((name, [*values, sum(values)], format(summary.PAPER[name], ",") if name in summary.PAPER else ""))
    return rows


def left_out(content: dict) -> list[tuple[str, int]]:
    """Return each reason for which lesions were left out, and how many."""
    ends = (summary.FOUND, summary.SEVERAL, summary.USED)
    return [(reason, row["lesions"]) for reason, row in content["account"].items() if reason not in ends]


if __name__ == "__main__":
    sys.exit(run(main))
