"""Worker processes for films, as many as there are cores: one pool that survives neither its work nor its parent."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process

import cv2

from data_prep.mass import InputError


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes; what waits when the block ends is dropped. InputError when one of them dies."""
    # a fresh server process: forking this one, which may run Caffe's and OpenCV's threads, could deadlock
    pool = ProcessPoolExecutor(workers, get_context("forkserver"), initializer=_prepare_worker)
    try:
        yield pool
    except BrokenProcessPool:
        raise InputError("a worker process died, perhaps for want of memory; try again with fewer --workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    cv2.setNumThreads(1)  # there is a process for each core already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when the main process is killed: it would wait for work for ever."""
    parent_process().join()
    os._exit(1)
