"""Fetching weights from web servers: this one, on the machine's own address."""

import hashlib
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnx
import pytest

from data_prep.core import download, files
from data_prep.core.errors import InputError, run
from scripts import fetch_weights
from scripts.nets import caffemodel, imagenet_weights
from scripts.nets.imagenet_weights import File
from tests.helpers import random_nets
from tests.helpers.onnx_files import arrays_of, graph
from tests.helpers.servers import serving

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several chunks
SHA1 = hashlib.sha1(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content` as any .caffemodel and `onnx` as any .onnx; `asked` holds the Range of each request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges = True
        self.cuts = []  # bytes after which the next answers break off
        self.content, self.onnx = CONTENT, None
        self.asked = []
        self.endless = False
        self.go = threading.Event()  # answers wait for it
        self.go.set()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append(self.headers["Range"])
        content = server.onnx if self.path.endswith(".onnx") else server.content
        if content is None:
            self.send_error(404)
            return
        server.go.wait()
        if server.endless:
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(content)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1]) if self.headers["Range"] else 0
        if not server.ranges:
            start = 0
        if start and start >= len(content):
            self.send_error(416)
            return
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0) if server.cuts else None])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    yield from serving(Server())


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "weights"


@pytest.fixture(autouse=True)
def published(server, monkeypatch):
    """The published files are the server's."""
    monkeypatch.setattr(download, "RETRY", 0)
    bvlc = {File("bvlc_googlenet.caffemodel", "sha1", SHA1): (server.url,)}
    monkeypatch.setitem(imagenet_weights.FILES, "googlenet", bvlc | {File("zoo/g.onnx", "sha256", "0"): (server.url,)})


def fetch(folder: Path) -> str:
    return imagenet_weights.fetch("googlenet", folder)


def part(folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / "bvlc_googlenet.caffemodel.part").write_bytes(content)


def there(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


WHOLE = {"bvlc_googlenet.caffemodel": CONTENT}


def test_whole_file_is_fetched_and_only_checked_the_next_time(server, folder):
    for _ in range(2):
        assert fetch(folder) == "SHA1 as published"
        assert there(folder) == WHOLE
    assert server.asked == [None]


def test_cut_connection_goes_on_where_it_stopped_by_itself_and_when_typed_again(server, folder):
    server.cuts = [20 * download.CHUNK, 10 * download.CHUNK, download.CHUNK + 1]
    with pytest.raises(InputError, match="type this again to go on"):
        fetch(folder)
    assert list(there(folder)) == ["bvlc_googlenet.caffemodel.part"]
    assert fetch(folder) == "SHA1 as published"
    assert there(folder) == WHOLE
    ranges = [f"bytes={chunks * download.CHUNK}-" for chunks in (20, 30, 31)]
    assert [asked for asked in server.asked if asked] == ranges


def test_server_without_ranges_sends_all_of_it_again(server, folder):
    part(folder, CONTENT[:1000])
    server.ranges = False
    fetch(folder)
    assert there(folder) == WHOLE


def test_part_that_is_whole_already_is_taken(server, folder):
    part(folder, CONTENT)
    fetch(folder)
    assert there(folder) == WHOLE


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"!", CONTENT[:-1], b""])
def test_wrong_sha1_is_refused_and_removed(content, server, folder):
    server.content = content
    with pytest.raises(InputError, match="not the published file, removed"):
        fetch(folder)
    assert there(folder) == {}


def test_stale_part_longer_than_the_file_is_removed(server, folder):
    part(folder, CONTENT + b"more")
    with pytest.raises(InputError, match="not the published file, removed"):
        fetch(folder)
    assert there(folder) == {}


def test_an_answer_without_an_end_is_ended_where_it_is_longer_than_any_of_the_files(server, folder, monkeypatch):
    server.endless = True
    monkeypatch.setattr(imagenet_weights, "MOST_BYTES", 2 * len(CONTENT))
    with pytest.raises(InputError, match="sends more than 10,240,000 bytes, so not what is wanted; removed"):
        fetch(folder)
    assert there(folder) == {}


def test_of_two_begun_together_one_fetches_and_the_other_leaves_its_download_alone(server, folder):
    server.go.clear()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(fetch, folder)
        while not server.asked:
            time.sleep(0.01)
        with pytest.raises(InputError, match="another process is writing there; wait for it to end"):
            fetch(folder)
        server.go.set()
        assert first.result() == "SHA1 as published"
    assert there(folder) == WHOLE
    assert server.asked == [None]


@pytest.mark.parametrize("content", [b"mine", b""])
def test_existing_file_of_another_kind_is_left_alone(server, folder, content):
    folder.mkdir()
    (folder / "bvlc_googlenet.caffemodel").write_bytes(content)
    with pytest.raises(InputError, match=r"bvlc_googlenet\.caffemodel: "):
        fetch(folder)
    assert there(folder) == {"bvlc_googlenet.caffemodel": content}
    assert server.asked == []


def test_too_small_disk_is_seen_before_the_download(server, folder, monkeypatch):
    small = type(files.shutil.disk_usage("/"))(10, 10, 1000)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: small)
    with pytest.raises(InputError, match="free some space"):
        fetch(folder)


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> tuple[bytes, dict]:
    """An ONNX file of GoogLeNet with 1,000 classes, and its arrays by BVLC's names."""
    folder = tmp_path_factory.mktemp("onnx")
    weights = caffemodel.read_weights(random_nets.snapshot(folder / "a.caffemodel", "googlenet"))
    model, stored = graph("googlenet", weights, 1000)
    onnx.save(model, folder / "g.onnx")
    return (folder / "g.onnx").read_bytes(), {name.removesuffix("_mass"): a for name, a in stored.items() if a}


def assert_holds(path: Path, arrays: dict) -> None:
    layers = caffemodel.read_weights(path).layer
    assert [layer.name for layer in layers] == list(arrays)
    assert all(np.array_equal(arrays_of(layer)[0], arrays[layer.name][0]) for layer in layers)


def test_where_bvlcs_server_has_nothing_the_model_zoos_file_is_turned_back(
    server, folder, converted, monkeypatch, capsys
):
    content, arrays = converted
    zoo = File("zoo/g.onnx", "sha256", hashlib.sha256(content).hexdigest())
    bvlc = next(iter(imagenet_weights.FILES["googlenet"]))
    servers = {bvlc: ("http://127.0.0.1:9",), zoo: (f"{server.url}", "http://127.0.0.1:9")}
    monkeypatch.setitem(imagenet_weights.FILES, "googlenet", servers)
    server.onnx = content
    for _ in range(2):
        assert fetch(folder) == f"converted from ONNX of SHA-256 {zoo.digest}, the Model Zoo's"
    assert list(there(folder)) == ["bvlc_googlenet.caffemodel"]
    assert_holds(folder / "bvlc_googlenet.caffemodel", arrays)
    assert len(server.asked) == 1
    said = "http://127.0.0.1:9/bvlc_googlenet.caffemodel: no answer, or cut off (ConnectionError); trying "
    assert said in capsys.readouterr().err


def test_where_no_server_has_it_the_error_is_one_line(server, folder):
    server.content = None
    with pytest.raises(InputError, match=r"404 Not Found; nor from elsewhere \(.*g.onnx: 404.*give --file"):
        fetch(folder)


def typed(monkeypatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["fetch_weights.py", *map(str, words)])
    return run(fetch_weights.main)


def test_a_file_that_is_there_already_is_taken_whichever_kind_it_is(folder, converted, monkeypatch, capsys):
    content, arrays = converted
    folder.mkdir()
    for name, file in (("mine.caffemodel", CONTENT), ("mine.ONNX", content), ("odd.caffemodel", b"odd")):
        (folder / name).write_bytes(file)
    assert typed(monkeypatch, "--file", folder / "mine.onnx", "--out", folder / "out") == 2
    assert "say which net's it is" in capsys.readouterr().err
    assert typed(monkeypatch, "googlenet", "--file", folder / "odd.caffemodel", "--out", folder / "out") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert typed(monkeypatch, "googlenet", "--file", folder / "mine.caffemodel", "--out", folder / "out") == 0
    assert there(folder / "out") == WHOLE
    assert "SHA1 as published" in capsys.readouterr().out
    assert typed(monkeypatch, "googlenet", "--file", folder / "mine.ONNX", "--out", folder / "new") == 0
    assert "which is not known" in capsys.readouterr().out
    assert_holds(folder / "new" / "bvlc_googlenet.caffemodel", arrays)


def test_command_line_takes_a_folder_on_the_web_and_knows_two_nets(server, folder, monkeypatch, capsys):
    assert typed(monkeypatch, "googlenet", "--from", f"{server.url}/mirror/", "--out", folder) == 0
    assert capsys.readouterr().out.startswith(f"{folder}/bvlc_googlenet.caffemodel: SHA1 as published; next: ")
    assert typed(monkeypatch, "alexnet", "--from", server.url, "--out", folder) == 2
    assert f"error: {server.url}/bvlc_alexnet.caffemodel: SHA1 {SHA1}, not 9116" in capsys.readouterr().err
    assert typed(monkeypatch, "vgg") == 2
    assert "alexnet, googlenet" in capsys.readouterr().err
