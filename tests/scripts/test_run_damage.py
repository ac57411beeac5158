"""What is wrong in a run, a snapshot or a database is noticed by whatever uses it: one line, and nothing is lost."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

from data_prep.core.errors import run
from data_prep.database import lmdb_io, manifest
from scripts import classify, gallery, saliency, saliency_share, train
from scripts import eval as evaluation
from scripts.nets import caffemodel, definitions
from scripts.training import run_folder, snapshots
from tests.data_prep.test_build_faults import on_small_disk
from tests.helpers import databases, random_nets
from tests.scripts.test_train import SAVING

FOLDER = Path("runs/baseline")
BEGIN = ("--net", "baseline", "--batch", "2", "--iterations", "4")
RESUME = ("--net", "baseline", "--resume")
USES = {"eval": evaluation, "saliency": saliency, "gallery": gallery, "saliency_share": saliency_share}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder with a database and a run that stands after 3 of 4 iterations, its snapshots 2 and 3 whole."""
    root = tmp_path_factory.mktemp("whole")
    databases.write_counts(root / "data" / "lmdb", train=10, val=6)
    code = (
        "import os; from scripts.training import run_folder; add = run_folder.add_row\n"
        "run_folder.add_row = lambda folder, row: add(folder, row) or row['iteration'] < 4 or os.kill(os.getpid(), 9)\n"
    )
    start(root, *BEGIN, code=code)
    return root


def start(root: Path, *options: str, code: str = "", prefix: list[str] = ()) -> subprocess.CompletedProcess:
    """Run train.py with a snapshot after every evaluation, after some other code."""
    environment = os.environ | {"PYTHONPATH": str(definitions.ROOT)}
    command = [*prefix, sys.executable, "-c", code + SAVING, *options]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def root(whole, tmp_path, monkeypatch) -> Path:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    assert snapshots.iterations(FOLDER) == [3, 2]
    return tmp_path


