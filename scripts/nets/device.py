"""The device that Caffe computes on: the CPU, or GPUs that a child process has tried."""

import subprocess
import sys

from data_prep.core.errors import InputError
from scripts.nets.definitions import import_caffe

# set_device alone does not touch the first GPU; the timer does.
TRIAL = "caffe.set_device(gpu); caffe.set_mode_gpu(); caffe.Timer().start(); print(gpu, flush=True)"
REFUSALS = {
    "CPU-only": "this Caffe is built without CUDA; for one with it: scripts/install/setup.sh --cuda",
    "driver version": "NVIDIA driver missing or too old for CUDA 13 (run nvidia-smi); in Docker add --gpus all",
    "": "no usable GPU of that id; see nvidia-smi",
}
"""Reasons why Caffe refuses a GPU, by a word in its message."""


def set_mode(gpu: str | None) -> None:
    """Let Caffe compute on the CPU (None) or on one GPU, given by its id; InputError when it cannot."""
    if gpu is not None and not gpu.isdecimal():
        raise InputError(f"--gpu {gpu}: give the id of one GPU, such as 0")
    select_device(*usable_gpus(gpu))


def usable_gpus(gpus: str | None) -> list[int | None]:
    """Return the ids of the GPUs that were typed: "0", "0,1", or "all", every one that is visible. CPU: None, [None].

    InputError when one cannot be used: that would make Caffe abort, so a child process tries them first.
    """
    import_caffe()
    if gpus is None:
        return [None]
    wanted = "itertools.count()"  # all: up to the first that is not there
    if gpus != "all":
        if not all(map(str.isdecimal, gpus.split(","))):
            raise InputError(f"--gpu {gpus}: give the id of a GPU, such as 0, of several, such as 0,1, or all")
        wanted = list(dict.fromkeys(map(int, gpus.split(","))))
    trial = f"import caffe, itertools\nfor gpu in {wanted}:\n    {TRIAL}"
    child = subprocess.run([sys.executable, "-c", trial], capture_output=True, text=True)
    usable = list(map(int, child.stdout.split()))
    if not usable or (child.returncode and gpus != "all"):
        why = next(why for said, why in REFUSALS.items() if said in child.stderr)
        raise InputError(f"--gpu {gpus}: {why}; leave --gpu out to use the CPU")
    return usable


def select_device(gpu: int | None) -> None:
    """Let Caffe compute on the CPU (None) or on a GPU that was tried."""
    caffe = import_caffe()
    if gpu is None:
        caffe.set_mode_cpu()
    else:
        caffe.set_device(gpu)
        caffe.set_mode_gpu()
