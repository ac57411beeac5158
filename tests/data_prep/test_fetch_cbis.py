"""Fetching CBIS-DDSM from a server on this machine that answers as TCIA's does: the script as a user types it."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pydicom
import pytest

from data_prep.core.errors import InputError
from data_prep.sources import nbia_client
from tests.helpers.cbis_series import CSVS, FILES, MASSES, PATIENTS, SCRIPT, WHOLE, content, wait_for, without
from tests.helpers.servers import serving

DAMAGED = "1.3.6.1.5"


def zip_of(files: dict[str, bytes], sums: dict[str, bytes] | None = None) -> bytes:
    """A zip as the server makes it: files, and the list of their MD5 (or of the MD5 of `sums`)."""
    table = "Filename,MD5Hash\n" + "".join(
        f"{name},{hashlib.md5(content).hexdigest()}\n" for name, content in (files if sums is None else sums).items()
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in (files | {"md5hashes.csv": table.encode()}).items():
            zipped.writestr(name, content)
    return packed.getvalue()


class Server(ThreadingHTTPServer):
    """TCIA in small. `asked` holds the series asked for, in order; the other attributes make it misbehave."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked = []
        self.sizes = {uid: sum(map(len, files.values())) for uid, files in FILES.items()}
        self.answers = {}  # UID: zips to answer in turn, the last one again and again
        self.statuses = {}  # path: HTTP statuses to answer in turn before the right answer
        self.cut = set()  # series whose first answer breaks off
        self.go = threading.Semaphore(1000)  # a series is sent for each release
        self.listing = None
        self.csvs = CSVS


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server, url = self.server, urlsplit(self.path)
        call, query = url.path.rpartition("/")[2], {key: value for key, (value,) in parse_qs(url.query).items()}
        if server.statuses.get(call):
            self.send_error(server.statuses[call].pop(0))
        elif url.path == f"/tables/{call}" and call in server.csvs:
            self.send(server.csvs[call])
        elif url.path == "/v4/getSeries" and query == {"Collection": "CBIS-DDSM", "format": "json"}:
            self.send(json.dumps(self.series()).encode() if server.listing is None else server.listing)
        elif url.path == "/v4/getImageWithMD5Hash" and query.keys() == {"SeriesInstanceUID"}:
            self.send_series(query["SeriesInstanceUID"])
        else:
            self.send_error(404)

    def series(self) -> list[dict]:
        return [
            {
                "SeriesInstanceUID": uid,
                "Collection": "CBIS-DDSM",
                "PatientID": PATIENTS[uid],
                "ImageCount": len(FILES[uid]),
                "FileSize": size,
            }
            for uid, size in self.server.sizes.items()
        ]

    def send(self, body: bytes):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_series(self, uid: str):
        """Chunked, for the real server zips as it sends and knows no length."""
        self.server.asked.append(uid)
        self.server.go.acquire()
        answers = self.server.answers.get(uid) or [zip_of(FILES[uid])]
        body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        half = len(body) // 2
        self.wfile.write(b"%x\r\n%b\r\n" % (half, body[:half]))
        if uid in self.server.cut:
            self.server.cut.remove(uid)
            self.close_connection = True
            return
        self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body) - half, body[half:]))

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    yield from serving(Server())


@pytest.fixture
def out(tmp_path):
    return tmp_path / "cbis"


@contextmanager
def started(server: Server, out: Path, *before: str) -> Iterator[subprocess.Popen]:
    """Starts the script as a user would, and sees that it ends; `before` are words in front of the command."""
    # a test run started in the background hands down an ignored SIGINT
    command = ["env", "--default-signal=INT", *before, sys.executable, str(SCRIPT), "--out", str(out)]
    command += ["--nbia", f"{server.url}/v4/", "--tables", f"{server.url}/tables"]
    pipe = subprocess.PIPE
    environment = os.environ | {"NO_PROXY": "127.0.0.1"}
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def fetch(server: Server, out: Path, *before: str) -> tuple[int, str, str]:
    """Runs the script; returns its exit status, stdout and stderr."""
    with started(server, out, *before) as process:
        printed = process.communicate(timeout=200)
    return process.returncode, *printed


def test_all_masses_and_their_tables_are_fetched_and_no_calcification_is_asked_for(server, out):
    status, stdout, stderr = fetch(server, out)
    assert (status, stderr) == (0, "")
    assert content(out) == WHOLE
    assert sorted(server.asked) == MASSES
    assert pydicom.dcmread(out / "1.3.6.2.1" / "00000002.dcm").PatientID == "Mass-Test_P_00016_LEFT_MLO_1"
    first, *_, last = stdout.splitlines()
    assert first == "13 of 13 series to come, 0.0 of 0.0 GB"
    assert "CC BY 3.0" in stdout and "10.7937/K9/TCIA.2016.7O02S9CY" in stdout
    assert last.endswith(f"python data_prep/build_lmdb.py --source cbis --root {out}")
    assert sorted(path.name for path in out.iterdir()) == sorted([*CSVS, *MASSES])


