"""Every file of a data set, in folders of any depth."""

import os
from collections.abc import Iterator
from pathlib import Path

from data_prep.core.records import InputError

UNFINISHED = "unfinished"
"""How the name of a folder ends that new_folder.py or fetch_cbis.py is filling: its files may be half-written."""


def walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder in or below `root` with the names of its files, by one walk.

    Links to folders are followed, each folder is taken once, unfinished ones are not. InputError when a folder cannot
    be read.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); what it holds would be missing")

    seen = set()
    for folder, subfolders, names in os.walk(root, onerror=refuse, followlinks=True):
        # sorted: where links lead to a folder twice, its path is the same on every machine
        subfolders[:] = sorted(name for name in subfolders if not name.endswith(UNFINISHED))
        try:
            status = os.stat(folder)
        except OSError as error:
            refuse(error)
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        yield Path(folder), names
