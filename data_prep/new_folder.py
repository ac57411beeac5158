"""A folder that appears under its name only when it is whole."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.core.records import InputError
from data_prep.walk import UNFINISHED


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
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
