"""Locks on folders: one command at a time writes there. The kernel lets go of them when a process ends."""

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.core.errors import InputError

NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
"""What flock() says on a file system that has no locks, such as Lustre mounted without them, or some NFS."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other commands from writing in a folder, made if need be; InputError when one does already.

    On a file system without locks a warning is given.
    """
    held = _lock(folder)
    try:
        yield
    finally:
        os.close(held)


def _lock(folder: Path) -> int:
    held = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY)
        _flock(held, folder)
        # the process that had the lock may have renamed this folder since, and another begun a new one
        if not os.path.samestat(os.fstat(held), os.stat(folder)):
            raise BlockingIOError
    except OSError as error:
        if held is not None:
            os.close(held)
        if isinstance(error, BlockingIOError):
            raise InputError(f"{folder}: another process is writing there; wait for it to end") from None
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another place") from None
    return held


def _flock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        print(f"warning: {path}: this file system has no locks; let one command at a time write here", file=sys.stderr)
