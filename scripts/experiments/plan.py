"""The plan of the experiments: the commands that a user would type, in order: databases, trainings.

A step whose output is there already is not taken again. The folders, from the repository's root:

    data/reproduce/DATA/large_aug ...             a database for each kind of crops, all of one split
                        fold1of5/large_aug ...    those of a fold, where a budget is a cross-validation
    runs/reproduce/DATA/BUDGET/NAME_seedN         an experiment's run, with what eval.py and the others made of it;
                               NAME_seedN.log     what they printed
                               NAME_fold1_seedN   a fold's run; NAME_seedN is then all folds' together (pooling.py)
"""

import math
import statistics
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from data_prep.core.errors import InputError
from data_prep.core.process_pool import run_in_fresh_process
from data_prep.database import manifest
from data_prep.database.split import Fold
from scripts.evaluation import paper_results, run_files
from scripts.experiments.matrix import SPLITS, Experiment, Runs, run_name
from scripts.experiments.pooling import pool
from scripts.nets import definitions, device
from scripts.nets.solver import from_memory, make_solver, timed_step
from scripts.reporting.finished_run import FinishedRun

KINDS = ("large_aug", "large_noaug", "small_noaug")
WEIGHTS = Path("weights")
SHARES = "saliency_share_{}/saliency_share.json"
WARM_UP, TIMED = 1, 2  # iterations; the first also allocates memory


@dataclass(frozen=True)
class Data:
    """The masses that the experiments are done on: build_lmdb.py's source and root, and a name for folders.

    `fold` is the part of them to test on, in a cross-validation. `about` are build_lmdb.py's options --name and
    --credit with their texts, where given.
    """

    source: str
    root: Path | None
    name: str
    fold: Fold | None = None
    about: tuple[str, ...] = ()

    def folder(self, crops: str) -> Path:
        """Return where the database of these crops is, or will be."""
        part = f"fold{self.fold.number}of{self.fold.of}" if self.fold else ""
        return Path("data/reproduce") / self.name / part / crops

    def folds(self, budget: dict) -> list["Data"]:
        """Return the data once for each fold of a budget that is a cross-validation, else alone."""
        of = budget.get("folds", 0)
        return [replace(self, fold=Fold(number, of)) for number in range(1, of + 1)] or [self]


@dataclass(frozen=True)
class Step:
    """A command, and whether what it makes is there already; `images` are those that it trains a net on."""

    title: str
    command: tuple
    done: bool
    net: str = ""
    batch: int = 0
    images: int = 0
    folder: Path | None = None  # of the run that it is of

    @property
    def log(self) -> Path | None:
        """The file that keeps what the commands of a run print."""
        return self.folder and self.folder.with_name(f"{self.folder.name}.log")


def parse_data(text: str, about: tuple[str, ...] = ()) -> Data:
    """Return the data that SOURCE, SOURCE:ROOT or the path of a CSV of boxes stands for; InputError for another."""
    if text.endswith(".csv"):
        text = f"boxes:{text}"
    source, _, root = text.partition(":")
    if source not in ("synthetic", "ddsm", "cbis", "boxes") or (source == "boxes" and not root):
        raise InputError(f"--data {text}: give synthetic, ddsm, cbis, one of these with :FOLDER, or a CSV of boxes")
    path = Path(root) if root else None
    name = source if path is None else path.resolve().parent.name if path.suffix == ".csv" else path.resolve().name
    return Data(source, path, name, about=about)


def runs_folder(data: Data, budget: str) -> Path:
    """Return the folder of the runs of a budget on some data."""
    return Path("runs/reproduce") / data.name / budget


def make(
    experiments: list[Experiment], data: Data, name: str, budget: dict, gpu: str | None, explained: Collection[str] = ()
) -> list[Step]:
    """Return all steps for these experiments under a budget of experiments.toml, in order.

    The saliency of those named in `explained` is counted as well as drawn.
    Raises InputError when a run that is there was trained otherwise than this plan says.
    """
    steps = []
    for part in data.folds(budget):
        steps += databases(part, experiments)
        for experiment in experiments:
            start = pretrained(experiment.net) if experiment.start == "pretrained" else None
            for seed in budget["seeds"][experiment.net]:
                is_explained = experiment.name in explained
                steps += experiment_steps(experiment, seed, part, start, name, budget, gpu, is_explained)
    return steps


def databases(data: Data, experiments: list[Experiment]) -> list[Step]:
    """Return the building of each database that is needed, at least one; later ones take the first one's split."""
    crops = {experiment.crops for experiment in experiments}
    needed = [kind for kind in KINDS if kind in crops] or ["large_noaug"]  # Fig 1's
    there = [kind for kind in KINDS if (data.folder(kind) / manifest.JSON).is_file()]
    first = (there or needed)[0]
    source = ("--source", data.source, *(("--root", data.root) if data.root else ()), *data.about)
    steps = []
    for kind in sorted(needed, key=lambda kind: kind != first):
        context, augmentation = kind.split("_")
        options = ("--context", context, *(("--no-aug",) if augmentation == "noaug" else ()))
        if data.fold:
            options += ("--fold", data.fold)
        elif kind != first:
            options += ("--split", data.folder(first) / "split.csv")
        command = ("data_prep/build_lmdb.py", *source, *options, "--out", data.folder(kind))
        title = f"database {kind}, fold {data.fold}" if data.fold else f"database {kind}"
        steps.append(Step(title, command, kind in there))
    return steps


