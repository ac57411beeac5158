"""Download of CBIS-DDSM's masses: which series there are, what is missing, and how it comes."""

import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import requests
from tqdm import tqdm

from data_prep.core.download import download
from data_prep.core.errors import InputError
from data_prep.core.files import LARGEST_TEXT, UNFINISHED, check_space, make_empty
from data_prep.core.locks import locked
from data_prep.sources import idc_client, nbia_client
from data_prep.sources.cbis_ddsm import NAME
from data_prep.sources.nbia_client import Series

TCIA = "https://nbia.cancerimagingarchive.net/nbia-api/services/v4"
TABLES = "https://www.cancerimagingarchive.net/wp-content/uploads"
PAGE = "https://www.cancerimagingarchive.net/collection/cbis-ddsm"
TABLE_NAMES = ("mass_case_description_train_set.csv", "mass_case_description_test_set.csv")
PATIENTS = ("Mass-Training_", "Mass-Test_")  # the rest are calcifications: Calc-Training_, Calc-Test_
MOST_FAILURES = 10  # with so many bad series the server is failing
AGAIN = "type the command again to go on"


def fetch(out: Path, tables: str, nbia: str | None, endpoint: str, films: int | None) -> None:
    """Make `out` hold both CSVs and every series of masses that the server lists, or those of the first patients.

    `nbia` is the address of an NBIA server; without one it is IDC's at `endpoint`. Raises InputError or OSError; what
    is whole by then stays.
    """
    try:
        with working_folder(out) as working:
            for name in TABLE_NAMES:
                fetch_table(f"{tables}/{name}", out / name, working / name)
            fetch_series(out, nbia, endpoint, films, working)
    except requests.HTTPError as error:
        raise InputError(f"{error}; try again later, or another server (--nbia)") from None
    except requests.RequestException as error:
        where = error.request.url if error.request else nbia
        raise InputError(f"{where}: no answer, or cut off ({type(error).__name__}); {AGAIN}") from None


def fetch_series(out: Path, nbia: str | None, endpoint: str, films: int | None, working: Path) -> None:
    """Make `out` hold the series; `working` is an empty folder on its disk."""
    server = endpoint
    if nbia:
        server = nbia.rstrip("/")
        listed = nbia_client.list_series(server, "CBIS-DDSM", working / "series.json")
    else:
        listed = idc_client.list_series("cbis_ddsm")
    masses = [series for series in listed if series.patient.startswith(PATIENTS)]
    if not masses:
        raise InputError(f"{server}: lists no series of CBIS-DDSM's masses; try another server (--nbia)")
    if films:
        masses = of_first_patients(masses, films)
    missing = [series for series in masses if not (out / series.uid).exists()]
    check_room(out, missing)
    size, to_come = (sum(series.size for series in part) for part in (masses, missing))
    print(
        f"{len(missing):,} of {len(masses):,} series to come, {to_come / 1e9:,.1f} of {size / 1e9:,.1f} GB", flush=True
    )
    failures = []
    bar = tqdm(total=size, initial=size - to_come, unit="B", unit_scale=True, disable=None)
    fetch = nbia_client.fetch if nbia else idc_client.fetch
    with bar, closing(fetch(missing, server, out, working)) as fetched:
        for series, problem in fetched:
            bar.update(series.size)
            if problem:
                failures.append(f"series {series.uid}: {problem}")
            if len(failures) == MOST_FAILURES:
                break
    if failures:
        more = f" (and {len(failures) - 1} more series failed)" if failures[1:] else ""
        raise InputError(f"{failures[0]}{more}; {AGAIN}")


def of_first_patients(masses: list[Series], films: int) -> list[Series]:
    """Return all series of the first patients, by number, that have this many films among them."""
    of_patient: dict[str, list[Series]] = defaultdict(list)
    for series in masses:
        of_patient[re.search(r"P_\d+", series.patient)[0]].append(series)
    chosen: list[Series] = []
    for _, theirs in sorted(of_patient.items()):
        if sum(bool(NAME.fullmatch(series.patient)) for series in chosen) < films:
            chosen += theirs
    return chosen


@contextmanager
def working_folder(out: Path) -> Iterator[Path]:
    """Yield OUT/unfinished, empty at first and removed at the end; InputError when another process has it."""
    working = out / UNFINISHED
    with locked(out):
        make_empty(working)
        try:
            yield working
        finally:
            shutil.rmtree(working, ignore_errors=True)


def fetch_table(url: str, path: Path, working: Path) -> None:
    """Make `path` hold one of the CSVs, downloading it unless it is there; InputError when it cannot be had."""
    if path.exists():
        return
    try:
        download(url, working, LARGEST_TEXT)
        with working.open("rb") as file:
            problem = "" if b"patient_id" in file.readline() else "not the CSV of that name"
    except requests.RequestException as error:
        problem = f"no answer, or cut off ({type(error).__name__})" if error.response is None else str(error)
    if problem:
        raise InputError(f"{url}: {problem}; get it from {PAGE}, or from any copy of the set, and put it at {path}")
    working.replace(path)


def check_room(out: Path, missing: list[Series]) -> None:
    """Raise InputError unless the disk has room for all that is missing, and NBIA's zips beside their images."""
    sizes = [series.size for series in missing]
    check_space(out, sum(sizes) + nbia_client.THREADS * max(sizes, default=0))
