"""The pool of worker processes: what its server may be, and what comes back of an error."""

import os
import subprocess
import sys
import traceback
from pathlib import Path

import psutil
import pytest

from data_prep.core.process_pool import worker_pool

ROOT = Path(__file__).resolve().parents[2]


def fail(reason: str) -> None:
    raise ValueError(reason)


def test_the_server_that_forks_has_one_thread():
    before = os.environ.copy()
    with worker_pool(2) as pool:
        server = psutil.Process(pool.submit(os.getppid).result())
        assert server.pid != os.getpid() and server.num_threads() == 1
    assert os.environ == before


def test_python_warns_of_no_fork_beside_threads(tmp_path):
    command = [sys.executable, "data_prep/synthetic.py", "--out", tmp_path / "films", "--patients", "2"]
    loud = os.environ | {"PYTHONWARNINGS": "error:This process:DeprecationWarning"}
    made = subprocess.run(command, cwd=ROOT, env=loud, capture_output=True, text=True)
    assert made.returncode == 0 and "fork" not in made.stderr, made.stderr


def test_an_error_tells_where_in_the_worker_it_arose():
    with worker_pool(1) as pool, pytest.raises(ValueError, match="reason") as caught:
        pool.submit(fail, "the reason").result()
    assert "in fail" in "".join(traceback.format_exception(caught.value))
