"""A finished run as report.py shows it: everything that its folder holds, read and checked."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from data_prep.core.errors import InputError
from scripts.evaluation import paper_results, predictions
from scripts.reporting import gallery

RUN_FILES = ("run.json", "log.csv", "eval_test/metrics.json", "eval_test/predictions.csv")
PICTURES = ("eval_test/roc.png", "eval_test/confusion.png", "saliency_val/saliency.png")
GALLERY = "gallery_test"
MAKERS = {"eval_test": "eval.py", "saliency_val": "saliency.py", GALLERY: "gallery.py"}
SAME = 1e-3  # what one net's probabilities may differ by when it is run in other batches: rounding, and more than that


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, run.json, log.csv's rows, and of the test split metrics, predictions and gallery."""

    folder: Path
    settings: dict
    log: list[dict[str, float]]
    scores: dict
    found: predictions.Predictions
    masses: list[dict]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def net(self) -> str:
        return self.settings["net"]

    @property
    def data(self) -> Path:
        return Path(self.settings["data"])

    @property
    def start(self) -> str:
        """What weights the training began with, in a word."""
        return predictions.name_of_weights(self.settings["weights"])

    @property
    def images(self) -> int:
        """Image passes of the training."""
        return self.settings["iterations"] * self.settings["batch"]

    @property
    def as_in_table_3(self) -> bool:
        """Whether the crops are as the paper's Table 3 has them: large context, augmented for training."""
        return self.scores["context"] == "large" and self.scores["augmented_training"] is True

    @property
    def net_title(self) -> str:
        """The net's name as one writes it."""
        return paper_results.TITLES[self.net]

    @property
    def title(self) -> str:
        """The net, and what sets it apart from others of its kind."""
        start = f"{self.start} weights" if self.start in ("random", "distilled") else self.start
        known = self.net == "baseline" and self.start == "random"  # as in the paper, and there is no other baseline
        parts = [self.net_title + ("" if known else f" from {start}")]
        parts += ["small context"] if self.scores["context"] == "small" else []
        parts += ["no augmentation"] if self.scores["augmented_training"] is False else []
        return ", ".join(parts)


def read(folder: Path) -> Run:
    """Return a finished run.

    Raises InputError that names the first file missing and the command that makes it, or a gallery of other weights
    than those evaluated.
    """
    for name in (*RUN_FILES, *PICTURES, *(f"{GALLERY}/{file}" for file in gallery.FILES)):
        if not (folder / name).is_file():
            maker = MAKERS.get(name.partition("/")[0], "train.py")
            raise InputError(f"{folder / name}: missing; make it with python scripts/{maker} --run {folder}")
    with (folder / "log.csv").open(newline="") as file:
        log = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    settings, scores = (json.loads((folder / name).read_text()) for name in ("run.json", "eval_test/metrics.json"))
    found = predictions.read_predictions(folder / "eval_test" / "predictions.csv")
    masses = gallery.read(folder / GALLERY)
    _check_same(folder, found, masses)
    return Run(folder, settings, log, scores, found, masses)


def _check_same(folder: Path, found: predictions.Predictions, masses: list[dict]) -> None:
    judged = dict(zip(found.masses[::-1], found.probabilities[::-1], strict=True))  # of several records the first
    pictured = {row["mass_id"]: row["probability"] for row in masses}
    if judged.keys() != pictured.keys() or any(abs(judged[mass] - pictured[mass]) > SAME for mass in judged):
        path = folder / GALLERY / gallery.INDEX
        raise InputError(
            f"{path}: of other weights than evaluated; make it with python scripts/gallery.py --run {folder}"
        )