def refused(module, *options: str, monkeypatch, capsys) -> str:
    """Run a command; see that it ends with one line for the user, and return that line."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, options)])
    capsys.readouterr()
    assert run(module.main) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1, err
    return err


@pytest.fixture
def fails(monkeypatch, capsys):
    return lambda module, *options: refused(module, *options, monkeypatch=monkeypatch, capsys=capsys)


def flip(path: Path, share: float = 0.5) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1
    path.write_bytes(content)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# ---- snapshots


def test_a_flipped_bit_in_a_caffemodel_is_noticed_by_whatever_uses_it(root, fails):
    path = FOLDER / "snapshot_iter_3.caffemodel"
    assert run_of(evaluation, "--weights", path) == 0
    flip(path)
    for use in (*USES.values(), classify):
        more = ("film.png", "--box", "1,2,3,4") if use is classify else ()
        assert "SHA-256" in fails(use, *more, "--weights", path)
    assert caffemodel.newest_snapshot(FOLDER) == FOLDER / "snapshot_iter_2.caffemodel"


def run_of(module, *options) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["command", *map(str, options)])
        return run(module.main)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".caffemodel", ".solverstate", ".json"])
def test_a_damaged_snapshot_is_passed_over_and_said_and_the_run_ends_as_it_would_have(whole, root, ending):
    path = snapshots.file_of(FOLDER, 3, ending)
    path.write_text("{") if ending == ".json" else flip(path)
    done = start(root, *RESUME)
    assert done.returncode == 0, done.stderr
    assert "warning: runs/baseline: its snapshot 3 is gone or damaged" in done.stderr
    shutil.copytree(whole, root / "other")
    assert start(root / "other", *RESUME).returncode == 0
    name = "snapshot_iter_4.caffemodel"
    assert (FOLDER / name).read_bytes() == (root / "other" / FOLDER / name).read_bytes()


def test_a_run_without_a_whole_snapshot_is_never_begun_anew_in_silence(root, fails):
    for number in (2, 3):
        snapshots.file_of(FOLDER, number, ".solverstate").unlink()
    there = files(FOLDER)
    assert "no snapshot there is whole" in fails(train, *RESUME)
    assert files(FOLDER) == there


def test_snapshots_that_a_kill_left_beside_the_last_two_are_removed(root):
    for ending in snapshots.ENDINGS:
        shutil.copy(snapshots.file_of(FOLDER, 2, ending), snapshots.file_of(FOLDER, 1, ending))
    snapshots.remove_older(FOLDER, 3)
    assert snapshots.iterations(FOLDER) == [3, 2]


def test_whole_weights_are_kept_where_an_older_snapshot_is_gone_on_from(root):
    snapshots.file_of(FOLDER, 3, ".solverstate").unlink()
    snapshots.file_of(FOLDER, 5, ".caffemodel").write_bytes(b"cut short")
    snapshots.remove_after(FOLDER, 2)
    assert snapshots.file_of(FOLDER, 3, ".caffemodel").exists()
    assert not snapshots.file_of(FOLDER, 5, ".caffemodel").exists()


def state_of(path: Path):
    return definitions.import_caffe().proto.caffe_pb2.SolverState.FromString(path.read_bytes())


def other_shapes(state) -> None:
    state.history[0].shape.dim[:] = [1]
    del state.history[0].data[1:]


def too_few(state) -> None:
    del state.history[-1]


def cut_values(state) -> None:
    del state.history[3].data[-1]


def another_file(state) -> None:
    state.learned_net = "/etc/passwd"


@pytest.mark.parametrize("change", [other_shapes, too_few, cut_values, another_file])
@pytest.mark.parametrize("summed", [False, True])
def test_a_solverstate_that_does_not_go_with_its_weights_is_refused(root, fails, change, summed):
    """Be it of a version without checksums, or made with the right ones."""
    for number in (2, 3):
        path = snapshots.file_of(FOLDER, number, ".solverstate")
        state = state_of(path)
        change(state)
        path.write_bytes(state.SerializeToString())
        extra = snapshots.file_of(FOLDER, number, ".json")
        content = json.loads(extra.read_text()) | {snapshots.STATE_SHA256: caffemodel.sha256_of(path)}
        if not summed:
            content = {name: value for name, value in content.items() if "sha256" not in name}
        extra.write_text(json.dumps(content))
    line = fails(train, *RESUME)
    assert ("does not go with" if summed else "no snapshot there is whole") in line


def test_weights_whose_values_do_not_match_their_shapes_are_refused(root, fails):
    path = FOLDER / "snapshot_iter_3.caffemodel"
    param = caffemodel.read_weights(path)
    del next(layer for layer in param.layer if layer.blobs).blobs[0].data[-1]
    (root / "cut.caffemodel").write_bytes(param.SerializeToString())
    for use, options in ((evaluation, ()), (train, ("--net", "baseline", "--batch", "2", "--out", "runs/new"))):
        assert "not as many values as its shape says" in fails(use, *options, "--weights", "cut.caffemodel")


def test_a_snapshot_of_another_net_is_refused(root, fails):
    path = FOLDER / "snapshot_iter_3.caffemodel"
    random_nets.snapshot(path, "alexnet")
    extra = snapshots.file_of(FOLDER, 3, ".json")
    extra.write_text(json.dumps(json.loads(extra.read_text()) | {"sha256": caffemodel.sha256_of(path)}))
    assert "does not go with" in fails(train, *RESUME)


def test_weights_without_a_checksum_are_said_to_be_unchecked(root, monkeypatch, capsys):
    random_nets.snapshot(root / "mine.caffemodel")
    monkeypatch.setattr(run_folder, "make", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run_of(train, "--net", "baseline", "--batch", "2", "--out", "new", "--weights", "mine.caffemodel") == 130
    assert "mine.caffemodel: unchecked" in capsys.readouterr().out
    assert run_of(train, *BEGIN, "--out", "new", "--weights", FOLDER / "snapshot_iter_3.caffemodel") == 130
    assert "unchecked" not in capsys.readouterr().out


def test_a_disk_too_full_for_the_next_snapshot_is_one_line(root, fails, monkeypatch):
    size = sum(snapshots.file_of(FOLDER, 3, ending).stat().st_size for ending in snapshots.ENDINGS)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=int(0.9 * size)))
    assert "1 snapshot(s) take" in fails(train, *RESUME)
    assert "3 snapshot(s) take" in fails(train, *BEGIN, "--out", "runs/new")


FULL = (
    "import shutil; usage = shutil.disk_usage; shutil.disk_usage = lambda path: usage(path)._replace(free=10**12); "
    "import os; filler = os.open('runs/filler', os.O_CREAT | os.O_WRONLY); os.posix_fallocate(filler, 0, 3 << 20); "
)


@pytest.mark.slow
def test_a_disk_or_quota_that_is_fuller_than_it_says_is_one_line(root):
    """Caffe aborts where it cannot write a snapshot: the room is taken before."""
    shutil.rmtree(root / "runs")
    (root / "runs").mkdir()
    prefix = on_small_disk(root / "runs", 4 << 10)
    done = start(root, *BEGIN, code=FULL, prefix=prefix)
    assert done.returncode == 2, done.stderr
    assert "no room for its 0.08 GB" in done.stderr and "No space left on device" in done.stderr
    assert "*** Check failure stack trace" not in done.stderr and "Traceback" not in done.stderr


# ---- the run's folder


@pytest.mark.slow
def test_of_trainings_begun_together_in_one_folder_one_runs_and_the_others_change_nothing(root):
    environment = os.environ | {"PYTHONPATH": str(definitions.ROOT)}
    command = [sys.executable, "-c", SAVING, "--net", "baseline", "--batch", "2", "--out", "runs/new"]
    started = [
        subprocess.Popen([*command, "--iterations", str(number)], env=environment, stderr=subprocess.PIPE, text=True)
        for number in (2, 3, 4)
    ]
    ended = [process.communicate()[1] for process in started]
    codes = [process.returncode for process in started]
    assert sorted(codes) == [0, 2, 2], ended
    assert all("exists already" in err for code, err in zip(codes, ended, strict=True) if code)
    iterations = (2, 3, 4)[codes.index(0)]
    solver = definitions.read_prototxt(Path("runs/new/solver.prototxt"), "SolverParameter")
    assert solver.max_iter == run_folder.read_run(Path("runs/new"))[0].iterations == iterations


def writes_a_file(net, solver) -> None:
    net.layer.add(name="out", type="HDF5Output", bottom=["data", "label"]).hdf5_output_param.file_name = "stolen.h5"


def reads_a_file(net, solver) -> None:
    solver.weights.append("/etc/passwd")


def another_source(net, solver) -> None:
    definitions.data_layer(net, "TRAIN").data_param.source = "/somewhere/else"


@pytest.mark.parametrize("change", [writes_a_file, reads_a_file, another_source])
def test_a_prototxt_that_train_did_not_write_is_refused(root, fails, change):
    paths = {run_folder.TRAIN_VAL: "NetParameter", run_folder.SOLVER: "SolverParameter"}
    messages = [definitions.read_prototxt(FOLDER / name, kind) for name, kind in paths.items()]
    change(*messages)
    for name, message in zip(paths, messages, strict=True):
        (FOLDER / name).write_text(text_format.MessageToString(message))
    assert "not what train.py writes" in fails(train, *RESUME)
    assert not (root / "stolen.h5").exists()


DAMAGE = {
    "no JSON": "{",
    "deep": "[" * 100_000,
    "a list": "[]",
    "a key less": lambda content: content.pop("batch"),
    "a text for a number": lambda content: content.update(batch="2"),
    "a batch of nothing": lambda content: content.update(batch=0),
    "a negative number": lambda content: content.update(iterations=-1),
    "an absurd number": lambda content: content.update(iterations=10**30),
    "infinity": lambda content: content.update(iterations=float("inf")),
    "another net": lambda content: content.update(net="../../etc"),
    "a list for a path": lambda content: content.update(data=["data/lmdb"]),
    "bytes": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_json_is_one_line(root, fails, damage):
    path, change = FOLDER / "run.json", DAMAGE[damage]
    if callable(change):
        content = json.loads(path.read_text())
        change(content)
        change = json.dumps(content)
    path.write_bytes(change if isinstance(change, bytes) else change.encode())
    assert "run.json" in fails(train, *RESUME)


# ---- databases


def other_manifest(data: Path) -> None:
    """Of a database with as many records of the same names, and other images."""
    databases.write_counts(data.parent / "other", train=10, val=6, size=databases.SIZE + 1)
    shutil.copy(data.parent / "other" / manifest.JSON, data)


def earlier_manifest(data: Path) -> None:
    """Of another number of records, and of a version that said no more than that."""
    content = json.loads((data / manifest.JSON).read_text())
    del content["ties"]
    counts = {split: {"records": 3} for split in ("train", "val", "test")}
    (data / manifest.JSON).write_text(json.dumps(content | {"counts": counts}))


def unknown_source(data: Path) -> None:
    (data / manifest.JSON).write_text((data / manifest.JSON).read_text().replace('"synthetic"', '"real, I swear"'))


@pytest.mark.parametrize("change", [other_manifest, earlier_manifest, unknown_source])
def test_a_manifest_of_another_database_is_noticed_by_whatever_uses_it(root, fails, change):
    change(Path("data/lmdb"))
    for use in USES.values():
        assert manifest.JSON in fails(use, "--weights", FOLDER / "snapshot_iter_3.caffemodel")
    assert manifest.JSON in fails(train, *BEGIN, "--out", "runs/new")


def test_a_mean_of_another_size_is_refused(root, fails):
    path = Path("data/lmdb") / lmdb_io.MEAN
    lmdb_io.write_mean(path, np.zeros((100, 100)))
    assert "not of the images' size" in fails(evaluation, "--weights", FOLDER / "snapshot_iter_3.caffemodel")
    path.write_bytes(path.read_bytes()[:1000])
    assert lmdb_io.MEAN in fails(evaluation, "--weights", FOLDER / "snapshot_iter_3.caffemodel")


@pytest.mark.parametrize("content", [b"", b"mass_id\n", b"\xff\xfe", b"a,b\n1,2,3\n", b'"' + b"x" * 200_000])
def test_a_damaged_manifest_csv_is_one_line(root, fails, content):
    (Path("data/lmdb") / manifest.CSV).write_bytes(content)
    for use in (evaluation, saliency):
        assert manifest.CSV in fails(use, "--weights", FOLDER / "snapshot_iter_3.caffemodel")
