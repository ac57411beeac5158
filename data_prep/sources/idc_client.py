"""Client of the Imaging Data Commons (IDC) of the US National Cancer Institute: lists series and fetches them.

The list is IDC's own index, which the package idc-index-data carries; DuckDB reads it. The files lie in a public bucket
of the S3 protocol, a folder per series, and s5cmd, the program that IDC recommends, fetches them. (IDC's Python client,
idc-index, calls the same two; it brings pandas and pyarrow besides, and cannot be pointed at another server.)
"""

import importlib.metadata
import json
import shlex
import subprocess
from collections import Counter
from collections.abc import Generator
from pathlib import Path

from data_prep.core.errors import InputError
from data_prep.core.process_pool import ending_with_parent
from data_prep.sources.nbia_client import Series

BUCKETS = "https://s3.amazonaws.com"  # https://storage.googleapis.com has the same bucket
FILES_AT_ONCE = 16
ATTEMPTS = 5  # at each request
LONGEST_ERROR = 200  # characters of what s5cmd says, which may end in a whole web page


def list_series(collection: str) -> list[Series]:
    """Return a collection's series in order of UID; InputError when the index is not installed."""
    try:
        import duckdb
        import idc_index_data
    except ImportError as error:
        raise _missing(error) from None
    rows = duckdb.execute(
        "select SeriesInstanceUID, PatientID, instanceCount, round(series_size_MB * 1e6)::bigint, series_aws_url "
        "from read_parquet($index) where collection_id = $collection",
        {"index": str(idc_index_data.IDC_INDEX_PARQUET_FILEPATH), "collection": collection},
    ).fetchall()
    return sorted(Series(*row) for row in rows)


def fetch(missing: list[Series], server: str, out: Path, working: Path) -> Generator[tuple[Series, str], None, None]:
    """Make OUT/UID hold each series, and yield it with "" or with what is wrong about it.

    A folder appears when it holds as many files and bytes as the index says. `working` is a folder for temporary ones,
    on the disk of `out`. InputError when s5cmd is not installed.
    """
    pending = {_folder(series.url): series for series in missing}
    arrived: Counter[str] = Counter()
    commands = working / "commands"
    copies = (shlex.join(["cp", series.url, f"{working / series.uid}/"]) for series in missing)
    commands.write_text("\n".join(copies))
    with _s5cmd(server, commands) as process:
        try:
            for line in process.stdout:
                url, problem = _told(line)
                arrived[_folder(url)] += not problem
                series = pending.get(_folder(url))
                # a file counts when it is told of: until then it may be there in part, under another name
                if series and (problem or (arrived[_folder(url)] == series.images and _is_whole(series, working))):
                    if not problem:
                        (working / series.uid).rename(out / series.uid)
                    yield pending.pop(_folder(url)), problem
        finally:
            process.kill()
    for series in pending.values():
        yield series, f"not the {series.images} files of {series.size:,} bytes that the index tells of"


def _s5cmd(server: str, commands: Path) -> subprocess.Popen:
    """Start s5cmd, which prints a line of JSON for each file that it has fetched, or could not fetch."""
    options = ["--json", "--no-sign-request", "--endpoint-url", server]
    options += ["--numworkers", str(FILES_AT_ONCE), "--retry-count", str(ATTEMPTS)]
    try:
        program = str(importlib.metadata.distribution("s5cmd").locate_file("s5cmd/bin/s5cmd"))
    except importlib.metadata.PackageNotFoundError as error:
        raise _missing(error) from None
    return subprocess.Popen(
        ending_with_parent(program, *options, "run", commands),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _told(line: str) -> tuple[str, str]:
    """Return what a line of s5cmd's tells: the URL of a file or series, and what is wrong, "" where it was fetched."""
    try:
        message = json.loads(line)
        url = message.get("source") or message["command"].split()[1]
    except (ValueError, LookupError):  # it is of no file
        return "", line
    return url, " ".join(message.get("error", "").split())[:LONGEST_ERROR]


def _folder(url: str) -> str:
    return url.rpartition("/")[0]


def _is_whole(series: Series, working: Path) -> bool:
    sizes = [file.stat().st_size for file in (working / series.uid).iterdir()]
    return (len(sizes), sum(sizes)) == (series.images, series.size)


def _missing(error: Exception) -> InputError:
    return InputError(f"{error}: pip install -r requirements-fetch.txt, or fetch from another server with --nbia")
