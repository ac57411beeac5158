"""The speed benchmark's engine PyTorch: one net at a time, on the CPU. Has a process of its own (engine_process.py)."""

import time

import numpy as np
import torch
from torch.nn import functional

from scripts.benchmarks.job import RATE, Job
from scripts.benchmarks.machine_peak import rate
from scripts.benchmarks.torch_nets import TorchNet, optimizer

Weights = dict[str, list[np.ndarray]]


class Engine:
    """PyTorch on channels_last memory with a fused optimizer: eager, or `compiled` by torch.compile.

    Its methods are those of caffe_engine.Engine, as far as they apply. Compiling is done in the first call of a method.
    """

    def __init__(self, compiled: bool = False) -> None:
        self.compiled = compiled

    def about(self) -> dict:
        lines = [line.strip(" -") for line in torch.__config__.show().splitlines()]
        return {
            "torch": torch.__version__,
            "setting": "torch.compile" if self.compiled else "eager",
            "libraries": [line for line in lines if "MKL" in line and "BUILD" not in line.upper()],
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
        }

    def sgemm(self, size: int) -> dict[str, float]:
        """Return the GFLOP/s of a square product through the BLAS that PyTorch brings."""
        a, b = torch.randn((2, size, size))
        return {"PyTorch's MKL" if torch.backends.mkl.is_available() else "PyTorch": rate(lambda: a @ b, size)}

    def train(self, job: Job, weights: Weights | None) -> None:
        self._make(job, weights)
        self.optimizer = optimizer(self.net, job.train_val, job.solver, RATE)
        self.labels = torch.from_numpy(job.labels())

    def _make(self, job: Job, weights: Weights | None) -> None:
        self.net = self.run = self.optimizer = self.images = None  # frees the last one's memory first
        torch.compiler.reset()
        self.net = TorchNet(job.train_val, job.side)
        if weights:
            self.net.copy_weights(weights)
        self.net.to(memory_format=torch.channels_last)
        self.run = torch.compile(self.net) if self.compiled else self.net
        self.images = torch.from_numpy(job.images()).to(memory_format=torch.channels_last)

    def compute(self) -> dict:
        self.optimizer.zero_grad()
        scores = self.run(self.images)
        loss = functional.cross_entropy(scores, self.labels)
        loss.backward()
        parameters = self.net.caffe_parameters()
        return {
            "loss": loss.detach().numpy(),
            "scores": scores.detach().numpy(),
            "gradients": {name: [one.grad.numpy() for one in some] for name, some in parameters.items()},
        }

    def step(self) -> tuple[float, float]:
        began = time.perf_counter()
        self.optimizer.zero_grad()
        functional.cross_entropy(self.run(self.images), self.labels).backward()
        gradients_ready = time.perf_counter()
        self.optimizer.step()
        return time.perf_counter() - began, gradients_ready - began

    def layers(self) -> list[tuple[str, str, float, float]]:
        """As caffe_engine.Engine.layers; each layer gets its real input, and any gradient."""
        rows = []
        blobs = {"data": self.images}
        for layer in self.net.layers:
            inputs = [blobs[name].detach().requires_grad_(name != "data") for name in layer["bottom"]]
            given = [one.clone() for one in inputs]  # for a layer that works in place
            part = self.net.parts[layer["name"]]
            top, *times = _there_and_back(part, given, [*inputs, *part.parameters()])
            rows.append((layer["name"], layer["type"], *times))
            blobs[layer["top"][0]] = top.detach()
        scores = top.detach().requires_grad_()
        _, *times = _there_and_back(lambda given: functional.cross_entropy(given, self.labels), [scores], [scores])
        return [*rows, ("loss", "SoftmaxWithLoss", *times)]

    def deploy(self, job: Job, weights: Weights) -> None:
        self._make(job, weights)
        self.net.eval()

    def predict(self) -> tuple[float, np.ndarray]:
        began = time.perf_counter()
        with torch.inference_mode():
            found = self.run(self.images).softmax(1)
        return time.perf_counter() - began, found.numpy()

    def explain(self) -> tuple[float, np.ndarray]:
        began = time.perf_counter()
        images = self.images.clone().requires_grad_()
        (found,) = torch.autograd.grad(self.run(images)[:, 1].sum(), images)
        return time.perf_counter() - began, found.numpy()


def _there_and_back(part, given: list[torch.Tensor], sources: list[torch.Tensor]) -> tuple[torch.Tensor, float, float]:
    """Return a part's output, and the times of its forward and of its backward pass to those that want a gradient."""
    began = time.perf_counter()
    top = part(*given)
    forward = time.perf_counter() - began
    gradient = torch.full_like(top, 1e-3)
    began = time.perf_counter()
    torch.autograd.grad(top, [one for one in sources if one.requires_grad], gradient)
    return top, forward, time.perf_counter() - began
