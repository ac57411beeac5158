"""Comparison of two Caffes on the three nets: passes, trainings, and their page, for scripts/same_caffe.py.

Each Caffe runs in a process of its own (`in_caffe`). Weights and results pass from one to the other as files in a
folder; every figure is relative to the first Caffe's: max |a - b| / max |a|, array by array.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np

from data_prep.core.process_pool import run_in_fresh_process
from scripts.benchmarks.engine_process import STOCK
from scripts.nets import definitions, inference
from scripts.nets.solver import from_memory, make_solver
from scripts.reporting.page_templates import render

BATCH = 4
SEED = 1
WEIGHTS, START = "weights.caffemodel", "start.npz"
STATISTICS = "statistics of "
PASSES = {"TRAIN": "in training", "TEST": "deployed"}
SAME_PASS = 1e-4
"""Bound of the difference of an output or gradient: max |a - b| / max |a|."""
ITERATIONS, REPEATED = 50, 10
RATES = {"1": "at its rate", "0.01": "at a hundredth of it"}
"""Factors of the solver's rate, as the JSON file names them."""
TIMES_OWN = 10
ALWAYS_ALLOWED = {"losses": 1e-5, "weights": 1e-2}
"""Whatever stock Caffe on one thread does: on a machine with one core it does the same as on all."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
Arrays = Mapping[str, np.ndarray]


def in_caffe(package: Path | None, environment: dict[str, str], function: Callable, *arguments):
    """Return a function's result from a process whose Caffe is the one in the folder `package` (None: .venv's own)."""
    return run_in_fresh_process(function, *arguments, initializer=_load_caffe, initargs=(package, environment))


def _load_caffe(package: Path | None, environment: dict[str, str]) -> None:
    os.environ |= environment | {"GLOG_minloglevel": "2"}  # read by Caffe's libraries, which are not loaded yet
    if package:
        sys.path.insert(0, str(package))
    definitions.import_caffe().set_mode_cpu()


def put_images(net, number: int) -> None:
    """Put batch `number` into a net: smooth grey images less ImageNet's mean, and the labels 0, 1, 0, 1."""
    rng = np.random.default_rng(number)
    batch, _, side, _ = net.blobs["data"].shape
    smooth = [cv2.GaussianBlur(noise, None, 4) for noise in rng.normal(size=(batch, side, side))]
    grey = np.stack([cv2.normalize(each, None, 0, 255, cv2.NORM_MINMAX).round() for each in smooth])
    net.blobs["data"].data[...] = grey[:, None] - np.array([104, 117, 123])[:, None, None]
    if "label" in net.blobs:
        net.blobs["label"].data[...] = np.arange(batch) % 2


def make_weights(name: str, folder: Path) -> None:
    """Write a net's first weights, random by the solver's seed, with batch norm's statistics of one batch."""
    net = make_solver(name, from_memory(name, BATCH)).net
    put_images(net, 0)
    net.forward()
    net.save(str(folder / WEIGHTS))
    np.savez(folder / START, **parameters(net, "data"))


def write_pass(name: str, phase: str, folder: Path, dropout: bool = True) -> None:
    """Write every output and every gradient of one pass through a net."""
    net = _load(name, phase, folder, dropout)
    np.savez(folder / "outputs.npz", **outputs(net))
    np.savez(folder / "gradients.npz", **gradients(net))


def compare_pass(name: str, phase: str, folder: Path, dropout: bool = True) -> dict[str, dict[str, float]]:
    """Return by how much this Caffe's pass differs from the written one, array by array, in the net's order.

    "outputs": of every layer, in a pass of its own. "layers": of every layer when it is given the inputs that it had
    in the other Caffe. "gradients": of the weights and of the images, in the backward pass that follows this. Where a
    ReLU's input is zero but for rounding, or two inputs of a max pooling are equal but for rounding, rounding decides
    where a gradient goes; with the same inputs, both Caffes decide alike.
    """
    net = _load(name, phase, folder, dropout)
    with np.load(folder / "outputs.npz") as given, np.load(folder / "gradients.npz") as wanted:
        found = {"outputs": differences(given, outputs(net))}
        net.copy_from(str(folder / WEIGHTS))  # the pass has changed batch norm's statistics
        found["layers"] = differences(given, outputs(net, given))
        found["gradients"] = differences(wanted, gradients(net))
    return found


