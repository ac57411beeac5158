"""Training as a user types it: runs, logs, stops, resumes, errors. Small nets' worth of real Caffe."""

import csv
import importlib.util
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_prep.core.errors import InputError
from data_prep.core.locks import locked
from data_prep.database import lmdb_io, manifest
from scripts.evaluation import run_files
from scripts.nets import caffemodel, definitions, inference
from scripts.nets.solver import from_memory, make_solver
from scripts.reporting import live_page
from scripts.training import run_folder, snapshots
from scripts.training.settings import Settings
from tests.helpers import databases, no_locks

SCRIPT = definitions.ROOT / "scripts" / "train.py"
# The same script, saving after every evaluation: as a run does whose evaluations lie more than a minute apart.
SAVING = (
    "import sys; from scripts import train; from scripts.training import loop; loop.SNAPSHOT_SECONDS = 0; "
    "sys.exit(train.run(train.main))"
)
GOOGLENET = ("--net", "googlenet", "--from-scratch", "--batch", "2")


@pytest.fixture
def root(tmp_path, database):
    """A folder laid out like the repository's root after a small build_lmdb.py."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "lmdb").symlink_to(database)
    return tmp_path


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return databases.write_counts(tmp_path_factory.mktemp("data") / "lmdb", train=10, val=6)


def start(root, *options, saving=False):
    command = [sys.executable, *(["-c", SAVING] if saving else [SCRIPT]), *options]
    return subprocess.Popen(
        command,
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(definitions.ROOT)},
    )


def train(root, *options, saving=False):
    """Run the script to its end; return exit status, standard output, standard error."""
    process = start(root, *options, saving=saving)
    out, err = process.communicate()
    return process.returncode, out, err


def train_until(root, rows, *options, sent=signal.SIGINT, saving=False):
    """Start the script, and send it a signal as soon as it has printed this many evaluations."""
    process = start(root, *options, saving=saving)
    first = process.stdout.readline()
    assert "live.html" in first or "going on" in first, process.stderr.read()
    for _ in range(rows):
        assert process.stdout.readline().startswith("iteration"), process.stderr.read()
    process.send_signal(sent)
    _, err = process.communicate()
    return process.returncode, err


def log(folder):
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def without_seconds(folder):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in log(folder)]


def weights_after(folder, iteration):
    return snapshots.file_of(folder, iteration, ".caffemodel").read_bytes()


# ---- a run


@pytest.fixture(scope="module")
def run(tmp_path_factory, database):
    """A finished baseline run of two epochs and its output."""
    root = tmp_path_factory.mktemp("root")
    (root / "data").mkdir()
    (root / "data" / "lmdb").symlink_to(database)
    status, out, err = train(root, "--net", "baseline", "--batch", "4", "--epochs", "2")
    assert status == 0, err
    return root / "runs" / "baseline", out


@pytest.mark.slow
def test_run_says_where_its_weights_are_and_what_is_next(run):
    folder, out = run
    weights = "runs/baseline/snapshot_iter_5.caffemodel"
    assert out.splitlines()[-1] == f"{weights}: finished; next: python scripts/eval.py --weights {weights}"
    assert caffemodel.newest_snapshot(folder.parent) == folder / "snapshot_iter_5.caffemodel"


@pytest.mark.slow
def test_log_has_a_row_an_epoch_and_the_output_repeats_it(run):
    folder, out = run
    rows = log(folder)
    assert tuple(rows[0]) == run_files.COLUMNS
    assert [(row["iteration"], row["epoch"]) for row in rows] == [("3", "1.2"), ("5", "2.0")]  # of 2.5 iterations
    assert [line.split(",")[0] for line in out.splitlines()[1:-1]] == ["iteration 3", "iteration 5"]
    assert 0 < float(rows[0]["seconds"]) <= float(rows[1]["seconds"])


@pytest.mark.slow
@pytest.mark.parametrize(("rotations", "mirrored"), [(5, True), (0, False)])
def test_images_are_mirrored_only_where_the_training_set_is_augmented(root, rotations, mirrored):
    """The paper's Aug is rotation, cropping and mirroring (section 4.2): No Aug is none of them."""
    databases.write_counts(root / "data" / "own", train=2, val=2, rotations=rotations)
    status, _, err = train(root, "--net", "baseline", "--data", "data/own", "--batch", "2", "--iterations", "1")
    assert status == 0, err
    folder = root / "runs" / "baseline"
    net = definitions.read_prototxt(folder / run_folder.TRAIN_VAL)
    assert definitions.data_layer(net, "TRAIN").transform_param.mirror == mirrored
    assert ("No Aug" in (folder / run_folder.TRAIN_VAL).read_text()) == (not mirrored)
    assert json.loads((folder / "run.json").read_text())["augmented"] == mirrored


