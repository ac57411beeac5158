"""Crops of all films, cut in worker processes: each film is decoded once for all its masses and windows."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from dataclasses import dataclass
from itertools import islice

import numpy as np

from data_prep.core.errors import InputError, one_line
from data_prep.core.memory_limit import blaming, limited
from data_prep.core.records import Box, Film
from data_prep.database import context_crops, grey_levels
from data_prep.database.lmdb_io import Packed, Record, key_of, pack

FILMS_IN_FLIGHT = 2  # a worker: one being cut, one waiting; bounds memory whatever the size of the set


@dataclass(frozen=True)
class MassJob:
    """A mass to cut: its windows (context_crops.windows), and their records' places in the shuffled order.

    The windows themselves are made where they are cut: those of all masses at once would take 15 kB per mass.
    """

    mass_id: str
    label: int
    box: Box
    places: np.ndarray


@dataclass(frozen=True)
class FilmJob:
    """A film, the function that loads it as uint8 (rows, columns), and the masses to cut from it by a recipe."""

    film: Film
    load: Callable[[Film], np.ndarray]
    split: str
    recipe: context_crops.Recipe
    masses: list[MassJob]


@dataclass(frozen=True)
class CutFilm:
    """The result of a FilmJob: records ready to write, the sum of their pixels and their histogram, or a problem."""

    film: Film
    packed: list[Packed]
    pixel_sum: np.ndarray
    histogram: np.ndarray
    problem: str = ""


@limited()
def cut_film(job: FilmJob) -> CutFilm:
    """Load one film and cut its masses; whatever fails in that is the film's problem, but for the machine's limits."""
    try:
        with blaming(job.film.path):
            return _cut(job)
    except (MemoryError, OSError):
        raise  # the machine's fault, not the film's
    except InputError as error:
        problem = str(error)
    except Exception as error:
        problem = f"{job.film.path}: cannot be cut ({type(error).__name__}: {one_line(error)})"
    return CutFilm(job.film, [], *_nothing(), problem)


def _nothing() -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel sum and the histogram of no crop."""
    return np.zeros((context_crops.SIZE, context_crops.SIZE), np.uint64), np.zeros(grey_levels.BINS, np.int64)


def _cut(job: FilmJob) -> CutFilm:
    pixel_sum, histogram = _nothing()
    image = job.load(job.film)
    packed = []
    for mass in job.masses:
        windows = context_crops.windows(mass.box, mass.mass_id, job.split, job.recipe)
        for place, window in zip(mass.places, windows, strict=True):
            crop = context_crops.warp(image, job.film, window)
            pixel_sum += crop
            histogram += grey_levels.histogram(crop)
            packed.append(pack(Record(key_of(place, mass.mass_id, window.name), mass.label, crop)))
    return CutFilm(job.film, packed, pixel_sum, histogram)


def cut_films(pool: Executor, jobs: Iterable[FilmJob], workers: int) -> Iterator[CutFilm]:
    """Yield the cut films in whatever order the pool's `workers` processes finish them."""
    jobs = iter(jobs)
    pending = {pool.submit(cut_film, job) for job in islice(jobs, FILMS_IN_FLIGHT * workers)}
    while pending:
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()
        pending |= {pool.submit(cut_film, job) for job in islice(jobs, len(done))}
