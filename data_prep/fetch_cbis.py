"""Fetch the mass part of CBIS-DDSM from The Cancer Imaging Archive (TCIA), every image checked by its MD5.

    python data_prep/fetch_cbis.py                       # into data/cbis; says first how much it is
    python data_prep/fetch_cbis.py --out /disk/cbis

Writes OUT/mass_case_description_{train,test}_set.csv and OUT/SERIES/*.dcm: films, ROI masks and crops. The folder of a
series appears when all of it is there and right, so a download that was stopped goes on when the command is typed
again. A CSV that is there already, however it came, is taken as it is.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path

import requests
from tqdm import tqdm

from data_prep.core.errors import InputError, run
from data_prep.core.files import UNFINISHED, lock, make_empty
from data_prep.sources import nbia_client

TCIA = "https://nbia.cancerimagingarchive.net/nbia-api/services/v4"
TABLES = "https://www.cancerimagingarchive.net/wp-content/uploads"
TABLE_NAMES = ("mass_case_description_train_set.csv", "mass_case_description_test_set.csv")
PATIENTS = ("Mass-Training_", "Mass-Test_")  # the rest are calcifications: Calc-Training_, Calc-Test_
THREADS = 4
MOST_FAILURES = 10  # with so many bad series it is the server that is ill
AGAIN = "type the command again to go on"
CREDIT = """\
CBIS-DDSM is licensed CC BY 3.0 (https://creativecommons.org/licenses/by/3.0/). TCIA asks that you cite it:
  Sawyer-Lee, R., Gimenez, F., Hoogi, A., & Rubin, D. (2016). Curated Breast Imaging Subset of Digital Database for
  Screening Mammography (CBIS-DDSM) [Data set]. The Cancer Imaging Archive. doi 10.7937/K9/TCIA.2016.7O02S9CY"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/cbis"), help="default: data/cbis")
    parser.add_argument("--base", default=TCIA, help=f"an NBIA server's REST interface (default: {TCIA})")
    parser.add_argument("--tables", default=TABLES, help=f"folder of the two CSVs on the web (default: {TABLES})")
    args = parser.parse_args()
    try:
        with working_folder(args.out) as working:
            fetch(args.out, args.base.rstrip("/"), args.tables.rstrip("/"), working)
    except requests.HTTPError as error:
        raise InputError(f"{error}; try again later, or another server (--base, --tables)") from None
    except requests.RequestException as error:
        where = error.request.url if error.request else args.base
        raise InputError(f"{where}: no answer, or cut off ({type(error).__name__}); {AGAIN}") from None
    except OSError as error:
        raise InputError(f"{args.out}: cannot be written ({error.strerror}); free some space, then {AGAIN}") from None
    except KeyboardInterrupt:
        print(f"interrupted; {AGAIN}", file=sys.stderr)
        raise SystemExit(130) from None
    print(CREDIT)
    print(f"{args.out}: finished; next: python data_prep/build_lmdb.py --source cbis --root {args.out}")


def fetch(out: Path, base: str, tables: str, working: Path) -> None:
    """Make `out` hold both CSVs and every series of masses that the server lists.

    Raises InputError, requests.RequestException or OSError; what is whole by then stays.
    """
    for name in TABLE_NAMES:
        fetch_table(f"{tables}/{name}", out / name, working / name)
    listed = nbia_client.list_series(base, "CBIS-DDSM", working / "series.json")
    masses = [series for series in listed if series.patient.startswith(PATIENTS)]
    if not masses:
        raise InputError(f"{base}: lists no series of CBIS-DDSM's masses; try another --base")
    missing = [series for series in masses if not (out / series.uid).exists()]
    check_room(out, missing)
    size, to_come = (sum(series.size for series in part) for part in (masses, missing))
    print(
        f"{len(missing):,} of {len(masses):,} series to come, {to_come / 1e9:,.1f} of {size / 1e9:,.1f} GB", flush=True
    )
    failures = []
    bar = tqdm(total=size, initial=size - to_come, unit="B", unit_scale=True, disable=None)
    with bar, ThreadPool(THREADS) as pool:  # its threads are daemons: nobody waits for them after an error or Ctrl-C
        for series, problem in pool.imap_unordered(partial(attempt, base=base, out=out, working=working), missing):
            bar.update(series.size)
            if problem:
                failures.append(f"series {series.uid}: {problem}")
            if len(failures) == MOST_FAILURES:
                break
    if failures:
        more = f" (and {len(failures) - 1} more series failed)" if failures[1:] else ""
        raise InputError(f"{failures[0]}{more}; {AGAIN}")


def attempt(series: nbia_client.Series, base: str, out: Path, working: Path) -> tuple[nbia_client.Series, str]:
    """Fetch a series; return it with "", or with what the server has wrong about it: others can still be fetched."""
    try:
        nbia_client.fetch_series(series, base, out, working)
    except (InputError, requests.HTTPError) as error:
        return series, str(error)
    return series, ""


@contextmanager
def working_folder(out: Path) -> Iterator[Path]:
    """Yield OUT/unfinished, empty at first and removed at the end; InputError when another process has it."""
    try:
        held = lock(out)
    except BlockingIOError:
        raise InputError(f"{out}: another process is fetching into it; wait for it to end") from None
    working = out / UNFINISHED
    try:
        make_empty(working)
        try:
            yield working
        finally:
            shutil.rmtree(working, ignore_errors=True)
    finally:
        os.close(held)


def fetch_table(url: str, path: Path, working: Path) -> None:
    """Make `path` hold one of the CSVs, downloading it unless it is there; InputError when it is something else."""
    if path.exists():
        return
    nbia_client.download(url, working)
    with working.open("rb") as file:
        if b"patient_id" not in file.readline():
            raise InputError(f"{url}: not the CSV of that name; get that from TCIA's page of CBIS-DDSM, as {path}")
    working.replace(path)


def check_room(out: Path, missing: list[nbia_client.Series]) -> None:
    """Raise InputError unless the disk has room for all that is missing, and each thread's zip beside its images."""
    sizes = [series.size for series in missing]
    needed, free = sum(sizes) + THREADS * max(sizes, default=0), shutil.disk_usage(out).free
    if needed > free:
        raise InputError(f"{out}: {needed / 1e9:,.1f} GB needed, {free / 1e9:,.1f} GB free; free some, or give --out")


if __name__ == "__main__":
    sys.exit(run(main))
