"""Writer of the three LMDBs of a set, from Mass records and their split."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data_prep.core.files import check_space
from data_prep.core.records import Film, Mass
from data_prep.database import context_crops, crop_films, grey_levels, lmdb_io
from data_prep.database.split import SPLITS

BYTES_PER_RECORD = 54_000  # on disk, about: a 227 x 227 PGM in LMDB's pages


class Written(NamedTuple):
    """The result: fingerprints by split and key, the training set's mean and histogram, unreadable films."""

    fingerprints: dict[str, dict[str, bytes]]
    mean: np.ndarray
    histogram: np.ndarray
    unreadable: dict[Film, str]


def film_jobs(
    masses: list[Mass], split: dict[str, str], recipe: context_crops.Recipe, load: Callable[[Film], np.ndarray]
) -> dict[str, list[crop_films.FilmJob]]:
    """Return the jobs of each split, a film each; `load` reads a film."""
    return {name: _jobs_of([m for m in masses if split[m.patient] == name], name, recipe, load) for name in SPLITS}


def _jobs_of(
    masses: list[Mass], name: str, recipe: context_crops.Recipe, load: Callable[[Film], np.ndarray]
) -> list[crop_films.FilmJob]:
    """Return the jobs of one split; record keys number all its crops in a seeded shuffled order."""
    each = recipe.records_per_mass(name)
    order = np.random.default_rng(recipe.seed).permutation(len(masses) * each).reshape(len(masses), each)
    of_film: dict[Film, list[crop_films.MassJob]] = defaultdict(list)
    for mass, places in zip(masses, order, strict=True):
        of_film[mass.film].append(crop_films.MassJob(mass.mass_id, mass.label, mass.box, places))
    return [crop_films.FilmJob(film, load, name, recipe, jobs) for film, jobs in of_film.items()]


def write(folder: Path, jobs: dict[str, list[crop_films.FilmJob]], pool: Executor, workers: int) -> Written:
    """Cut every film in the pool's `workers` processes and write the LMDBs train, val and test in `folder`.

    Raises InputError when the disk is full or cannot be written.
    """
    expected = {name: sum(len(mass.places) for job in jobs[name] for mass in job.masses) for name in SPLITS}
    check_space(folder, sum(expected.values()) * BYTES_PER_RECORD)
    pixel_sum = np.zeros((context_crops.SIZE, context_crops.SIZE), np.uint64)
    histogram = np.zeros(grey_levels.BINS, np.int64)
    unreadable: dict[Film, str] = {}

    def packed(name: str) -> Iterator[lmdb_io.Packed]:
        with tqdm(total=expected[name], desc=name, unit="crop", disable=None) as bar:
            for film in crop_films.cut_films(pool, jobs[name], workers):
                if film.problem:
                    unreadable[film.film] = film.problem
                if name == "train":
                    np.add(pixel_sum, film.pixel_sum, out=pixel_sum)
                    np.add(histogram, film.histogram, out=histogram)
                yield from film.packed
                bar.update(len(film.packed))

    fingerprints = {
        name: lmdb_io.write(folder / name, packed(name), context_crops.SIZE, expected[name]) for name in SPLITS
    }
    return Written(fingerprints, pixel_sum / max(len(fingerprints["train"]), 1), histogram, unreadable)


def digest(fingerprints: dict[str, dict[str, bytes]]) -> str:
    """Return one SHA-256 for all records of a set."""
    return lmdb_io.digest({f"{name}/{key}": sha for name in SPLITS for key, sha in fingerprints[name].items()})
