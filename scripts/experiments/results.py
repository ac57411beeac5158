"""All runs' predictions, aligned by mass, with their figures; cells and notes that several tables share."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scripts.evaluation import comparisons, evaluation_table, metrics, paper_results
from scripts.evaluation.comparisons import Spread
from scripts.evaluation.metrics import Estimate
from scripts.evaluation.predictions import Predictions
from scripts.evaluation.results_table import Cell
from scripts.experiments.matrix import Experiment, Runs

HEADS = {name: name.upper() if name == "auc" else name.capitalize() for name in metrics.NAMES}
WORDS = {"val": "validation", "test": "test"}
POOLED = {"test": "out-of-fold"}
NOT_RUN = "not run"

INTERVALS = f"{metrics.LEVEL:.0%} intervals: ours by {metrics.DRAWS:,} bootstrap draws of patients"
FIRST_SEED = "An experiment with several seeds is shown by its first, whatever the others gave; seeds.md has them all."
UNIT = f"A mass is called malignant from probability {metrics.THRESHOLD} on."


class EvaluatedRun(NamedTuple):
    """A run's predictions for one split, and its figures there."""

    predictions: Predictions
    estimates: dict[str, Estimate]

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels, probabilities and patients, (n,) each, as metrics.py takes them."""
        return self.predictions.labels, self.predictions.probabilities, self.predictions.patients


@dataclass(frozen=True)
class Results:
    """The input of the tables: experiments.toml, each experiment's runs by seed, each run's predictions by split.

    `splits` are those that are shown, and what they are called; a cross-validation has no validation set of its own,
    as its folds' sets overlap. `about` is the line that says what data and which budget.
    """

    matrix: dict
    runs: Runs
    evaluated: dict[tuple[str, str], EvaluatedRun]
    splits: dict[str, str]
    about: str

    @property
    def folds(self) -> list[str]:
        """The folds of a cross-validation, else nothing."""
        names = {fold for found in self.evaluated.values() for fold in found.predictions.folds}
        return sorted(names - {""}, key=int)

    @property
    def experiments(self) -> list[Experiment]:
        """Every experiment, run or not."""
        return list(self.matrix["arms"].values())

    def shown(self, table: str) -> list[Experiment]:
        """The experiments that one of the tables shows; none where there is no such table."""
        return [self.matrix["arms"][name] for name in self.matrix["tables"].get(table, [])]

    def first(self, experiment: Experiment, split: str) -> EvaluatedRun | None:
        """The experiment's first seed on a split; None where the experiment was not run."""
        runs = self.runs.get(experiment.name)
        return self.evaluated[runs[0].name, split] if runs else None

    def over_seeds(self, experiment: Experiment, split: str, figure: str) -> Spread | None:
        """Return the spread of a figure over the experiment's seeds; None for fewer than two."""
        runs = self.runs.get(experiment.name, [])
        return comparisons.spread([self.evaluated[run.name, split].estimates[figure].value for run in runs])


def read_results(finished: Runs, matrix: dict, budget: str, source: str) -> Results:
    """Read the runs' predictions; InputError when they were not evaluated on the same masses."""
    runs = {
        name: sorted(several, key=lambda run: run.settings["seed"]) for name, several in finished.items() if several
    }
    films = next((run.films for several in runs.values() for run in several), evaluation_table.SOURCES[source])
    evaluated = {}
    splits = POOLED if "folds" in matrix["budgets"][budget] else WORDS
    for split in splits:
        reference = None
        for run in itertools.chain.from_iterable(finished.values()):
            own = run.predictions(split)
            reference = reference or own
            found = comparisons.aligned(reference, own, f"{run.folder}/eval_{split}")
            estimates = metrics.estimates(found.labels, found.probabilities, found.patients)
            evaluated[run.name, split] = EvaluatedRun(found, estimates)
    return Results(matrix, runs, evaluated, splits, about(matrix["budgets"][budget], budget, source, films))


def about(budget: dict, name: str, source: str, films: str) -> str:
    """Return the line that says on what data, trained for how long."""
    if "images" in budget:
        length = f"{budget['images']:,} images per experiment"
        length += ", without augmentation the paper's epochs" if "paper_length" in budget else ""
    else:
        rows = paper_results.TEST.items()
        length = ", ".join(f"{paper_results.TITLES[net]} {row.epochs} epochs" for net, row in rows)
    length += f"; {budget['folds']}-fold cross-validation by patient" if "folds" in budget else ""
    return f"Data: {films}. Budget: {name} ({length}). {evaluation_table.other_data(source)}"


def model(experiment: Experiment) -> str:
    """The experiment in the paper's words; a start that is not the paper's is said."""
    start = "" if paper_start(experiment) else f", {experiment.start} start"
    augmentation = "Aug" if experiment.augmented else "No Aug"
    return f"{paper_results.TITLES[experiment.net]} ({augmentation} - {experiment.context.title()} Context{start})"


def paper_start(experiment: Experiment) -> bool:
    """Whether the experiment starts as the paper's net does: the baseline at random, the others pre-trained."""
    return (experiment.start == "random") == (paper_results.START[experiment.net] == "random")


def figures(evaluated: EvaluatedRun | None, names: Iterable[str] = metrics.NAMES) -> tuple[Cell, ...]:
    """The figures of these names, or that they were not run."""
    return tuple(evaluated.estimates[name] if evaluated else NOT_RUN for name in names)


def sizes(labels: np.ndarray) -> tuple[int, int, int]:
    """Return the number of masses, of malignant and of benign ones."""
    return len(labels), int((labels == 1).sum()), int((labels == 0).sum())


def samples(results: Results, split: str) -> tuple[str, ...]:
    """A line on the masses of a split; none where nothing was run."""
    there = [evaluated for experiment in results.experiments if (evaluated := results.first(experiment, split))]
    if not there:
        return ()
    n, malignant, benign = sizes(there[0].predictions.labels)
    patients = len(np.unique(there[0].predictions.patients))
    return (f"{n} {results.splits[split]} masses of {patients} patients: {malignant} malignant, {benign} benign.",)
