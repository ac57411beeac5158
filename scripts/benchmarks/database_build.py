"""Benchmark of building a database: one worker process against two, on synthetic films.

Each function takes the working folder and a Scale, and returns figures for JSON; times are wall-clock seconds.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_prep.core.errors import InputError
from data_prep.database import manifest
from data_prep.sources import ddsm
from data_prep.synthesis import ddsm_set
from scripts.nets.definitions import ROOT

BUILD = "data_prep/build_lmdb.py"


@dataclass(frozen=True)
class Scale:
    """The extent of the measurements.

    resolution: of the films, in microns per pixel. patients: how many are drawn. pairs: by net, its batch and the pairs
    of iterations; the batches are the solvers'.
    """

    resolution: float = 43.5
    patients: int = 40
    repeats: int = 3
    pairs: dict[str, tuple[int, int]] = field(
        default_factory=lambda: {"baseline": (64, 16), "alexnet": (256, 6), "googlenet": (32, 12)}
    )


TOY = Scale(250, 20, 1, {"baseline": (4, 2), "alexnet": (4, 2), "googlenet": (2, 2)})


def films(work: Path, scale: Scale) -> Path:
    """Return a folder of synthetic DDSM cases, drawn unless it is there already."""
    folder = work / f"films_{scale.resolution:g}"
    ddsm_set.ensure(folder, scale.patients, resolution=scale.resolution)
    return folder


def database(work: Path, scale: Scale) -> Path:
    """Return a database built from the films, unless it is there already."""
    folder = work / f"lmdb_{scale.resolution:g}"
    if not folder.exists():
        build(films(work, scale), folder)
    return folder


def build(root: Path, out: Path, workers: int = 2) -> float:
    """Build a database by the command that a user types; return the time it took."""
    options = {"--source": "ddsm", "--root": root.resolve(), "--out": out.resolve(), "--workers": workers}
    command = [sys.executable, BUILD, *(str(word) for option in options.items() for word in option)]
    began = time.perf_counter()
    if subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
        raise InputError(f"{BUILD}: failed; see its output above")
    return time.perf_counter() - began


def workers(work: Path, scale: Scale) -> dict:
    """Build the same database with one worker and with two, in turn."""
    root = films(work, scale)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    digests = set()
    for _ in range(scale.repeats):
        for number, times in seconds.items():
            with tempfile.TemporaryDirectory(dir=work) as folder:
                times.append(build(root, Path(folder, "lmdb"), number))
                built = manifest.read_json(Path(folder, "lmdb"))
                digests.add(built["digest"])
    (digest,) = digests  # the number of workers changes nothing
    films_of = {mass.film for mass in ddsm.masses(root) if not mass.reason}
    sizes = [film.width * film.height / 1e6 for film in films_of]
    return {
        "megapixels": np.quantile(sizes, [0, 0.5, 1]).tolist(),
        **{row: sum(split[row] for split in built["counts"].values()) for row in ("images", "masses", "records")},
        "digest": digest,
        "seconds": seconds,
        "ratios": [one / two for one, two in zip(seconds[1], seconds[2], strict=True)],
    }
