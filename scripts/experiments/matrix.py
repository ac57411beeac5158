"""The paper's experiments (experiments.toml) as records, and what a finished arm left in its run's folder.

An arm is one net on one kind of crops from one kind of start. Its run for one seed is a folder of train.py's with
the output of eval.py for val and test beside it.
"""

import csv
import json
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data_prep.core.errors import InputError
from scripts.evaluation.predictions import Predictions, name_of_weights, read_predictions

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments.toml"
SPLITS = ("val", "test")  # those that an arm is evaluated on


@dataclass(frozen=True)
class Experiment:
    """A net (of nets.NETS), its crops, and its start: "random", or "pretrained" from ImageNet or its stand-in."""

    name: str
    net: str
    context: str
    augmented: bool
    start: str

    @property
    def crops(self) -> str:
        """Which of a set's databases it is trained on, such as "large_aug"."""
        return f"{self.context}_{'aug' if self.augmented else 'noaug'}"


@dataclass(frozen=True)
class Finished:
    """An arm trained with one seed, evaluated on val and test; everything is read from `folder`, the run's."""

    arm: Experiment
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        return run_name(self.arm, self.seed)

    @cached_property
    def run(self) -> dict:
        """run.json: settings, code, machine."""
        return json.loads((self.folder / "run.json").read_text())

    @cached_property
    def log(self) -> list[dict[str, float]]:
        """log.csv: a row an evaluation."""
        with (self.folder / "log.csv").open(newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]

    @property
    def images(self) -> int:
        """Image passes of the training."""
        return self.run["iterations"] * self.run["batch"]

    @property
    def weights(self) -> str:
        """What the arm started from, in words."""
        return name_of_weights(self.run["weights"])

    def predictions(self, split: str) -> Predictions:
        """predictions.csv of the split."""
        return read_predictions(self.folder / f"eval_{split}" / "predictions.csv")


def read_experiments(path: Path = EXPERIMENTS) -> dict:
    """Return experiments.toml, or another file of its form, its arms as Experiments; InputError when it is damaged."""
    try:
        content = tomllib.loads(path.read_text())
        arms = {name: Experiment(name, **fields) for name, fields in content["arms"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as experiments ({error}); see {EXPERIMENTS.name}") from None
    return content | {"arms": arms}


def run_name(arm: Experiment, seed: int) -> str:
    """Return the name of an arm's folder for one seed."""
    return f"{arm.name}_seed{seed}"
