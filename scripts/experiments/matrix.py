"""The paper's experiments, read from experiments.toml, where each is called an arm.

An experiment is one net on one kind of crops from one kind of start. Its run for one seed is a folder of train.py's
with the output of eval.py for val and test beside it.
"""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from data_prep.core.errors import InputError
from data_prep.core.files import LARGEST_TEXT, read_bytes
from data_prep.core.json_files import parse_record
from data_prep.database.context_crops import CONTEXTS
from data_prep.database.split import Fold, parse_fold
from scripts.nets.definitions import NETS
from scripts.reporting.finished_run import FinishedRun

try:
    import tomllib
except ModuleNotFoundError:  # the oldest Python has it from PyPI
    import tomli as tomllib

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments.toml"
Runs = dict[str, list[FinishedRun]]
"""The finished runs of each experiment, by its name: one for each seed."""
STARTS = ("random", "pretrained")
SPLITS = ("val", "test")  # those that an experiment is evaluated on


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
        """The name of the database that it is trained on, such as "large_aug"."""
        return f"{self.context}_{'aug' if self.augmented else 'noaug'}"


def read_experiments(path: Path = EXPERIMENTS) -> dict:
    """Return experiments.toml, or another file of its form, its arms as Experiments; InputError when it is damaged."""
    try:
        content = tomllib.loads(read_bytes(path, LARGEST_TEXT).decode())
        experiments = {
            name: parse_record(Experiment, fields | {"name": name}, path) for name, fields in content["arms"].items()
        }
        for experiment in experiments.values():
            if experiment.net not in NETS or experiment.context not in CONTEXTS or experiment.start not in STARTS:
                raise ValueError(f"{experiment.name} has a net, context or start that there is not")
        shown = [*content["tables"].values(), *content["figures"].values(), *chain(*content["claims"].values())]
        if unknown := {name for names in shown for name in names} - experiments.keys():
            raise ValueError(f"no arm is called {unknown.pop()}")
        for name, budget in content["budgets"].items():
            _check_budget(name, budget, experiments)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read as experiments ({error}); see {EXPERIMENTS.name}") from None
    return content | {"arms": experiments}


def _check_budget(name: str, budget: dict, experiments: dict[str, Experiment]) -> None:
    """Raise ValueError, LookupError or TypeError where a budget lacks what a training needs of it."""
    nets = {experiment.net for experiment in experiments.values()}
    if unknown := set(budget.get("paper_length", ())) - experiments.keys():
        raise ValueError(f"budget {name}: no arm is called {unknown.pop()}")
    if "folds" in budget:
        parse_fold(f"1/{budget['folds']}")
    numbers = [seed for net in nets for seed in budget["seeds"][net]]
    numbers += [budget["images"], *(budget["batch"][net] for net in nets)] if "images" in budget else []
    sound = all(type(number) is int and 0 < number < 2**31 for number in numbers)
    if not sound or not all(budget["seeds"][net] for net in nets):
        raise ValueError(f"budget {name}: seeds, images and batch are whole numbers from 1 on, a seed or more per net")


def run_name(experiment: Experiment, seed: int, fold: Fold | None = None) -> str:
    """Return the name of an experiment's folder for one seed, and one fold of a cross-validation."""
    return f"{experiment.name}{f'_fold{fold.number}' if fold else ''}_seed{seed}"
