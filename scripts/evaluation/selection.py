"""Options shared by scripts that load a trained net: snapshot, database, output folder.

The defaults are the newest whole snapshot under runs/ and the database that its run.json names; the scripts print both.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep.core.errors import InputError
from data_prep.core.files import pasted
from data_prep.core.provenance import public
from data_prep.database import lmdb_io, manifest
from data_prep.database.split import SPLITS
from scripts.evaluation import run_files
from scripts.nets import caffemodel, inference
from scripts.nets.definitions import ROOT

RUNS = Path("runs")
KEPT = ROOT / "results" / "nets"
BATCH = 16  # images; more only takes memory: on a CPU it is no faster


@dataclass(frozen=True)
class TrainedNet:
    """A net's weights and where they come from.

    `run` is run.json of the folder that holds the weights, empty for a snapshot without one (a `caffe train` typed by
    hand); `trained_on` is the database that it names, or the default one.
    """

    net: str
    weights: Path
    run: dict
    trained_on: Path


@dataclass(frozen=True)
class EvaluationTarget(TrainedNet):
    """A net's weights and the database to use them on."""

    data: Path
    split: str
    manifest: dict

    @property
    def count(self) -> int:
        """Records in the split."""
        return lmdb_io.count(self.data / self.split)

    @property
    def mean_folder(self) -> Path:
        """The folder of the mean to subtract: that of the training set, not of the set judged."""
        return self.trained_on if (self.trained_on / lmdb_io.MEAN).is_file() else self.data

    @property
    def augmented_training(self) -> bool | None:
        """Whether the training set held rotated crops; None where that is not known."""
        if not (self.trained_on / manifest.JSON).is_file():
            return None
        return manifest.is_augmented(manifest.read_json(self.trained_on))


def parser(description: str, split: str) -> argparse.ArgumentParser:
    """Return a parser with the options by which a user chooses; `split` is the default one."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=style)
    add_net_arguments(parser)
    parser.add_argument("--data", type=Path, help="database (default: the run's, else data/lmdb)")
    parser.add_argument("--split", choices=SPLITS, default=split, help=f"default: {split}")
    parser.add_argument("--out", type=Path, help="folder for the results (default: beside the snapshot)")
    return parser


def add_net_arguments(parser: argparse.ArgumentParser, default: str = "of all runs") -> None:
    """Add the options by which a user chooses a trained net and where it computes."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--weights", type=Path, help="a snapshot (.caffemodel)")
    which.add_argument("--run", type=Path, help=f"a run's folder: its newest snapshot (default: {default})")
    parser.add_argument("--gpu", help="id of the GPU to use (default: CPU)")


def published(net: str | None) -> Path:
    """Return the folder of a trained net that this repository holds, GoogLeNet where none is named."""
    folder = KEPT / (net or "googlenet")
    if not folder.is_dir():
        raise InputError(
            f"{public(folder)}: no trained net is kept there; give --run runs/NAME or --weights FILE "
            f"(to train one: python scripts/train.py --net {folder.name} --help)"
        )
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def choose_net(args: argparse.Namespace) -> TrainedNet:
    """Return the trained net, its snapshot checked to be whole, and print which it is."""
    if args.run and not args.run.is_dir():
        raise InputError(f"{args.run}: no such run; train one with scripts/train.py")
    weights = args.weights or caffemodel.newest_snapshot(args.run or RUNS)
    net = caffemodel.read_snapshot(weights).name
    run = run_files.read_run(weights.parent)
    how = "" if args.weights or args.run else " (newest under runs/; choose with --weights or --run)"
    print(f"weights: {weights}{how}")
    beside = (weights.parent / manifest.JSON).is_file()  # as in results/nets: what it needs to run away from its data
    return TrainedNet(net, weights, run, weights.parent if beside else Path(run.get("data", manifest.DEFAULT)))


