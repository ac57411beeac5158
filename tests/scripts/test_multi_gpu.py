"""Batches divided: among passes (iter_size), and among processes as on several GPUs, here on the CPU (cpu_ranks.py)."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from data_prep.core.errors import InputError
from data_prep.core.locks import locked
from scripts.evaluation import run_files
from scripts.nets import definitions, device
from scripts.nets.caffemodel import read_weights
from scripts.training import loop, multi_gpu, run_folder, snapshots
from scripts.training.settings import Settings, parts_of
from tests.helpers import cpu_ranks, databases

caffe = definitions.import_caffe()
GOOGLENET = ("--net", "googlenet")


@pytest.fixture
def root(tmp_path, database, monkeypatch):
    """The working folder, laid out like the repository's root."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "lmdb").symlink_to(database)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """10 training images as large as GoogLeNet's crop, which is then the same whatever is drawn."""
    return databases.write_counts(tmp_path_factory.mktemp("data") / "lmdb", train=10, val=4, size=224)


def start(*options, connect="connect"):
    return subprocess.Popen(
        [*cpu_ranks.command(connect), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(definitions.ROOT)},
        start_new_session=True,
    )


def train(*options, connect="connect"):
    """Run train.py to its end; return exit status, standard output, standard error.

    Each process holds the pipes open, so this returns when all of them have ended.
    """
    process = start(*options, connect=connect)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def settings(**changes):
    values = {"net": "googlenet", "data": "data/lmdb", "data_digest": "", "weights": None, "from_scratch": True}
    values |= {"seed": 1, "batch": 4, "epochs": None, "iterations": 4, "evaluate_every": 1, "train_images": 10}
    return Settings(**values | {"val_images": 4, "val_batch": 4, "parts": 1} | changes)


def begin(folder, **changes):
    """Make the folder of a GoogLeNet run in which nothing is random but the first weights."""
    train_val = definitions.read_prototxt(definitions.prototxt("googlenet", "train_val"))
    kept = [layer for layer in train_val.layer if layer.type != "Dropout"]  # in place: no name leads to it
    del train_val.layer[:]
    train_val.layer.extend(kept)
    definitions.data_layer(train_val, "TRAIN").transform_param.mirror = False
    digest = json.loads(Path("data/lmdb/manifest.json").read_text())["digest"]
    run = settings(data_digest=digest, **changes)
    run_folder.create(folder, run, {"gpu": None, "command": "train.py"}, train_val)
    path = folder / run_folder.SOLVER  # at a low rate: rounding, at the kinks of ReLU and max pooling, grows with it
    path.write_text(re.sub(r"(?m)^base_lr: .*", "base_lr: 1e-4", path.read_text()))


def weights_of(folder, iteration):
    """Return a snapshot's weights and biases as one vector."""
    param = read_weights(snapshots.file_of(folder, iteration, ".caffemodel"))
    return np.concatenate([blob.data for layer in param.layer for blob in layer.blobs])


def log(folder):
    with (folder / "log.csv").open(newline="") as file:
        return [{name: float(row[name]) for name in run_files.COLUMNS[:-1]} for row in csv.DictReader(file)]


# ---- the same training, however its batches are divided


@pytest.fixture(scope="module")
def undivided(tmp_path_factory, database):
    """Four iterations of four images, whole: first weights, last weights, log."""
    root = tmp_path_factory.mktemp("root")
    (root / "data").mkdir()
    (root / "data" / "lmdb").symlink_to(database)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        folder = Path("runs/whole")
        begin(folder)
        net = loop.open_solver(folder, done=0).net
        first = np.concatenate([blob.data.ravel() for blobs in net.params.values() for blob in blobs])
        status, _, err = train(*GOOGLENET, "--out", "runs/whole", "--resume")
        assert status == 0, err
        return first, weights_of(folder, 4), log(folder)