def _load(name: str, phase: str, folder: Path, dropout: bool):
    """Return a net with the written weights and a batch of images; its `backward` goes down to the images."""
    if phase == "TEST":
        net = inference.load_deploy(name, folder / WEIGHTS, BATCH)
        net.blobs["prob"].diff[:, 1] = 1  # of the malignant class
    else:
        train_val = from_memory(name, BATCH, dropout)
        train_val.force_backward = True
        train_val.layer.remove(next(layer for layer in train_val.layer if layer.type == "Accuracy"))  # has no backward
        net = make_solver(name, train_val).net
        net.copy_from(str(folder / WEIGHTS))
    put_images(net, 0)
    return net


def outputs(net, given: Arrays | None = None) -> dict[str, np.ndarray]:
    """Run a net's layers one by one and return what each has put out, by "layer: blob", and batch norm's statistics.

    Each output that is `given` then takes the place of the layer's own, so that it is what the next layers get.
    """
    definitions.import_caffe().set_random_seed(SEED)  # dropout draws from it
    found = {}
    for number, (layer, tops) in enumerate(net.top_names.items()):
        if not net.bottom_names[layer]:
            continue  # holds the images
        net._forward(number, number)
        for top in tops:
            found[f"{layer}: {top}"] = net.blobs[top].data.copy()
            if given is not None:
                net.blobs[top].data[...] = given[f"{layer}: {top}"]
        if net.layer_dict[layer].type == "BatchNorm":
            found |= {f"{STATISTICS}{layer} {n}": blob.data.copy() for n, blob in enumerate(net.params[layer])}
    return found


def gradients(net) -> dict[str, np.ndarray]:
    """Run a net backward and return the gradients of the parameters, by "layer number", and of the images, "data"."""
    net.clear_param_diffs()
    net.backward()
    return parameters(net, "diff") | {"data": net.blobs["data"].diff.copy()}


def parameters(net, what: str) -> dict[str, np.ndarray]:
    """Return the "data" or the "diff" of all parameters, by "layer number"; batch norm's carry a mark before it."""
    marks = {layer: STATISTICS if net.layer_dict[layer].type == "BatchNorm" else "" for layer in net.params}
    return {
        f"{marks[layer]}{layer} {number}": getattr(blob, what).copy()
        for layer, blobs in net.params.items()
        for number, blob in enumerate(blobs)
    }


def differences(one: Arrays, other: Arrays) -> dict[str, float]:
    """Return the relative difference of each array. KeyError where one of them has an array that the other has not."""
    return {name: difference(one[name], other[name]) for name in dict.fromkeys([*one, *other])}


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return max |one - other| / max |one|; infinite where it is no number or only `one` is all zeros."""
    if one.shape != other.shape:
        raise ValueError(f"shapes {one.shape} and {other.shape}")
    if np.array_equal(one, other):
        return 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        found = float(np.abs(one - other).max() / np.abs(one).max())
    return found if np.isfinite(found) else float("inf")


def train(name: str, folder: Path, iterations: int, rate: float, out: str) -> list[float]:
    """Train a net from the written weights, a new batch each iteration; write its weights, return its losses.

    Everything random follows from the solver's one seed.
    """
    training = make_solver(name, from_memory(name, BATCH), rate)
    training.net.copy_from(str(folder / WEIGHTS))
    losses = []
    for number in range(iterations):
        put_images(training.net, number)
        training.step(1)
        losses.append(float(training.net.blobs["loss"].data))
    np.savez(folder / out, **parameters(training.net, "data"))
    return losses


def relative_weight_distance(folder: Path, one: str, other: str) -> float:
    """Return |one - other| / |one - START|, by Euclidean norm, of all weights in files that `train` wrote.

    Batch norm's statistics are left out: their numbers are so large that they would hide the weights'.
    """
    with np.load(folder / START) as start, np.load(folder / one) as first, np.load(folder / other) as second:
        names = [name for name in start if not name.startswith(STATISTICS)]
        way = sum(np.square(first[name] - start[name], dtype=np.float64).sum() for name in names)
        between = sum(np.square(first[name] - second[name], dtype=np.float64).sum() for name in names)
    return float(np.sqrt(between / way))


def digest(file: Path) -> str:
    """Return a digest of the arrays in a file that `train` wrote."""
    with np.load(file) as arrays:
        return hashlib.sha256(b"".join(name.encode() + arrays[name].tobytes() for name in sorted(arrays))).hexdigest()


def compare(net: str, folder: Path) -> dict:
    """Return all differences of a net's passes and trainings. `folder` takes what the Caffes compute, up to 2 GB."""
    in_caffe(STOCK, {}, make_weights, net, folder)
    return {
        "passes": {phase: compare_passes(net, phase, folder) for phase in PASSES},
        "training": {factor: compare_training(net, float(factor), folder) for factor in RATES},
        "repeated": [repeat(net, folder) for _ in range(2)],
    }


