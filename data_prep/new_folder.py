"""A folder that appears under its name only when it is whole."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.mass import InputError


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty working folder beside `path`; rename it to `path` when the block ends without an error.

    What a killed process left in the working folder ("NAME.unfinished") is removed first; a lock, which the kernel
    releases when its process dies, keeps two processes from working on one name. Raises InputError when `path` exists
    already, another process works on it, or it cannot be written.
    """
    if path.exists():
        raise InputError(f"{path}: exists already; remove it (rm -r {path}) or choose another name")
    working = path.with_name(path.name + ".unfinished")
    try:
        working.mkdir(parents=True, exist_ok=True)
        lock = os.open(working, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{working}: cannot be written ({error.strerror}); choose another place") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise InputError(f"{path}: another process is making it; wait for it to end") from None
    try:
        _empty(working)
        yield working
        working.rename(path)
    except OSError as error:
        raise InputError(f"{working}: cannot be written ({error.strerror}); free some space") from None
    finally:
        shutil.rmtree(working, ignore_errors=True)
        os.close(lock)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
