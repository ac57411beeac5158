"""How fast this machine multiplies matrices: float32 GFLOP/s through the very libraries that Caffe has loaded."""

import ctypes
import time
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np

ROW_MAJOR, AS_IT_IS = 101, 111  # cblas.h: CblasRowMajor, CblasNoTrans


class DlInfo(ctypes.Structure):
    """What dladdr tells of an address."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("file_base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("symbol_base", ctypes.c_void_p),
    )


def library_of(symbol) -> str:
    """Return the file name of the library that a function comes from."""
    info = DlInfo()
    ctypes.CDLL(None).dladdr(symbol, ctypes.byref(info))
    return Path(info.file.decode()).resolve().name


def openblas(caffe: ctypes.CDLL) -> dict[str, str | int]:
    """Return file, build, kernels' name and threads of the OpenBLAS that Caffe calls.

    `caffe` is Caffe's extension module: a name looked up in it is looked for in the libraries that it was linked with.
    """
    caffe.openblas_get_corename.restype = caffe.openblas_get_config.restype = ctypes.c_char_p
    return {
        "library": library_of(caffe.cblas_sgemm),
        "build": caffe.openblas_get_config().decode().strip(),
        "kernels": caffe.openblas_get_corename().decode(),
        "threads": caffe.openblas_get_num_threads(),
    }


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
