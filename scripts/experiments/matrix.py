"""The paper's experiments, read from experiments.toml, where each is called an arm.

An experiment is one net on one kind of crops from one kind of start. Its run for one seed is a folder of train.py's
with the output of eval.py for val and test beside it.
"""

from dataclasses import dataclass
from pathlib import Path

from data_prep.core.errors import InputError
from scripts.reporting.finished_run import FinishedRun

try:
    import tomllib
except ModuleNotFoundError:  # the oldest Python has it from PyPI
    import tomli as tomllib

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments.toml"
Runs = dict[str, list[FinishedRun]]
"""The finished runs of each experiment, by its name: one for each seed."""
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
        content = tomllib.loads(path.read_text())
        experiments = {name: Experiment(name, **fields) for name, fields in content["arms"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as experiments ({error}); see {EXPERIMENTS.name}") from None
    return content | {"arms": experiments}


def run_name(experiment: Experiment, seed: int) -> str:
    """Return the name of an experiment's folder for one seed."""
    return f"{experiment.name}_seed{seed}"
