"""Tables as spreadsheets leave them, folders that appear only when they are whole, file systems without locks."""

import csv
import subprocess
import sys

import pytest

from data_prep.core.errors import InputError
from data_prep.core.files import atomic_folder, read_table
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
    message = "another process is making it"
    with atomic_folder(tmp_path / "set"), pytest.raises(InputError, match=message), atomic_folder(tmp_path / "set"):
        pass


def test_an_unwritable_place_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"), atomic_folder(tmp_path / "file" / "set"):
        pass