def pretrained(net: str) -> Path:
    """Return the file that a pre-trained net starts from: ImageNet's weights, else distilled ones.

    The user's own are looked for first, in weights/, then those of results/starts.
    """
    kept = definitions.ROOT / "results" / "starts" / f"distilled_{net}.caffemodel"
    for path in (WEIGHTS / f"bvlc_{net}.caffemodel", WEIGHTS / kept.name):
        if path.is_file():
            return path
    return kept.relative_to(Path.cwd()) if kept.is_relative_to(Path.cwd()) else kept


def experiment_steps(
    experiment: Experiment,
    seed: int,
    data: Data,
    start: Path | None,
    name: str,
    budget: dict,
    gpu: str | None,
    explained: bool,
) -> list[Step]:
    """Return the training of an experiment with one seed, its evaluation, and for the first seed its maps.

    In a cross-validation the maps are only counted, on the masses that the fold tests.
    """
    folder = runs_folder(data, name) / run_name(experiment, seed, data.fold)
    database = data.folder(experiment.crops)
    length, batch, images = _length(experiment, database, budget)
    wanted = {"net": experiment.net, "data": str(database), "weights": str(start) if start else None, "seed": seed}
    wanted["augmented"] = experiment.augmented
    if (database / manifest.JSON).is_file():
        wanted["data_digest"] = manifest.read_json(database)["digest"]
    state = _state(folder, wanted | length)
    if (folder / run_files.JSON).is_file():
        options = ("--resume",)
    else:
        begin = ("--weights", start) if start else ("--from-scratch",) if experiment.net != "baseline" else ()
        size = ("--batch", budget["batch"][experiment.net]) if "batch" in budget else ()
        typed = [item for key, value in length.items() for item in (f"--{key}", value)]
        options = ("--data", database, *begin, *typed, *size, "--seed", seed)
    train = ("scripts/train.py", "--net", experiment.net, *options, "--out", folder, *_gpu(gpu))
    after = [("scripts/eval.py", f"eval_{split}/metrics.json", ("--split", split)) for split in SPLITS]
    if seed == budget["seeds"][experiment.net][0]:
        if not data.fold:
            after += [
                ("scripts/saliency.py", "saliency_val/saliency.png", ()),
                ("scripts/gallery.py", "gallery_test/index.csv", ()),
            ]
        if explained:
            split = explained_split(budget)
            after.append(("scripts/saliency_share.py", SHARES.format(split), ("--split", split) if data.fold else ()))
    title = folder.name
    steps = [Step(f"{title}: train", train, state == "trained", experiment.net, batch, images, folder)]
    for script, makes, typed in after:
        command = (script, "--run", folder, *typed, *_gpu(gpu))
        steps.append(Step(f"{title}: {Path(makes).parent}", command, (folder / makes).is_file(), folder=folder))
    return steps


def explained_split(budget: dict) -> str:
    """Return the split whose saliency is counted: in a cross-validation the test set, as every mass is in one."""
    return "test" if "folds" in budget else "val"


def finished(experiments: list[Experiment], data: Data, name: str, budget: dict) -> Runs:
    """Return the experiments' runs that are trained and evaluated; those of all folds, where there are, as one."""
    parts, folder = data.folds(budget), runs_folder(data, name)
    found: Runs = {experiment.name: [] for experiment in experiments}
    for experiment in experiments:
        for seed in budget["seeds"][experiment.net]:
            runs = [FinishedRun(folder / run_name(experiment, seed, part.fold)) for part in parts]
            if all((run.folder / f"eval_{split}" / "metrics.json").is_file() for run in runs for split in SPLITS):
                together = folder / run_name(experiment, seed)
                found[experiment.name].append(pool(runs, together) if "folds" in budget else runs[0])
    return found


def _length(experiment: Experiment, database: Path, budget: dict) -> tuple[dict[str, int], int, int]:
    """Return train.py's option for the length, the batch, and the images in all (0: the database is not there yet)."""
    layer = definitions.data_layer(definitions.read_net(experiment.net), "TRAIN")
    batch = budget["batch"][experiment.net] if "batch" in budget else layer.data_param.batch_size
    if "images" in budget and experiment.name not in budget.get("paper_length", ()):
        iterations = math.ceil(budget["images"] / batch)
        return {"iterations": iterations}, batch, iterations * batch
    epochs = paper_results.TEST[experiment.net].epochs
    there = (database / manifest.JSON).is_file()
    masses = manifest.read_json(database, whole=True)["counts"]["train"]["records"] if there else 0
    return {"epochs": epochs}, batch, epochs * masses


def _state(folder: Path, wanted: dict) -> str:
    """Return "new", "begun" or "trained"; InputError when the run there differs from what is wanted."""
    content = run_files.read_run(folder)
    if not content:
        return "new"
    for key, value in wanted.items():
        if content.get(key) != value:
            raise InputError(
                f"{folder}: was trained with {key} {content.get(key)}, not {value}; rm -r it to train it again"
            )
    return "trained" if content.get("iteration") == content["iterations"] else "begun"


def _gpu(gpu: str | None) -> tuple:
    return ("--gpu", gpu) if gpu is not None else ()


def seconds_per_image(net: str, batch: int, gpu: str | None) -> float:
    """Return the seconds of forward, backward and update by image, the median of TIMED iterations on random images."""
    return run_in_fresh_process(_time, net, batch, gpu)


def _time(net: str, batch: int, gpu: str | None) -> float:
    device.set_mode(gpu)
    solver = make_solver(net, from_memory(net, batch))
    seconds = [timed_step(solver, number)[0] for number in range(WARM_UP + TIMED)]
    return statistics.median(seconds[WARM_UP:]) / batch
