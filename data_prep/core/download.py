"""Downloads over HTTP: a busy server is asked again, and what was cut off goes on where it stopped."""

from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3 import Retry

from data_prep.core.errors import InputError
from data_prep.core.files import check_space

CHUNK = 1 << 16  # bytes; of what is cut off less than one is lost
RETRY = Retry(total=5, connect=2, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)
TIMEOUT = 15, 120  # seconds to connect, and without a byte before a connection counts as cut
ATTEMPTS = 3  # each of which must bring something


def download(url: str, path: Path, most: int, bar: bool = False, **query: str) -> None:
    """Make `path` hold what the server answers; of a file that is there in part, only the rest is asked for.

    Where the server sends whole files only, it is all of it again. `bar` shows how far it is. Raises InputError when
    the disk has too little room or the answer is longer than `most` bytes (what has come is then removed: a server can
    send without end), and requests.RequestException or OSError; what has come by then stays.
    """
    for attempt in range(1, ATTEMPTS + 1):
        have = _size(path)
        try:
            return _get(url, path, most, have, bar, query)
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            if attempt == ATTEMPTS or _size(path) == have:
                raise


def _get(url: str, path: Path, most: int, have: int, bar: bool, query: dict[str, str]) -> None:
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.Session() as session:  # one a download: requests does not promise that threads can share one
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=RETRY))
        with session.get(url, params=query, headers=headers, timeout=TIMEOUT, stream=True) as response:
            if have and response.status_code == requests.codes.requested_range_not_satisfiable:
                return  # nothing lies beyond what is there
            response.raise_for_status()
            have = have if response.status_code == requests.codes.partial_content else 0
            to_come = int(response.headers.get("Content-Length", 0))
            check_space(path.parent, to_come)
            shown = tqdm(
                total=have + to_come,
                initial=have,
                desc=path.stem,
                unit="B",
                unit_scale=True,
                disable=None if bar else True,
            )
            with shown, path.open("ab" if have else "wb") as file:
                for chunk in response.iter_content(CHUNK):
                    have += len(chunk)
                    if have > most:
                        path.unlink()
                        raise InputError(f"{url}: sends more than {most:,} bytes, so not what is wanted; removed")
                    file.write(chunk)
                    shown.update(len(chunk))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
