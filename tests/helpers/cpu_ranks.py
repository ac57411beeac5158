"""The processes of scripts/training/multi_gpu.py on the CPU: its pipes do the work of NCCL, and are as deaf.

NCCL needs a GPU for each process; all else is what runs on GPUs.
"""

import os
import signal
import sys
import threading
import time

import numpy as np

from scripts.nets import definitions
from scripts.training import run_folder

caffe = definitions.import_caffe()
_prototxts = run_folder.prototxts
# As a user types train.py, --gpu 0,1 standing for two processes on the CPU.
TRAIN = (
    "import sys; from scripts import train; from scripts.training import multi_gpu, run_folder; "
    "from tests.helpers import cpu_ranks; multi_gpu.usable = cpu_ranks.usable; "
    "run_folder.prototxts = cpu_ranks.prototxts; "
    "multi_gpu.connect = cpu_ranks.{connect}; sys.exit(train.run(train.main))"
)


def command(connect: str = "connect") -> list[str]:
    return [sys.executable, "-c", TRAIN.format(connect=connect)]


def prototxts(folder, *settings):
    """The nets of the run's folder, whatever a test has put there; those that are written for a new one."""
    files = {run_folder.TRAIN_VAL: "NetParameter", run_folder.SOLVER: "SolverParameter"}
    if not (folder / run_folder.SOLVER).exists():
        return _prototxts(folder, *settings)
    return {name: definitions.read_prototxt(folder / name, message) for name, message in files.items()}


def usable(typed):
    return [None for _ in (typed or "0").split(",")]


def connect(solver, links):
    """The first process's weights for all, then the mean gradient of every iteration, as NCCL has it."""
    blobs = [blob for layer in solver.net.params.values() for blob in layer]
    _share([blob.data for blob in blobs], links, lambda parts: parts[0])
    diffs = [blob.diff for blob in blobs]
    solver.add_callback(
        lambda: None, lambda: _share(diffs, links, lambda parts: np.sum(parts, axis=0) / caffe.solver_count())
    )


def _share(arrays, links, combine):
    if caffe.solver_rank() > 0:
        links[0].send([array.copy() for array in arrays])
        result = links[0].recv()
    else:
        result = [combine(parts) for parts in zip(arrays, *(link.recv() for link in links), strict=True)]
        for link in links:
            link.send(result)
    for array, value in zip(arrays, result, strict=True):
        array[...] = value


def sigterm_to_parent(solver, links):
    connect(solver, links)
    _stop(solver, lambda: os.kill(os.getppid(), signal.SIGTERM))


def sigint_to_all(solver, links):
    connect(solver, links)
    _stop(solver, lambda: os.killpg(os.getpgrp(), signal.SIGINT))


def _stop(solver, send):
    """Have a stop signal sent in the third iteration, which does not end before the first process has got it."""

    def gradients_ready():
        if solver.iter == 2 and caffe.solver_rank() == 0:
            reading, writing = os.pipe()
            os.set_blocking(writing, False)
            signal.set_wakeup_fd(writing)
            send()
            os.read(reading, 1)

    solver.add_callback(lambda: None, gradients_ready)


def first_dies(solver, links):
    _wait(solver, links, dying=0)


def second_dies(solver, links):
    _wait(solver, links, dying=1)


def nobody_dies(solver, links):
    _wait(solver, links, dying=None)


def _wait(solver, links, dying):
    """In the second iteration each waits for the other, as NCCL does: for ever. Then one of them is killed."""

    def gradients_ready():
        if solver.iter == 1 and caffe.solver_rank() == dying:
            links[0].recv()
            os.kill(os.getpid(), signal.SIGKILL)
        if solver.iter == 1:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            print("waiting", flush=True)
            links[0].send(None)
            threading.Event().wait()

    solver.add_callback(lambda: None, gradients_ready)


def abort(solver, links):
    """As Caffe does where a CHECK fails; the first process is the first to see it."""
    if caffe.solver_rank() == 1:
        links[0].close()
        time.sleep(1)
        os.abort()
    links[0].recv()


def goes_wrong(solver, links):
    if caffe.solver_rank() == 1:
        raise ValueError("of the second process")
    links[0].recv()
