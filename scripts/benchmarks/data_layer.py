"""Benchmarks of Caffe's Data layer: what an encoding costs, and whether training waits for data.

Each function takes the working folder and a Scale, and returns figures for JSON. Caffe runs in processes of their own,
on the CPU; times are wall-clock or processor seconds.
"""

import tempfile
import time
from itertools import islice
from pathlib import Path

import cv2
import lmdb
import numpy as np

from data_prep.core.process_pool import run_in_fresh_process
from data_prep.database import lmdb_io
from scripts.benchmarks.database_build import Scale, database
from scripts.nets import definitions
from scripts.nets.solver import from_database, from_memory, make_solver, timed_step

PNG_LEVEL, PNG_STRATEGY = cv2.IMWRITE_PNG_COMPRESSION, cv2.IMWRITE_PNG_STRATEGY
ENCODINGS: dict[str, tuple[str, list[int]]] = {  # not WebP: writing it takes 12 ms, as long as all else for a crop
    "PNG, OpenCV's settings": (".png", []),
    "PNG, stored (level 0)": (".png", [PNG_LEVEL, 0]),
    "PNG, Huffman only": (".png", [PNG_LEVEL, 1, PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]),
    "PNG, level 1": (".png", [PNG_LEVEL, 1]),
    "PNG, level 9": (".png", [PNG_LEVEL, 9]),
    "TIFF, uncompressed": (".tiff", [cv2.IMWRITE_TIFF_COMPRESSION, cv2.IMWRITE_TIFF_COMPRESSION_NONE]),
    "BMP": (".bmp", []),
    "PGM": (".pgm", []),
    "pixels, three channels": ("", []),
}
"""The file formats that were thought of, as OpenCV's ending and parameters; "" is a Datum that is not encoded."""

DATA_LAYER = """
layer {{
  name: "data" type: "Data" top: "data" top: "label"
  transform_param {{ mirror: true crop_size: 224 mean_value: 104 mean_value: 117 mean_value: 123 {force_color} }}
  data_param {{ source: "{source}" backend: LMDB batch_size: {batch} }}
}}
layer {{ name: "silence" type: "Silence" bottom: "data" bottom: "label" }}
"""
DATA_LAYER_BATCH = 64


def encodings(work: Path, scale: Scale) -> dict:
    """Write the same crops in each encoding; time writing them, and Caffe's Data layer reading them."""
    records = list(islice(lmdb_io.records(database(work, scale) / "train"), scale.records))
    rows: dict[str, dict] = {}
    with tempfile.TemporaryDirectory(dir=work) as folder:
        sources = {name: Path(folder, str(number)) for number, name in enumerate(ENCODINGS)}
        for name, source in sources.items():
            rows[name] = write(source, records, *ENCODINGS[name]) | {"wall": [], "cpu": []}
        for _ in range(scale.repeats):
            for name, source in sources.items():
                wall, cpu = run_in_fresh_process(data_layer_times, source, bool(ENCODINGS[name][0]), scale.batches)
                rows[name]["wall"].append(wall)
                rows[name]["cpu"].append(cpu)
    return {"records": len(records), "batch": DATA_LAYER_BATCH, "rows": rows}


def write(folder: Path, records: list[lmdb_io.Record], ending: str, parameters: list[int]) -> dict:
    """Write an LMDB of the crops in one encoding; return the bytes on disk and the encoding's seconds, a record."""
    began = time.process_time()
    if ending:
        images = [cv2.imencode(ending, record.image, parameters)[1].tobytes() for record in records]
    else:
        images = [np.repeat(record.image[None], 3, axis=0).tobytes() for record in records]
    seconds = time.process_time() - began
    Datum = definitions.import_caffe().proto.caffe_pb2.Datum
    with lmdb.open(str(folder), map_size=1 << 33) as environment, environment.begin(write=True) as transaction:
        for record, image in zip(records, images, strict=True):
            rows, columns = record.image.shape
            datum = Datum(channels=1 if ending else 3, height=rows, width=columns, label=record.label, data=image)
            datum.encoded = bool(ending)
            transaction.put(record.key.encode(), datum.SerializeToString())
    size = (folder / "data.mdb").stat().st_size
    return {"bytes": size / len(records), "encode": seconds / len(records)}


def data_layer_times(source: Path, encoded: bool, batches: int) -> tuple[float, float]:
    """Return the seconds an image, by the wall and of the processor, that a net of a Data layer alone takes."""
    caffe = definitions.import_caffe()
    caffe.set_mode_cpu()
    force_color = "force_color: true" if encoded else ""
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(DATA_LAYER.format(source=source, batch=DATA_LAYER_BATCH, force_color=force_color))
        file.flush()
        net = caffe.Net(file.name, caffe.TRAIN)
    for _ in range(8):  # twice what the layer reads ahead
        net.forward()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(batches):
        net.forward()
    images = batches * DATA_LAYER_BATCH
    return (time.perf_counter() - wall) / images, (time.process_time() - cpu) / images


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
