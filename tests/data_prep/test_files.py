"""Tables as spreadsheets leave them, folders that appear only when they are whole, file systems without locks."""

import csv
import os
import subprocess
import sys
import tempfile

import pytest

from data_prep.core import files
from data_prep.core.errors import InputError
from data_prep.core.files import atomic_folder
from data_prep.core.tables import read_table
from tests.helpers import databases, no_locks

ROWS = [
    {"patient_id": "22678622", "image": "a b/1.png", "x": "12.5", "y": "7", "note": "CC, left"},
    {"patient_id": "007", "image": "2.png", "x": "-3.25", "y": "0", "note": ""},
]


@pytest.mark.parametrize(("delimiter", "decimal"), [(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ",")])
@pytest.mark.parametrize("headers", [str, str.upper, lambda name: f" {name.replace('_', ' ').title()} "])
def test_a_table_means_the_same_however_a_spreadsheet_wrote_it(tmp_path, delimiter, decimal, headers):
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\r\n")
        writer.writerow(headers(name) for name in ROWS[0])
        writer.writerow(["22678622.0", " a b/1.png ", f"12{decimal}5", f"7{decimal}00", "CC, left"])
        writer.writerow(["007", "2.png", f"-3{decimal}25", "0", ""])
    assert read_table(tmp_path / "a.csv") == ROWS


def test_a_thousands_comma_is_no_decimal_comma(tmp_path):
    (tmp_path / "a.csv").write_text('x,y\n"1,234",1\n')
    assert read_table(tmp_path / "a.csv") == [{"x": "1,234", "y": "1"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,side\nä,LEFT\n".encode("cp1252"), "save it as CSV UTF-8"),
        ("image,side\na,LEFT\n".encode("utf-16"), "save it as CSV UTF-8"),
        (b"image,side\n", "no rows in it"),
        (b'image,side\n"a,LEFT\n', "not a CSV file"),
    ],
)
def test_what_is_no_table_is_one_clear_line(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_table(tmp_path / "a.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def test_a_database_is_built_without_locks_with_one_warning(tmp_path, error):
    table = databases.write_films(tmp_path / "films", {f"P{i:02}": databases.texture(i) for i in range(20)})
    command = [sys.executable, *databases.arguments(table, tmp_path / "lmdb", "--no-aug", "--workers", "1")]
    environment = no_locks.environment(tmp_path, error)
    done = subprocess.run(command, cwd=databases.ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: ") == 1
    assert f"{tmp_path / 'lmdb'}.unfinished: this file system has no locks" in done.stderr
    assert (tmp_path / "lmdb" / "manifest.json").is_file()


def test_the_folder_appears_when_the_block_ends(tmp_path):
    with atomic_folder(tmp_path / "set") as working:
        (working / "file").write_text("x")
        assert not (tmp_path / "set").exists()
    assert (tmp_path / "set" / "file").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="boom"), atomic_folder(tmp_path / "set") as working:
        (working / "file").write_text("x")
        raise ValueError("boom")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_cleared(tmp_path):
    code = (
        "import os, sys, pathlib; from data_prep.core.files import atomic_folder\n"
        "with atomic_folder(pathlib.Path(sys.argv[1])) as working:\n"
        "    (working / 'old').write_text('x'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "set")], check=False).returncode == -9
    assert (tmp_path / "set.unfinished" / "old").exists()
    with atomic_folder(tmp_path / "set"):
        pass
    assert not list((tmp_path / "set").iterdir())


def test_an_existing_folder_is_never_touched(tmp_path):
    (tmp_path / "set").mkdir()
    with pytest.raises(InputError, match="exists already"), atomic_folder(tmp_path / "set"):
        pass


def test_two_processes_cannot_make_one_folder(tmp_path):
    message = "another process is writing there"
    with atomic_folder(tmp_path / "set"), pytest.raises(InputError, match=message), atomic_folder(tmp_path / "set"):
        pass


def test_an_unwritable_place_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"), atomic_folder(tmp_path / "file" / "set"):
        pass


def a_users_folder(path):
    path.mkdir()
    (path / "thesis.tex").write_text("years")


def a_link_to_a_users_folder(path):
    a_users_folder(path.parent / "mine")
    path.symlink_to(path.parent / "mine")


@pytest.mark.parametrize("make", [a_users_folder, a_link_to_a_users_folder])
@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("set.unfinished", ["data_prep/build_lmdb.py", "--source", "boxes", "--root", "{}/films/masses.csv"]),
        ("set.unfinished", ["data_prep/synthetic.py", "--patients", "1"]),
        ("set/unfinished", ["data_prep/fetch_cbis.py"]),
        ("set/data/demo", ["scripts/demo.py"]),
        ("set/runs/demo", ["scripts/demo.py"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_a_user_made_is_never_emptied(tmp_path, make, name, command):
    databases.write_films(tmp_path / "films", {f"P{index:02}": databases.texture(index) for index in range(14)})
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    make(tmp_path / name)
    out = "--work" if "demo" in name else "--out"
    result = databases.run(*[word.format(tmp_path) for word in command], out, tmp_path / "set")
    assert (tmp_path / name / "thesis.tex").read_text() == "years"
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert str(tmp_path / name) in result.stderr


def test_inputs_are_looked_at_before_anything_is_emptied(tmp_path):
    (tmp_path / "set.unfinished").mkdir()
    for name in (files.MARK, "half"):
        (tmp_path / "set.unfinished" / name).touch()
    result = databases.run(*databases.arguments(tmp_path / "none.csv", tmp_path / "set"))
    assert "none.csv" in result.stderr
    assert (tmp_path / "set.unfinished" / "half").exists()


def leave(folder, code):
    """Let a process do this and be killed; what it left is then made older than a minute."""
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(folder)}, check=False)
    assert done.returncode == -9
    for path in folder.iterdir():
        os.utime(path, (0, 0))


def test_a_killed_writers_working_file_goes_with_the_next_and_a_living_ones_stays(tmp_path):
    code = "import os; from pathlib import Path; from data_prep.core.files import atomic_write\n"
    code += f"with atomic_write(Path({str(tmp_path / 'a.json')!r})) as path:\n"
    code += "    path.write_text('half'); os.kill(os.getpid(), 9)"
    leave(tmp_path, code)
    assert len(list(tmp_path.iterdir())) == 1
    with files.atomic_write(tmp_path / "a.json") as living:
        living.write_text("first")
        os.utime(living, (0, 0))
        with files.atomic_write(tmp_path / "a.json") as path:
            path.write_text("second")
        assert living.read_text() == "first"
        assert sorted(tmp_path.iterdir()) == sorted([living, tmp_path / "a.json"])


def test_a_killed_processs_scratch_folder_goes_with_the_next_and_a_living_ones_stays(tmp_path, monkeypatch):
    code = "import os; from data_prep.core.files import scratch_folder\n"
    code += "with scratch_folder() as folder:\n    (folder / 'film').write_text('x'); os.kill(os.getpid(), 9)"
    leave(tmp_path, code)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files._remove_old_scratch.cache_clear()
    with files.scratch_folder() as living:
        assert list(tmp_path.iterdir()) == [living]
        os.utime(living, (0, 0))
        files._remove_old_scratch.cache_clear()
        with files.scratch_folder():
            assert living.exists()
