"""Caffe's solvers of the nets' hand-written files, for benchmarks: without evaluation and snapshots."""

import time
from pathlib import Path

from google.protobuf import json_format, text_format

from data_prep.core.files import scratch_folder
from data_prep.database import lmdb_io
from scripts.nets import definitions


def timed_step(solver, number: int) -> tuple[float, float]:
    """Return the wall-clock and processor seconds of one iteration."""
    definitions.import_caffe().set_random_seed(number)  # dropout draws from it
    wall, cpu = time.perf_counter(), time.process_time()
    solver.step(1)
    return time.perf_counter() - wall, time.process_time() - cpu


def from_database(net: str, batch: int, folder: Path):
    """Return a net's hand-written train_val NetParameter without its TEST data, fed from a database's folder."""
    train_val = _in_training(net)
    layer = definitions.data_layer(train_val, "TRAIN")
    layer.data_param.source = str(folder / "train")
    layer.data_param.batch_size = batch
    if layer.transform_param.HasField("mean_file"):
        layer.transform_param.mean_file = str(folder / lmdb_io.MEAN)
    return train_val


def from_memory(net: str, batch: int, dropout: bool = True):
    """Return the same NetParameter with a DummyData layer: what is put into its blobs stays there.

    Without `dropout` its layers are left out, so that nothing in the net is random.
    """
    train_val = _in_training(net)
    layer = definitions.data_layer(train_val, "TRAIN")
    side = layer.transform_param.crop_size
    layer.type = "DummyData"
    layer.ClearField("data_param")
    layer.ClearField("transform_param")
    layer.dummy_data_param.shape.add(dim=[batch, 3, side, side])
    layer.dummy_data_param.shape.add(dim=[batch])
    if not dropout:
        kept = [layer for layer in train_val.layer if layer.type != "Dropout"]  # in place: no name leads to it
        del train_val.layer[:]
        train_val.layer.extend(kept)
    return train_val


def _in_training(net: str):
    train_val = definitions.read_net(net)
    train_val.layer.remove(definitions.data_layer(train_val, "TEST"))
    return train_val


def solver_param(net: str):
    """Return a net's hand-written SolverParameter with nothing in it but how weights are updated."""
    param = definitions.read_prototxt(definitions.solver_prototxt(net), "SolverParameter")
    for name in ("net", "test_iter", "test_interval", "display", "snapshot", "snapshot_prefix"):
        param.ClearField(name)
    param.snapshot_after_train = False
    return param


def make_solver(net: str, train_val, base_lr: float | None = None):
    """Return Caffe's solver of a net with this NetParameter, at the hand-written rate unless `base_lr` is given."""
    param = solver_param(net)
    param.net_param.CopyFrom(train_val)
    if base_lr is not None:
        param.base_lr = base_lr
    with scratch_folder() as folder:
        path = folder / "solver.prototxt"
        path.write_text(text_format.MessageToString(param))
        return definitions.import_caffe().get_solver(str(path))


def plain(message) -> dict:
    """Return a message as a dict, fields that were left out with their defaults."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True, including_default_value_fields=True)
