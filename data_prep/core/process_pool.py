"""Processes of our own: a pool of workers for films that ends with its parent, and a fresh process for one function.

The workers of concurrent.futures' own process pool share one pipe, and its reader waits for ever for the rest of a
result that a worker was sending when the kernel killed it for lack of memory. Here each worker has a pipe of its own,
which ends with it.
"""

import ctypes
import functools
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import forkserver, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from pathlib import Path
from queue import SimpleQueue

import cv2

from data_prep.core.errors import InputError
from data_prep.core.files import scratch_folder

# a fresh server process: forking this one, which may run Caffe's and OpenCV's threads, could deadlock
CONTEXT = get_context("forkserver")
PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>


def run_in_fresh_process(function: Callable, *arguments, initializer: Callable | None = None, initargs: tuple = ()):
    """Return a function's result from a new process, which `initializer` may prepare.

    Nothing that this process has loaded or set is in it, and what the function leaves behind ends with it. It ends with
    this process too: an executor's own workers wait for work for ever. BrokenProcessPool when it dies.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), _begin, (initializer, initargs)) as pool:
        return pool.submit(function, *arguments).result()


def _begin(initializer: Callable | None, initargs: tuple) -> None:
    die_with_parent()
    if not parent_process().is_alive():
        os._exit(1)
    if initializer:
        initializer(*initargs)


@contextmanager
def worker_pool(workers: int) -> Iterator[Executor]:
    """Yield a pool of processes; what waits when the block ends is dropped.

    InputError when one of them dies (in the block: BrokenProcessPool) or has too little memory, or `workers` is none.
    """
    if workers < 1:
        raise InputError(f"--workers {workers}: give 1 or more")
    try:
        with _WorkerPool(workers) as pool:
            yield pool
    except BrokenProcessPool:
        raise InputError("a worker process died, perhaps for lack of memory; try again with fewer --workers") from None
    except (MemoryError, cv2.error) as error:
        if isinstance(error, cv2.error) and error.code != cv2.Error.StsNoMem:
            raise
        raise InputError("too little memory for the films in work; try again with fewer --workers") from None


class _WorkerPool(ThreadPoolExecutor):
    """As many threads as worker processes: each hands its job to a worker that is idle and waits for the result."""

    def __init__(self, workers: int):
        super().__init__(workers)
        # imported once, by the server: its workers share the memory, and begin at once
        CONTEXT.set_forkserver_preload([name for name in sys.modules if name.startswith("data_prep.")])
        _start_server()
        self._workers = [_start_worker() for _ in range(workers)]
        self._idle: SimpleQueue[Connection] = SimpleQueue()
        for _, connection in self._workers:
            self._idle.put(connection)

    def submit(self, function: Callable, /, *args: object) -> Future:  # type: ignore[override]
        return super().submit(self._ask, function, args)

    def _ask(self, function: Callable, args: tuple) -> object:
        connection = self._idle.get()
        try:
            connection.send((function, args))
            result, error = connection.recv()
        except (EOFError, OSError):
            raise BrokenProcessPool from None
        finally:
            self._idle.put(connection)  # that of a dead worker as well: a thread would wait for another for ever
        if error:
            raise error
        return result

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        for process, connection in self._workers:
            connection.close()
            process.join()


@functools.cache
def _scratch() -> str:
    """Make a scratch folder for multiprocessing's own temporary files, removed when this process ends."""
    stack = ExitStack()
    Finalize(None, stack.close, exitpriority=-200)  # after multiprocessing's own, of -100, which removes its files
    return str(stack.enter_context(scratch_folder()))


def _start_server() -> None:
    """Start the server, where there is none yet, with one thread: NumPy's BLAS would start a thread for each core."""
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    place, tempfile.tempdir = tempfile.tempdir, _scratch()  # of its socket
    try:
        forkserver.ensure_running()
    finally:
        tempfile.tempdir = place
        del os.environ["OPENBLAS_NUM_THREADS"]
        if before is not None:
            os.environ["OPENBLAS_NUM_THREADS"] = before


def die_with_parent() -> None:
    """Have the kernel kill this process, a child just started, when its parent ends, however it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def ending_with_parent(*command: str | Path, sent: str = "KILL") -> list[str | Path]:
    """Return a command that is sent a signal when this process ends, however it ends.

    subprocess's preexec_fn would have Python run between fork and exec, which is unsafe beside threads.
    """
    return ["setpriv", "--pdeathsig", sent, *command]


def _start_worker() -> tuple[BaseProcess, Connection]:
    ours, its = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_work, args=(its,), daemon=True)
    process.start()
    its.close()  # so that the worker's death is the end of the pipe
    return process, ours


def _work(connection: Connection) -> None:
    """Do what comes through the pipe until it ends, which it also does when the main process is killed."""
    cv2.setNumThreads(1)  # there is a process for each core already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    try:
        while True:
            function, args = connection.recv()
            connection.send(_outcome(function, args))
    except (EOFError, OSError):
        return


def _outcome(function: Callable, args: tuple) -> tuple[object, Exception | None]:
    try:
        return function(*args), None
    except Exception as error:
        return None, ExceptionWithTraceback(error, error.__traceback__)
