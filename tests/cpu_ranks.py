"""The processes of scripts/several_gpus.py on the CPU: its pipes do the work of NCCL, and are as deaf.

NCCL needs a GPU for each process; all else is what runs on GPUs.
"""

import os
import signal
import sys
import threading

import numpy as np

from scripts import nets

caffe = nets.import_caffe()
# As a user types train.py, --gpu 0,1 standing for two processes on the CPU.
TRAIN = (
    "import sys; from scripts import several_gpus, train; from tests import cpu_ranks; "
    "several_gpus.usable = cpu_ranks.usable; "
    "several_gpus.connect = cpu_ranks.{connect}; sys.exit(train.run(train.main))"
)


def command(connect: str = "connect") -> list[str]:
    return [sys.executable, "-c", TRAIN.format(connect=connect)]


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


def first_dies(solver, links):
    _dies(0, solver)


def second_dies(solver, links):
    _dies(1, solver)


def _dies(rank, solver):
    """In the second iteration one process is killed, and the other waits for it as NCCL does: for ever."""

    def gradients_ready():
        if solver.iter == 1 and caffe.solver_rank() == rank:
            os.kill(os.getpid(), signal.SIGKILL)
        if solver.iter == 1:
            print("waiting for the other process", flush=True)
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            threading.Event().wait()

    solver.add_callback(lambda: None, gradients_ready)


def nobody_dies(solver, links):
    _dies(None, solver)


def abort(solver, links):
    """As Caffe does where a CHECK fails."""
    if caffe.solver_rank() == 1:
        os.abort()
    links[0].recv()


def goes_wrong(solver, links):
    if caffe.solver_rank() == 1:
        raise ValueError("of the second process")
    links[0].recv()