def compare_passes(net: str, phase: str, folder: Path) -> dict[str, dict]:
    """Return the largest difference of each kind, which array has it, and of how many."""
    in_caffe(STOCK, {}, write_pass, net, phase, folder)
    found = in_caffe(None, {}, compare_pass, net, phase, folder)
    return {
        kind: {"largest": max(each.values()), "of": max(each, key=each.get), "arrays": len(each)}
        for kind, each in found.items()
    }


def compare_training(net: str, factor: float, folder: Path) -> dict[str, dict]:
    """Return how far trainings in our Caffe, and in stock Caffe on one thread, come from stock Caffe's; all losses."""
    rate = factor * own_rate(net)
    losses = {
        who: in_caffe(package, threads, train, net, folder, ITERATIONS, rate, f"{who}.npz")
        for who, package, threads in (("stock", STOCK, {}), ("one thread", STOCK, ONE_THREAD), ("ours", None, {}))
    }
    found = {
        who: {
            "losses": difference(np.array(losses["stock"]), np.array(losses[who])),
            "weights": relative_weight_distance(folder, "stock.npz", f"{who}.npz"),
        }
        for who in ("ours", "one thread")
    }
    allowed = {what: max(TIMES_OWN * found["one thread"][what], least) for what, least in ALWAYS_ALLOWED.items()}
    return found | {"allowed": allowed, "all losses": losses}


def own_rate(net: str) -> float:
    """Return the base_lr of a net's solver."""
    return definitions.read_prototxt(definitions.solver_prototxt(net), "SolverParameter").base_lr


def repeat(net: str, folder: Path) -> str:
    """Return a digest of the weights that a short training in our Caffe ends with."""
    in_caffe(None, {}, train, net, folder, REPEATED, own_rate(net), "repeated.npz")
    return digest(folder / "repeated.npz")


def outside(net: str, found: dict) -> list[str]:
    """Return a line for each bound that a net's figures break."""
    lines = [
        f"{net}, {PASSES[phase]}: {kind} differ by {each['largest']:.1e} ({each['of']}); allowed are {SAME_PASS:g}"
        for phase, kinds in found["passes"].items()
        for kind, each in kinds.items()
        if not each["largest"] <= SAME_PASS
    ]
    lines += [
        f"{net}, {RATES[factor]}: {what} differ by {training['ours'][what]:.1e}; allowed are {bound:.1e}"
        for factor, training in found["training"].items()
        for what, bound in training["allowed"].items()
        if not training["ours"][what] <= bound
    ]
    if len(set(found["repeated"])) > 1:
        lines.append(f"{net}: {REPEATED} iterations in our Caffe, twice, end with different weights")
    return lines


def make_page(about: dict, figures: dict, broken: list[str]) -> str:
    """Return the tables in Markdown."""
    return render(
        "same_caffe.md",
        about=about,
        figures=figures,
        broken=broken,
        batch=BATCH,
        passes=PASSES,
        same_pass=SAME_PASS,
        rates=RATES,
        iterations=ITERATIONS,
        times_own=TIMES_OWN,
        repeated=REPEATED,
    )
