"""Files and folders that appear under their names only when they are whole; walking a data set."""

import fcntl
import functools
import os
import re
import secrets
import shlex
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_prep.core.errors import InputError
from data_prep.core.locks import locked

UNFINISHED = "unfinished"
"""How the name of a folder ends that atomic_folder() or fetch_cbis.py is filling: its files may be half-written."""
MAC_FOLDER, MAC_FILE = "__MACOSX", "._"
"""Where macOS puts what it knows of each file that it packs: in this folder, or in files that begin so."""
MARK = ".made_by_breast_mass"
"""A file that says of its folder that one of our commands made it, and may empty it."""
SCRATCH = "breast_mass_"
"""How the names of our folders for temporary files begin."""
SETTLED_S = 60  # after so long without a lock, what lies under a temporary name belongs to no living process
LARGEST_TEXT = 1 << 28  # bytes of a table or JSON file: ten times what a set of 10,000 films takes
KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def check_regular(path: Path) -> Path:
    """Return `path`; InputError unless it is a regular file, or a link to one. Opening a pipe could wait for ever."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:  # a NUL in it
        raise InputError(f"{str(path)!r}: no file has such a name") from None
    if kind != stat.S_IFREG:
        raise InputError(f"{path}: is {KINDS.get(kind, 'a device')}, not a file")
    return path


def read_bytes(path: Path, most: int) -> bytes:
    """Return what a regular file of at most `most` bytes holds; InputError for anything else."""
    try:
        if (size := check_regular(path).stat().st_size) > most:
            raise InputError(f"{path}: {size:,} bytes are far too many for such a file; it is damaged, or another")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a working name beside `path` (same ending); rename it to `path` if the block ends without an error.

    The folder is made. What killed processes left under working names for `path` is removed. Raises InputError when
    the file cannot be written.
    """
    working = path.with_name(f".{secrets.token_hex(4)}.{UNFINISHED}.{path.name}")
    held = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_dead(path.parent, re.compile(rf"\.[0-9a-f]{{8}}\.{UNFINISHED}\.{re.escape(path.name)}"))
        held = os.open(working, os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):  # without locks, it is its age that keeps others from removing it
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield working
        working.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
    finally:
        with suppress(OSError):
            working.unlink(missing_ok=True)
        if held is not None:
            os.close(held)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder for temporary files, removed at the end; those of killed processes are removed first."""
    _remove_old_scratch()
    folder = Path(tempfile.mkdtemp(prefix=SCRATCH))
    held = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


@functools.cache  # once for each process is enough
def _remove_old_scratch() -> None:
    _remove_dead(Path(tempfile.gettempdir()), re.compile(rf"{SCRATCH}\w{{8}}"))


def _remove_dead(folder: Path, name: re.Pattern) -> None:
    """Remove the entries of this name that are ours, old enough, and locked by no living process."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not name.fullmatch(entry.name) or entry.is_symlink():
                continue
            with suppress(OSError):  # another process may be doing the same
                status = entry.stat()
                if status.st_uid != os.geteuid() or time.time() - status.st_mtime < SETTLED_S:
                    continue
                held = os.open(entry.path, os.O_RDONLY | os.O_NONBLOCK)
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(entry.path) if entry.is_dir() else os.unlink(entry.path)
                finally:
                    os.close(held)


def write_text(path: Path, text: str) -> None:
    """Write a text file that is never seen half written."""
    with atomic_write(path) as working:
        working.write_text(text, encoding="utf-8", errors="backslashreplace")


def check_space(folder: Path, needed: float) -> None:
    """Raise InputError when the disk of `folder` has not so many bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        sizes = f"{needed / 1e9:,.1f} GB needed, {free / 1e9:,.1f} GB free"
        raise InputError(f"{folder}: {sizes}; free some space, or give another --out")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty working folder beside `path`; rename it to `path` when the block ends without an error.

    What a killed process left in the working folder ("NAME.unfinished") is removed first; a lock, which the kernel
    releases when its process dies, keeps two processes from working on one name. Raises InputError when `path` exists
    already, the working folder is not ours, another process works on it, or something cannot be read or written (any
    OSError of the block).
    """
    check_absent(path)
    working = path.with_name(f"{path.name}.{UNFINISHED}")
    if working.is_symlink():
        raise InputError(f"{working}: is a link, and what it leads to would be emptied; remove the link")
    with locked(working):
        make_empty(working)
        try:
            yield working
            working.rename(path)
            (path / MARK).unlink()  # after the rename: a kill between the two leaves a whole folder
        except BaseException as error:
            shutil.rmtree(working, ignore_errors=True)
            if isinstance(error, OSError):
                raise InputError(f"{path}: not made ({error}); mend that and type the command again") from None
            raise


def pasted(path: Path | str) -> str:
    """Return a path as one can paste it into a command, whatever its name."""
    raw = os.fsencode(f"./{path}" if str(path).startswith("-") else path)
    try:
        return shlex.quote(raw.decode())
    except UnicodeDecodeError:
        return "$'" + "".join(f"\\x{byte:02x}" for byte in raw) + "'"


def check_absent(path: Path) -> None:
    """Raise InputError where something has this name, be it a link that leads nowhere."""
    if os.path.lexists(path):
        raise InputError(f"{path}: exists already; remove it (rm -r {pasted(path)}) or choose another name")


def make_empty(folder: Path) -> None:
    """Make `folder` hold nothing but MARK; InputError where it is a link, or holds files and no MARK: a user's own."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = os.listdir(folder)
        if folder.is_symlink() or (names and MARK not in names):
            raise InputError(f"{folder}: would be emptied, but is not ours (no {MARK} in it); move it somewhere else")
        (folder / MARK).write_text("Made by a command of breast-mass-caffe, which empties this folder.\n")
        for name in names:
            if name != MARK:
                entry = folder / name
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    except OSError as error:
        raise InputError(f"{folder}: cannot be emptied ({error.strerror})") from None


def walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder in or below `root` with the names of its files, by one walk.

    Links to folders are followed, each folder is taken once, unfinished ones and macOS's leftovers are not. InputError
    when a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); what it holds would be missing")

    seen = set()
    for folder, subfolders, names in os.walk(root, onerror=refuse, followlinks=True):
        # sorted: where links lead to a folder twice, its path is the same on every machine
        subfolders[:] = sorted(name for name in subfolders if not name.endswith((UNFINISHED, MAC_FOLDER)))
        try:
            status = os.stat(folder)
        except OSError as error:
            refuse(error)
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        yield Path(folder), [name for name in names if not name.startswith(MAC_FILE)]


def files_below(root: Path) -> list[Path]:
    """Return every file in or below `root`, in order; errors as walk()."""
    return sorted(folder / name for folder, names in walk(root) for name in names)
