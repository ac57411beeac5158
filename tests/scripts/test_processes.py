"""Processes of our own end with the one that began them, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from data_prep.core.process_pool import worker_pool
from tests.helpers.databases import ROOT

FRESH = "import time\nfrom data_prep.core.process_pool import run_in_fresh_process as run\nrun(time.sleep, 600)"
STEP = "from scripts.experiments.command_runner import python\npython('-c', 'import time; time.sleep(600)')"
CODEC = "from data_prep.formats import ljpeg\nljpeg.codec = lambda: '/bin/sleep'\nljpeg._run_codec(['600'], '.')"
LOGGED = STEP[:-1] + ", log=__import__('pathlib').Path('log'))"


@pytest.mark.parametrize("code", [FRESH, STEP, LOGGED, CODEC], ids=["fresh process", "step", "logged step", "codec"])
def test_no_process_outlives_the_one_that_began_it(tmp_path, code):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, start_new_session=True)
    deadline = time.monotonic() + 60
    while not any({"-c", "600"} & {*child.cmdline()} for child in psutil.Process(process.pid).children(recursive=True)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)  # so that the child is under way
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(of_session(process.pid)):
        assert time.monotonic() < deadline, [child.cmdline() for child in of_session(process.pid)]
        time.sleep(0.05)


def test_no_process_is_forked_beside_threads():
    """Python warns of that, where it is new enough."""
    with worker_pool(2) as pool:
        server = psutil.Process(pool.submit(os.getppid).result())
        assert server.pid != os.getpid() and server.num_threads() == 1
    sources = [path for room in ("data_prep", "scripts") for path in (ROOT / room).rglob("*.py")]
    assert sources and not [path for path in sources if "preexec_fn=" in path.read_text()]


def of_session(session: int) -> list[psutil.Process]:
    """The processes of a session that are no zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of, *_ = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(of) == session and state != "Z":
            found.append(psutil.Process(int(path.parent.name)))
    return found
