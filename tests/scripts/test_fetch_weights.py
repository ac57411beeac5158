"""Fetching weights from a web server: this one, on the machine's own address."""

import hashlib
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from data_prep.core.errors import InputError
from scripts import fetch_weights
from scripts.nets import definitions
from tests.helpers.servers import serving

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several chunks
SHA1 = hashlib.sha1(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT as any .caffemodel; `asked` holds the Range of each request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges = True
        self.cut_after = None
        self.content = CONTENT
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append(self.headers["Range"])
        if not self.path.endswith(".caffemodel"):
            self.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1]) if self.headers["Range"] else 0
        if not server.ranges:
            start = 0
        if start and start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cut_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    yield from serving(Server())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights" / "bvlc_x.caffemodel"


def test_whole_file_is_fetched_and_only_checked_the_next_time(server, path):
    for _ in range(2):
        fetch_weights.fetch(f"{server.url}/x.caffemodel", path, SHA1)
        assert path.read_bytes() == CONTENT
    assert server.asked == [None]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_cut_connection_goes_on_where_it_stopped(server, path):
    server.cut_after = 1_500_000
    with pytest.raises(InputError, match="type this again"):
        fetch_weights.fetch(f"{server.url}/x.caffemodel", path, SHA1)
    assert not path.exists()
    server.cut_after = None
    fetch_weights.fetch(f"{server.url}/x.caffemodel", path, SHA1)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1500000-"]


def test_server_without_ranges_sends_all_of_it_again(server, path):
    path.parent.mkdir()
    path.with_name(path.name + ".part").write_bytes(CONTENT[:1000])
    server.ranges = False
    fetch_weights.fetch(f"{server.url}/x.caffemodel", path, SHA1)
    assert path.read_bytes() == CONTENT


def test_part_that_is_whole_already_is_taken(server, path):
    path.parent.mkdir()
    path.with_name(path.name + ".part").write_bytes(CONTENT)
    fetch_weights.fetch(f"{server.url}/x.caffemodel", path, SHA1)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"!", CONTENT[:-1], b""])
def test_wrong_sha1_is_refused_and_removed(content, server, path):
    server.content = content
    with pytest.raises(InputError, match="SHA1"):
        fetch_weights.fetch(f"{server.url}/x.caffemodel", path, SHA1)
    assert list(path.parent.iterdir()) == []


def test_stale_part_longer_than_the_file_is_removed(server, path):
    path.parent.mkdir()
    path.with_name(path.name + ".part").write_bytes(CONTENT + b"more")
    with pytest.raises(InputError, match="SHA1"):
        fetch_weights.fetch(f"{server.url}/x.caffemodel", path, SHA1)
    assert list(path.parent.iterdir()) == []


def test_existing_file_with_another_sha1_is_left_alone(server, path):
    path.parent.mkdir()
    path.write_bytes(b"mine")
    with pytest.raises(InputError, match="remove it"):
        fetch_weights.fetch(f"{server.url}/x.caffemodel", path, SHA1)
    assert path.read_bytes() == b"mine"
    assert server.asked == []


def test_missing_page_and_dead_server_are_input_errors(server, path):
    with pytest.raises(InputError, match="404"):
        fetch_weights.fetch(f"{server.url}/nothing", path, SHA1)
    with pytest.raises(InputError, match="refused"):
        fetch_weights.fetch("http://127.0.0.1:9/x.caffemodel", path, SHA1)


def test_too_small_disk_is_seen_before_the_download(server, path, monkeypatch):
    small = type(fetch_weights.shutil.disk_usage("/"))(10, 10, 1000)
    monkeypatch.setattr(fetch_weights.shutil, "disk_usage", lambda folder: small)
    with pytest.raises(InputError, match="free some space"):
        fetch_weights.fetch(f"{server.url}/x.caffemodel", path, SHA1)


def test_command_line_refuses_what_is_not_the_published_file(server, tmp_path):
    script = definitions.ROOT / "scripts" / "fetch_weights.py"
    command = [sys.executable, str(script), "googlenet", "--from", server.url]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {server.url}/bvlc_googlenet.caffemodel: SHA1 {SHA1}")
    assert list((tmp_path / "weights").iterdir()) == []


def test_command_line_knows_two_nets(tmp_path):
    script = definitions.ROOT / "scripts" / "fetch_weights.py"
    done = subprocess.run([sys.executable, str(script), "vgg"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "alexnet, googlenet" in done.stderr
