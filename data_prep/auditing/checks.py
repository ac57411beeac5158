"""The checks of audit.py on a built database: each names what it looked at, and the offenders."""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from data_prep.auditing import near_duplicates
from data_prep.auditing.decoded_records import DecodedRecord, DecodedSplit, decode_splits
from data_prep.core.errors import InputError
from data_prep.core.records import LABELS
from data_prep.core.tables import read_rows
from data_prep.database import lmdb_io, lmdb_writer, manifest
from data_prep.database.context_crops import SIZE, Window
from data_prep.database.lmdb_io import name_of
from data_prep.database.split import SPLITS, Fold, parse_fold

SAME_MASS = 2.0  # grey levels between a core and its mass's median core; 0.1 usually, 0.2 at most on the real set
CONTENT = ("source", "root", "context", "rotations", "crops", "split", "seed", "counts", "digest")


class Check(NamedTuple):
    """The result of one check: its name, its claim with figures, and the offenders (none where the claim holds)."""

    name: str
    figures: str
    offenders: list[str]


@dataclass(frozen=True)
class Database:
    """A built folder: its manifests, the records it should hold, and those it does.

    `split` holds the lines of split.csv, and `told` manifest.json's number of records of each split. `expected` gives
    by split and by record name (mass, and which crop) the mass_id and the core in the record.
    """

    folder: Path
    content: dict
    rows: dict[str, dict[str, str]]
    split: list[tuple[str, str]]
    told: dict[str, int]
    expected: dict[str, dict[str, tuple[str, Window]]]
    found: dict[str, DecodedSplit]


def check(folder: Path) -> Iterator[Check]:
    """Yield every check of the database at `folder`, beginning with whether it is one."""
    try:
        database = read(folder)
    except InputError as error:
        yield Check("finished", "", [str(error)])
        return
    yield Check("finished", f"manifest.json, {len(database.rows):,} lesions in manifest.csv", [])
    for one in (readable, keys, records, complete, labels, patients, balance, mean, digest, same_mass, identical):
        yield one(database)
    yield near_identical(database)


def read(folder: Path) -> Database:
    """Return all that the checks need; InputError when the folder has no whole manifest and split."""
    content = manifest.read_json(folder)
    missing = [name for name in CONTENT if name not in content]
    if missing:
        raise InputError(f"{folder / manifest.JSON}: does not say {', '.join(missing)}; build the database again")
    try:
        told = {name: content["counts"][name]["records"] for name in SPLITS}
        rows = manifest.read_csv(folder)
        table = read_rows(folder / "split.csv", ("patient", "split"), lmdb_io.ODD_NAMES)
        split = [(row["patient"], row["split"]) for row in table]
        expected = {name: expected_records(rows, name, content) for name in SPLITS}
    except (OSError, LookupError, ValueError, TypeError, OverflowError, csv.Error) as error:
        raise InputError(
            f"{folder}: manifest.json, manifest.csv or split.csv is damaged ({error!r}); build it again"
        ) from None
    cores = {split: {name: core for name, (_, core) in expected[split].items()} for split in SPLITS}
    return Database(folder, content, rows, split, told, expected, decode_splits(folder, cores))


def expected_records(rows: dict[str, dict[str, str]], split: str, content: dict) -> dict[str, tuple[str, Window]]:
    """Return the records that a split should hold, by name: mass_id and core."""
    return {
        lmdb_io.record_name(mass_id, window.name): (
            mass_id,
            near_duplicates.core(window, manifest.box_of(row), content["context"]),
        )
        for mass_id, row in rows.items()
        if row["split"] == split and not row["reason"]
        for window in manifest.windows(row, content)
    }


def readable(database: Database) -> Check:
    """Every LMDB opens, and each of its records decodes to a square of the right size."""
    found = database.found.values()
    offenders = [each.damage for each in found if each.damage] + [line for each in found for line in each.problems]
    return Check("readable", f"{_total(database):,} records decoded, {SIZE} x {SIZE}", offenders)


def keys(database: Database) -> Check:
    """Keys are an 8-digit number and a name; the numbers are 0, 1, 2 ... in the LMDB's order."""
    offenders = [
        f"{split}/{key}: should be number {place}"
        for split, found in database.found.items()
        for place, key in enumerate(found.keys)
        if key != f"{place:08d}_{name_of(key)}" or not name_of(key)
    ]
    return Check("keys", "numbered in order", offenders)


def records(database: Database) -> Check:
    """Every record is a crop that the manifest asks for in this split, and is there once."""
    offenders = []
    for split, found in database.found.items():
        times = Counter(map(name_of, found.keys))
        offenders += [
            f"{split}/{key}: {_why_not(database, split, name_of(key))}"
            for key in found.keys
            if name_of(key) not in database.expected[split]
        ]
        offenders += [f"{split}/*_{name}: {number} times" for name, number in times.items() if number > 1]
    return Check("records", "each is of a mass used in its split, and is there once", offenders)


