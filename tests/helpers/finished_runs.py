"""Finished runs for tests of the page: nets of random weights, judged, explained and pictured by the real scripts."""

import json
import sys
from pathlib import Path

import pytest

from data_prep.core.errors import run
from data_prep.database import build_summary, manifest
from scripts import eval as evaluation
from scripts import gallery, saliency
from tests.helpers import databases, random_nets

SPLITS = {"train": ["T0", "T1"], "val": ["V0", "V1"], "test": [f"E{i:02d}" for i in range(12)]}
LOG = "iteration,epoch,train_loss,train_accuracy,val_loss,val_accuracy,seconds\n" + "".join(
    f"{step},{step / 10},{3 / step},{0.5 + step / 100},{2 / step},{0.5 + step / 200},{step}\n"
    for step in (5, 10, 15, 20)
)


def make(folder: Path, source: str, runs: dict[str, int]) -> list[Path]:
    """Make in `folder` a database that says it is of `source`, and a baseline's run for each name and seed."""
    data = databases.write(folder / "data" / "lmdb", SPLITS, source=source)
    complete(data)
    folders = [folder / "runs" / name for name in runs]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for each, seed in zip(folders, runs.values(), strict=True):
            random_nets.snapshot(each / "snapshot_iter_20.caffemodel", seed=seed)
            (each / "log.csv").write_text(LOG)
            (each / "run.json").write_text(json.dumps(settings(each.name, seed, manifest.read_json(data)["digest"])))
            for main, script in ((evaluation.main, "eval"), (saliency.main, "saliency"), (gallery.main, "gallery")):
                count = ["--count", "2"] if script == "saliency" else []
                patch.setattr(sys, "argv", [f"scripts/{script}.py", "--run", f"runs/{each.name}", *count])
                assert run(main) == 0
    return folders


def complete(data: Path) -> None:
    """Give manifest.json what databases.write leaves out of it and the page shows."""
    masses = [row for row in manifest.read_csv(data).values()]
    counts = {
        split: {name: sum(row["split"] == split for row in masses) for name in build_summary.ROWS} for split in SPLITS
    }
    account = {"found": {"lesions": 30}, "mask: of another aspect": {"lesions": 2}, "used": {"lesions": 28}}
    more = {
        "root": "films",
        "counts": counts,
        "account": account,
        "crops": 5,
        "rotations": 5,
        "seed": 1,
        "commit": "0123456789ab",
    }
    manifest.write_json(data, manifest.read_json(data) | more)


def settings(name: str, seed: int, digest: str) -> dict:
    """What train.py writes to run.json."""
    numbers = {"seed": seed, "batch": 4, "iterations": 20, "iteration": 20, "train_images": 4, "seconds": 90.0}
    return numbers | {
        "net": "baseline",
        "data": "data/lmdb",
        "data_digest": digest,
        "weights": None,
        "gpu": None,
        "command": f"python scripts/train.py --net baseline --out runs/{name}",
        "commit": "0123456789ab",
        "hardware": {"cpu": "a processor", "cores": 2},
    }
