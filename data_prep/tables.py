"""CSV files that others wrote: the case lists of the data sets, and a user's own."""

import csv
from pathlib import Path

from data_prep.core.records import InputError


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