def choose_target(args: argparse.Namespace) -> EvaluationTarget:
    """Return the choice, each part of it checked to be there, and print it; InputError says what is not."""
    trained = choose_net(args)
    data = args.data or trained.trained_on
    target = EvaluationTarget(**vars(trained), data=data, split=args.split, manifest=manifest.read_json(data))
    manifest.check_tied(data, target.manifest, args.split)
    print(f"data: {data}, {args.split} split, source: {target.manifest['source']}")
    for warning in doubts(target):
        print(f"warning: {warning}", file=sys.stderr)
    return target


def typed(trained: TrainedNet) -> str:
    """Return the option that names these weights to a next command."""
    return f"--run {pasted(trained.weights.parent)}" if trained.run else f"--weights {pasted(trained.weights)}"


def output_of(trained: TrainedNet, purpose: str, split: str) -> Path:
    """Return the folder beside the weights for results on a split.

    Snapshots of several nets can lie together where no run.json is, so there the name starts with the snapshot's.
    """
    name = f"{purpose}_{split}" if trained.run else f"{trained.weights.stem}_{purpose}_{split}"
    return trained.weights.parent / name


def out_folder(target: EvaluationTarget, out: Path | None, purpose: str, suffix: str = "") -> Path:
    """Return the folder for results, made: `out`, or one beside the weights."""
    beside = output_of(target, purpose, target.split)
    out = out or beside.with_name(beside.name + suffix)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be made ({error.strerror}); choose another --out") from None
    return out


def doubts(target: EvaluationTarget) -> list[str]:
    """Return why these weights may look better on this data than they are: patients seen in training."""
    if target.split == "train":
        return []
    if target.run.get("data_digest") == target.manifest["digest"]:  # the very database, wherever it lies
        return []
    if not (target.trained_on / manifest.CSV).is_file():
        without = f"{target.trained_on} is gone, or holds no {manifest.CSV}"
        return [f"{without}, so which patients these weights were trained on is unknown"]
    digest = manifest.read_json(target.trained_on)["digest"]
    if target.run.get("data_digest", digest) != digest:
        return [f"{target.trained_on} was rebuilt after this training, so its patients may have been trained on"]
    seen = set()  # names of another source mean other patients
    if manifest.read_json(target.trained_on)["source"] == target.manifest["source"]:
        seen = _patients(target.data, target.split) & _patients(target.trained_on, "train")
    return [f"{len(seen)} of this split's patients were trained on, such as {min(seen)}"] if seen else []


def records(target: EvaluationTarget) -> Iterator[lmdb_io.Record]:
    """Return the split's records in key order; InputError when there are none."""
    folder = target.data / target.split
    if lmdb_io.count(folder) == 0:
        raise InputError(f"{folder}: no masses in this split; choose another with --split")
    return lmdb_io.records(folder)


def batches(target: EvaluationTarget, what: str | None = None) -> Iterator[tuple[list[str], list[int], np.ndarray]]:
    """Yield keys, labels and net inputs of the split, BATCH at a time, in key order; a bar, called `what`, goes along.

    The last batch may be smaller.
    """
    stream = iter(tqdm(records(target), desc=what, total=target.count, unit="mass", disable=None))
    while some := list(islice(stream, BATCH)):
        images = np.stack([record.image for record in some])
        inputs = inference.preprocess(target.net, images, target.mean_folder)
        yield [record.key for record in some], [record.label for record in some], inputs


def describe(target: EvaluationTarget) -> dict:
    """Return what a result says of the weights and the data that it is of."""
    return {
        "net": target.net,
        "weights": public(target.weights),
        "weights_sha256": caffemodel.sha256_of(target.weights),
        "data": public(target.data),
        "data_digest": target.manifest["digest"],
        **{name: target.manifest[name] for name in ("source", "name") if name in target.manifest},
        "context": target.manifest["context"],
        "augmented_training": target.augmented_training,
        "split": target.split,
    }


def check_numbers(target: TrainedNet, outputs: np.ndarray) -> None:
    """Raise InputError when a net's outputs are not all numbers."""
    if not np.isfinite(outputs).all():
        raise InputError(f"{target.weights}: the net's output is NaN, so its training diverged; train again")


def _patients(data: Path, split: str) -> set[str]:
    return {row["patient"] for row in manifest.read_csv(data).values() if row["split"] == split}
