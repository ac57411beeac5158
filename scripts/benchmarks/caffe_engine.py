"""The speed benchmark's engine Caffe: one net at a time, on the CPU. Has a process of its own (engine_process.py)."""

import ctypes
import time

import numpy as np

from scripts.benchmarks import machine_peak
from scripts.benchmarks.job import RATE, Job
from scripts.nets import definitions, solver

Weights = dict[str, list[np.ndarray]]


class Engine:
    """Caffe, whichever build Python's path leads to. Every method ends when the work is done; times are in seconds."""

    def __init__(self) -> None:
        self.caffe = definitions.import_caffe()
        self.library = ctypes.CDLL(self.caffe._caffe.__file__)
        self.iteration = 0
        self.products = {}

    def about(self) -> dict:
        """Return what computes: versions, every BLAS with its kernels and threads, oneDNN's instructions."""
        return {
            "caffe": self.caffe.__version__,
            "blas": machine_peak.libraries(),
            "onednn": machine_peak.onednn(self.library),
        }

    def train(self, job: Job, weights: Weights | None) -> None:
        """Make a net in training, with these weights or random ones, and its solver."""
        self.solver = None  # frees the last one's memory first
        train_val = solver.from_memory(job.net, job.batch, job.dropout)
        self.solver = solver.make_solver(job.net, train_val, RATE)
        self.solver.add_callback(lambda: None, self._note_gradients)
        self.net = self.solver.net
        self.net.blobs["data"].data[...] = job.images()
        self.net.blobs["label"].data[...] = job.labels()
        self._copy(weights or {})

    def _note_gradients(self) -> None:
        self.gradients_ready = time.perf_counter()

    def _copy(self, weights: Weights) -> None:
        for name, blobs in weights.items():
            for blob, values in zip(self.net.params[name], blobs, strict=True):
                blob.data[...] = values

    def weights(self) -> Weights:
        """Return every parameter blob, by layer; batch norm's statistics are those of the passes so far."""
        return {name: [blob.data.copy() for blob in blobs] for name, blobs in self.net.params.items()}

    def compute(self) -> dict:
        """Return loss, scores and parameters' gradients of one pass through the net in training."""
        self.net.clear_param_diffs()
        self.net.forward()
        self.net.backward()
        scores = self.net.bottom_names["loss"][0]
        learnt = [name for name, layer in self.net.layer_dict.items() if layer.type != "BatchNorm" and layer.blobs]
        return {
            "loss": self.net.blobs["loss"].data.copy(),
            "scores": self.net.blobs[scores].data.copy(),
            "gradients": {name: [blob.diff.copy() for blob in self.net.params[name]] for name in learnt},
        }

    def step(self) -> tuple[float, float]:
        """Return the times of one iteration and of its part before the update."""
        self.iteration += 1
        began = time.perf_counter()
        whole, _ = solver.timed_step(self.solver, self.iteration)
        return whole, self.gradients_ready - began

    def layers(self) -> list[tuple[str, str, float, float]]:
        """Return name, type, forward and backward time of each layer, run one by one."""
        names = list(self.net._layer_names)
        forward, backward = ([0.0] * len(names) for _ in range(2))
        for number in range(len(names)):
            began = time.perf_counter()
            self.net._forward(number, number)
            forward[number] = time.perf_counter() - began
        for number in reversed(range(len(names))):
            began = time.perf_counter()
            self.net._backward(number, number)
            backward[number] = time.perf_counter() - began
        types = [layer.type for layer in self.net.layers]
        return list(zip(names, types, forward, backward, strict=True))

    def flops(self) -> list[dict]:
        """Return the operations of each layer of the net in training (machine_peak.flops)."""
        return machine_peak.flops(self.net)

    def deploy(self, job: Job, weights: Weights) -> None:
        """Make the net for prediction, with a batch in it."""
        self.solver = None
        self.net = self.caffe.Net(str(definitions.prototxt(job.net, "deploy")), self.caffe.TEST)
        self._copy(weights)
        self.images = job.images()
        self.net.blobs["data"].reshape(*self.images.shape)
        self.net.reshape()
        self.net.blobs["data"].data[...] = self.images

    def predict(self) -> tuple[float, np.ndarray]:
        """Return the time of a forward pass, and the probabilities."""
        began = time.perf_counter()
        found = self.net.forward()["prob"]
        return time.perf_counter() - began, found.copy()

    def explain(self) -> tuple[float, np.ndarray]:
        """Return the time of a saliency map's gradient, of the malignant score, and the gradient."""
        from scripts.evaluation import (
            saliency_maps,  # here, for what it imports (matplotlib, scikit-learn) has no part in the rest
        )

        classes = np.ones(len(self.images), int)
        began = time.perf_counter()
        found = saliency_maps.gradient(self.net, self.images, classes)
        return time.perf_counter() - began, found

    def sgemm(self, size: int) -> dict[str, float]:
        """Return the GFLOP/s of a square product through each of the process's libraries."""
        if size not in self.products:
            self.products = {size: machine_peak.products(self.library, size)}
        return {name: machine_peak.rate(multiply, size) for name, multiply in self.products[size].items()}
