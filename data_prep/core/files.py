"""Files and folders that appear under their names only when they are whole; walking a data set; reading CSV tables."""

import csv
import errno
import fcntl
import functools
import io
import json
import math
import os
import re
import secrets
import shlex
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import TypeVar, get_args, get_type_hints

from data_prep.core.errors import InputError

UNFINISHED = "unfinished"
"""How the name of a folder ends that atomic_folder() or fetch_cbis.py is filling: its files may be half-written."""
MAC_FOLDER, MAC_FILE = "__MACOSX", "._"
"""Where macOS puts what it knows of each file that it packs: in this folder, or in files that begin so."""
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
"""What flock() says on a file system that has no locks, such as Lustre mounted without them, or some NFS."""
DELIMITERS = ",;\t"  # Excel writes semicolons where the comma is the decimal mark
MARK = ".made_by_breast_mass"
"""A file that says of its folder that one of our commands made it, and may empty it."""
SCRATCH = "breast_mass_"
"""How the names of our folders for temporary files begin."""
SETTLED_S = 60  # after so long without a lock, what lies under a temporary name belongs to no living process
LARGEST_TEXT = 1 << 28  # bytes of a table or JSON file: ten times what a set of 10,000 films takes
Record = TypeVar("Record")
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


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file that is never seen half written."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path, keys: Mapping[str, object] = MappingProxyType({})) -> dict:
    """Return the JSON object that a file of ours holds; InputError unless it is one, with these keys.

    `keys` gives each key's type, as in {"seed": int, "weights": str | None}, or the keys of an object within. A number
    is a finite one, and a whole one from 0 to 2^31 - 1: none of ours is another.
    """
    try:
        content = json.loads(read_bytes(path, LARGEST_TEXT))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged: no JSON ({error or type(error).__name__})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: damaged: no JSON object")
    _check_keys(path, content, keys)
    return content


def _check_keys(path: Path, content: dict, keys: Mapping[str, object]) -> None:
    for key, kind in keys.items():
        if key not in content:
            raise InputError(f"{path}: damaged, or of another version: no {key} in it")
        if not _is_of(content[key], dict if isinstance(kind, Mapping) else kind):
            raise InputError(f"{path}: damaged: {key} is {json.dumps(content[key])[:40]}")
        if isinstance(kind, Mapping):
            _check_keys(path, content[key], kind)


def parse_record(kind: type[Record], content: dict, path: Path) -> Record:
    """Return a dataclass's record from the values that a JSON file has for its fields; InputError as read_json()."""
    hints = get_type_hints(kind)
    found = {}
    for field in fields(kind):  # type: ignore[arg-type]  # a dataclass
        value = content.get(field.name, field.default)
        if not _is_of(value, hints[field.name]):
            what = "is missing" if value is MISSING else f"is {json.dumps(value)[:40]}"
            raise InputError(f"{path}: damaged, or of another version: {field.name} {what}")
        found[field.name] = value
    return kind(**found)


def _is_of(value: object, kind: object) -> bool:
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if type(value) is int and int in kinds:
        return 0 <= value < 2**31
    if isinstance(value, int | float) and type(value) is not bool and float in kinds:
        return math.isfinite(value)
    return type(value) in kinds or (value is None and None in kinds)


def read_rows(path: Path, columns: Collection[str], errors: str = "strict") -> list[dict[str, str]]:
    """Return the rows of a table that a command of ours wrote; InputError unless each has all these columns.

    `errors` is for bytes that are not UTF-8, as in bytes.decode().
    """
    try:
        text = read_bytes(path, LARGEST_TEXT).decode("utf-8", errors)
        table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        if missing := [name for name in columns if name not in (table.fieldnames or ())]:
            raise InputError(f"{path}: damaged, or another table: no column {missing[0]}")
        rows = []
        for row in table:
            if None in row or None in row.values():
                raise InputError(f"{path}: damaged: line {table.line_num} has not as many fields as the first")
            rows.append(row)
    except UnicodeDecodeError:
        raise InputError(f"{path}: damaged: not UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path}: damaged: no CSV ({error})") from None
    return rows


def numbers(path: Path, row: dict[str, str], **kinds: type) -> dict[str, int | float]:
    """Return some fields of a table's row as int or float; InputError where one is no such number, or not finite."""
    found = {}
    for name, kind in kinds.items():
        try:
            found[name] = kind(row[name])
            if not math.isfinite(found[name]):
                raise ValueError
        except (ValueError, OverflowError):
            raise InputError(f"{path}: damaged: {name} is {row[name][:40]!r}, not a number") from None
    return found


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[dict]) -> None:
    """Write rows under a header as a CSV file that is never seen half written.

    What is no text in any encoding, such as some file names, is escaped.
    """
    with (
        atomic_write(path) as working,
        working.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


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
    try:
        held = lock(working)
    except BlockingIOError:
        raise InputError(f"{path}: another process is making it; wait for it to end") from None
    except OSError as error:
        raise InputError(f"{working}: cannot be written ({error.strerror}); choose another place") from None
    try:
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
    finally:
        os.close(held)


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


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other commands from writing in a folder, made if need be; InputError when one does already."""
    try:
        held = lock(folder)
    except BlockingIOError:
        raise InputError(f"{folder}: another process is writing there; wait for it to end") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another place") from None
    try:
        yield
    finally:
        os.close(held)


def lock_file(descriptor: int, path: Path) -> None:
    """Lock an open file; BlockingIOError when another process has. Without locks in the file system, warn and go on."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        print(f"warning: {path}: this file system has no locks; let one command at a time write here", file=sys.stderr)


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
    """Return the rows of a CSV or .xls file, at least one, by their headers as in "patient_id"; InputError otherwise.

    Fields may be separated by commas, semicolons or tabs. What spreadsheets do to a table is undone: spaces about
    fields, headers of other case, whole numbers that end in .0, and decimal commas where the comma separates no fields.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a CSV file")
    delimiter = ","
    try:
        if path.suffix.lower() == ".xls":
            rows = _xls_rows(path)
        else:
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


def _xls_rows(path: Path) -> list[dict[str, str]]:
    """Return the first sheet's rows by their headers; InputError when the file is none of Excel's old format."""
    import xlrd  # few tables are of this kind

    try:
        with open(os.devnull, "w") as nothing:
            sheet = xlrd.open_workbook(path, logfile=nothing).sheet_by_index(0)
        header, *lines = ([str(cell.value) for cell in row] for row in sheet.get_rows())
    except Exception as error:  # of a damaged file xlrd lets out whatever it makes of it
        raise InputError(f"{path}: not an .xls file ({error}); save it as CSV UTF-8") from None
    return [dict(zip(header, line, strict=True)) for line in lines if any(map(str.strip, line))]


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
