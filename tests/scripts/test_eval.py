"""Evaluation (scripts/eval.py) from snapshot and database to tables and figures, against Caffe and scikit-learn."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from google.protobuf import text_format
from sklearn.metrics import accuracy_score, confusion_matrix, precision_score, recall_score, roc_auc_score

from data_prep.core.errors import run
from data_prep.database import lmdb_io, manifest
from scripts import eval as evaluation
from scripts.evaluation import evaluation_table, metrics, paper_results, selection
from scripts.nets import caffemodel, definitions, inference
from tests.helpers import databases, random_nets

ROOT = Path(__file__).resolve().parents[2]
SPLITS = {
    "train": [f"T{i}" for i in range(4)],
    "val": ["V0", "V1"],
    "test": [f"E{i}" for i in range(7)],
}


@pytest.fixture(scope="module")
def made_once(tmp_path_factory) -> Path:
    """A folder as a user's: data/lmdb, and runs/one with a baseline trained on it."""
    folder = tmp_path_factory.mktemp("workplace")
    databases.write(folder / "data" / "lmdb", SPLITS)
    add_run(folder / "runs" / "one", folder / "data" / "lmdb")
    return folder


@pytest.fixture
def there(made_once, monkeypatch) -> Path:
    monkeypatch.chdir(made_once)
    return made_once


@pytest.fixture(scope="module")
def evaluated(made_once) -> Path:
    """The folder that eval.py without arguments writes."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(made_once)
        assert evaluate(monkeypatch) == 0
    return made_once / "runs" / "one" / "eval_test"


def add_run(folder: Path, data: Path, net: str = "baseline", digest: str | None = None) -> Path:
    """Write what train.py leaves: a snapshot, and run.json that names the data."""
    return random_nets.run(folder, data, net, data_digest=digest or manifest.read_json(data)["digest"])


def evaluate(monkeypatch, *args: str | Path) -> int:
    """Run eval.py as typed, in this process; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["eval.py", *map(str, args)])
    return run(evaluation.main)


def read(out: Path) -> tuple[list[dict], dict]:
    with (out / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file)), json.loads((out / "metrics.json").read_text())


def caffes_test_net(folder: Path, net: str, data: Path, split: str, weights: Path | None = None):
    """Caffe's own TEST net on a split: the hand-written train_val, only its source and batch size changed."""
    train_val = definitions.read_prototxt(definitions.prototxt(net, "train_val"))
    layer = definitions.data_layer(train_val, "TEST")
    layer.data_param.source = str(data / split)
    layer.data_param.batch_size = lmdb_io.count(data / split)
    if layer.transform_param.HasField("mean_file"):
        layer.transform_param.mean_file = str(data / lmdb_io.MEAN)
    if weights is None:  # the data layer alone
        del train_val.layer[:]
        train_val.layer.append(layer)
    path = folder / f"{net}.prototxt"
    path.write_text(text_format.MessageToString(train_val))
    caffe = definitions.import_caffe()
    caffe_net = caffe.Net(str(path), caffe.TEST)
    if weights:
        caffe_net.copy_from(str(weights))
    caffe_net.forward()
    return caffe_net


@pytest.mark.parametrize("net", definitions.NETS)
def test_net_is_shown_exactly_what_caffes_data_layer_shows_it(net, there, tmp_path):
    data = there / "data" / "lmdb"
    shown = caffes_test_net(tmp_path, net, data, "test")
    records = list(lmdb_io.records(data / "test"))
    inputs = inference.preprocess(net, np.stack([record.image for record in records]), data)
    np.testing.assert_allclose(inputs, shown.blobs["data"].data, atol=1e-4)
    assert [record.label for record in records] == shown.blobs["label"].data.tolist()


def test_typed_command_finds_snapshot_and_data_and_says_only_what_it_found(made_once):
    command = [sys.executable, str(ROOT / "scripts" / "eval.py")]
    plain = {name: value for name, value in os.environ.items() if name != "GLOG_minloglevel"}
    result = subprocess.run(command, cwd=made_once, env=plain, capture_output=True, text=True, check=False)
    assert result.returncode == 0 and result.stderr == "", result.stderr[-2000:]
    assert "weights: runs/one/snapshot_iter_3.caffemodel (newest under runs/; choose" in result.stdout
    assert f"data: {made_once}/data/lmdb, test split, source: synthetic" in result.stdout
    assert "| accuracy " in result.stdout and "paper, Table 3" in result.stdout and "SYNTHETIC" in result.stdout


