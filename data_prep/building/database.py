"""Build a database from a source of films: read and check the masses, split, cut, write, with the manifest."""

import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from data_prep.core import provenance
from data_prep.core.errors import InputError
from data_prep.core.records import Mass
from data_prep.database import build_summary, context_crops, lmdb_io, lmdb_writer, manifest
from data_prep.database.split import SPLITS, Fold, fold_patients, read_split, split_patients, write_split
from data_prep.sources import cbis_ddsm
from data_prep.sources.registry import READERS
from data_prep.synthesis import ddsm_set


@dataclass(frozen=True)
class Options:
    """The source and the options of a database; `split` is a CSV to take for a new split, `fold` its test set.

    `about` may give the set's `name` and `credit`, for those who show what was trained on it.
    """

    source: str
    root: Path
    recipe: context_crops.Recipe
    callback_only: bool
    split: Path | None
    official_split: bool
    test_share: float
    workers: int
    fold: Fold | None = None
    about: dict[str, str] = field(default_factory=dict)


def read_masses(options: Options, pool: Executor) -> list[Mass]:
    """Return every lesion of the source; InputError when none can be used, or two have one name."""
    # outlines have done their part in the boxes: they would take 10 kB per mass
    masses = [replace(mass, outline=None) for mass in READERS[options.source].masses(options.root, pool.map)]
    if options.callback_only:
        dropped = [mass for mass in masses if mass.pathology == "BENIGN_WITHOUT_CALLBACK"]
        masses = leave_out(masses, {mass.mass_id: "benign without callback" for mass in dropped})
    for one, other in pairwise(masses):
        if one.mass_id == other.mass_id:
            raise InputError(
                f"{options.root}: two lesions are called {one.mass_id} ({one.film.path}, {other.film.path})"
            )
    if all(mass.reason for mass in masses):
        reasons = Counter(mass.reason.partition(":")[0] for mass in masses)
        kinds = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
        raise InputError(f"{options.root}: none of its {len(masses)} lesions can be used ({kinds}; {masses[0].reason})")
    return masses


def leave_out(masses: Iterable[Mass], reasons: dict[str, str]) -> list[Mass]:
    """Return the masses; those named in `reasons` carry theirs, unless they were left out before."""
    return [replace(m, reason=m.reason or reasons.get(m.mass_id, "")) for m in masses]


def build(
    folder: Path, masses: list[Mass], options: Options, pool: Executor
) -> tuple[build_summary.Table, build_summary.Account]:
    """Fill `folder`; return its counts, and the account of what was left out.

    Some damage shows only when a film is decoded. Such a film's masses are listed, then split and databases are made
    again without them, so that validation and test stay balanced.
    """
    reader = READERS[options.source]
    while True:
        used = [mass for mass in masses if not mass.reason]
        split = choose_split(used, options)
        written = lmdb_writer.write(
            folder, lmdb_writer.film_jobs(used, split, options.recipe, reader.load_film), pool, options.workers
        )
        if not written.unreadable:
            break
        for problem in written.unreadable.values():
            print(f"left out: {problem}; starting again without it", file=sys.stderr)
        reasons = {film: f"unreadable film: {problem}" for film, problem in written.unreadable.items()}
        masses = leave_out(masses, {m.mass_id: reasons[m.film] for m in used if m.film in reasons})
        for name in SPLITS:
            shutil.rmtree(folder / name)
    lmdb_io.write_mean(folder / lmdb_io.MEAN, written.mean)
    write_split(folder / "split.csv", split)
    manifest.write_csv(folder, masses, split, options.root if options.root.is_dir() else options.root.parent)
    table = build_summary.counts(used, split, {name: len(written.fingerprints[name]) for name in SPLITS})
    account = build_summary.account(masses)
    found = {
        "grey_levels": reader.grey_levels(used),
        "histogram": written.histogram.tolist(),
        "counts": table,
        "account": account,
        "digest": lmdb_writer.digest(written.fingerprints),
        "ties": {name: manifest.ties(folder, name) for name in SPLITS},
    }
    manifest.write_json(folder, describe(options) | found)
    return table, account


def choose_split(masses: list[Mass], options: Options) -> dict[str, str]:
    """Return each patient's set: from the file given, around a fold or the official test set, or made by the seed."""
    if options.split:
        return read_split(options.split, masses)
    seed = options.recipe.seed
    test = cbis_ddsm.official_test(masses) if options.official_split else ()
    test = fold_patients(masses, seed, options.fold) if options.fold else test
    return split_patients(masses, seed, test, options.test_share)


def _origin(options: Options) -> str:
    if options.split:
        return provenance.public(options.split)
    if options.fold:
        return f"fold {options.fold}"
    return "official" if options.official_split else "made by seed"


def describe(options: Options) -> dict:
    """Return what manifest.json says of how a database was made."""
    return {
        # made films are never passed off as real ones, however they are named
        "source": "synthetic" if ddsm_set.is_synthetic(options.root) else options.source,
        **options.about,
        "root": provenance.public(options.root),
        **options.recipe._asdict(),
        "callback_only": options.callback_only,
        "split": _origin(options),
        "commit": provenance.commit(),
        "versions": provenance.versions("numpy", "opencv-python-headless", "lmdb"),
    }
