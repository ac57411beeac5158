"""Benchmark of Caffe's Data layer: whether training waits for data. Caffe runs in a process of its own, on the CPU."""

from pathlib import Path

import numpy as np

from data_prep.core.process_pool import run_in_fresh_process
from scripts.benchmarks.database_build import Scale, database
from scripts.nets import definitions
from scripts.nets.solver import from_database, from_memory, make_solver, timed_step


def training(work: Path, scale: Scale) -> dict:
    """Train each net from the database and from a DummyData layer of the same shape, iteration by iteration in turn."""
    folder = database(work, scale)
    rows = {}
    for net, (batch, pairs) in scale.pairs.items():
        times = run_in_fresh_process(training_times, net, folder, batch, pairs)
        data, dummy, data_cpu, dummy_cpu = np.transpose(times)
        rows[net] = {
            "batch": batch,
            "data": data.tolist(),
            "dummy": dummy.tolist(),
            "ratios": (data / dummy).tolist(),
            "cpu_ratios": (data_cpu / dummy_cpu).tolist(),
        }
    return {"rows": rows}


def training_times(net: str, folder: Path, batch: int, pairs: int) -> list[tuple[float, float, float, float]]:
    """Return the seconds of pairs of iterations: with Data and with DummyData, by the wall, then of the processor.

    Both solvers start from the same weights, and the DummyData layer holds the other's last batch, so both compute the
    same. The first pair, in which memory is taken, is left out. RuntimeError should their losses differ.
    """
    caffe = definitions.import_caffe()
    caffe.set_mode_cpu()
    with_data = make_solver(net, from_database(net, batch, folder))
    with_dummy = make_solver(net, from_memory(net, batch))
    for name, blobs in with_data.net.params.items():
        for blob, other in zip(blobs, with_dummy.net.params[name], strict=True):
            other.data[...] = blob.data
    rows = []
    for number in range(pairs + 1):
        data, data_cpu = timed_step(with_data, number)
        for top in ("data", "label"):
            with_dummy.net.blobs[top].data[...] = with_data.net.blobs[top].data
        dummy, dummy_cpu = timed_step(with_dummy, number)
        losses = [float(each.net.blobs["loss"].data) for each in (with_data, with_dummy)]
        if losses[0] != losses[1]:
            raise RuntimeError(f"{net}: losses {losses}: the two solvers do not compute the same")
        rows.append((data, dummy, data_cpu, dummy_cpu))
    return rows[1:]
