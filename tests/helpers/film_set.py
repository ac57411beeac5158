"""A small set of films with boxes, as a CSV for build_lmdb.py, for tests of what is built from it."""

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
HEADER = ("image", "patient_id", "side", "view", "x", "y", "width", "height", "pathology")
BOX = (60, 90, 70, 50)  # x, y, width, height of every film's mass


def texture(index: int) -> np.ndarray:
    """A film of smooth noise, uint8 (300, 200), of which no two are alike."""
    rng = np.random.default_rng(index)
    return smooth(rng, 3) + smooth(rng, 12) // 2


def smooth(rng: np.random.Generator, sigma: float) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.normal(0, 1, (300, 200)), (0, 0), sigma)
    return (90 + 25 * noise / noise.std()).clip(0, 170).astype(np.uint8)


def write(folder: Path, films: dict[str, np.ndarray], boxes: dict[str, tuple] | None = None) -> Path:
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
