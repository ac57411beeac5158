"""A finished run: everything that its folder holds, read from there and, for a page, checked."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data_prep.core.errors import InputError
from data_prep.core.files import pasted
from data_prep.core.json_files import read_json
from data_prep.database import manifest
from scripts.evaluation import evaluation_table, metrics, paper_results, predictions, run_files
from scripts.evaluation.predictions import Predictions
from scripts.reporting import gallery

RUN_FILES = ("run.json", "log.csv", "eval_test/metrics.json", "eval_test/predictions.csv")
PICTURES = ("eval_test/roc.png", "eval_test/confusion.png")
MAPS = "saliency_val/saliency.png"
GALLERY = "gallery_test"
MAKERS = {"eval_test": "eval.py", "saliency_val": "saliency.py", GALLERY: "gallery.py"}
ESTIMATE = {"value": float | None, "low": float | None, "high": float | None}
METRICS = {
    **dict.fromkeys(("net", "split", "source", "context"), str),
    "augmented_training": bool | None,
    **dict.fromkeys(("n", "masses", "patients", "malignant", "benign"), int),
    "counts": dict.fromkeys(metrics.Counts._fields, int),
    "metrics": dict.fromkeys(metrics.NAMES, ESTIMATE),
}
"""What a page shows of metrics.json."""
SAME = 1e-3  # what one net's probabilities may differ by when it is run in other batches: rounding, and more than that


@dataclass(frozen=True)
class FinishedRun:
    """A run that is trained and evaluated, or the folds of a cross-validation as one, which has no maps.

    What is in its folder is read when it is first asked for.
    """

    folder: Path

    @cached_property
    def settings(self) -> dict:
        """run.json: settings, progress, code and machine."""
        return run_files.read_run(self.folder)

    @cached_property
    def log(self) -> list[dict[str, float]]:
        """The rows of log.csv."""
        return run_files.read_log(self.folder)

    @cached_property
    def scores(self) -> dict:
        """metrics.json of the test split."""
        return read_json(self.folder / "eval_test/metrics.json", METRICS)

    @cached_property
    def masses(self) -> list[dict]:
        """The index of the test split's gallery, where there is one."""
        return [] if self.folds else gallery.read(self.folder / GALLERY)

    def predictions(self, split: str = "test") -> Predictions:
        """Return predictions.csv of a split."""
        return predictions.read_predictions(self.folder / f"eval_{split}" / "predictions.csv")

    @property
    def files(self) -> tuple[str, ...]:
        """The files that a page shows or rests on."""
        return *RUN_FILES, *PICTURES, *(() if self.folds else (MAPS,))

    @property
    def folds(self) -> int:
        """How many folds' runs it holds; 0 where it is a run by itself."""
        return len(self.settings.get("folds", ()))

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
    def films(self) -> str:
        """The name of the films that the run was trained on."""
        return evaluation_table.films(manifest.read_json(self.data))

    @property
    def start(self) -> str:
        """The weights that the training began with, in a word."""
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


def read(folder: Path) -> FinishedRun:
    """Return a finished run, checked to have all that a page shows.

    Raises InputError that names the first file missing and the command that makes it, or a gallery of other weights
    than those evaluated.
    """
    run = FinishedRun(folder)
    for name in (*run.files, *(f"{GALLERY}/{file}" for file in gallery.FILES if not run.folds)):
        if not (folder / name).is_file():
            maker = MAKERS.get(name.partition("/")[0], "train.py")
            raise InputError(f"{folder / name}: missing; make it with python scripts/{maker} --run {pasted(folder)}")
    if run.folds:
        return run
    found = run.predictions()
    evaluated = dict(zip(found.masses[::-1], found.probabilities[::-1], strict=True))  # of several records the first
    pictured = {row["mass_id"]: row["probability"] for row in run.masses}
    if evaluated.keys() != pictured.keys() or any(abs(evaluated[mass] - pictured[mass]) > SAME for mass in evaluated):
        raise InputError(
            f"{folder / GALLERY / gallery.INDEX}: of other weights than evaluated; "
            f"make it with python scripts/gallery.py --run {pasted(folder)}"
        )
    return run
