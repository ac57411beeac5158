"""Fetching CBIS-DDSM from the Imaging Data Commons: its real index, and a server on this machine that speaks S3."""

import csv
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import duckdb
import pytest

from data_prep.core.records import LABELS
from data_prep.sources import cbis_download, idc_client
from data_prep.sources.cbis_ddsm import NAME
from tests.helpers.cbis_series import CSVS, FILES, MASSES, PATIENTS, SCRIPT, WHOLE, content, wait_for, without
from tests.helpers.servers import serving

BUCKET = "idc-open-data"
DAMAGED = "1.3.6.1.5"


@pytest.fixture(scope="module")
def listed() -> list[idc_client.Series]:
    found = idc_client.list_series("cbis_ddsm")
    return [series for series in found if series.patient.startswith(cbis_download.PATIENTS)]


def test_the_real_index_has_the_archives_masses(listed):
    assert len(listed) == 3391
    assert sum(bool(NAME.fullmatch(series.patient)) for series in listed) == 1592
    assert sum(series.size for series in listed) == pytest.approx(82.5e9, rel=1e-3)
    assert Counter(series.images for series in listed) == {1: 1592 + 206, 2: 1593}
    assert all(re.fullmatch(rf"s3://{BUCKET}/[0-9a-f-]{{36}}/\*", series.url) for series in listed)