@pytest.mark.slow
def test_without_mirroring_and_random_crops_every_pass_shows_the_stored_images(root, monkeypatch):
    """AlexNet takes the stored 227 pixels whole: nothing random is left in its No Aug training images."""
    databases.write_counts(root / "data" / "own", train=3, val=2, rotations=0)
    status, _, err = train(
        root, "--net", "alexnet", "--from-scratch", "--data", "data/own", "--batch", "3", "--iterations", "1"
    )
    assert status == 0, err
    monkeypatch.chdir(root)
    caffe = definitions.import_caffe()
    net = caffe.Net(f"runs/alexnet/{run_folder.TRAIN_VAL}", caffe.TRAIN)
    stored = np.stack([record.image for record in lmdb_io.records(root / "data" / "own" / "train")])
    wanted = inference.preprocess("alexnet", stored, root / "data" / "own")
    for _ in range(4):
        net.forward(end="data")
        np.testing.assert_array_equal(net.blobs["data"].data, wanted)


@pytest.mark.slow
def test_logged_validation_is_that_of_the_deploy_net(run, database):
    """The last row against another way to it: deploy net, our preprocessing, each validation record once."""
    folder, _ = run
    records = list(lmdb_io.records(database / "val"))
    images, labels = np.stack([record.image for record in records]), np.array([record.label for record in records])
    net = inference.load_deploy("baseline", folder / "snapshot_iter_5.caffemodel")
    probabilities = inference.predict(net, inference.preprocess("baseline", images, database))
    row = log(folder)[-1]
    assert float(row["val_accuracy"]) == pytest.approx(np.mean(probabilities.argmax(axis=1) == labels), abs=1e-6)
    of_label = probabilities[np.arange(len(labels)), labels].clip(min=np.finfo(np.float32).tiny)
    assert float(row["val_loss"]) == pytest.approx(-np.log(of_label).mean(), rel=1e-3)


@pytest.mark.slow
def test_run_json_says_what_the_run_was(run, database):
    folder, _ = run
    content = json.loads((folder / "run.json").read_text())
    expected = {"net": "baseline", "data": "data/lmdb", "weights": None, "from_scratch": False, "seed": 1, "batch": 4}
    expected |= {"iterations": 5, "epochs": 2, "train_images": 10, "val_images": 6, "iteration": 5, "gpu": None}
    assert {name: content[name] for name in expected} == expected
    assert content["data_digest"] == manifest.read_json(database)["digest"]
    assert content["command"].endswith("train.py --net baseline --batch 4 --epochs 2")
    assert content["hardware"]["cores"] >= 1
    assert {"commit", "versions", "seconds"} <= set(content)


@pytest.mark.slow
def test_finished_run_keeps_only_what_is_described(run):
    folder, _ = run
    names = {"train_val.prototxt", "solver.prototxt", "run.json", "log.csv", "live.html"}
    assert {path.name for path in folder.iterdir()} == names | {f"snapshot_iter_5{e}" for e in snapshots.ENDINGS}


@pytest.mark.slow
def test_resuming_a_finished_run_only_says_so(run):
    folder, out = run
    status, again, _ = train(folder.parent.parent, "--net", "baseline", "--resume")
    assert status == 0
    assert again.splitlines() == out.splitlines()[-1:]