@pytest.mark.slow
@pytest.mark.parametrize(("parts", "gpus"), [(2, "0"), (2, "0,1"), (4, "0,1")])
def test_divided_batches_give_the_same_weights_and_log(parts, gpus, root, undivided):
    """Passes; processes; both. The ten images are passed once and begun again on the way."""
    first, last, rows = undivided
    folder = Path("runs/divided")
    begin(folder, parts=parts)
    status, out, err = train(*GOOGLENET, "--out", "runs/divided", "--resume", "--gpu", gpus)
    assert status == 0, err
    assert out.splitlines()[-1].startswith("runs/divided/snapshot_iter_4.caffemodel: finished")
    moved = np.linalg.norm(last - first)
    assert moved > 1e-3
    assert np.linalg.norm(weights_of(folder, 4) - last) < 1e-2 * moved
    assert len(rows) == 4
    for row, whole in zip(log(folder), rows, strict=True):
        assert row == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_together_read_the_records_of_one(processes, root):
    """Caffe's data layer, three iterations of six images from a set of ten."""

    def read(rank, count):
        caffe.set_solver_count(count)
        caffe.set_solver_rank(rank)
        try:
            run_folder.write_prototxts(Path(f"{count}"), settings(batch=6, parts=count))
            train_val = definitions.read_prototxt(Path(f"{count}") / run_folder.TRAIN_VAL)
            layer = definitions.data_layer(train_val, "TRAIN")
            layer.transform_param.mirror = False
            Path("data.prototxt").write_text(f"layer {{ {layer} }}")
            net = caffe.Net("data.prototxt", caffe.TRAIN)
            return [net.forward() and [image.tobytes() for image in net.blobs["data"].data] for _ in range(3)]
        finally:
            caffe.set_solver_count(1)
            caffe.set_solver_rank(0)

    whole = read(0, 1)
    shares = [read(rank, processes) for rank in range(processes)]
    assert len({*whole[0], *whole[1]}) == 10
    for iteration, images in enumerate(whole):
        assert [share[iteration] for share in shares] == [images[rank::processes] for rank in range(processes)]


def test_dropout_of_each_process_is_its_own_and_the_same_again(root):
    layers = (
        'layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param { '
        "data_filler { value: 1 } data_filler { value: 0 } shape { dim: [1, 1000] } shape { dim: 1 } } }"
        'layer { name: "drop" type: "Dropout" bottom: "data" top: "drop" }'
        'layer { name: "score" type: "InnerProduct" bottom: "drop" top: "score" inner_product_param { num_output: 2 } }'
        'layer { name: "accuracy" type: "Accuracy" bottom: "score" bottom: "label" top: "accuracy" }'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }'
    )
    Path("solver.prototxt").write_text(f'net_param {{ {layers} }} base_lr: 0.1 lr_policy: "fixed"')

    def masks(rank):
        caffe.set_solver_rank(rank)
        try:
            solver = caffe.get_solver("solver.prototxt")
            step = loop.stepper(solver, settings())
            return [step() and solver.net.blobs["drop"].data.tobytes() for _ in range(2)]
        finally:
            caffe.set_solver_rank(0)

    assert masks(1) == masks(1)
    assert len({*masks(0), *masks(1), *masks(2)}) == 6


# ---- stop and resume


STOPPED = (*GOOGLENET, "--from-scratch", "--batch", "4", "--iter-size", "2", "--gpu", "0,1", "--iterations", "4")


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory, database):
    """The folder of such a run that was not stopped."""
    folder = tmp_path_factory.mktemp("whole")
    status, _, err = train(*STOPPED, "--data", str(database), "--out", str(folder / "run"))
    assert status == 0, err
    return folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize(("connect", "sent"), [("sigterm_to_parent", signal.SIGTERM), ("sigint_to_all", signal.SIGINT)])
def test_stopped_and_resumed_run_equals_one_that_never_stopped(connect, sent, root, never_stopped):
    """Dropout, mirroring and crops in two processes, of two passes each: to the bit."""
    status, out, err = train(*STOPPED, "--out", "runs/stopped", connect=connect)
    assert status == 128 + sent, err
    assert len(err.splitlines()) == 1, err
    assert err.startswith("stopped after iteration 3 of 4; to go on: python scripts/train.py --net googlenet")
    assert "finished" not in out
    stopped = Path("runs/stopped")
    assert json.loads((stopped / "run.json").read_text())["iteration"] == snapshots.newest_whole(stopped)[0] == 3
    # Nothing was typed of the GPUs: as the run used them last.
    status, _, err = train(*GOOGLENET, "--out", "runs/stopped", "--resume")
    assert status == 0, err
    assert np.array_equal(weights_of(stopped, 4), weights_of(never_stopped, 4))
    assert log(stopped) == log(never_stopped)
    assert json.loads((stopped / "run.json").read_text())["gpu"] == "0,1"
    assert {path.suffix for path in stopped.iterdir()} == {".prototxt", ".json", ".csv", ".html", *snapshots.ENDINGS}


