"""A folder that appears under its name only when it is whole."""

import subprocess
import sys

import pytest

from data_prep.core.errors import InputError
from data_prep.core.files import atomic_folder


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
