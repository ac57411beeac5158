"""Training on several GPUs of one machine, as pycaffe does it: one process per GPU, gradients averaged by NCCL.

The first process does what a single GPU's would: it evaluates, logs and saves. The others take an iteration when it
tells them to, and tell it their loss. Caffe's data layer hands each of n processes every n-th record, so that together
they take the same records that one would.

A process that waits in NCCL for one that is gone waits for ever, deaf to Python's signals. So a parent, which computes
nothing, starts them all, hands stop signals to the first alone, and ends the others as soon as one has ended.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import connection, get_context, parent_process, resource_tracker

from tqdm import tqdm

from data_prep.core import errors
from data_prep.core.errors import InputError
from data_prep.core.process_pool import die_with_parent
from scripts.nets import definitions, device
from scripts.training import loop
from scripts.training.settings import Settings


def usable(typed: str | None) -> list[int | None]:
    """Return the ids of the GPUs that were typed (device.usable_gpus); InputError where Caffe cannot join several."""
    gpus = device.usable_gpus(typed)
    if len(gpus) > 1 and not definitions.import_caffe().has_nccl():
        raise InputError(
            f"--gpu {typed}: {len(gpus)} GPUs need NCCL, and this Caffe is built without it; "
            f"run scripts/install/setup.sh --cuda --nccl, or give one GPU"
        )
    return gpus


def train(gpus: list[int | None], run: loop.Training) -> None:
    """Train a run as loop.train() does, in one process per GPU.

    SystemExit where the first process ends with it; InputError when one dies.
    """
    context = get_context("spawn")  # a forked process could not use CUDA
    ours, theirs = zip(*(context.Pipe() for _ in gpus[1:]), strict=True)
    work = [partial(_lead, connect, ours, run)]
    work += [partial(_follow, connect, link, run) for link in theirs]
    processes = [context.Process(target=_live, args=(rank, gpus, each)) for rank, each in enumerate(work)]
    resource_tracker.ensure_running()  # else the first start() would, and let signals through again
    signal.pthread_sigmask(signal.SIG_BLOCK, loop.STOP)  # inherited: none is lost before the first can take it
    try:
        for process in processes:
            process.start()
        for link in (*ours, *theirs):
            link.close()
        for number in loop.STOP:
            signal.signal(number, lambda number, frame: os.kill(processes[0].pid, number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, loop.STOP)
        ready = connection.wait([process.sentinel for process in processes])
        signal.pthread_sigmask(signal.SIG_BLOCK, loop.STOP)
        rank = next(rank for rank, process in enumerate(processes) if process.sentinel in ready)
        processes[rank].join()
    finally:
        for process in processes:
            if process.pid:
                process.kill()
                process.join()
    status = processes[rank].exitcode
    if status < 0 or status == 1:
        why = signal.Signals(-status).name if status < 0 else "see its output above"
        raise InputError(f"GPU {gpus[rank]}: its process died ({why}); go on with --resume")
    if status:
        sys.exit(status)


def connect(solver, links: list) -> None:
    """Begin with the first process's weights, and average the gradients of every iteration, over NCCL."""
    caffe = definitions.import_caffe()
    if caffe.solver_rank() == 0:
        uid = caffe.NCCL.new_uid()
        for link in links:
            link.send(uid)
    else:
        uid = links[0].recv()
    nccl = caffe.NCCL(solver, uid)
    nccl.bcast()
    solver.add_callback(nccl)
    if solver.param.layer_wise_reduce:
        solver.net.after_backward(nccl)
    solver.nccl = nccl  # Caffe keeps a bare pointer to it


def _live(rank: int, gpus: list[int | None], work: Callable[[], None]) -> None:
    """Set up one of the processes, do its work, and end it."""
    die_with_parent()
    if not parent_process().is_alive():
        os._exit(1)
    tqdm.set_lock(threading.RLock())  # its own, for many processes, would be missed when this one is killed
    status = 1
    try:
        caffe = definitions.import_caffe()
        device.select_device(gpus[rank])
        caffe.set_solver_count(len(gpus))
        caffe.set_solver_rank(rank)
        caffe.set_multiprocess(True)
        status = errors.run(work)
    except SystemExit as stop:
        status = int(stop.code or 0)
    except Exception:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # an orderly end of NCCL would wait for the others


def _lead(connect: Callable, links: list, run: loop.Training) -> None:
    """Work of the first process: loop.train(), in which the others take each iteration too."""

    def join(solver, settings: Settings) -> Callable[[], tuple[float, float]]:
        with _others_alive():
            connect(solver, links)
        own = loop.stepper(solver, settings)

        def step() -> tuple[float, float]:
            with _others_alive():
                for link in links:
                    link.send(None)
                return loop.mean([own(), *(link.recv() for link in links)])

        return step

    loop.train(run, join)


def _follow(connect: Callable, link, run: loop.Training) -> None:
    """Work of another process: an iteration whenever the first one asks for it."""
    solver = loop.open_solver(run.folder, run.done)
    with _others_alive():
        connect(solver, [link])
        step = loop.stepper(solver, run.settings)
        loop.replay_data(solver, run.settings, run.done, stop=[])
        while True:
            link.recv()
            link.send(step())


@contextmanager
def _others_alive() -> Iterator[None]:
    """Where another process turns out to be gone, wait: the parent sees it too, says so, and ends this one."""
    try:
        yield
    except (EOFError, ConnectionError):
        threading.Event().wait()
