"""Small databases: written straight, for what uses them, or built from a set of films as a user would build them."""

import csv
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from data_prep.core.records import Box, Film, Mass
from data_prep.database import context_crops, lmdb_io, manifest

ROOT = Path(__file__).resolve().parents[2]
SIZE = context_crops.SIZE
HEADER = ("image", "patient_id", "side", "view", "x", "y", "width", "height", "pathology")
BOX = (60, 90, 70, 50)  # x, y, width, height of every film's mass


# ---- written straight


def write(
    folder: Path, patients: dict[str, list[str]], views: Sequence[str] = ("CC", "MLO"), size: int = SIZE, **about
) -> Path:
    """Write a finished database: for each split its patients, malignant and benign in turn, each with a mass a view.

    `about` goes into manifest.json.
    """
    rng = np.random.default_rng(0)
    masses, split, fingerprints = [], {}, {}
    for name, members in patients.items():
        records = []
        for place, patient in enumerate(members):
            split[patient] = name
            pathology = ("MALIGNANT", "BENIGN")[place % 2]
            for view in views:
                film = Film(Path(f"films/{patient}.LEFT_{view}.LJPEG"), 3000, 4000)
                mass = Mass(f"{patient}.LEFT_{view}.1", patient, film, "LEFT", view, 1, pathology, Box(9, 9, 99, 99))
                masses.append(mass)
                key = lmdb_io.key_of(len(records), mass.mass_id)
                records.append(lmdb_io.Record(key, mass.label, film_crop(rng, mass.label, size)))
        found = lmdb_io.write(folder / name, map(lmdb_io.pack, records), size, max(len(records), 1))
        fingerprints |= {f"{name}/{key}": sha for key, sha in found.items()}
    lmdb_io.write_mean(folder / lmdb_io.MEAN, np.linspace(60, 120, size)[:, None] + np.linspace(0, 30, size))
    manifest.write_csv(folder, masses, split, Path())
    recipe = context_crops.Recipe("large", rotations=0, crops=0, seed=1)._asdict()
    digest = lmdb_io.digest(fingerprints)
    ties = {name: manifest.ties(folder, name) for name in patients}
    manifest.write_json(folder, {"source": "synthetic", **recipe, "digest": digest, "ties": ties} | about)
    return folder


def write_counts(folder: Path, train: int, val: int, **options) -> Path:
    """Write a finished database of this many masses, one a patient; as many in the test set as in `val`."""
    counts = {"train": train, "val": val, "test": val}
    patients = {split: [f"{split}{index}" for index in range(count)] for split, count in counts.items()}
    return write(folder, patients, **{"views": ["CC"], "rotations": 5} | options)


def film_crop(rng: np.random.Generator, label: int, size: int = SIZE) -> np.ndarray:
    """A noisy grey square with a disc in it, brighter when malignant, that no symmetry maps to itself."""
    rows, columns = np.mgrid[:size, :size]
    image = rng.normal(100, 25, (size, size))
    image[(rows - 90) ** 2 + (columns - 130) ** 2 < 45**2] += 30 + 40 * label
    return image.clip(0, 255).astype(np.uint8)


# ---- built from films


def texture(index: int) -> np.ndarray:
    """A film of smooth noise, uint8 (300, 200), of which no two are alike."""
    rng = np.random.default_rng(index)
    return smooth(rng, 3) + smooth(rng, 12) // 2


def smooth(rng: np.random.Generator, sigma: float) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.normal(0, 1, (300, 200)), (0, 0), sigma)
    return (90 + 25 * noise / noise.std()).clip(0, 170).astype(np.uint8)


def write_films(folder: Path, films: dict[str, np.ndarray], boxes: dict[str, tuple] | None = None) -> Path:
    """Write one film a patient, classes in turn, and return the CSV; `boxes` are those that are not BOX."""
    folder.mkdir(parents=True)
    rows = []
    for index, (patient, film) in enumerate(films.items()):
        cv2.imwrite(str(folder / f"{patient}.png"), film)
        box = (boxes or {}).get(patient, BOX)
        rows.append((f"{patient}.png", patient, "LEFT", "CC", *box, ("MALIGNANT", "BENIGN")[index % 2]))
    with (folder / "masses.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    return folder / "masses.csv"


def arguments(csv_path: Path, out: Path, *options: str | Path) -> list[str]:
    """What a user types after `python` to build a database from the CSV."""
    command = ["data_prep/build_lmdb.py", "--source", "boxes", "--root", csv_path, "--out", out, *options]
    return [str(word) for word in command]


def start(csv_path: Path, out: Path, *options: str | Path, prefix: list[str] = (), **settings) -> subprocess.Popen:
    """Start a build in a process group of its own."""
    command = [*prefix, sys.executable, *arguments(csv_path, out, *options)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=pipe, stderr=pipe, text=True, **settings)


def build(csv_path: Path, out: Path, *options: str | Path) -> Path:
    """Build a database from the CSV as a user would; return its folder."""
    result = run(*arguments(csv_path, out, *options))
    assert result.returncode == 0, result.stderr
    return out


def run(script: str, *options: str | Path) -> subprocess.CompletedProcess:
    """Run one of our scripts from the repository's root."""
    command = [sys.executable, script, *map(str, options)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
