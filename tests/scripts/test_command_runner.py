"""Running scripts in turn: their output is kept, their failure stops, and a stop signal lets them save."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.core.errors import InputError
from scripts.experiments import command_runner

ROOT = Path(__file__).resolve().parents[2]
WAITS = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"saved\\n"), sys.exit(143)))
signal.signal(signal.SIGINT, lambda *_: (os.write(1, b"saved\\n"), sys.exit(130)))
os.write(1, b"begun\\n")  # not print(): the signal may come while that is still at it
time.sleep(60)
"""
DRIVER = """
import sys
from pathlib import Path
from data_prep.core.errors import run
from scripts.experiments.command_runner import python
sys.exit(run(lambda: python("waits.py", log=Path("logs/it.log"))))
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_output_is_shown_and_kept_with_the_command(capfdbinary):
    Path("says.py").write_text("import sys; print('out', sys.argv[1]); print('err', file=sys.stderr)")
    command_runner.python("says.py", "a b", log=Path("logs/it.log"))
    command_runner.python("says.py", 2, log=Path("logs/it.log"))
    kept = Path("logs/it.log").read_text()
    assert "$ python says.py 'a b'\n" in kept
    assert "out a b\n" in kept
    assert kept.index("out a b") < kept.index("$ python says.py 2") < kept.index("out 2")
    assert kept.count("err\n") == 2
    assert b"out a b\n" in capfdbinary.readouterr().out


@pytest.mark.parametrize("log", [None, Path("it.log")])
def test_a_failure_is_an_error_that_names_the_script(log):
    Path("fails.py").write_text("raise SystemExit(2)")
    with pytest.raises(InputError, match=r"fails.py: failed; see its output above"):
        command_runner.python("fails.py", log=log)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_waits_for_the_script_to_save(number):
    Path("waits.py").write_text(WAITS)
    driver = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + DRIVER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    while "begun" not in driver.stdout.readline():
        assert driver.poll() is None
    if number == signal.SIGTERM:
        driver.send_signal(number)  # to the driver alone, as a scheduler does
    else:
        os.killpg(driver.pid, number)  # to both, as a terminal's Ctrl-C
    out, err = driver.communicate(timeout=60)
    assert driver.returncode == 130, err
    assert "saved" in out
    assert Path("logs/it.log").read_text().endswith("saved\n")