def test_the_real_index_has_every_series_of_the_archives_case_list(listed, shared):
    with (shared / "cbis_ddsm_mass_800" / "mass_case_description_train_set.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    of = {series.uid: series.patient for series in listed}
    for row in rows:
        for column in ("image file path", "cropped image file path", "ROI mask file path"):
            name, _, series, _ = row[column].split("/")
            assert of[series] == name


def test_the_first_patients_are_whole_and_of_both_classes(listed, shared):
    few = cbis_download.of_first_patients(listed, 60)
    films = {series.patient for series in few if NAME.fullmatch(series.patient)}
    patients = {re.search(r"P_\d+", series.patient)[0] for series in few}
    assert 60 <= len(films) <= 64
    assert set(few) == {series for series in listed if re.search(r"P_\d+", series.patient)[0] in patients}
    with (shared / "cbis_ddsm_mass_800" / "mass_case_description_train_set.csv").open(newline="") as file:
        labels = Counter(LABELS[row["pathology"]] for row in csv.DictReader(file) if row["patient_id"] in patients)
    assert min(labels.values()) > 10


class Server(ThreadingHTTPServer):
    """A bucket in small, and TCIA's CSVs. `asked` holds the files sent; the other attributes make it misbehave."""

    daemon_threads = True

    def __init__(self, folders: dict[str, dict[str, bytes]]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.objects = {f"{uid}/{name}": file for uid, files in folders.items() for name, file in files.items()}
        self.asked = []
        self.cut = Counter()  # objects: how many answers of each break off
        self.gone = set()  # objects that are listed and refused
        self.go = threading.Semaphore(1000)  # a file is sent for each release
        self.csvs = CSVS


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.send(b"")

    def do_GET(self):
        server, url = self.server, urlsplit(self.path)
        query = parse_qs(url.query)
        name = url.path.removeprefix(f"/{BUCKET}/")
        if url.path == f"/{BUCKET}" and query.keys() >= {"list-type", "prefix"}:
            self.send(self.listing(query["prefix"][0]))
        elif url.path.startswith("/tables/") and url.path.rpartition("/")[2] in server.csvs:
            self.send(server.csvs[url.path.rpartition("/")[2]])
        elif name in server.objects and name not in server.gone:
            self.send_object(name)
        else:
            self.send(b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>", 403)

    def listing(self, prefix: str) -> bytes:
        files = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(file)}</Size><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
            "</Contents>"
            for key, file in self.server.objects.items()
            if key.startswith(prefix)
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{files}</ListBucketResult>".encode()

    def send_object(self, name: str):
        server, file = self.server, self.server.objects[name]
        server.asked.append(name)
        server.go.acquire()
        start, end = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
        part = file[start : end + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(file)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if server.cut[name]:
            server.cut[name] -= 1
            self.close_connection = True
            part = part[: len(part) // 2]
        self.wfile.write(part)

    def send(self, body: bytes, status: int = 200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    yield from serving(Server(FILES))


@pytest.fixture
def index(tmp_path) -> Path:
    """A folder for PYTHONPATH with an index of the server's series in the place of the real one."""
    folder = tmp_path / "index" / "idc_index_data"
    folder.mkdir(parents=True)
    rows = ", ".join(
        f"('{uid}', '{PATIENTS[uid]}', {len(files)}, {sum(map(len, files.values())) / 1e6!r}, 's3://{BUCKET}/{uid}/*')"
        for uid, files in FILES.items()
    )
    columns = "SeriesInstanceUID, PatientID, instanceCount, series_size_MB, series_aws_url"
    table = f"select *, 'cbis_ddsm' as collection_id from (values {rows}) as t({columns})"
    duckdb.sql(f"copy ({table}) to '{folder / 'index.parquet'}' (format parquet)")
    (folder / "__init__.py").write_text(f"IDC_INDEX_PARQUET_FILEPATH = {str(folder / 'index.parquet')!r}\n")
    return folder.parent


@pytest.fixture
def out(tmp_path):
    return tmp_path / "a set's folder" / "cbis"


@contextmanager
def started(server: Server, out: Path, index: Path, *options: str) -> Iterator[subprocess.Popen]:
    """Starts the script as a user would, and sees that it ends."""
    command = [sys.executable, str(SCRIPT), "--out", str(out), "--endpoint", server.url]
    command += ["--tables", f"{server.url}/tables", *options]
    pipe = subprocess.PIPE
    environment = os.environ | {"NO_PROXY": "127.0.0.1", "PYTHONPATH": str(index)}
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def fetch(server: Server, out: Path, index: Path, *options: str) -> tuple[int, str, str]:
    """Runs the script; returns its exit status, stdout and stderr."""
    with started(server, out, index, *options) as process:
        printed = process.communicate(timeout=60)
    return process.returncode, *printed


def test_all_masses_and_their_tables_are_fetched_and_a_second_time_nothing_is_asked_for(server, out, index):
    status, stdout, stderr = fetch(server, out, index)
    assert (status, stderr) == (0, "")
    assert content(out) == WHOLE
    assert {name.split("/")[0] for name in server.asked} == set(MASSES)
    assert stdout.startswith("13 of 13 series to come, 0.0 of 0.0 GB\n") and "CC BY 3.0" in stdout
    server.asked.clear()
    status, stdout, _ = fetch(server, out, index)
    assert (status, server.asked) == (0, [])
    assert stdout.startswith("0 of 13 series to come")


def test_only_the_first_patients_are_fetched_where_few_films_are_wanted(server, out, index):
    status, stdout, _ = fetch(server, out, index, "--films-only", "3")
    assert status == 0
    assert content(out) == without(*(set(MASSES) - {"1.3.6.1.1", "1.3.6.1.2", "1.3.6.1.3"}))
    assert stdout.startswith("3 of 3 series to come")


def test_after_a_kill_only_what_is_missing_is_asked_for(server, out, index):
    server.go = threading.Semaphore(4)
    with started(server, out, index) as process:
        wait_for(lambda: len(list(out.glob("1.*"))) >= 2 and len(server.asked) == len(WHOLE) - len(CSVS))
        process.kill()
        process.wait()
    there = {path.name for path in out.glob("1.*")}
    for uid in there:
        assert {path.name: path.read_bytes() for path in (out / uid).iterdir()} == FILES[uid]
    server.go.release(1000)
    time.sleep(0.5)  # s5cmd ended with the script, so nothing more comes
    assert {path.name for path in out.glob("1.*")} == there
    server.asked.clear()
    status, _, _ = fetch(server, out, index)
    assert status == 0
    assert {name.split("/")[0] for name in server.asked} == set(MASSES) - there
    assert content(out) == WHOLE


def test_ctrl_c_stops_at_once_and_says_how_to_go_on(server, out, index):
    server.go = threading.Semaphore(0)
    with started(server, out, index) as process:
        wait_for(lambda: server.asked)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=10)
    server.go.release(1000)
    assert (process.returncode, stderr) == (130, "interrupted; type the command again to go on\n")
    assert sorted(path.name for path in out.iterdir()) == sorted(CSVS)


def test_a_file_cut_off_is_asked_for_again(server, out, index):
    server.cut[f"{DAMAGED}/00000001.dcm"] = 2
    status, _, stderr = fetch(server, out, index)
    assert (status, stderr) == (0, "")
    assert content(out) == WHOLE


@pytest.mark.parametrize("fault", ["refused", "truncated", "not there"])
def test_a_series_that_is_not_whole_is_named_and_the_others_are_fetched(server, out, index, fault):
    name = f"{DAMAGED}/00000001.dcm"
    problem = f"not the 1 files of {len(server.objects[name]):,} bytes that the index tells of"
    if fault == "refused":
        server.gone.add(name)
        problem = "AccessDenied: Access Denied status code: 403"
    elif fault == "truncated":
        server.objects[name] = server.objects[name][:1000]
    else:
        del server.objects[name]
        problem = "no object found"
    status, _, stderr = fetch(server, out, index)
    assert (status, stderr.count("\n")) == (2, 1)
    assert stderr.startswith(f"error: series {DAMAGED}: {problem}")
    assert "type the command again to go on" in stderr
    assert content(out) == without(DAMAGED)


def test_a_server_that_is_not_there_is_one_line(server, out, index):
    status, _, stderr = fetch(server, out, index, "--endpoint", "http://127.0.0.1:9")
    assert (status, stderr.count("\n")) == (2, 1)
    assert "connection refused" in stderr and "more series failed" in stderr


def test_csvs_that_have_moved_are_one_line_that_says_where_to_look(server, out, index):
    server.csvs = {}
    status, _, stderr = fetch(server, out, index)
    assert (status, stderr.count("\n")) == (2, 1)
    assert "cancerimagingarchive.net/collection/cbis-ddsm" in stderr
    assert f"put it at {out / min(CSVS, key=lambda name: 'test' in name)}" in stderr


def test_without_the_optional_packages_it_is_one_line(server, out, tmp_path):
    (tmp_path / "idc_index_data.py").write_text("raise ImportError('No module named idc_index_data')")
    status, _, stderr = fetch(server, out, tmp_path)
    assert (status, stderr.count("\n")) == (2, 1)
    assert "pip install -r requirements-fetch.txt" in stderr
