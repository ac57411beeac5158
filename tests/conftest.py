"""Fixtures that several test modules share, and the tests' order."""

import fcntl
import os
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
if PROCESSES > 1:  # before NumPy and Caffe are loaded: their threads share the cores with the other process's
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // PROCESSES)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real mammograms and DDSM text files kept beside the repository; tests skip where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: this test needs it")
    return folder


@pytest.fixture(scope="session")
def synthetic_films(tmp_path_factory) -> Path:
    """Synthetic case folders of 24 patients, coarse: drawn once, whichever of the processes wants them first."""
    from data_prep.synthesis import ddsm_set

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if PROCESSES > 1 else base) / "synthetic_films"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ddsm_set.ensure(folder, patients=24, resolution=400)
    return folder


def is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the slow tests last, so that a plain mistake shows within seconds.

    Where files are shared out to several processes, those with many slow tests come first, so that all end together.
    """
    items.sort(key=is_slow)
    if PROCESSES > 1:
        slow = Counter(item.path for item in filter(is_slow, items))
        items.sort(key=lambda item: -slow[item.path])