def _why_not(database: Database, split: str, name: str) -> str:
    row = database.rows.get(_mass_id(database, split, name))
    if row is None:
        return "its mass is not in manifest.csv"
    if row["reason"]:
        return f"its mass was left out ({row['reason']})"
    return f"its mass is in {row['split']}" if row["split"] != split else "no such crop of its mass"


def complete(database: Database) -> Check:
    """Every used mass has all its records, and the counts are those of manifest.json."""
    offenders = [
        f"{mass_id}: used, but its split is '{row['split']}'"
        for mass_id, row in database.rows.items()
        if not row["reason"] and row["split"] not in SPLITS
    ]
    for split, found in database.found.items():
        there = set(map(name_of, found.keys))
        offenders += [f"{split}/*_{name}: missing" for name in database.expected[split] if name not in there]
        if database.told[split] != len(found.keys):
            offenders.append(f"{split}: {len(found.keys):,} records, where manifest.json says {database.told[split]}")
    counts = ", ".join(f"{split} {len(found.keys):,}" for split, found in database.found.items())
    return Check("complete", f"all records of {len(_used(database)):,} used masses: {counts}", offenders)


def labels(database: Database) -> Check:
    """Each record's class is that of its mass's pathology in manifest.csv."""
    offenders = [
        f"{split}/{record.key}: {record.label}, but {row['pathology']} in manifest.csv"
        for split, record, row in _known(database)
        if record.label != LABELS.get(row["pathology"])
    ]
    return Check("labels", "agree with manifest.csv's pathology", offenders)


def patients(database: Database) -> Check:
    """No patient is in two splits, by manifest.csv, split.csv and the records taken together."""
    places: dict[str, dict[str, str]] = defaultdict(dict)
    for row in _used(database).values():
        places[row["patient"]][row["split"]] = "manifest.csv"
    for patient, split in database.split:
        places[patient].setdefault(split, "split.csv")
    for split, record, row in _known(database):
        places[row["patient"]].setdefault(split, f"record {record.key}")
    offenders = [
        f"{patient}: " + ", ".join(f"{split} ({source})" for split, source in of_patient.items())
        for patient, of_patient in places.items()
        if len(of_patient) > 1
    ]
    return Check("patients", f"each of {len(places):,} is in one split", offenders)


def balance(database: Database) -> Check:
    """Validation and test are exactly half malignant; only reported where the split was not ours to balance."""
    figures, offenders = [], []
    origin = database.content["split"]
    ours = ("val", "test") if origin == "made by seed" else ("val",) if fold_of(database.content) else ()
    for split in ("val", "test"):
        counts = Counter(record.label for record in database.found[split].records)
        figures.append(f"{split} {counts[1]} malignant, {counts[0]} benign")
        if counts[0] != counts[1] and split in ours:
            offenders.append(figures[-1])
    return Check("balance", "; ".join(figures) + f" (split: {origin})", offenders)


def mean(database: Database) -> Check:
    """mean.binaryproto is the mean of the training records."""
    path = database.folder / lmdb_io.MEAN
    try:
        stored = lmdb_io.read_mean(path)
    except (InputError, DecodeError, ValueError) as error:
        return Check("mean", "", [f"{path}: cannot be read ({error})"])
    training = database.found["train"]
    true = training.pixel_sum / max(len(training.records), 1)
    if stored.shape != (3, SIZE, SIZE):
        return Check("mean", "", [f"{path}: is {' x '.join(map(str, stored.shape))}, not 3 x {SIZE} x {SIZE}"])
    off = float(np.abs(stored - true).max())
    offenders = [f"{path}: off by up to {off:.3g} grey levels"] if not off < 0.01 else []
    return Check("mean", f"that of the training records ({true.mean():.1f} on average)", offenders)


def digest(database: Database) -> Check:
    """The digest of the records is that of manifest.json."""
    found = lmdb_writer.digest(
        {split: {record.key: record.fingerprint for record in found.records} for split, found in database.found.items()}
    )
    told = database.content["digest"]
    return Check("digest", found[:12], [] if found == told else [f"{found}, where manifest.json says {told}"])


def same_mass(database: Database) -> Check:
    """Crops of one mass show the same core once they are turned back upright as the manifest says."""
    crops_of: dict[str, list[tuple[str, np.ndarray]]] = defaultdict(list)
    for split, record, row in _known(database):
        if name_of(record.key) in database.expected[split]:
            crops_of[row["mass_id"]].append((f"{split}/{record.key}", record.core))
    several = [each for each in crops_of.values() if len(each) > 1]
    offenders = []
    for each in several:
        cores = np.stack([core for _, core in each])
        off = np.abs(cores - np.median(cores, axis=0))[:, near_duplicates.TAPER > 0].mean(axis=1)
        offenders += [
            f"{key}: differs by {grey:.1f} grey levels"
            for (key, _), grey in zip(each, off, strict=True)
            if grey > SAME_MASS
        ]
    return Check("same mass", f"the crops of each of {len(several):,} masses agree", offenders)


