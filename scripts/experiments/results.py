"""Finished arms as tables take them: predictions of all runs on the same masses in one order, with their figures.

And the cells and notes that several tables share.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scripts.evaluation import comparisons, evaluation_table, metrics, paper_results
from scripts.evaluation.comparisons import Spread
from scripts.evaluation.metrics import Estimate
from scripts.evaluation.predictions import Predictions
from scripts.evaluation.results_table import Cell
from scripts.experiments.matrix import SPLITS, Experiment, Finished

HEADS = {name: name.upper() if name == "auc" else name.capitalize() for name in metrics.NAMES}
WORDS = {"val": "validation", "test": "test"}
NOT_RUN = "not run"

INTERVALS = f"{metrics.LEVEL:.0%} intervals: ours by {metrics.DRAWS:,} bootstrap draws of patients"
FIRST_SEED = "An arm with several seeds is shown by its first, whatever the others gave; seeds.md has them all."
UNIT = f"A mass is called malignant from probability {metrics.THRESHOLD} on."


class EvaluatedRun(NamedTuple):
    """One run on one split."""

    predictions: Predictions
    estimates: dict[str, Estimate]

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels, probabilities and patients, (n,) each, as metrics.py takes them."""
        return self.predictions.labels, self.predictions.probabilities, self.predictions.patients


@dataclass(frozen=True)
class Results:
    """What tables are made of: experiments.toml's content, each arm's runs by seed, each run by name and split.

    `about` is the line that says what data and which budget.
    """

    experiments: dict
    runs: dict[str, list[Finished]]
    judged: dict[tuple[str, str], EvaluatedRun]
    about: str

    @property
    def arms(self) -> list[Experiment]:
        """Every arm of the experiments, run or not."""
        return list(self.experiments["arms"].values())

    def shown(self, table: str) -> list[Experiment]:
        """The arms of one of the experiments' tables; none where they have no such table."""
        return [self.experiments["arms"][name] for name in self.experiments["tables"].get(table, [])]

    def first(self, arm: Experiment, split: str) -> EvaluatedRun | None:
        """The arm's first seed on a split; None where the arm was not run."""
        runs = self.runs.get(arm.name)
        return self.judged[runs[0].name, split] if runs else None

    def over_seeds(self, arm: Experiment, split: str, figure: str) -> Spread | None:
        """How a figure varies over the arm's seeds; None for fewer than two."""
        runs = self.runs.get(arm.name, [])
        return comparisons.spread([self.judged[run.name, split].estimates[figure].value for run in runs])


def read_results(finished: list[Finished], experiments: dict, budget: str, source: str) -> Results:
    """Read the runs' predictions; InputError when they were not evaluated on the same masses."""
    runs = defaultdict(list)
    for run in sorted(finished, key=lambda run: run.seed):
        runs[run.arm.name].append(run)
    judged = {}
    for split in SPLITS:
        reference = None
        for run in finished:
            own = run.predictions(split)
            reference = reference or own
            found = comparisons.aligned(reference, own, f"{run.folder}/eval_{split}")
            estimates = metrics.estimates(found.labels, found.probabilities, found.patients)
            judged[run.name, split] = EvaluatedRun(found, estimates)
    return Results(experiments, dict(runs), judged, about(experiments["budgets"][budget], budget, source))


def about(budget: dict, name: str, source: str) -> str:
    """Return the line that says on what data, trained for how long."""
    if "images" in budget:
        length = f"{budget['images']:,} images an arm"
    else:
        rows = paper_results.TEST.items()
        length = ", ".join(f"{paper_results.TITLES[net]} {row.epochs} epochs" for net, row in rows)
    data = evaluation_table.SOURCES.get(source, source)
    return f"Data: {data}. Budget: {name} ({length}). {evaluation_table.other_data(source)}"


def model(arm: Experiment) -> str:
    """The arm in the paper's words; a start that is not the paper's is said."""
    start = "" if paper_start(arm) else f", {arm.start} start"
    augmentation = "Aug" if arm.augmented else "No Aug"
    return f"{paper_results.TITLES[arm.net]} ({augmentation} - {arm.context.title()} Context{start})"


def paper_start(arm: Experiment) -> bool:
    """Whether the arm starts as the paper's net does: the baseline at random, the others pre-trained."""
    return (arm.start == "random") == (paper_results.START[arm.net] == "random")


def figures(judged: EvaluatedRun | None, names: Iterable[str] = metrics.NAMES) -> tuple[Cell, ...]:
    """The figures of these names, or that they were not run."""
    return tuple(judged.estimates[name] if judged else NOT_RUN for name in names)


def sizes(labels: np.ndarray) -> tuple[int, int, int]:
    """How many, how many malignant, how many benign."""
    return len(labels), int((labels == 1).sum()), int((labels == 0).sum())


def samples(results: Results, split: str) -> tuple[str, ...]:
    """A line on the masses of a split; none where nothing was run."""
    there = [judged for arm in results.arms if (judged := results.first(arm, split))]
    if not there:
        return ()
    n, malignant, benign = sizes(there[0].predictions.labels)
    patients = len(np.unique(there[0].predictions.patients))
    return (f"{n} {WORDS[split]} masses of {patients} patients: {malignant} malignant, {benign} benign.",)
