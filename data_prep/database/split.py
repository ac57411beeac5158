"""Split patients into training, validation and test set (paper, section 3).

Validation and test take 10 % of the masses each, exactly half of them malignant; a patient is in one set only. The
split is a CSV of two columns, patient and split, that can be committed and given back.

For cross-validation the patients are divided into folds, whose databases have one fold as the test set each, and a
validation set as above out of the others.
"""

import csv
import random
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from data_prep.core.errors import InputError
from data_prep.core.records import Mass
from data_prep.core.tables import read_table
from data_prep.database.lmdb_io import ODD_NAMES

SHARE = 0.10  # of the masses, for validation and for test (paper: 80/10/10)
TRIES = 1000  # shuffles before giving up; real sets succeed at the first, tiny ones within a few
SPLITS = ("train", "val", "test")


class Fold(NamedTuple):
    """One of the equal parts of the patients, counted from 1; written "2/5"."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parse_fold(text: str) -> Fold:
    """Parse "2/5"."""
    fold = Fold(*map(int, text.split("/", 1)))
    if not 1 <= fold.number <= fold.of or fold.of < 2:
        raise ValueError
    return fold


def split_patients(
    masses: Iterable[Mass], seed: int, test: Collection[str] = (), test_share: float = SHARE
) -> dict[str, str]:
    """Return each patient's set, "train", "val" or "test"; the same masses and seed give the same split.

    `test` names the patients of a test set that is given, balanced or not; validation is then chosen from the others.
    Else test takes `test_share` of the masses.
    Raises InputError when no choice of whole patients was found that balances what is to be chosen exactly.
    """
    patients = _counts_by_patient(masses)
    given = patients.keys() & test
    total = sum(counts.total() for counts in patients.values())
    quota, test_quota = (round(total * share / 2) for share in (SHARE, test_share))
    rng = random.Random(seed)
    for _ in range(TRIES if quota and test_quota else 0):
        order = sorted(patients.keys() - given)
        rng.shuffle(order)
        val = _fill(order, patients, quota)
        held_out = given or _fill([name for name in order if name not in val], patients, test_quota)
        train = patients.keys() - val - held_out
        if val and held_out and _both_classes(train, patients):
            sets = dict.fromkeys(train, "train") | dict.fromkeys(val, "val") | dict.fromkeys(held_out, "test")
            return dict(sorted(sets.items()))
    raise InputError(
        f"too few patients to split: {len(patients)} patients with {total} masses do not give a validation and a test "
        f"set of {max(quota, 1)} and {max(test_quota, 1)} masses of each class, and both classes to train on; "
        "add cases, or give a split of your own with --split"
    )


def fold_patients(masses: Iterable[Mass], seed: int, fold: Fold) -> list[str]:
    """Return the patients of a fold; the folds of the same masses and seed hold every patient once.

    Patients are shuffled, and those with equally many benign and malignant masses are dealt out in turn, so that the
    folds are alike in both. Raises InputError where a fold lacks a class.
    """
    patients = _counts_by_patient(masses)
    order = sorted(patients)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda name: (patients[name][0], patients[name][1]))
    found = order[fold.number - 1 :: fold.of]
    if not _both_classes(found, patients):
        raise InputError(f"too few patients: fold {fold} lacks a class; add cases, or make fewer folds")
    return found


def _counts_by_patient(masses: Iterable[Mass]) -> dict[str, Counter[int]]:
    """Return how many benign (0) and malignant (1) masses each patient has."""
    patients: dict[str, Counter[int]] = {}
    for mass in masses:
        patients.setdefault(mass.patient, Counter())[mass.label] += 1
    return patients


def _fill(order: list[str], patients: dict[str, Counter[int]], quota: int) -> set[str]:
    """Take patients in `order` while they fit; return them once both classes hold `quota`, else nothing."""
    chosen: set[str] = set()
    room = {0: quota, 1: quota}
    for name in order:
        counts = patients[name]
        if all(counts[label] <= room[label] for label in room):
            chosen.add(name)
            for label in room:
                room[label] -= counts[label]
            if not any(room.values()):
                return chosen
    return set()


def _both_classes(names: Iterable[str], patients: dict[str, Counter[int]]) -> bool:
    total = sum((patients[name] for name in names), Counter())
    return total[0] > 0 and total[1] > 0


def read_split(path: Path, masses: Iterable[Mass]) -> dict[str, str]:
    """Return a split from its CSV, for the patients of `masses`.

    Raises InputError when the file cannot be read as one, or a patient is missing from it or named twice.
    """
    rows = read_table(path)
    if not {"patient", "split"} <= rows[0].keys():
        raise InputError(f"{path}: not a split; its columns must be patient,split")
    split: dict[str, str] = {}
    for row in rows:
        if row["split"] not in SPLITS:
            raise InputError(f"{path}: patient {row['patient']} is in '{row['split']}'; use {', '.join(SPLITS)}")
        if split.setdefault(row["patient"], row["split"]) != row["split"]:
            raise InputError(f"{path}: patient {row['patient']} is in two sets; keep one line")
    needed = {mass.patient for mass in masses}
    missing = sorted(needed - split.keys())
    if missing:
        raise InputError(f"{path}: {len(missing)} patients of this set are not in it ({missing[0]} ...); add them")
    return {name: split[name] for name in sorted(needed)}


def write_split(path: Path, split: dict[str, str]) -> None:
    """Write a split as CSV, by patient."""
    with path.open("w", newline="", encoding="utf-8", errors=ODD_NAMES) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("patient", "split"))
        writer.writerows(sorted(split.items()))
