"""The parts of the speed benchmark: training, layers, inference, saliency, memory.

Each function takes a Scale and returns figures for JSON. All engines of a part are alive together and are asked in
turn, so that a change in the machine's speed meets all of them. Times are wall-clock seconds, memory is bytes.
"""

import os
from dataclasses import dataclass

import numpy as np
import psutil
from tqdm import tqdm

from data_prep.core.errors import InputError
from scripts.benchmarks import machine_peak
from scripts.benchmarks.engine_process import ENGINES, Worker, workers
from scripts.benchmarks.job import Job
from scripts.nets import definitions, solver

LAYER_ENGINES = ("ours", "stock", "eager")  # torch.compile has no layers: it joins them
BLAS_ENGINES = ("ours", "eager")  # between them they have loaded every BLAS
CHECK_BATCH = 4
SMALL_BATCHES = (4, 8)  # from whose memory that of a training batch is estimated
SAME_OUTPUTS = 1e-4
SAME_GRADIENTS = 0.03
"""Bounds of a relative difference |a - b| / |a|, by Euclidean norm, for an output and for a parameter's gradient.

A unit of a ReLU or of max pooling whose inputs are equal but for rounding passes its gradient to one place in one
engine and to another, or none, in the other: rare, but in a norm over few units a thousandth or a hundredth.
"""
MOST_OF_MEMORY = 0.9  # leaves room for an engine that takes some more than stock Caffe
VARIABLES = ("OPENBLAS_", "GOTO_", "OMP_", "GOMP_", "MKL_", "DNNL_", "ONEDNN_", "ATEN_")
"""What the names of variables begin with that change which kernels run, or on how many threads."""


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    nets, and the batch they train at (None: each its hand-written file's). turns: iterations of each engine. passes:
    over the layers. predictions: batches, each as often as prediction_turns. sgemm: rows of the square matrices.
    """

    nets: tuple[str, ...] = definitions.NETS
    batch: int | None = None
    turns: int = 12
    passes: int = 3
    predictions: tuple[int, ...] = (1, 32)
    prediction_turns: int = 15
    sgemm: int = 3072


TOY = Scale(nets=("baseline",), batch=4, turns=2, passes=1, predictions=(1, 2), prediction_turns=2, sgemm=256)


def make_job(net: str, batch: int, dropout: bool = True) -> Job:
    """Return a job on one of the three nets."""
    train_val = solver.from_memory(net, batch, dropout)
    side = definitions.data_layer(
        definitions.read_prototxt(definitions.prototxt(net, "train_val")), "TRAIN"
    ).transform_param.crop_size
    plain = solver.plain
    return Job(net, batch, side, dropout, plain(train_val), plain(solver.solver_param(net)))


def training(scale: Scale) -> dict:
    """Time iterations of the three nets in every engine, and products of matrices in between."""
    rows, rates = {}, []
    available = psutil.virtual_memory().available * MOST_OF_MEMORY
    with workers(*ENGINES) as engines:
        figures = described(engines)
        for name in BLAS_ENGINES:
            engines[name].ask("sgemm", scale.sgemm)  # not counted: oneDNN writes its kernel
        for net in scale.nets:
            job = fitting_job(net, scale, len(engines), available)
            differences, weights = compare_training(engines, net)
            first = start(engines, job, weights)
            flops = engines["ours"].ask("flops")
            seconds = {name: [] for name in engines}
            for _ in tqdm(range(scale.turns), desc=net, unit="turn", disable=None):
                for name, worker in engines.items():
                    seconds[name].append(worker.timed("step"))
                products = [engines[name].timed("sgemm", scale.sgemm) for name in BLAS_ENGINES]
                rates.append(products[0] | products[1])
            whole = {name: [one for one, _ in times] for name, times in seconds.items()}
            rows[net] = {
                "batch": job.batch,
                "own_batch": own_batch(net),
                "differences": differences,
                "first": first,
                "seconds": whole,
                "before_update": {name: [one for _, one in times] for name, times in seconds.items()},
                "ratios": ratios(whole),
                "flops": {way: sum(row[way] for row in flops) for way in ("forward", "backward")},
            }
    sgemm = {"size": scale.sgemm, "gflops": {name: [each[name] for each in rates] for name in rates[0]}}
    return figures | {"rows": rows, "sgemm": sgemm}


def described(engines: dict[str, Worker]) -> dict:
    """Return what computes: the engines' libraries and threads, the processor, and variables that change them."""
    variables = {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)}
    found = {name: worker.ask("about") for name, worker in engines.items()}
    kernels = {one["kernels"] for about in found.values() for one in about.get("blas", []) if one["kernels"]}
    warnings = sorted(filter(None, map(machine_peak.warning, kernels)))
    for line in warnings:
        print(f"warning: {line}", flush=True)
    return {
        "engines": found,
        "environment": variables,
        "instructions": machine_peak.instructions(),
        "warnings": warnings,
    }


