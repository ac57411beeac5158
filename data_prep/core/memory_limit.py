"""A limit on the memory that reading one file may take: a hostile one then costs its own film, not the machine."""

import functools
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from data_prep.core.errors import InputError, one_line

ROOM = 1 << 31  # bytes: eight times the largest film as 16 bits a pixel
_own = 0  # the limit that this module has set


@contextmanager
def limited() -> Iterator[None]:
    """Let this process take ROOM on top of the memory that it has, or less where it is not granted as much."""
    global _own
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        _own = int(file.read().split()[0]) * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (_smallest(_own, soft, hard), hard))
    try:
        yield
    finally:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]  # others may have lowered it meanwhile
        resource.setrlimit(resource.RLIMIT_AS, (_smallest(soft, hard), hard))


def _smallest(*limits: int) -> int:
    return min((limit for limit in limits if limit != resource.RLIM_INFINITY), default=resource.RLIM_INFINITY)


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Turn what OpenCV raises in the block, or MemoryError, into an InputError about `path`.

    But MemoryError stays what it is where the machine grants less than ROOM: the file may be sound.
    """
    try:
        yield
    except (MemoryError, cv2.error) as error:
        if isinstance(error, cv2.error) and error.code != cv2.Error.StsNoMem:
            raise InputError(f"{path}: OpenCV cannot work on it ({one_line(error)})") from None
        if resource.getrlimit(resource.RLIMIT_AS)[0] != _own:
            raise MemoryError from None
        raise InputError(f"{path}: takes more than {ROOM >> 20} MB of memory, which no film does") from None


def reads_file(function: Callable) -> Callable:
    """Decorate a function of a path to run in blaming(path)."""

    @functools.wraps(function)
    def read(path: Path, *args, **options):
        with blaming(path):
            return function(path, *args, **options)

    return read