def identical(database: Database) -> Check:
    """No image is in two splits, pixel by pixel."""
    where: dict[bytes, dict[str, str]] = defaultdict(dict)
    for split, record in _records(database):
        where[record.pixels].setdefault(split, f"{split}/{record.key}")
    offenders = [" = ".join(each.values()) for each in where.values() if len(each) > 1]
    return Check("identical", f"each of {len(where):,} images is in one split", offenders)


def near_identical(database: Database) -> Check:
    """No held-out image looks like one of another split, as stored or turned back upright (near_duplicates.py)."""
    everything = list(_records(database))
    if not everything:
        return Check("alike", "no records to compare", [])
    held_out = [place for place, (split, _) in enumerate(everything) if split != "train"]
    best: dict[tuple[str, str], tuple[float, str]] = {}  # of a mass's crops, the one that is most alike
    for view in ("core", "whole"):
        patches = np.stack([getattr(record, view) for _, record in everything])
        for i, j, correlation in near_duplicates.similar_pairs(patches[held_out], patches):
            (split, record), (other_split, other) = everything[held_out[i]], everything[j]
            if split == other_split or (other_split, split) == ("val", "test"):  # test's against val's: seen before
                continue
            pair = (f"{split}/{record.key}", _mass_id(database, other_split, name_of(other.key)))
            best[pair] = max(best.get(pair, (0, "")), (correlation, f"{other_split}/{other.key}"))
    offenders = [f"{key} is like {other} (correlation {value:.2f})" for (key, _), (value, other) in best.items()]
    return Check("alike", f"no held-out image, of {len(held_out):,}, is like one of another split", offenders)


def one_split(folders: list[Path]) -> Check:
    """Databases of one source keep each patient in one split throughout: a net may be tested on any of them.

    Each fold of a cross-validation is a split of its own.
    """
    places: dict[tuple[str, str, str, str], dict[str, Path]] = defaultdict(dict)
    for folder in folders:
        content = manifest.read_json(folder, whole=True)
        fold = content["split"] if fold_of(content) else ""
        for row in manifest.read_csv(folder).values():
            if row["split"]:
                places[content["source"], content["root"], fold, row["patient"]].setdefault(row["split"], folder)
    offenders = [
        f"{patient}: " + ", ".join(f"{split} in {folder}" for split, folder in where.items())
        for (*_, patient), where in places.items()
        if len(where) > 1
    ]
    patients = {(source, root, patient) for source, root, _, patient in places}
    return Check("one split", f"each of {len(patients):,} patients is in the same split in every folder", offenders)


def folds(folders: list[Path]) -> Iterator[Check]:
    """Yield a check for each cross-validation: no patient is tested in two folds, every used mass in exactly one.

    While some of its folds are not among the folders, a mass need not be tested yet.
    """
    of_set: dict[tuple[str, str, int], dict[Path, int]] = defaultdict(dict)
    for folder in folders:
        content = manifest.read_json(folder, whole=True)
        if fold := fold_of(content):
            of_set[content["source"], content["root"], fold.of][folder] = fold.number
    for (*_, of), numbers in of_set.items():
        patients, masses = defaultdict(set), defaultdict(set)
        for folder, number in numbers.items():
            for mass_id, row in manifest.read_csv(folder).items():
                tested = {number} if row["split"] == "test" else set()
                if row["split"]:
                    patients[row["patient"]] |= tested
                    masses[mass_id] |= tested
        missing = set(range(1, of + 1)) - set(numbers.values())
        twice = {patient: where for patient, where in patients.items() if len(where) > 1}
        offenders = [f"{patient}: tested in folds {sorted(where)}" for patient, where in twice.items()]
        offenders += [f"{mass_id}: tested in no fold" for mass_id, where in masses.items() if not where | missing]
        figures = f"each of {len(patients):,} patients and {len(masses):,} masses is tested in one of {of} folds"
        figures += f" ({', '.join(map(str, sorted(missing)))} not here)" if missing else ""
        yield Check("folds", figures, offenders)


def fold_of(content: dict) -> Fold | None:
    """Return the fold that a database is of, by its manifest.json."""
    kind, _, fold = str(content.get("split")).partition(" ")
    try:
        return parse_fold(fold) if kind == "fold" else None
    except (ValueError, TypeError):
        return None


def _used(database: Database) -> dict[str, dict[str, str]]:
    return {mass_id: row for mass_id, row in database.rows.items() if not row["reason"]}


def _mass_id(database: Database, split: str, name: str) -> str:
    """Return the mass of a record, by its name; also of one that should not be in this split."""
    known = database.expected[split].get(name)
    return known[0] if known else lmdb_io.mass_id_of(f"_{name}")


def _total(database: Database) -> int:
    return sum(len(found.records) for found in database.found.values())


def _records(database: Database) -> Iterator[tuple[str, DecodedRecord]]:
    return ((split, record) for split, found in database.found.items() for record in found.records)


def _known(database: Database) -> Iterator[tuple[str, DecodedRecord, dict[str, str]]]:
    """Yield split, record and manifest row of every record whose mass is in manifest.csv."""
    for split, record in _records(database):
        row = database.rows.get(_mass_id(database, split, name_of(record.key)))
        if row:
            yield split, record, row
