"""How fast this machine multiplies matrices: float32 GFLOP/s through the very libraries that Caffe has loaded."""

import ctypes
import platform
import re
import time
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

ROW_MAJOR, AS_IT_IS = 101, 111  # cblas.h: CblasRowMajor, CblasNoTrans
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "sse4_1": "SSE4.1"}
"""The names of the processor's flags, newest first."""
KERNELS = {
    "AVX-512": ("SkylakeX", "Cooperlake", "Sapphirerapids"),
    "AVX2": ("Haswell", "Zen", "Excavator"),
}
"""OpenBLAS's names of the kernels that use these instructions."""
ONEDNN_ISA = {0x20: "AVX-512", 0x4: "AVX2", 0x2: "AVX"}
"""Bits of dnnl_cpu_isa_t, newest first."""


def libraries() -> list[dict]:
    """Return name, kernels and threads of each BLAS that this process has loaded, NumPy's own among them."""
    return [
        {"library": Path(one["filepath"]).name, "kernels": one.get("architecture"), "threads": one["num_threads"]}
        for one in threadpool_info()
        if one["user_api"] == "blas"
    ]


def onednn(caffe: ctypes.CDLL) -> str | None:
    """Return the version of the oneDNN that Caffe calls, and the newest instructions that it takes; None without it."""
    if not hasattr(caffe, "dnnl_sgemm"):
        return None
    caffe.dnnl_version.restype = ctypes.POINTER(ctypes.c_int * 3)
    taken = caffe.dnnl_get_effective_cpu_isa()
    newest = next((name for bit, name in ONEDNN_ISA.items() if taken & bit), "SSE4.1")
    return f"oneDNN {'.'.join(map(str, caffe.dnnl_version().contents))} for {newest}"


def instructions() -> str:
    """Return the newest vector instructions that this machine's processor has."""
    flags = set(re.findall(r"\w+", re.search(r"(flags|Features)\s*:.*", Path("/proc/cpuinfo").read_text()).group()))
    return next((name for flag, name in VECTORS.items() if flag in flags), platform.machine())


def warning(kernels: str) -> str | None:
    """Return a line where OpenBLAS has taken kernels older than the processor's instructions, as it does in silence."""
    newest = instructions()
    if kernels in KERNELS.get(newest, kernels):
        return None
    return f"OpenBLAS does not know this processor, which has {newest}, and takes its slow kernels for {kernels}"


def products(caffe: ctypes.CDLL, size: int) -> dict[str, Callable[[], tuple]]:
    """Return for each library in Caffe's process a function that multiplies two matrices of size x size.

    It returns both and the product, float32.
    """
    a, b = np.random.default_rng(0).standard_normal((2, size, size), np.float32)
    c = np.zeros((size, size), np.float32)
    a_, b_, c_ = (matrix.ctypes.data_as(ctypes.c_void_p) for matrix in (a, b, c))
    one, zero, n = ctypes.c_float(1), ctypes.c_float(0), ctypes.c_int64(size)
    letter = ctypes.c_char(b"N")

    def openblas_product() -> tuple:
        caffe.cblas_sgemm(ROW_MAJOR, AS_IT_IS, AS_IT_IS, size, size, size, one, a_, size, b_, size, zero, c_, size)
        return a, b, c

    def onednn_product() -> tuple:
        caffe.dnnl_sgemm(letter, letter, n, n, n, one, a_, n, b_, n, zero, c_, n)
        return a, b, c

    return {"OpenBLAS": openblas_product} | ({"oneDNN": onednn_product} if hasattr(caffe, "dnnl_sgemm") else {})


def rate(multiply: Callable[[], tuple], size: int) -> float:
    """Return the GFLOP/s of one product, after another that wakes the threads."""
    multiply()
    began = time.perf_counter()
    multiply()
    return 2 * size**3 / (time.perf_counter() - began) / 1e9


def flops(net) -> list[dict]:
    """Return name, type, forward and backward operations of each layer of a caffe.Net; a multiply-add counts as two.

    Counted are convolutions and inner products: the rest is some operations for a number, not hundreds. Backward is the
    weights' gradient and, but for the layer that the data go into, the input's: each as many operations as forward.
    """
    rows = []
    fed = set(net.top_names[net._layer_names[0]])
    for name, layer in net.layer_dict.items():
        forward = backward = 0
        if layer.type in ("Convolution", "InnerProduct"):
            weights = net.params[name][0].shape
            forward = 2 * prod(net.blobs[net.top_names[name][0]].shape) * prod(weights[1:])  # [1]: of the group alone
            backward = forward * (1 if fed & set(net.bottom_names[name]) else 2)
        rows.append({"name": name, "type": layer.type, "forward": forward, "backward": backward})
    return rows
