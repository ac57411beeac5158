"""A file that appears under its name only when it is whole."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.core.records import InputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
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
    with whole_file(path) as working:
        working.write_text(json.dumps(content, indent=2) + "\n")