@pytest.mark.slow
def test_caffe_alone_trains_from_the_runs_files(run):
    folder, _ = run
    command = [Path(sys.executable).with_name("caffe"), "train", "-solver", "runs/baseline/solver.prototxt"]
    loud = os.environ | {"GLOG_minloglevel": "0"}
    for path in folder.glob("snapshot_iter_*"):
        shutil.copy(path, folder.parent)
    before = snapshots.file_of(folder, 5, ".caffemodel").stat().st_mtime_ns
    done = subprocess.run(command, cwd=folder.parent.parent, env=loud, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert snapshots.file_of(folder, 5, ".caffemodel").stat().st_mtime_ns > before
    for path in folder.glob("snapshot_iter_*"):
        path.unlink()
    for path in folder.parent.glob("snapshot_iter_*"):
        path.rename(folder / path.name)


# ---- stop and resume


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "images", "earliest", "sent"),
    [(GOOGLENET, 4, 2, signal.SIGINT), (("--net", "baseline", "--batch", "3"), 10, 4, signal.SIGTERM)],
    ids=["googlenet", "baseline"],
)
def test_stopped_and_resumed_run_equals_one_that_never_stopped(net, images, earliest, sent, root):
    """Dropout, mirroring, crops, SGD; batch norm, mean file, Adam: to the bit."""
    databases.write_counts(root / "data" / "own", train=images, val=4)
    options = (*net, "--data", "data/own", "--epochs", "3")  # evaluated after each, first after iteration `earliest`
    assert train(root, *options, "--out", "runs/whole")[0] == 0
    whole, stopped = root / "runs" / "whole", root / "runs" / "stopped"
    last = json.loads((whole / "run.json").read_text())["iterations"]
    status, err = train_until(root, 1, *options, "--out", "runs/stopped", sent=sent)
    assert status == 128 + sent
    command = err.splitlines()[-1].partition("to go on: python scripts/train.py ")[2].split()
    assert command == [*net[:2], "--out", "runs/stopped", "--resume"]
    stopped_after = json.loads((stopped / "run.json").read_text())["iteration"]
    assert earliest <= stopped_after < last
    status, out, err = train(root, *command)
    assert status == 0, err
    assert out.splitlines()[1] == f"runs/stopped: going on after iteration {stopped_after} of {last}"
    assert weights_after(whole, last) == weights_after(stopped, last)
    assert without_seconds(whole) == without_seconds(stopped)
    assert len(log(whole)) == 3
    assert "--epochs 3" in json.loads((stopped / "run.json").read_text())["command"]  # not that of the resuming


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_stop_within_an_evaluation_saves_when_it_is_done(sent, root):
    code = (
        "import os, sys; from scripts import train; from scripts.training import loop; evaluate = loop.evaluate; "
        f"loop.evaluate = lambda *given: os.kill(os.getpid(), {int(sent)}) or evaluate(*given); "
        "sys.exit(train.run(train.main))"
    )
    command = [sys.executable, "-c", code, "--net", "baseline", "--batch", "2", "--iterations", "50"]
    environment = os.environ | {"PYTHONPATH": str(definitions.ROOT)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 128 + sent, done.stderr
    folder = root / "runs" / "baseline"
    assert [row["iteration"] for row in log(folder)] == ["2"]
    assert snapshots.newest_whole(folder)[0] == 2
    assert done.stderr.startswith("stopped after iteration 2 of 50; to go on: ")


@pytest.mark.slow
def test_killed_run_goes_on_from_its_last_whole_snapshot(root):
    options = ("--net", "baseline", "--batch", "2", "--iterations", "5")
    assert train(root, *options, "--out", "runs/whole")[0] == 0
    status, _ = train_until(root, 4, *options, "--out", "runs/killed", sent=signal.SIGKILL, saving=True)
    assert status == -signal.SIGKILL
    whole, killed = root / "runs" / "whole", root / "runs" / "killed"
    for ending in snapshots.ENDINGS:  # whatever the kill left of the fourth snapshot: be it cut in its last file
        shutil.copy(snapshots.file_of(whole, 5, ending), snapshots.file_of(killed, 4, ending))
    os.truncate(snapshots.file_of(killed, 4, ".solverstate"), 30_000_000)
    with (killed / "log.csv").open("a") as file:
        file.write("4,0.8,0.")
    status, out, err = train(root, *options[:2], "--out", "runs/killed", "--resume")
    assert status == 0, err
    assert out.splitlines()[1] == "runs/killed: going on after iteration 3 of 5"
    assert weights_after(whole, 5) == weights_after(killed, 5)
    assert without_seconds(whole) == without_seconds(killed)


@pytest.mark.slow
def test_newest_two_snapshots_are_kept(root):
    status, _, err = train(root, "--net", "baseline", "--batch", "2", "--iterations", "4", saving=True)
    assert status == 0, err
    assert snapshots.iterations(root / "runs" / "baseline") == [4, 3]


@pytest.mark.slow
def test_run_killed_before_its_first_snapshot_starts_again(root):
    process = start(root, "--net", "baseline", "--batch", "2", "--iterations", "1")
    while not (root / "runs" / "baseline" / "run.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    status, _, err = train(root, "--net", "baseline", "--resume")
    assert status == 0, err
    assert len(log(root / "runs" / "baseline")) == 1


# ---- what the options change


def settings(**changes):
    values = {"net": "googlenet", "data": "data/lmdb", "data_digest": "", "weights": None, "from_scratch": False}
    values |= {"seed": 1, "batch": 4, "epochs": 3, "iterations": 8, "evaluate_every": None}
    return Settings(**values | {"train_images": 10, "val_images": 6, "val_batch": 6} | changes)


def test_evaluations_follow_the_end_of_each_epoch():
    def points(**changes):
        run = settings(**changes)
        return [iteration for iteration in range(1, run.iterations + 1) if run.evaluated_at(iteration)]

    assert points() == [3, 5, 8]  # 10 images / 4 = 2.5 iterations an epoch
    assert points(iterations=23, evaluate_every=3) == [3, 6, 9, 12, 15, 18, 21, 23]
    paper = points(batch=256, epochs=30, train_images=36_400, iterations=math.ceil(30 * 36_400 / 256))
    assert len(paper) == 30
    assert paper[-1] == 4266
    assert points(batch=64, iterations=2) == [1, 2]  # several epochs an iteration


def test_from_scratch_frees_every_layer(tmp_path):
    run_folder.write_prototxts(tmp_path / "held", settings())
    run_folder.write_prototxts(tmp_path / "free", settings(from_scratch=True))
    held, free = (definitions.read_prototxt(tmp_path / name / "train_val.prototxt") for name in ("held", "free"))
    assert {tuple(param.lr_mult for param in layer.param) for layer in free.layer if layer.param} == {(1, 2)}
    assert len(definitions.slow_layers(held)) == 45
    for layer in (*held.layer, *free.layer):
        for param in layer.param:
            param.lr_mult = 0
    assert held == free


def test_run_files_hold_the_settings(tmp_path):
    run_folder.write_prototxts(
        tmp_path, settings(net="baseline", data="data/small", weights="weights/x.caffemodel", seed=7)
    )
    net = definitions.read_prototxt(tmp_path / "train_val.prototxt")
    for phase, split, batch in (("TRAIN", "train", 4), ("TEST", "val", 6)):
        layer = definitions.data_layer(net, phase)
        assert (layer.data_param.source, layer.data_param.batch_size) == (f"data/small/{split}", batch)
        assert layer.transform_param.mean_file == "data/small/mean.binaryproto"
    solver = definitions.read_prototxt(tmp_path / "solver.prototxt", "SolverParameter")
    assert (solver.max_iter, list(solver.test_iter), solver.random_seed) == (8, [1], 7)
    assert list(solver.weights) == ["weights/x.caffemodel"]
    assert solver.net == str(tmp_path / "train_val.prototxt")
    assert (solver.type, round(solver.base_lr, 6)) == ("Adam", 0.001)
    assert not solver.HasField("iter_size")


def test_divided_batch_keeps_rate_and_length(tmp_path):
    run_folder.write_prototxts(tmp_path / "whole", settings())
    run_folder.write_prototxts(tmp_path / "divided", settings(parts=4))
    nets_, solvers = (
        [definitions.read_prototxt(tmp_path / name / file, message) for name in ("whole", "divided")]
        for file, message in (("train_val.prototxt", "NetParameter"), ("solver.prototxt", "SolverParameter"))
    )
    assert [definitions.data_layer(net, "TRAIN").data_param.batch_size for net in nets_] == [4, 1]
    assert [solver.iter_size for solver in solvers] == [1, 4]
    definitions.data_layer(nets_[1], "TRAIN").data_param.batch_size = 4
    for solver in solvers:
        solver.ClearField("iter_size")
        for name in ("net", "snapshot_prefix"):
            setattr(solver, name, getattr(solver, name).replace("divided", "whole"))
    assert nets_[0] == nets_[1]
    assert solvers[0] == solvers[1]


@pytest.fixture(scope="module")
def first(tmp_path_factory, database):
    """The weights of a GoogLeNet after its first iteration."""
    root = tmp_path_factory.mktemp("first")
    status, _, err = train(root, *GOOGLENET, "--iterations", "1", "--data", str(database))
    assert status == 0, err
    return root / "runs" / "googlenet" / "snapshot_iter_1.caffemodel"


@pytest.mark.slow
def test_weights_are_where_training_starts(first, root):
    options = ("--net", "googlenet", "--batch", "2", "--iterations", "1", "--seed", "5")
    status, out, err = train(root, *options, "--weights", str(first))
    assert status == 0, err
    assert out.splitlines()[0] == f"{first}: fills 58 layers; at random start: none"
    one, other = (
        inference.load_deploy("googlenet", weights)
        for weights in (first, root / "runs" / "googlenet" / "snapshot_iter_1.caffemodel")
    )
    filters = [net.params["conv1/7x7_s2"][0].data for net in (one, other)]
    assert np.corrcoef(filters[0].ravel(), filters[1].ravel())[0, 1] > 0.99
    assert not np.array_equal(*filters)


@pytest.mark.slow
def test_another_seed_gives_other_weights(first, root):
    assert train(root, *GOOGLENET, "--iterations", "1", "--seed", "2")[0] == 0
    assert weights_after(root / "runs" / "googlenet", 1) != first.read_bytes()


# ---- errors


def fails(root, *options):
    """Run the script, see that it ends with one line for the user, and return that line."""
    status, _, err = train(root, *options)
    assert status == 2
    assert len(err.splitlines()) == 1, err
    assert err.startswith("error: ")
    return err


def test_nets_of_the_paper_want_imagenet_weights(root):
    line = fails(root, "--net", "alexnet")
    assert "scripts/fetch_weights.py alexnet" in line
    assert "--from-scratch" in line
    assert not (root / "runs").exists()


def test_weights_that_are_not_there(root):
    assert "w.caffemodel" in fails(root, "--net", "googlenet", "--weights", "w.caffemodel")
    assert not (root / "runs").exists()


def test_database_that_is_not_there_or_not_finished(root):
    assert "build_lmdb.py" in fails(root, "--net", "baseline", "--data", "data/none")
    shutil.copytree(root / "data" / "lmdb", root / "data" / "cut")
    (root / "data" / "cut" / manifest.JSON).unlink()
    assert "data/cut" in fails(root, "--net", "baseline", "--data", "data/cut")


def test_gpu_that_is_not_there(root):
    assert "--gpu 99" in fails(root, "--net", "baseline", "--gpu", "99")
    assert not (root / "runs").exists()


def test_batch_that_cannot_be_divided(root):
    assert "give --batch 4 or 6" in fails(root, "--net", "baseline", "--batch", "5", "--iter-size", "2")
    assert not (root / "runs").exists()


def test_images_smaller_than_the_net(root):
    databases.write_counts(root / "data" / "small", train=2, val=2, size=200)
    assert "smaller" in fails(root, "--net", "baseline", "--data", "data/small")


def test_mean_of_another_size(root):
    shutil.copytree(root / "data" / "lmdb", root / "data" / "mixed")
    lmdb_io.write_mean(root / "data" / "mixed" / lmdb_io.MEAN, np.zeros((100, 100)))
    assert "mean.binaryproto" in fails(root, "--net", "baseline", "--data", "data/mixed")


def test_run_that_is_there_is_not_overwritten(root):
    (root / "runs" / "baseline").mkdir(parents=True)
    assert "--resume" in fails(root, "--net", "baseline")


def test_nothing_to_resume(root):
    assert "no run to resume" in fails(root, "--net", "baseline", "--resume")


@pytest.mark.slow
def test_resumed_run_keeps_its_settings_place_and_data(run, tmp_path):
    folder, _ = run
    root = folder.parent.parent
    resume = ("--net", "baseline", "--resume")
    assert "--batch 4, not 8" in fails(root, *resume, "--batch", "8")
    assert "--net baseline" in fails(root, "--net", "googlenet", "--resume", "--out", "runs/baseline")
    folder.rename(folder.with_name("other"))
    assert "began as runs/baseline" in fails(root, *resume, "--out", "runs/other")
    folder.with_name("other").rename(folder)
    with locked(folder):
        assert "another process" in fails(root, *resume)
    database = (root / "data" / "lmdb").resolve()
    (root / "data" / "lmdb").unlink()
    databases.write_counts(root / "data" / "lmdb", train=4, val=2)
    assert "was rebuilt since the run began" in fails(root, *resume)
    shutil.rmtree(root / "data" / "lmdb")
    (root / "data" / "lmdb").symlink_to(database)


@pytest.mark.slow
def test_divergence_stops_the_run(run, root):
    folder, _ = run
    param = caffemodel.read_snapshot(folder / "snapshot_iter_5.caffemodel")
    score = next(layer for layer in param.layer if layer.name == "score")
    score.blobs[0].data[:] = np.full(128, np.nan)
    path = root / "nan.caffemodel"
    path.write_bytes(param.SerializeToString())
    assert "diverged" in fails(root, "--net", "baseline", "--batch", "2", "--iterations", "3", "--weights", str(path))


def test_a_run_starts_on_a_file_system_without_locks_with_one_warning(root):
    """Neither flock nor LMDB's own locks work there, the latter in Caffe's reader."""
    command = [sys.executable, SCRIPT, "--net", "baseline", "--batch", "2", "--iterations", "1"]
    environment = no_locks.environment(root, "ENOSYS") | {"PYTHONPATH": str(definitions.ROOT)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("warning: ")] == [
        "warning: runs/baseline: this file system has no locks; let one command at a time write here"
    ]


@pytest.mark.parametrize("net", definitions.NETS)
def test_a_solver_that_shares_memory_computes_the_same_to_the_bit(net):
    ends, held = [], []
    for shares in (False, True):
        one = make_solver(net, from_memory(net, 2))
        if shares:
            one.share_memory()
        images = np.random.default_rng(0).normal(0, 50, one.net.blobs["data"].data.shape)
        one.net.blobs["data"].data[...] = images
        one.step(3)
        np.testing.assert_array_equal(one.net.blobs["data"].data, images.astype(np.float32))
        ends.append([blob.data.copy() for blobs in one.net.params.values() for blob in blobs])
        diffs = [blob.diff for blob in one.net.blobs.values()]
        held.append(sum({diff.ctypes.data: diff.nbytes for diff in sorted(diffs, key=np.size)}.values()))
    assert all(np.array_equal(*pair) for pair in zip(*ends, strict=True))
    assert held[1] < 0.75 * held[0]


def test_the_live_page_shows_where_a_run_stands_and_reloads_until_its_end(root):
    assert not train(root, "--net", "baseline", "--batch", "2", "--iterations", "4", "--out", "runs/one")[0]
    page = (root / "runs" / "one" / "live.html").read_text()
    assert "iteration 4 of 4" in page and "images/s" in page and page.count("<svg") == 2
    assert "http-equiv" not in page and "python scripts/eval.py --run" in page
    log = root / "runs" / "one" / "log.csv"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:3]))
    live_page.write(root / "runs" / "live.html", live_page.runs_below(root / "runs"))
    page = (root / "runs" / "live.html").read_text()
    assert "iteration 2 of 4" in page and '<meta http-equiv="refresh"' in page and " left" in page


def test_a_live_page_without_runs_is_refused(tmp_path):
    with pytest.raises(InputError, match="no training has begun there"):
        live_page.runs_below(tmp_path)


def test_tensorboard_without_its_package_is_one_clear_line(root):
    if importlib.util.find_spec("tensorboardX"):
        pytest.skip("tensorboardX is installed")
    assert "pip install tensorboardX" in fails(root, "--net", "baseline", "--tensorboard")
    assert not (root / "runs").exists()