@pytest.mark.slow
def test_run_goes_on_with_another_number_of_gpus_where_its_parts_allow_it(root):
    options = (*GOOGLENET, "--from-scratch", "--batch", "4", "--out", "runs/x")
    assert train(*options, "--gpu", "0,1", "--iterations", "1")[0] == 0
    folder = Path("runs/x")
    content = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(content | {"iterations": 2, "evaluate_every": 1}))
    for gpus, more in (("0,1,2", ()), ("0,1,2,3", ()), ("0", ("--iter-size", "1")), ("0,1", ("--iter-size", "2"))):
        status, _, err = train(*GOOGLENET, "--out", "runs/x", "--resume", "--gpu", gpus, *more)
        assert status == 2
        assert len(err.splitlines()) == 1
        assert "began with batches in 2 part(s)" in err
    status, out, err = train(*GOOGLENET, "--out", "runs/x", "--resume", "--gpu", "0")
    assert status == 0, err
    assert "runs/x: going on after iteration 1 of 2" in out.splitlines()
    assert [row["iteration"] for row in log(folder)] == [1, 2]


def test_run_from_before_batches_could_be_divided_is_one_part(root):
    run_folder.create(Path("runs/old"), settings(), {"gpu": None, "command": "python scripts/train.py"})
    content = json.loads(Path("runs/old/run.json").read_text())
    del content["parts"]
    Path("runs/old/run.json").write_text(json.dumps(content))
    assert run_folder.read_run(Path("runs/old"))[0].parts == 1


# ---- a process that dies


@pytest.mark.slow
@pytest.mark.parametrize(
    ("connect", "why"),
    [
        ("first_dies", "SIGKILL"),
        ("second_dies", "SIGKILL"),
        ("abort", "SIGABRT"),
        ("goes_wrong", "see its output above"),
    ],
)
def test_process_that_dies_ends_the_others_with_one_line(connect, why, root):
    options = (*GOOGLENET, "--from-scratch", "--batch", "2", "--iterations", "3", "--gpu", "0,1")
    status, _, err = train(*options, connect=connect)
    assert status == 2
    assert err.splitlines()[-1] == f"error: GPU None: its process died ({why}); go on with --resume"
    assert len(err.splitlines()) == 1 or connect == "goes_wrong"
    with locked(Path("runs/googlenet")):
        pass


@pytest.mark.slow
def test_processes_end_with_their_parent(root):
    options = (*GOOGLENET, "--from-scratch", "--batch", "2", "--iterations", "3", "--gpu", "0,1")
    process = start(*options, connect="nobody_dies")
    while "waiting" not in process.stdout.readline():
        assert process.poll() is None
    process.kill()
    process.communicate(timeout=600)  # returns when none of them holds the pipes any longer


@pytest.mark.slow
def test_divergence_stops_all_with_one_line(root):
    begin(Path("runs/first"))
    net = loop.open_solver(Path("runs/first"), done=0).net
    *_, classifier = net.params.values()
    classifier[0].data[...] = np.nan
    net.save("nan.caffemodel")
    begin(Path("runs/x"), parts=2, weights="nan.caffemodel")
    status, _, err = train(*GOOGLENET, "--out", "runs/x", "--resume", "--gpu", "0,1")
    assert status == 2
    assert len(err.splitlines()) == 1
    assert err.startswith("error: diverged")


# ---- what is refused


def test_batch_is_divided_evenly_or_not_at_all():
    assert [parts_of(256, 2, 1), parts_of(256, 4, 8), parts_of(64, 1, 1)] == [2, 32, 1]
    with pytest.raises(InputError, match=r"--batch 64: .* 3 GPU\(s\) x --iter-size 1; give --batch 63 or 66,"):
        parts_of(64, 3, 1)
    with pytest.raises(InputError, match=r"--iter-size 4; give --batch 8,"):
        parts_of(4, 2, 4)


def test_several_gpus_need_nccl(monkeypatch):
    """pycaffe has a class NCCL in any build; without the library it does nothing."""
    if caffe.has_nccl():
        pytest.skip("this Caffe has NCCL")
    monkeypatch.setattr(device, "usable_gpus", lambda typed: [0, 1])
    with pytest.raises(InputError, match="--gpu all: 2 GPUs need NCCL, and this Caffe is built without it"):
        multi_gpu.usable("all")


@pytest.mark.skipif(not caffe.has_nccl(), reason="this Caffe is built without NCCL")
def test_nccl_id_is_whole():
    """Its 128 bytes hold zeros; cut at the first one it would join nothing."""
    assert len(caffe.NCCL.new_uid()) == 128


@pytest.mark.parametrize("typed", ["0,1", "all", "0,99"])
def test_gpus_that_are_not_there(typed):
    if shutil.which("nvidia-smi"):
        pytest.skip("for machines without a GPU")
    with pytest.raises(InputError, match=f"--gpu {typed}: (this Caffe is built without CUDA|NVIDIA driver missing)"):
        multi_gpu.usable(typed)


@pytest.mark.parametrize("typed", ["", "0,", "a", "0 1", "-1"])
def test_what_is_no_list_of_gpus(typed):
    with pytest.raises(InputError, match="give the id of a GPU"):
        multi_gpu.usable(typed)