def test_a_second_time_nothing_is_asked_for(server, out):
    fetch(server, out)
    server.asked.clear()
    status, stdout, _ = fetch(server, out)
    assert (status, server.asked) == (0, [])
    assert stdout.startswith("0 of 13 series to come")


def test_after_a_kill_only_what_is_missing_is_asked_for(server, out):
    server.go = threading.Semaphore(3)
    with started(server, out) as process:
        wait_for(lambda: len(list(out.glob("1.*"))) == 3 and len(server.asked) == 7)
        assert any((out / "unfinished").iterdir())
        process.kill()
    there = {path.name for path in out.glob("1.*")}
    for uid in there:
        assert {path.name: path.read_bytes() for path in (out / uid).iterdir()} == FILES[uid]
    server.asked.clear()
    server.go.release(1000)
    status, stdout, _ = fetch(server, out)
    assert status == 0
    assert stdout.startswith("10 of 13 series to come")
    assert sorted(server.asked) == sorted(set(MASSES) - there)
    assert content(out) == WHOLE
    assert not (out / "unfinished").exists()


def test_ctrl_c_stops_at_once_and_says_how_to_go_on(server, out):
    server.go = threading.Semaphore(2)
    with started(server, out) as process:
        wait_for(lambda: len(list(out.glob("1.*"))) == 2 and len(server.asked) == 6)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=5)
    assert process.returncode == 130
    assert stderr == "interrupted; type the command again to go on\n"
    server.go.release(1000)
    assert fetch(server, out)[0] == 0
    assert content(out) == WHOLE


def test_two_at_once_are_refused(server, out):
    server.go = threading.Semaphore(0)
    with started(server, out) as process:
        wait_for(lambda: server.asked)
        status, _, stderr = fetch(server, out)
        assert (status, stderr) == (2, f"error: {out}: another process is writing there; wait for it to end\n")
        server.go.release(1000)
        process.communicate(timeout=200)
    assert process.returncode == 0
    assert content(out) == WHOLE


