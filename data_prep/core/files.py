"""Files and folders that appear under their names only when they are whole; walking a data set; reading CSV tables."""

import csv
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.core.errors import InputError

UNFINISHED = "unfinished"
"""How the name of a folder ends that atomic_folder or fetch_cbis.py is filling: its files may be half-written."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a working name beside `path` (same ending); rename it to `path` if the block ends without an error.

    The folder is made. Raises InputError when it cannot be written.
    """
    working = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield working
        working.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
    finally:
        working.unlink(missing_ok=True)


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file that is never seen half written."""
    with atomic_write(path) as working:
        working.write_text(json.dumps(content, indent=2) + "\n")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty working folder beside `path`; rename it to `path` when the block ends without an error.

    What a killed process left in the working folder ("NAME.unfinished") is removed first; a lock, which the kernel
    releases when its process dies, keeps two processes from working on one name. Raises InputError when `path` exists
    already, another process works on it, or something cannot be read or written (any OSError of the block).
    """
    if os.path.lexists(path):
        raise InputError(f"{path}: exists already; remove it (rm -r {path}) or choose another name")
    working = path.with_name(f"{path.name}.{UNFINISHED}")
    try:
        held = lock(working)
    except BlockingIOError:
        raise InputError(f"{path}: another process is making it; wait for it to end") from None
    except OSError as error:
        raise InputError(f"{working}: cannot be written ({error.strerror}); choose another place") from None
    try:
        _empty(working)
        yield working
        working.rename(path)
    except BaseException as error:
        shutil.rmtree(working, ignore_errors=True)
        if isinstance(error, OSError):
            raise InputError(f"{path}: not made ({error}); mend that and type the command again") from None
        raise
    finally:
        os.close(held)


def lock(folder: Path) -> int:
    """Make `folder` where it is not there, lock it, and return what to close; BlockingIOError when it is locked.

    The kernel lets go of it when the process ends, however it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # the process that had the lock may have renamed this folder since, and another begun a new one
        if not os.path.samestat(os.fstat(held), os.stat(folder)):
            raise BlockingIOError
    except OSError:
        os.close(held)
        raise
    return held


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder in or below `root` with the names of its files, by one walk.

    Links to folders are followed, each folder is taken once, unfinished ones are not. InputError when a folder cannot
    be read.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); what it holds would be missing")

    seen = set()
    for folder, subfolders, names in os.walk(root, onerror=refuse, followlinks=True):
        # sorted: where links lead to a folder twice, its path is the same on every machine
        subfolders[:] = sorted(name for name in subfolders if not name.endswith(UNFINISHED))
        try:
            status = os.stat(folder)
        except OSError as error:
            refuse(error)
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        yield Path(folder), names


def read_table(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header, at least one, spaces about fields removed; InputError otherwise."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a CSV file")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restval="", strict=True, delimiter=delimiter))
    except (csv.Error, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV file ({error})") from None
    if not rows:
        raise InputError(f"{path}: no rows in it")
    return [{key: value.strip() for key, value in row.items() if key} for row in rows]
