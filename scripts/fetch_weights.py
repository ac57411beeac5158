"""Fetch BVLC's ImageNet weights for AlexNet and GoogLeNet into weights/, each checked against its published SHA1.

    python scripts/fetch_weights.py                # both: about 240 MB and 54 MB
    python scripts/fetch_weights.py alexnet
    python scripts/fetch_weights.py --from http://mirror.example/caffe

A download that was cut goes on where it stopped when the command is typed again. A file that is there already, however
it came, is only checked. The sums are those of BVLC's model pages (models/bvlc_*/readme.md in Caffe's sources).
"""

import argparse
import hashlib
import shutil
import sys
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from data_prep.core.errors import InputError, run

BVLC = "http://dl.caffe.berkeleyvision.org"
SHA1 = {
    "alexnet": "9116a64c0fbe4459d18f4bb6b56d647b63920377",
    "googlenet": "405fc5acd08a3bb12de8ee5e23a96bec22f08204",
}
CHUNK = 1 << 20  # bytes
SILENCE = 60  # seconds without a byte before a connection counts as cut


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", nargs="*", help=f"{' or '.join(SHA1)} (default: both)")
    parser.add_argument("--from", dest="base", default=BVLC, help=f"folder of the files on the web (default: {BVLC})")
    parser.add_argument("--out", type=Path, default=Path("weights"), help="default: weights")
    args = parser.parse_args()
    for net in args.net or SHA1:
        if net not in SHA1:
            raise InputError(f"{net}: no ImageNet weights for this net; choose from {', '.join(SHA1)}")
        name = f"bvlc_{net}.caffemodel"
        fetch(f"{args.base.rstrip('/')}/{name}", args.out / name, SHA1[net])
        print(f"{args.out / name}: SHA1 as published")


def fetch(url: str, path: Path, sha1: str) -> None:
    """Make `path` hold the file with this SHA1 (hexadecimal), downloading it unless it is there.

    The download grows in `path`.part and takes its name when it is whole and right. Raises InputError when it cannot
    be had, and removes it when its SHA1 is wrong.
    """
    if path.exists():
        if sha1_of(path) != sha1:
            raise InputError(f"{path}: is there, but its SHA1 is not {sha1}; remove it and type this again")
        return
    part = path.with_name(path.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        download(url, part)
    except urllib.error.HTTPError as error:
        raise InputError(f"{url}: {error.code} {error.reason}; try another place with --from") from None
    except (OSError, HTTPException) as error:
        raise InputError(f"{url}: {error or type(error).__name__}; type this again to go on") from None
    found = sha1_of(part)
    if found != sha1:
        part.unlink()
        raise InputError(f"{url}: SHA1 {found}, not {sha1}: not the published file, removed; try another --from")
    part.replace(path)


def download(url: str, part: Path) -> None:
    """Download what `part` lacks of the file, or all of it where the server sends only whole files.

    Raises InputError when the disk is too small or the connection is cut; else what urllib raises.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=SILENCE)
    except urllib.error.HTTPError as error:
        if have and error.code == 416:  # nothing lies beyond what we have: it is whole, or wrong, as its SHA1 will show
            return
        raise
    with response:
        if response.status != 206:
            have = 0
        size = have + int(response.headers.get("Content-Length", 0))
        free = shutil.disk_usage(part.parent).free
        if size - have > free:
            raise InputError(f"{part.parent}: {size / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free; free some space")
        bar = tqdm(total=size, initial=have, desc=part.stem, unit="B", unit_scale=True, disable=None)
        with bar, part.open("ab" if have else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if part.stat().st_size < size:
        raise InputError(f"{url}: cut after {part.stat().st_size:,} of {size:,} bytes; type this again to go on")


def sha1_of(path: Path) -> str:
    """Return a file's SHA1, hexadecimal."""
    return hashlib.sha1(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(run(main))
