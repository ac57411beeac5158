"""What is published tells nobody's name: no home folder, no film's name, no patient of a user's own films."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.core import provenance
from data_prep.core.errors import run
from data_prep.core.files import pasted
from data_prep.database import manifest
from scripts import report
from scripts.nets import caffemodel
from tests.helpers import databases, finished_runs
from tests.scripts.test_run_damage import start

PLANTED = re.compile(rb"LEFT_CC|LEFT_MLO|\b[TVE]\d{1,2}\b|anna_meier")


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A folder with a finished run on a user's own films, in a home folder."""
    folder = tmp_path_factory.mktemp("home") / "anna_meier"
    folder.mkdir()
    finished_runs.make(folder, "boxes", {"first": 0})
    path = folder / "runs" / "first" / "run.json"
    path.write_text(path.read_text().replace('"data/lmdb"', f'"{folder / "data" / "lmdb"}"'))
    return folder


def published(folder: Path, monkeypatch, *options: str) -> dict[str, bytes]:
    """Write a page of the run; return the files by name, their pictures aside."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["scripts/report.py", "runs/first", "--out", "page", *options])
    assert run(report.main) == 0
    paths = [path for path in (folder / "page").rglob("*") if path.is_file()]
    return {path.name: re.sub(rb"base64,[^\"')]*", b"", path.read_bytes()) for path in paths if path.suffix != ".png"}


def test_a_page_of_ones_own_films_names_nobody(own, monkeypatch):
    files = published(own, monkeypatch)
    assert {"report.html", "README.md", "predictions.csv", "metrics.json", "run.json", "log.csv"} <= files.keys()
    assert {name: PLANTED.findall(content) for name, content in files.items() if PLANTED.search(content)} == {}
    assert b"mass 1" in files["report.html"] and b"patient 1," in files["predictions.csv"]


def test_names_are_shown_where_that_is_asked_for(own, monkeypatch):
    files = published(own, monkeypatch, "--no-anonymous")
    assert b"E00.LEFT_CC.1" in files["predictions.csv"] and b"E00" in files["report.html"]
    assert b"anna_meier" not in b"".join(files.values())


def test_a_database_built_by_absolute_paths_tells_no_folder_above_its_set(tmp_path):
    films = {f"P{index:02}": databases.texture(index) for index in range(14)}
    csv_path = databases.write_films(tmp_path / "anna_meier" / "set", films)
    (csv_path.parent / "P00.png").write_bytes(b"no picture")
    data = databases.build(csv_path, tmp_path / "lmdb", "--no-aug")
    for name in (manifest.JSON, manifest.CSV, "split.csv"):
        assert "anna_meier" not in (data / name).read_text()
    rows = manifest.read_csv(data)
    assert rows["P01.P01.1"]["film"] == "P01.png"
    assert rows["P00.P00.1"]["reason"].startswith("unreadable film: P00.png: ")


@pytest.mark.slow
def test_a_snapshot_tells_no_folder_above_its_database_and_is_resumed(tmp_path):
    """Caffe writes the paths of the net's data layers into its weights."""
    data = databases.write_counts(tmp_path / "anna_meier" / "lmdb", train=4, val=2)
    (tmp_path / "here").mkdir()
    kill = "import os; from scripts.training import run_folder; add = run_folder.add_row\n"
    kill += (
        "run_folder.add_row = lambda folder, row: add(folder, row) or row['iteration'] < 2 or os.kill(os.getpid(), 9)\n"
    )
    options = ("--net", "baseline", "--batch", "2", "--iterations", "3", "--data", data)
    start(tmp_path / "here", *map(str, options), code=kill)
    done = start(tmp_path / "here", "--net", "baseline", "--resume")
    assert "going on after iteration 1 of 3" in done.stdout and done.returncode == 0, done.stderr
    last = tmp_path / "here" / "runs" / "baseline" / "snapshot_iter_3.caffemodel"
    assert b"anna_meier" not in last.read_bytes()
    assert caffemodel.check_sum(last) and caffemodel.read_snapshot(last).layer


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--data", "{here}/data/lmdb"], "--data data/lmdb"),
        (["--data={here}/data/lmdb"], "--data=data/lmdb"),
        (["--root", "/home/anna/films/set.csv"], "--root set.csv"),
        (["../anna/x"], "x"),
        (["--from", "http://a.b/c"], "--from http://a.b/c"),
        (["--gpu", "0,1"], "--gpu 0,1"),
    ],
)
def test_a_command_is_told_without_the_folders_above(tmp_path, monkeypatch, typed, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["scripts/eval.py", *(word.format(here=tmp_path) for word in typed)])
    assert provenance.command() == f"python scripts/eval.py {told}"


@pytest.mark.parametrize("name", [b"a b", b"-rf", b"it's", b"$HOME", b"\xff\xfe", b"new\nline", "\u00e9".encode()])
def test_a_path_that_is_printed_can_be_pasted(tmp_path, name):
    path = Path(name.decode(errors="surrogateescape"))
    (tmp_path / path).mkdir()
    text = pasted(path)
    text.encode()
    subprocess.run(["bash", "-c", f"rmdir {text}"], cwd=tmp_path, check=True)
    assert not list(tmp_path.iterdir())
