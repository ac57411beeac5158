"""Files and folders that appear under their names only when they are whole; walking a data set; reading CSV tables."""

import csv
import errno
import fcntl
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from data_prep.core.errors import InputError

UNFINISHED = "unfinished"
"""How the name of a folder ends that atomic_folder() or fetch_cbis.py is filling: its files may be half-written."""
MAC_FOLDER, MAC_FILE = "__MACOSX", "._"
"""Where macOS puts what it knows of each file that it packs: in this folder, or in files that begin so."""
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
"""What flock() says on a file system that has no locks, such as Lustre mounted without them, or some NFS."""
DELIMITERS = ",;\t"  # Excel writes semicolons where the comma is the decimal mark


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


def write_text(path: Path, text: str) -> None:
    """Write a text file that is never seen half written."""
    with atomic_write(path) as working:
        working.write_text(text)


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file that is never seen half written."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[dict]) -> None:
    """Write rows under a header as a CSV file that is never seen half written."""
    with atomic_write(path) as working, working.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def check_space(folder: Path, needed: float) -> None:
    """Raise InputError when the disk of `folder` has not so many bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder}: {needed / 1e9:,.1f} GB needed, {free / 1e9:,.1f} GB free; free some, or give another --out"
        )


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

    The kernel lets go of it when the process ends, however it ends. On a file system without locks a warning is given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY)
    try:
        lock_file(held, folder)
        # the process that had the lock may have renamed this folder since, and another begun a new one
        if not os.path.samestat(os.fstat(held), os.stat(folder)):
            raise BlockingIOError
    except OSError:
        os.close(held)
        raise
    return held


def lock_file(descriptor: int, path: Path) -> None:
    """Lock an open file; BlockingIOError when another process has. Without locks in the file system, warn and go on."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        print(f"warning: {path}: this file system has no locks; let one command at a time write here", file=sys.stderr)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


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


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, at least one, by their headers as in "patient_id"; InputError otherwise.

    Fields may be separated by commas, semicolons or tabs. What spreadsheets do to a table is undone: spaces about
    fields, headers of other case, whole numbers that end in .0, and decimal commas where the comma separates no fields.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a CSV file")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            file.seek(0)
            delimiter = max(DELIMITERS, key=header.count)
            rows = list(csv.DictReader(file, restval="", strict=True, delimiter=delimiter))
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a CSV file in UTF-8; in a spreadsheet, save it as CSV UTF-8") from None
    except (csv.Error, OSError) as error:
        raise InputError(f"{path}: not a CSV file ({error})") from None
    if not rows:
        raise InputError(f"{path}: no rows in it")
    decimal = "." if delimiter == "," else ".,"
    return [{column(key): _plain(value, decimal) for key, value in row.items() if key} for row in rows]


def column(header: str) -> str:
    """Return a column's name as read_table() gives it: "Patient ID " is patient_id."""
    return re.sub(r"[\W_]+", "_", header).strip("_").lower()


def _plain(field: str, decimal: str) -> str:
    """Return a field without the spaces about it; a number without .0 and with a decimal point."""
    field = field.strip()
    number = re.fullmatch(rf"([-+]?\d+)[{decimal}](\d+)", field)
    if not number:
        return field
    return number[1] if not number[2].strip("0") else f"{number[1]}.{number[2]}"