GOOD = FILES[DAMAGED]
BAD = {name: file[:-1] + bytes([file[-1] ^ 1]) for name, file in GOOD.items()}
NOISE = np.random.default_rng(0).bytes(500)  # which a zip holds as it is
WRONG = {
    "MD5": (zip_of(BAD, sums=GOOD), "the MD5 of 00000001.dcm is not the server's"),
    "cut": (zip_of(GOOD)[:-40], "the zip is damaged"),
    "one byte": (zip_of(GOOD)[:4000] + b"caffe" + zip_of(GOOD)[4005:], "the zip is damaged"),
    "licence": (zip_of(GOOD | {"LICENSE": NOISE}, sums=GOOD).replace(NOISE, NOISE[::-1]), "the zip is damaged"),
    "no zip": (b"<html>busy</html>", "the zip is damaged (File is not a zip file)"),
    "nothing": (b"", "the zip is damaged"),
    "no MD5s": (zip_of(GOOD).replace(b"md5hashes", b"other_sum"), "md5hashes.csv"),
    "no images": (zip_of({}), "the zip holds [] where 1 .dcm files are due"),
    "too many": (zip_of(GOOD | {"00000002.dcm": b"more"}), "where 1 .dcm files are due"),
    "one without MD5": (zip_of(GOOD | {"00000002.dcm": b"more"}, sums=GOOD), "where 1 .dcm files are due"),
    "path up": (zip_of({"../up.dcm": GOOD["00000001.dcm"]}), "the zip holds ['../up.dcm']"),
    "root path": (zip_of({"/root.dcm": GOOD["00000001.dcm"]}), "the zip holds ['/root.dcm']"),
    "other file": (zip_of({"run.sh": GOOD["00000001.dcm"]}), "the zip holds ['run.sh']"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_zip_makes_no_folder(kind, tmp_path):
    wrong, message = WRONG[kind]
    archive = tmp_path / "zip"
    archive.write_bytes(wrong)
    with pytest.raises(InputError) as error:
        nbia_client.unpack(archive, tmp_path / "images", 1, 1 << 30)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "up.dcm").exists()


def test_a_damaged_series_is_asked_for_once_more(server, out):
    server.answers[DAMAGED] = [WRONG["MD5"][0], zip_of(GOOD)]
    status, _, stderr = fetch(server, out)
    assert (status, stderr) == (0, "")
    assert server.asked.count(DAMAGED) == 2
    assert content(out) == WHOLE


def test_a_series_damaged_twice_is_named_and_the_others_are_fetched(server, out):
    server.answers[DAMAGED] = [WRONG["MD5"][0]]
    status, _, stderr = fetch(server, out)
    assert status == 2
    what = "the MD5 of 00000001.dcm is not the server's"
    assert stderr == f"error: series {DAMAGED}: {what}; type the command again to go on\n"
    assert server.asked.count(DAMAGED) == 2
    assert content(out) == without(DAMAGED)
    del server.answers[DAMAGED]
    assert fetch(server, out)[0] == 0
    assert content(out) == WHOLE


def test_a_series_cut_off_is_asked_for_once_more(server, out):
    server.cut = {DAMAGED}
    status, _, stderr = fetch(server, out)
    assert (status, stderr) == (0, "")
    assert content(out) == WHOLE


def test_a_licence_in_the_zip_is_kept(server, out):
    server.answers[DAMAGED] = [zip_of(GOOD | {"LICENSE": b"CC BY 3.0"}, sums=GOOD)]
    assert fetch(server, out)[0] == 0
    assert content(out) == WHOLE | {f"{DAMAGED}/LICENSE": b"CC BY 3.0"}


def test_a_busy_server_is_asked_again(server, out):
    server.statuses = {call: [503] for call in (*CSVS, "getSeries", "getImageWithMD5Hash")}
    status, _, stderr = fetch(server, out)
    assert (status, stderr) == (0, "")
    assert content(out) == WHOLE


def test_a_server_that_refuses_every_series_is_left_alone_soon(server, out):
    server.statuses = {"getImageWithMD5Hash": [400] * 1000}
    status, _, stderr = fetch(server, out)
    assert (status, stderr.count("\n")) == (2, 1)
    assert "400 Client Error" in stderr and "(and 9 more series failed)" in stderr
    assert content(out) == CSVS


def test_a_server_of_other_pages_is_an_error(server, out):
    server.statuses = {"getSeries": [404]}
    status, _, stderr = fetch(server, out)
    assert (status, stderr.count("\n")) == (2, 1)
    assert stderr.startswith("error: 404 Client Error: Not Found for url: ")


@pytest.mark.parametrize(
    "listing",
    [b"", b"<html>", b"{}", b"[1]", b"[]", b'[{"PatientID": "Mass-Test_P"}]'],
)
def test_what_is_no_list_of_series_is_an_error(listing, server, out):
    server.listing = listing
    status, _, stderr = fetch(server, out)
    assert (status, stderr.count("\n")) == (2, 1)
    assert "try another" in stderr and "--nbia" in stderr


def test_a_series_cannot_be_named_like_a_path(server, out):
    one = {"SeriesInstanceUID": "../../up", "PatientID": "Mass-Test_P", "ImageCount": 1, "FileSize": 1}
    server.listing = json.dumps([one]).encode()
    status, _, stderr = fetch(server, out)
    assert (status, server.asked) == (2, [])
    assert "a SeriesInstanceUID that is none" in stderr


def test_a_server_that_is_not_there_is_one_line(out):
    with Server() as gone:
        pass
    status, _, stderr = fetch(gone, out)
    assert (status, stderr.count("\n")) == (2, 1)
    assert stderr.startswith(f"error: {gone.url}/tables/mass_case")
    assert "no answer, or cut off (ConnectionError); get it from https://www.cancerimagingarchive.net" in stderr


def test_a_disk_too_small_is_seen_before_the_download(server, out):
    server.sizes[MASSES[0]] = 10**15
    status, _, stderr = fetch(server, out)
    assert (status, server.asked) == (2, [])
    assert stderr.startswith(f"error: {out}: 5,000,000.0 GB needed, ")


def test_room_is_needed_only_for_what_is_missing(server, out):
    fetch(server, out)
    server.sizes[MASSES[0]] = 10**15
    assert fetch(server, out)[0] == 0


def test_a_file_that_cannot_be_written_is_one_line(server, out):
    """Where writing fails in the midst of a download, as on a full disk: no file may grow beyond 4 KiB."""
    status, _, stderr = fetch(server, out, "bash", "-c", 'ulimit -f 4; exec "$@"', "bash")
    assert status == 2
    assert stderr.startswith(f"error: {out}: cannot be written (File too large); free some space")
    assert content(out) == CSVS


def test_a_web_page_is_not_taken_for_a_csv(server, out):
    name = "mass_case_description_test_set.csv"
    server.csvs = CSVS | {name: b"<html>moved</html>"}
    status, _, stderr = fetch(server, out)
    assert (status, stderr.count("\n")) == (2, 1)
    assert stderr.startswith(f"error: {server.url}/tables/{name}: not the CSV of that name")
    assert name not in content(out) and server.asked == []


def test_a_csv_that_is_there_is_left_as_it_is(server, out):
    name = min(CSVS)
    out.mkdir()
    (out / name).write_bytes(b"patient_id,mine\n")
    assert fetch(server, out)[0] == 0
    assert (out / name).read_bytes() == b"patient_id,mine\n"
