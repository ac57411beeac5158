"""The speed benchmark's engines, each in a process of its own that computes when it is asked and sleeps otherwise."""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from data_prep.core.errors import InputError

STOCK = Path(sys.prefix) / "stock"
"""The folder of stock Caffe's package, beside our Caffe's own (setup.sh --stock)."""

ENGINES = {
    "ours": "our Caffe",
    "stock": "stock Caffe",
    "eager": "PyTorch, eager",
    "compiled": "PyTorch, torch.compile",
}
"""What the tables call each engine."""

REST = 0.2  # seconds before a timing: OpenMP's and OpenBLAS's threads spin for a while after their work


class Worker:
    """The driver's end of an engine's process."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        path = [str(STOCK)] if engine == "stock" else []
        path += filter(None, [os.environ.get("PYTHONPATH")])
        command = [sys.executable, "-m", "scripts.benchmarks.engine_process", engine]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
        # In a session of its own, an interrupt from the keyboard reaches only the driver, which ends it.
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )

    def ask(self, method: str, *arguments):
        """Return what a method of the engine returns; InputError when its process has ended."""
        try:
            pickle.dump((method, arguments), self.process.stdin)
            self.process.stdin.flush()
            return pickle.load(self.process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            status = self.process.wait()
            raise InputError(
                f"{self.engine}: its process ended in {method!r} with status {status}; -9 is a lack of memory"
            ) from None

    def timed(self, method: str, *arguments):
        """The same, after a rest in which all threads fall asleep."""
        time.sleep(REST)
        return self.ask(method, *arguments)

    def memory(self) -> dict[str, int]:
        """Return the bytes that the process holds now, and the most that it has held (its own, not its parent's)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return {name: 1024 * int(fields[key].split()[0]) for name, key in (("now", "VmRSS"), ("peak", "VmHWM"))}


def check_engines() -> None:
    """Raise InputError where PyTorch or stock Caffe is not installed."""
    if find_spec("torch") is None:
        raise InputError("PyTorch is not installed; type: .venv/bin/pip install -r requirements-benchmark.txt")
    check_stock()


def check_stock() -> None:
    """Raise InputError where stock Caffe is not installed."""
    if not (STOCK / "caffe").is_dir():
        raise InputError("stock Caffe, to compare with, is not built; type: scripts/install/setup.sh --stock")


@contextmanager
def workers(*engines: str) -> Iterator[dict[str, Worker]]:
    """Yield a worker for each of these engines; end their processes."""
    started = {engine: Worker(engine) for engine in engines}
    try:
        yield started
    finally:
        for worker in started.values():
            worker.process.kill()
            worker.process.communicate()


def serve(engine: str) -> None:
    """Compute what standard input asks for until it ends; whatever else is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if engine in ("ours", "stock"):
        from scripts.benchmarks.caffe_engine import Engine

        made = Engine()
    else:
        from scripts.benchmarks.torch_engine import Engine

        made = Engine(compiled=engine == "compiled")
    while True:
        try:
            method, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(getattr(made, method)(*arguments), answers)
        answers.flush()


if __name__ == "__main__":
    serve(sys.argv[1])
