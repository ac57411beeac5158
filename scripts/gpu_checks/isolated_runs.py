"""The computations of scripts/gpu_check.py, each in a process of its own, as a CUDA error makes Caffe abort.

In all of it `gpu` is the number of a GPU, or None for the CPU.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from data_prep.core.errors import one_line
from data_prep.core.files import scratch_folder
from data_prep.core.process_pool import run_in_fresh_process
from scripts.benchmarks import compare_nets
from scripts.benchmarks.job import RATE
from scripts.gpu_checks import cuda_runtime
from scripts.nets import definitions
from scripts.nets.solver import from_memory, make_solver

LAST_WORDS = 12
UPDATES = 2
WARM_UP = 3
NO_MEMORY = "out of memory"


class Failed(Exception):
    """A computation that ended in an error or an abort; the message holds the last lines that its process wrote."""


def on(gpu: int | None, function: Callable, *arguments):
    """Return a function's result from a fresh process in which Caffe computes on a GPU or the CPU; else Failed."""
    with scratch_folder() as folder:
        log = folder / "log"
        log.touch()
        try:
            return run_in_fresh_process(function, *arguments, initializer=_begin, initargs=(gpu, log))
        except BrokenProcessPool:
            raise Failed(
                last_words(log.read_text(errors="replace")) or "the process ended without any output"
            ) from None
        except Exception as error:  # any error belongs in the report
            raise Failed(f"{type(error).__name__}: {one_line(error)}") from None


def _begin(gpu: int | None, log: Path) -> None:
    """Send what the process and its libraries write to the log, and let Caffe compute on the GPU or the CPU."""
    with open(log, "ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ |= {"GLOG_minloglevel": "2"}  # read by Caffe's libraries, which are not loaded yet
    if gpu is None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # so that nothing of it can come from a GPU
        definitions.import_caffe().set_mode_cpu()
    else:
        caffe = definitions.import_caffe()
        caffe.set_device(gpu)
        caffe.set_mode_gpu()


def last_words(text: str) -> str:
    """Return the last lines of what a process wrote, less the frames of a stack trace."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("    @ ")]
    return "\n".join(lines[-LAST_WORDS:])


def compare_pass(net: str, phase: str, folder: Path, gpu: int | None) -> dict[str, dict[str, float]]:
    """Return how far the GPU's outputs and gradients are from the CPU's (compare_nets.compare_pass), without dropout.

    A GPU draws other random numbers than a CPU; all else in the nets is the same twice.
    """
    need_weights(net, folder)
    on(None, compare_nets.write_pass, net, phase, folder, False)
    return on(gpu, compare_nets.compare_pass, net, phase, folder, False)


def compare_update(net: str, folder: Path, gpu: int | None) -> dict[str, dict[str, float]]:
    """Return how far the GPU's changes of the parameters, by the net's solver, are from the CPU's: as "updates"."""
    need_weights(net, folder)
    on(None, update, net, folder, "cpu.npz")
    on(gpu, update, net, folder, "gpu.npz")
    with (
        np.load(folder / compare_nets.START) as start,
        np.load(folder / "cpu.npz") as one,
        np.load(folder / "gpu.npz") as other,
    ):
        found = {name: compare_nets.difference(one[name] - old, other[name] - old) for name, old in start.items()}
    return {"updates": found}


def need_weights(net: str, folder: Path) -> None:
    """Make a net's first weights, on the CPU, unless the folder has them."""
    if not (folder / compare_nets.START).exists():
        folder.mkdir(exist_ok=True)
        on(None, compare_nets.make_weights, net, folder)


def update(net: str, folder: Path, out: str) -> None:
    """Write the parameters after two updates by the net's solver, each with random gradients of size 1."""
    training = make_solver(net, from_memory(net, 1))
    training.net.copy_from(str(folder / compare_nets.WEIGHTS))
    rng = np.random.default_rng(compare_nets.SEED)
    for _ in range(UPDATES):
        for blobs in training.net.params.values():
            for blob in blobs:
                blob.diff[...] = rng.standard_normal(blob.diff.shape, np.float32)
        training.apply_update()
    np.savez(folder / out, **compare_nets.parameters(training.net, "data"))


def time_training(net: str, batch: int, iterations: int, gpu: int | None) -> dict:
    """Return batch, seconds of each iteration, loss and memory (None: on the CPU) of a net in training.

    Where the GPU lacks memory the batch is halved, down to 1.
    """
    while True:
        try:
            return {"batch": batch} | on(gpu, iterate, net, batch, iterations, gpu)
        except Failed as error:
            if NO_MEMORY not in str(error) or batch == 1:
                raise
            batch //= 2


def iterate(net: str, batch: int, iterations: int, gpu: int | None) -> dict:
    """Train a net with its dropout on one batch, at a rate of 0, and time each iteration after the first few.

    "memory" is in bytes: what the GPU has in use more than before. Caffe gives nothing back before the net's end.
    """
    before = None if gpu is None else cuda_runtime.memory_used()
    training = make_solver(net, from_memory(net, batch), RATE)
    compare_nets.put_images(training.net, 0)
    seconds = []
    for _ in range(WARM_UP + iterations):
        began = time.perf_counter()
        training.step(1)
        if gpu is not None:
            cuda_runtime.synchronize()
        seconds.append(time.perf_counter() - began)
    memory = None if gpu is None else cuda_runtime.memory_used() - before
    return {"seconds": seconds[WARM_UP:], "loss": float(training.net.blobs["loss"].data), "memory": memory}
