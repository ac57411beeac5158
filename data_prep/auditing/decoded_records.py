"""The records of a built LMDB, decoded for audit.py: what each holds, without its image."""

import hashlib
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data_prep.auditing import near_duplicates
from data_prep.core.errors import InputError
from data_prep.core.process_pool import worker_pool
from data_prep.database import lmdb_io
from data_prep.database.context_crops import SIZE, Window

UPRIGHT_CORE = Window(SIZE / 2, SIZE / 2, near_duplicates.CORE * SIZE)  # for a record that the manifest does not know


class DecodedRecord(NamedTuple):
    """One record: key, class, SHA-256 as in the digest and of the pixels, and the patches of near_duplicates.py."""

    key: str
    label: int
    fingerprint: bytes
    pixels: bytes
    core: np.ndarray
    whole: np.ndarray


@dataclass
class DecodedSplit:
    """One LMDB: its keys in order, the records that could be read, what was wrong with others and with the file."""

    keys: list[str] = field(default_factory=list)
    records: list[DecodedRecord] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    damage: str = ""
    pixel_sum: np.ndarray = field(default_factory=lambda: np.zeros((SIZE, SIZE), np.uint64))


def decode_splits(folder: Path, cores: dict[str, dict[str, Window]]) -> dict[str, DecodedSplit]:
    """Read the LMDBs of a database; `cores` are their records' cores by split and name. Nothing in them is an error.

    They are read in another process, which a damaged file may bring down: LMDB trusts what it maps.
    """
    found: dict[str, DecodedSplit] = {}
    while len(found) < len(cores):
        with worker_pool(1) as pool:
            for split in [split for split in cores if split not in found]:
                try:
                    found[split] = pool.submit(_read, folder / split, cores[split]).result()
                except BrokenProcessPool:
                    found[split] = DecodedSplit(
                        damage=f"{folder / split}: the process that read it died: damaged, or too little memory"
                    )
                    break
    return found


def _read(folder: Path, cores: dict[str, Window]) -> DecodedSplit:
    found = DecodedSplit()
    try:
        for key, value in tqdm(lmdb_io.items(folder), desc=str(folder), unit="record", disable=None):
            found.keys.append(key.decode(errors="backslashreplace"))
            try:
                record = lmdb_io.unpack(folder, key, value)
            except InputError as error:
                found.problems.append(str(error))
                continue
            if record.image.shape != (SIZE, SIZE):
                rows, columns = record.image.shape
                found.problems.append(f"{folder}: record {record.key} is {columns} x {rows}, not {SIZE} x {SIZE}")
                continue
            found.records.append(summarise(record, cores.get(lmdb_io.name_of(record.key), UPRIGHT_CORE)))
            found.pixel_sum += record.image
    except InputError as error:
        found.damage = str(error)
    return found


def summarise(record: lmdb_io.Record, core: Window) -> DecodedRecord:
    """Return what is kept of a record whose core is at `core`."""
    return DecodedRecord(
        record.key,
        record.label,
        lmdb_io.fingerprint(record),
        hashlib.sha256(record.image).digest(),
        near_duplicates.patch(record.image, core),
        near_duplicates.patch(record.image, near_duplicates.WHOLE),
    )