def own_batch(net: str) -> int:
    """Return the training batch of a net's hand-written file."""
    train_val = definitions.read_prototxt(definitions.prototxt(net, "train_val"))
    return definitions.data_layer(train_val, "TRAIN").data_param.batch_size


def fitting_job(net: str, scale: Scale, engines: int, available: float) -> Job:
    """Return the job at its batch, or at that halved as often as it takes until so many engines fit in memory.

    Each is taken to need what stock Caffe does, as its memory at two small batches tells when carried on in a line.
    """
    wanted = scale.batch or own_batch(net)
    small, double = (peak("stock", make_job(net, batch))["peak"] for batch in SMALL_BATCHES)
    per_image = (double - small) / (SMALL_BATCHES[1] - SMALL_BATCHES[0])
    batch = fitting_batch(wanted, small - per_image * SMALL_BATCHES[0], per_image, available / engines)
    if batch < wanted:
        print(f"{net}: batch {batch} in place of {wanted}, for which {engines} engines lack memory", flush=True)
    return make_job(net, batch)


def fitting_batch(batch: int, fixed: float, per_image: float, available: float) -> int:
    """Return the batch, halved until `fixed` bytes and those of its images are at most `available` (or it is 1)."""
    while fixed + per_image * batch > available and batch > 1:
        batch //= 2
    return batch


def compare_training(engines: dict[str, Worker], net: str) -> tuple[dict, dict]:
    """Return how far each engine's outputs and gradients are from ours, and the weights that all of them then have.

    One pass through the net in training without dropout. InputError when they differ by more than the bounds.
    """
    job = make_job(net, CHECK_BATCH, dropout=False)
    ours = engines["ours"]
    ours.ask("train", job, None)
    wanted = ours.ask("compute")
    weights = ours.ask("weights")
    differences = {}
    for name, worker in engines.items():
        if worker is ours:
            continue
        worker.ask("train", job, weights)
        found = worker.ask("compute")
        gradients = [
            difference(one, other)
            for layer, blobs in wanted["gradients"].items()
            for one, other in zip(blobs, found["gradients"][layer], strict=True)
        ]
        outputs = max(difference(wanted[which], found[which]) for which in ("loss", "scores"))
        differences[name] = {"outputs": outputs, "gradients": max(gradients), "gradients_median": np.median(gradients)}
        check_same(net, name, "outputs", outputs, SAME_OUTPUTS)
        check_same(net, name, "gradients", max(gradients), SAME_GRADIENTS)
    return differences, weights


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return |one - other| / |one|; NaN where either holds no numbers."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(one))


def check_same(net: str, engine: str, what: str, found: float, bound: float) -> None:
    """Raise InputError when a difference is above its bound (or is no number)."""
    if not found <= bound:
        raise InputError(f"{net}: {engine}'s {what} differ from ours by {found:.2g}, more than {bound:g}: not compared")


def start(engines: dict[str, Worker], job: Job, weights: dict | None) -> dict[str, float]:
    """Give every engine the net; return the seconds of a first iteration: memory is taken in it, and code compiled."""
    for worker in engines.values():
        worker.ask("train", job, weights)
    return {name: worker.ask("step")[0] for name, worker in engines.items()}


