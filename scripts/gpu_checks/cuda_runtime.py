"""The CUDA libraries that Caffe is linked with: their versions, the GPUs that they find, the memory in use.

They are called through ctypes, where a missing GPU is an error; Caffe itself would abort the process.
"""

import ctypes
import shutil
import subprocess
from ctypes import byref, c_int, c_size_t
from functools import cache

from data_prep.core.errors import InputError
from scripts.nets import definitions

CAPABILITY = 75, 76  # cudaDevAttrComputeCapabilityMajor, ...Minor


@cache
def _libraries() -> ctypes.CDLL:
    """Return Caffe's own library, through which those that it is linked with are found too."""
    return ctypes.CDLL(definitions.import_caffe()._caffe.__file__)


def has_cuda() -> bool:
    """Return whether this Caffe is built with GPU code."""
    return hasattr(_libraries(), "cudaGetDeviceCount")


def check_gpu(gpu: int) -> None:
    """Raise InputError where Caffe is built without CUDA, or CUDA finds no GPU of this number."""
    if not has_cuda():
        raise InputError("this Caffe is built without CUDA; for one with it: scripts/install/setup.sh --cuda")
    try:
        count = _number("cudaGetDeviceCount")
    except InputError as error:
        raise InputError(f"no usable GPU ({error}); run nvidia-smi; in Docker add --gpus all") from None
    if not 0 <= gpu < count:
        raise InputError(f"--gpu {gpu}: CUDA finds {count} here, counted from 0 (see nvidia-smi)")


def versions() -> dict[str, str]:
    """Return the versions of the CUDA libraries that are loaded, and the driver's; none where Caffe has no CUDA."""
    libraries, found = _libraries(), {}
    if has_cuda():
        found["CUDA runtime"] = _dotted(_number("cudaRuntimeGetVersion"), 1000, 10)
        found["driver"] = f"{_driver()}, for CUDA up to {_dotted(_number('cudaDriverGetVersion'), 1000, 10)}"
        found["cuDNN"] = found["NCCL"] = "not in this Caffe"
    if hasattr(libraries, "cudnnGetVersion"):
        libraries.cudnnGetVersion.restype = c_size_t
        found["cuDNN"] = _dotted(libraries.cudnnGetVersion(), 10000, 100, 1)
    if hasattr(libraries, "ncclGetVersion"):
        found["NCCL"] = _dotted(_number("ncclGetVersion"), 10000, 100, 1)
    return found


def describe(gpu: int) -> dict[str, str]:
    """Return a GPU's name, compute capability and memory. Makes a context on the current one."""
    # A buffer larger than the structure of any CUDA so far; in all of them the name comes first.
    properties = ctypes.create_string_buffer(1 << 16)
    _call("cudaGetDeviceProperties", properties, gpu)
    capability = (_number("cudaDeviceGetAttribute", attribute, gpu) for attribute in CAPABILITY)
    return {
        "GPU": properties.value.decode(),
        "compute capability": ".".join(map(str, capability)),
        "GPU memory": f"{_memory()[1] / 2**30:.1f} GiB",
    }


def memory_used() -> int:
    """Return the bytes of the current GPU's memory that are taken, by whatever process."""
    free, total = _memory()
    return total - free


def synchronize() -> None:
    """Wait until the current GPU has done all it was given."""
    _call("cudaDeviceSynchronize")


def _memory() -> tuple[int, int]:
    free, total = c_size_t(), c_size_t()
    _call("cudaMemGetInfo", byref(free), byref(total))
    return free.value, total.value


def _number(function: str, *arguments: int) -> int:
    """Return the int that a function puts where its first argument points."""
    found = c_int()
    _call(function, byref(found), *arguments)
    return found.value


def _call(function: str, *arguments) -> None:
    """Call a function that returns 0 or the number of an error, which is raised as InputError."""
    libraries = _libraries()
    status = libraries[function](*arguments)
    if status:
        libraries.cudaGetErrorString.restype = ctypes.c_char_p
        raise InputError(f"{function}: error {status}, {libraries.cudaGetErrorString(status).decode()}")


def _driver() -> str:
    """Return the version of NVIDIA's driver, as nvidia-smi tells it."""
    if shutil.which("nvidia-smi") is None:
        return "nvidia-smi is not here"
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(command, capture_output=True, text=True)
    return (said.stdout.splitlines() or ["nvidia-smi does not answer"])[0]


def _dotted(number: int, *units: int) -> str:
    """Return a version that is one number as its parts: 13020 by 1000 and 10 is 13.2."""
    parts = []
    for unit in units:
        part, number = divmod(number, unit)
        parts.append(str(part))
    return ".".join(parts)