def test_predictions_figures_and_provenance_agree(there, evaluated):
    rows, summary = read(evaluated)
    about = manifest.read_csv(there / "data" / "lmdb")
    keys = [record.key for record in lmdb_io.records(there / "data" / "lmdb" / "test")]
    assert [row["mass_id"] for row in rows] == [lmdb_io.mass_id_of(key) for key in keys]
    for row in rows:
        for name in ("patient", "film", "side", "view", "pathology"):
            assert row[name] == about[row["mass_id"]][name]
        assert int(row["label"]) == (row["pathology"] == "MALIGNANT")
        assert int(row["predicted"]) == (float(row["probability"]) >= 0.5)
    labels, called = ([int(row[name]) for row in rows] for name in ("label", "predicted"))
    probabilities = [float(row["probability"]) for row in rows]
    (tn, fp), (fn, tp) = confusion_matrix(labels, called)
    assert summary["counts"] == {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
    assert 0 < tp + fp < len(rows), "a random net that calls all masses alike would test little"
    values = {name: estimate["value"] for name, estimate in summary["metrics"].items()}
    assert values == pytest.approx(
        {
            "accuracy": accuracy_score(labels, called),
            "precision": precision_score(labels, called),
            "recall": recall_score(labels, called),
            "specificity": recall_score(labels, called, pos_label=0),
            "auc": roc_auc_score(labels, probabilities),
        }
    )
    assert (summary["n"], summary["patients"], summary["malignant"], summary["benign"]) == (14, 7, 8, 6)
    assert summary["data_digest"] == manifest.read_json(there / "data" / "lmdb")["digest"]
    assert (summary["net"], summary["source"], summary["split"]) == ("baseline", "synthetic", "test")
    sha = subprocess.run(["sha256sum", summary["weights"]], capture_output=True, text=True, check=True).stdout
    assert sha.split()[0] == summary["weights_sha256"]
    for name in ("roc.png", "pr.png", "confusion.png"):
        assert cv2.imread(str(evaluated / name)) is not None
    text = (evaluated / "metrics.md").read_text()
    assert text.startswith("# Baseline, test split, synthetic films\n") and "0.604 (0.532-0.673)" in text


def test_probabilities_and_accuracy_are_those_of_caffes_own_test_phase(there, evaluated, tmp_path):
    rows, summary = read(evaluated)
    weights = there / "runs" / "one" / "snapshot_iter_3.caffemodel"
    caffe_net = caffes_test_net(tmp_path, "baseline", there / "data" / "lmdb", "test", weights)
    powers = np.exp(caffe_net.blobs["score"].data.astype(float))
    theirs = powers[:, 1] / powers.sum(axis=1)
    np.testing.assert_allclose([float(row["probability"]) for row in rows], theirs, atol=1e-5)
    assert summary["metrics"]["accuracy"]["value"] == pytest.approx(float(caffe_net.blobs["accuracy"].data))


def test_damaged_newest_snapshot_is_passed_over_and_named(there, monkeypatch, capsys, tmp_path):
    whole = (there / "runs" / "one" / "snapshot_iter_3.caffemodel").read_bytes()
    damaged = there / "runs" / "one" / "snapshot_iter_4.caffemodel"
    damaged.write_bytes(whole[: len(whole) // 2])
    assert evaluate(monkeypatch, "--run", "runs/one", "--out", tmp_path) == 0
    damaged.unlink()
    assert read(tmp_path)[1]["weights"] == "runs/one/snapshot_iter_3.caffemodel"
    assert "snapshot_iter_4.caffemodel" in capsys.readouterr().err


def test_mean_subtracted_is_the_training_sets_not_the_judged_sets(there, evaluated, monkeypatch, tmp_path):
    other = databases.write(tmp_path / "other", SPLITS, source="boxes")
    lmdb_io.write_mean(other / lmdb_io.MEAN, np.zeros((databases.SIZE, databases.SIZE)))
    assert evaluate(monkeypatch, "--data", other, "--out", tmp_path / "out") == 0
    assert read(tmp_path / "out")[0] == read(evaluated)[0]


def test_patients_seen_in_training_are_told_and_written_down(there, monkeypatch, capsys, tmp_path):
    other = databases.write(tmp_path / "other", {"train": ["E1"], "val": [], "test": ["T0", "T1", "E0"]})
    assert evaluate(monkeypatch, "--data", other, "--out", tmp_path) == 0
    warning = "2 of this split's patients were trained on, such as T0"
    assert warning in capsys.readouterr().err
    assert warning in (tmp_path / "metrics.md").read_text()
    assert warning in read(tmp_path)[1]["doubts"]


def test_data_rebuilt_or_gone_since_training_is_told(there, capsys, tmp_path):
    parser = selection.parser("", split="test")
    add_run(tmp_path / "rebuilt", there / "data" / "lmdb", digest="of another build")
    selection.choose_target(parser.parse_args(["--run", str(tmp_path / "rebuilt")]))
    assert "data/lmdb was rebuilt after this training" in capsys.readouterr().err
    add_run(tmp_path / "gone", tmp_path / "nothing", digest="of a build that is gone")
    selection.choose_target(parser.parse_args(["--run", str(tmp_path / "gone"), "--data", "data/lmdb"]))
    assert "nothing is gone" in capsys.readouterr().err


def test_snapshot_of_caffe_train_typed_by_hand_gets_a_folder_of_its_own(there, monkeypatch, capsys, tmp_path):
    weights = random_nets.snapshot(tmp_path / "baseline_iter_5.caffemodel")
    assert evaluate(monkeypatch, "--weights", weights, "--split", "val") == 0
    assert read(tmp_path / "baseline_iter_5_eval_val")[1]["split"] == "val"
    assert "warning" not in capsys.readouterr().err


def test_one_class_alone_has_no_auc_and_no_curves_not_even_old_ones(there, monkeypatch, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("roc.png", "pr.png"):
        (out / name).write_bytes(b"of an earlier evaluation")
    one_class = databases.write(tmp_path / "one", {"train": ["T0"], "val": [], "test": ["E0"]})
    assert evaluate(monkeypatch, "--data", one_class, "--out", out) == 0
    _, summary = read(out)
    assert summary["metrics"]["auc"]["value"] is None and summary["metrics"]["specificity"]["value"] is None
    assert not (out / "roc.png").exists() and not (out / "pr.png").exists()
    assert "undefined" in (out / "metrics.md").read_text()


def test_metrics_json_of_an_earlier_evaluation_does_not_outlive_an_interrupted_one(there, monkeypatch, tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "metrics.md").mkdir()  # so that writing stops there
    (tmp_path / "metrics.md" / "full").touch()
    assert evaluate(monkeypatch, "--out", tmp_path) == 2
    assert not (tmp_path / "metrics.json").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def broken_inputs(folder: Path) -> dict[str, tuple[list, str]]:
    """What a user can get wrong, by name: arguments, and words of the message."""
    whole = random_nets.snapshot(folder / "whole.caffemodel")
    (folder / "cut.caffemodel").write_bytes(whole.read_bytes()[:100_000])
    stranger = caffemodel.read_snapshot(whole)
    stranger.name = "lenet"
    (folder / "stranger.caffemodel").write_bytes(stranger.SerializeToString())
    caffe_net = random_nets.random_net("baseline")
    caffe_net.params["score"][1].data[...] = np.nan
    caffe_net.save(str(folder / "nan.caffemodel"))
    misfit = caffemodel.read_snapshot(whole)
    del misfit.layer[-2].blobs[0].shape.dim[:]
    misfit.layer[-2].blobs[0].shape.dim.extend([1, 128])
    (folder / "misfit.caffemodel").write_bytes(misfit.SerializeToString())
    unfinished = databases.write(folder / "unfinished", {"train": ["T0"], "val": [], "test": ["E0", "E1"]})
    (unfinished / manifest.JSON).unlink()
    (folder / "file").touch()
    return {
        "missing snapshot": (["--weights", "runs/no.caffemodel"], "runs/no.caffemodel: cannot be read"),
        "cut snapshot": (["--weights", folder / "cut.caffemodel"], "cut.caffemodel: cut short"),
        "another net's": (["--weights", folder / "stranger.caffemodel"], "holds the net 'lenet', not one of baseline"),
        "other shapes": (["--weights", folder / "misfit.caffemodel"], "score is 1x128, 2 but must be 2x64, 2"),
        "diverged": (["--weights", folder / "nan.caffemodel"], "nan.caffemodel: the net's output is NaN"),
        "no such run": (["--run", "runs/none"], "runs/none: no such run"),
        "run without snapshot": (["--run", "data"], "data: no whole .caffemodel in it"),
        "unfinished data": (["--data", unfinished], "unfinished: no manifest.json, so no finished database"),
        "missing data": (["--data", "data/none"], "data/none: no manifest.json"),
        "empty split": (["--data", folder / "empty", "--split", "val"], "val: no masses in this split"),
        "no GPU": (["--gpu", "7"], "--gpu 7: "),
        "out is a file": (["--out", folder / "file" / "out"], "out: cannot be made"),
    }


def test_what_cannot_be_evaluated_is_one_clear_line_and_no_metrics(there, monkeypatch, capsys, tmp_path):
    databases.write(tmp_path / "empty", {"train": ["T0"], "val": [], "test": ["E0"]})
    for name, (args, message) in broken_inputs(tmp_path).items():
        if "--out" not in args:
            args = [*args, "--out", tmp_path / "out"]
        assert evaluate(monkeypatch, *args) == 2, name
        error = capsys.readouterr().err.strip().splitlines()
        assert message in error[-1] and error[-1].startswith("error: "), (name, error)
        assert not [line for line in error if "Traceback" in line], name
        assert not (tmp_path / "out" / "metrics.json").exists(), name


def summary_of(counts: metrics.Counts, **changes) -> dict:
    """A metrics.json with these counts, a mass a patient."""
    labels = np.repeat([1, 0, 1, 0], counts)
    found = metrics.estimates(labels, np.repeat([0.9, 0.8, 0.2, 0.1], counts), np.arange(len(labels)))
    given = {
        "net": "googlenet",
        "split": "test",
        "source": "ddsm",
        "context": "large",
        "augmented_training": True,
        "weights": "runs/x.caffemodel",
        "n": len(labels),
        "masses": len(labels),
        "patients": len(labels),
        "malignant": int(labels.sum()),
        "benign": int((1 - labels).sum()),
        "counts": counts._asdict(),
        "metrics": {name: estimate._asdict() for name, estimate in found.items()},
        "interval": {"level": metrics.LEVEL, "draws": metrics.DRAWS},
        "doubts": [],
    }
    return given | changes


def test_table_of_the_papers_own_counts_shows_its_figures_twice():
    text = evaluation_table.render(summary_of(paper_results.TEST["googlenet"].counts))
    for name, value in (("accuracy", "0.929"), ("precision", "0.924"), ("recall", "0.934")):
        cells = next(line for line in text.splitlines() if line.startswith(f"| {name}")).split("|")
        assert cells[2].strip().startswith(value) and cells[3].strip().startswith(value)
    widths = {len(line) for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_validation_is_shown_beside_the_papers_validation_figures_only():
    text = evaluation_table.render(summary_of(paper_results.TEST["alexnet"].counts, net="alexnet", split="val"))
    assert "Table 1 (aug, large)" in text and "Table 2 (no aug, small)" in text and "Table 3" not in text
    assert "paper, " not in evaluation_table.render(summary_of(paper_results.TEST["alexnet"].counts, split="train"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "synthetic"}, "SYNTHETIC"),
        ({"source": "ddsm"}, "did not publish its split"),
        ({"source": "boxes"}, "Our masses differ from the paper's"),
        ({"context": "small"}, "context is small"),
        ({"augmented_training": False}, "without augmentation"),
        ({"benign": 90}, "classes are not balanced"),
        ({"doubts": ["its patients were trained on"]}, "its patients were trained on"),
    ],
)
def test_whatever_bars_a_comparison_with_the_paper_is_said(changes, words):
    plain = evaluation_table.render(summary_of(paper_results.TEST["googlenet"].counts))
    assert words in evaluation_table.render(summary_of(paper_results.TEST["googlenet"].counts, **changes))
    assert words not in plain or changes == {"source": "ddsm"}
