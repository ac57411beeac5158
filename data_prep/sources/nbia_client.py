"""Client of an image archive that runs NBIA, as The Cancer Imaging Archive does: lists series and fetches them.

Two calls of its REST interface (github.com/CBIIT/NBIA-TCIA, software/nbia-api, the same in v1 and v4) are used:

    getSeries?Collection=NAME&format=json        JSON list of {SeriesInstanceUID, PatientID, ImageCount, FileSize, ...}
    getImageWithMD5Hash?SeriesInstanceUID=UID    zip of the series' images, 00000001.dcm ..., and of md5hashes.csv

TCIA's own clients do not fit: tcia_utils brings IPython, plotly and DuckDB and knows one server; nbiatoolkit wants
pydicom < 3.
"""

import csv
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Generator
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import requests

from data_prep.core.download import download
from data_prep.core.errors import InputError, one_line

UID = re.compile(r"\d+(\.\d+)+")
IMAGE, SUMS, LICENCE = re.compile(r"[\w-]+\.dcm"), "md5hashes.csv", "LICENSE"
THREADS = 4
MOST_LISTED = 1 << 28  # bytes of a list of series
SLACK = 1 << 20  # bytes of what a zip holds besides images


class Series(NamedTuple):
    """One series as the server lists it: how many images, of how many bytes in all, and where, if that is told."""

    uid: str
    patient: str
    images: int
    size: int
    url: str = ""


def list_series(base: str, collection: str, path: Path) -> list[Series]:
    """Return a collection's series in order of UID; `path` is a new file for the server's answer.

    The sizes come with the list: getSeriesSize would be thousands of slow calls more. Errors as read_list()'s and
    download()'s.
    """
    url = f"{base}/getSeries"
    download(url, path, MOST_LISTED, Collection=collection, format="json")
    return read_list(path, url)


def read_list(path: Path, url: str) -> list[Series]:
    """Return the series in a server's answer, in order of UID; InputError, naming its URL, when it is no such list."""
    try:
        found = {
            Series(one["SeriesInstanceUID"], str(one["PatientID"]), int(one["ImageCount"]), int(one["FileSize"]))
            for one in json.loads(path.read_bytes())
        }
        if not all(UID.fullmatch(series.uid) for series in found):  # it will name a folder
            raise ValueError("a SeriesInstanceUID that is none")
    except (KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise InputError(f"{url}: not a list of series ({type(error).__name__}: {error}); try another --nbia") from None
    return sorted(found)


def fetch(missing: list[Series], base: str, out: Path, working: Path) -> Generator[tuple[Series, str], None, None]:
    """Make OUT/UID hold each series, and yield it with "" or with what the server has wrong about it.

    `working` is a folder for temporary ones, on the disk of `out`. Raises what download() raises, but for answers that
    tell of this one series: others can still be fetched.
    """
    with ThreadPool(THREADS) as pool:  # its threads are daemons: nobody waits for them after an error or Ctrl-C
        yield from pool.imap_unordered(partial(_attempt, base=base, out=out, working=working), missing)


def _attempt(series: Series, base: str, out: Path, working: Path) -> tuple[Series, str]:
    try:
        fetch_series(series, base, out, working)
    except (InputError, requests.HTTPError) as error:
        return series, str(error)
    return series, ""


def fetch_series(series: Series, base: str, out: Path, working: Path) -> None:
    """Make OUT/UID hold a series; it appears when all of it is there and right.

    A download that is damaged is made once more. Raises InputError when the second is damaged too, and what download()
    raises.
    """
    for last in (False, True):
        with TemporaryDirectory(dir=working) as folder:
            archive, images = Path(folder, "zip"), Path(folder, "images")
            try:
                most = 2 * series.size + SLACK
                download(f"{base}/getImageWithMD5Hash", archive, most, SeriesInstanceUID=series.uid)
                unpack(archive, images, series.images, most)
                images.rename(out / series.uid)
                return
            except InputError:
                if last:
                    raise


def unpack(archive: Path, folder: Path, count: int, most: int) -> None:
    """Write a series' images, and its licence if any, from a zip to a new folder; InputError unless all is right.

    That is: `count` images, and no more than `most` bytes.
    """
    with archive.open("rb") as file:
        try:
            zipped = zipfile.ZipFile(file)
            if sum(each.file_size for each in zipped.infolist()) > most:
                raise InputError(f"the zip would become larger than {most:,} bytes")
            names = checked(zipped, count)
        except InputError:
            raise
        except Exception as error:  # zipfile, zlib and csv let out whatever a damaged file makes of them
            raise InputError(f"the zip is damaged ({one_line(error)})") from None
        zipped.extractall(folder, names)


def checked(zipped: zipfile.ZipFile, count: int) -> list[str]:
    """Read a zip to its end and return the names of the files to unpack.

    Raises InputError unless they are `count` images, each with the MD5 that md5hashes.csv has for it, and maybe a
    licence; and whatever zipfile raises. (The server closes its zip properly even when it fails midway: that the zip is
    whole proves nothing, but md5hashes.csv comes last.)
    """
    with zipped.open(SUMS) as file:
        sums = {row["Filename"]: row["MD5Hash"].lower() for row in csv.DictReader(io.TextIOWrapper(file))}
    names = [name for name in zipped.namelist() if name != SUMS]
    images = [name for name in names if name != LICENCE]
    if sorted(images) != sorted(sums) or len(images) != count or not all(map(IMAGE.fullmatch, images)):
        raise InputError(f"the zip holds {images[:9]} where {count} .dcm files are due, each with its MD5")
    for name in names:
        md5 = hashlib.md5(zipped.read(name)).hexdigest()
        if name in sums and md5 != sums[name]:
            raise InputError(f"the MD5 of {name} is not the server's")
    return names