def ratios(seconds: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return how many times ours' time each other engine took, turn by turn."""
    others = [name for name in seconds if name != "ours"]
    return {name: [one / own for one, own in zip(seconds[name], seconds["ours"], strict=True)] for name in others}


def layers(scale: Scale) -> dict:
    """Time each layer by itself, forward and backward, and count its operations."""
    rows = {}
    available = psutil.virtual_memory().available * MOST_OF_MEMORY
    with workers(*LAYER_ENGINES) as engines:
        figures = described(engines)
        for net in tqdm(scale.nets, unit="net", disable=None):
            job = fitting_job(net, scale, len(engines), available)
            start(engines, job, compare_training(engines, net)[1])
            passes = {name: [] for name in engines}
            for _ in range(scale.passes):
                for name, worker in engines.items():
                    passes[name].append(worker.timed("layers"))
            times = {name: medians(each) for name, each in passes.items()}
            rows[net] = {"batch": job.batch, "flops": engines["ours"].ask("flops"), "times": times}
    return figures | {"rows": rows}


def medians(passes: list[list[tuple]]) -> list[dict]:
    """Return name, type, and the median forward and backward time of each layer over several passes."""
    rows = []
    for same in zip(*passes, strict=True):
        name, kind = same[0][:2]
        forward, backward = (float(np.median([one[column] for one in same])) for column in (2, 3))
        rows.append({"name": name, "type": kind, "forward": forward, "backward": backward})
    return rows


def inference(scale: Scale) -> dict:
    """Time the forward pass of the deploy nets, one image at a time and in a batch."""
    return _deployed(scale, "predict", scale.predictions)


def saliency(scale: Scale) -> dict:
    """Time the gradient of a class score with respect to the image, one image at a time."""
    return _deployed(scale, "explain", (1,))


def _deployed(scale: Scale, method: str, batches: tuple[int, ...]) -> dict:
    rows = []
    with workers(*ENGINES) as engines:
        figures = described(engines)
        for net in tqdm(scale.nets, unit="net", disable=None):
            _, weights = compare_training({"ours": engines["ours"]}, net)
            for batch in batches:
                rows.append({"net": net, "batch": batch} | _in_turn(engines, net, batch, weights, method, scale))
    return figures | {"rows": rows}


def _in_turn(engines: dict[str, Worker], net: str, batch: int, weights: dict, method: str, scale: Scale) -> dict:
    """Time one method of all engines; what it returns first is compared, and its time not counted."""
    job = make_job(net, batch)
    outputs, seconds = {}, {name: [] for name in engines}
    for name, worker in engines.items():
        worker.ask("deploy", job, weights)
        _, outputs[name] = worker.ask(method)
    differences = {name: difference(outputs["ours"], found) for name, found in outputs.items() if name != "ours"}
    bound = SAME_OUTPUTS if method == "predict" else SAME_GRADIENTS
    for name, found in differences.items():
        check_same(net, name, "outputs" if method == "predict" else "gradients", found, bound)
    for _ in range(scale.prediction_turns):
        for name, worker in engines.items():
            seconds[name].append(worker.timed(method)[0])
    return {"differences": differences, "seconds": seconds, "ratios": ratios(seconds)}


def memory(scale: Scale) -> dict:
    """Measure the most memory that training takes: each engine and net in a fresh process, two iterations."""
    rows = {}
    for net in tqdm(scale.nets, unit="net", disable=None):
        job = make_job(net, scale.batch or own_batch(net))
        rows[net] = {"batch": job.batch, "engines": {name: peak(name, job) for name in ENGINES}}
    return {"rows": rows}


def peak(engine: str, job: Job) -> dict[str, int]:
    """Return the bytes of a fresh process before it makes a net, and the most that it holds in two iterations."""
    with workers(engine) as started:
        worker = started[engine]
        worker.ask("about")
        before = worker.memory()["now"]
        worker.ask("train", job, None)
        worker.ask("step")
        worker.ask("step")
        return {"before": before, "peak": worker.memory()["peak"]}
