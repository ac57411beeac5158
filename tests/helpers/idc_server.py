"""The Imaging Data Commons in small: a bucket that speaks S3, and an index in the place of the real one."""

import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import duckdb

from tests.helpers.cbis_series import CSVS, SCRIPT

BUCKET = "idc-open-data"


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


def write_index(folder: Path, files: dict[str, dict[str, bytes]], patients: dict[str, str]) -> Path:
    """Write a folder for PYTHONPATH with an index of these series, and return it."""
    package = folder / "idc_index_data"
    package.mkdir(parents=True)
    rows = ", ".join(
        f"('{uid}', '{patients[uid]}', {len(of)}, {sum(map(len, of.values())) / 1e6!r}, 's3://{BUCKET}/{uid}/*')"
        for uid, of in files.items()
    )
    columns = "SeriesInstanceUID, PatientID, instanceCount, series_size_MB, series_aws_url"
    table = f"select *, 'cbis_ddsm' as collection_id from (values {rows}) as t({columns})"
    duckdb.sql(f"copy ({table}) to '{package / 'index.parquet'}' (format parquet)")
    (package / "__init__.py").write_text(f"IDC_INDEX_PARQUET_FILEPATH = {str(package / 'index.parquet')!r}\n")
    return folder


@contextmanager
def started(server: Server, out: Path, index: Path, *options: str) -> Iterator[subprocess.Popen]:
    """Starts the script as a user would, and sees that it ends."""
    command = ["env", "--default-signal=INT", sys.executable, str(SCRIPT), "--out", str(out), "--endpoint", server.url]
    command += ["--tables", f"{server.url}/tables", *options]
    pipe = subprocess.PIPE
    environment = os.environ | {"NO_PROXY": "127.0.0.1", "PYTHONPATH": str(index)}
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()
