"""Tables: a command's own CSV files, written whole and read strictly, and those that people and archives give."""

import csv
import io
import math
import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from data_prep.core.errors import InputError
from data_prep.core.files import LARGEST_TEXT, atomic_write, read_bytes

DELIMITERS = ",;\t"  # Excel writes semicolons where the comma is the decimal mark


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
