"""Nets to give away (scripts/publish.py), and the thresholds of eval.py and classify.py."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep.core.errors import run
from scripts import classify, publish
from scripts import eval as evaluation
from scripts.evaluation import selection
from tests.helpers import databases

BOX = ",".join(map(str, databases.BOX))


def typed(script, *words) -> int:
    """Type a command, run it in this process, and return its exit status."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sys, "argv", [script.__name__, *map(str, words)])
        return run(script.main)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A baseline trained for an iteration on films of one's own, evaluated on both splits."""
    folder = tmp_path_factory.mktemp("trained")
    table = databases.write_films(folder / "set", {f"P{i:02}": databases.texture(i) for i in range(60)})
    data = databases.build(table, folder / "lmdb", "--no-aug", "--context", "small")
    options = ("--net", "baseline", "--data", data, "--iterations", 1, "--batch", 8, "--out", folder / "run")
    assert databases.run("scripts/train.py", *options).returncode == 0
    for split in ("val", "test"):
        assert typed(evaluation, "--run", folder / "run", "--split", split) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def published(trained, tmp_path_factory) -> Path:
    """That net, made to be given away, with its database gone."""
    out = tmp_path_factory.mktemp("nets") / "baseline"
    assert typed(publish, trained, "--out", out, "--about", "Made-up films, CC0") == 0
    return out


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_kept_net_judges_a_film_without_its_database_as_eval_did(trained, published, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(selection, "KEPT", published.parent)
    for row in rows_of(trained / "eval_test" / "predictions.csv"):
        film = trained.parent / "set" / row["film"]
        found = []
        monkeypatch.setattr(classify, "classify_masses", keep(classify.classify_masses, found))
        assert typed(classify, film, "--box", BOX, "--net", "baseline") == 0
        assert found[-1].probability == pytest.approx(float(row["probability"]), abs=1e-5)
        shown = capsys.readouterr()
        assert f"trained on: {published}" in shown.out and not shown.err


def keep(function, found: list):
    """Call a function as it is, and keep what it returns."""

    def call(*args):
        found.extend(function(*args))
        return found[-1:]

    return call


def test_the_folder_holds_what_the_net_needs_and_no_name(trained, published):
    names = {str(path.relative_to(published)) for path in published.rglob("*") if path.is_file()}
    evaluations = {f"eval_{split}/{name}" for split in ("val", "test") for name in ("metrics.json", "predictions.csv")}
    beside = {"baseline.caffemodel", "baseline.json", "run.json", "manifest.json", "mean.binaryproto", "README.md"}
    assert names == evaluations | beside
    for name in names - {"baseline.caffemodel", "mean.binaryproto"}:
        text = (published / name).read_text()
        assert "P0" not in text and str(trained.parent) not in text, name
    card = (published / "README.md").read_text()
    scores = json.loads((trained / "eval_test" / "metrics.json").read_text())
    assert f"{scores['metrics']['auc']['value']:.3f} (" in card
    for text in ("Made-up films, CC0", "Diagnosis, screening", "Small", "| 0.745 |", "| 0.923 |"):
        assert text in card or text.lower() in card, text


def test_a_threshold_is_typed_or_chosen_on_validation_and_every_output_says_which(
    trained, published, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    val, test = (rows_of(trained / f"eval_{split}" / "predictions.csv") for split in ("val", "test"))
    chosen = min(float(row["probability"]) for row in val if row["label"] == "1")
    film = trained.parent / "set" / test[0]["film"]
    probability = float(test[0]["probability"])
    for options, value, says in (
        (("--threshold", 0.01), 0.01, "threshold 0.01, as typed"),
        (("--at-recall", 1), chosen, f"threshold {chosen:.4g}, recall 1 on validation"),
        ((), 0.5, "threshold 0.5"),
    ):
        called = "malignant" if probability >= value else "benign"
        for net in (trained, published):
            assert typed(classify, film, "--box", BOX, "--run", net, *options) == 0
            assert f"P(malignant) = {probability:.4f}, called {called} ({says})" in capsys.readouterr().out
        assert typed(evaluation, "--run", trained, *options, "--out", tmp_path / "out") == 0
        scores = json.loads((tmp_path / "out" / "metrics.json").read_text())
        assert scores["threshold"] == value
        rights = [(float(row["probability"]) >= value) == (row["label"] == "1") for row in test]
        assert scores["metrics"]["accuracy"]["value"] == np.mean(rights)
        assert sum(int(row["predicted"]) for row in rows_of(tmp_path / "out" / "predictions.csv")) == sum(
            scores["counts"][name] for name in ("tp", "fp")
        )
        if options:
            assert says.partition(", ")[2] in (tmp_path / "out" / "metrics.md").read_text()
    before = (trained / "eval_test" / "metrics.json").read_bytes()
    assert typed(evaluation, "--run", trained, "--at-recall", 0.5) == 0
    assert (trained / "eval_test" / "metrics.json").read_bytes() == before
    assert (trained / "eval_test_recall0.5" / "metrics.json").is_file()


def test_what_is_missing_is_one_line_that_says_what_to_do(trained, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    film = next((trained.parent / "set").glob("*.png"))
    monkeypatch.setattr(selection, "KEPT", tmp_path / "nets")
    other = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("eval_val"))
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    settings = json.loads((trained / "run.json").read_text())
    (unfinished / "run.json").write_text(json.dumps(settings | {"iterations": 9}))
    publishing = ("--out", tmp_path / "out", "--about", "x")
    for words, message in (
        ((classify, film, "--box", BOX), "nets/googlenet: no trained net is kept there; give --run runs/NAME or"),
        ((classify, film, "--box", BOX, "--run", other, "--at-recall", 0.9), "run/eval_val: holds no predictions by"),
        ((publish, other, *publishing), "eval_val/metrics.json: missing, or of other weights; make it with python"),
        ((publish, unfinished, *publishing), "unfinished: no finished training; go on with"),
        ((publish, tmp_path / "nothing", *publishing), "nothing: no finished training"),
    ):
        assert typed(*words) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--threshold", "--at-recall"])
@pytest.mark.parametrize("value", ["0", "1.1", "-1", "x", "nan"])
def test_a_threshold_that_is_no_share_is_refused_with_the_usage(option, value, capsys):
    with pytest.raises(SystemExit) as ended:
        typed(evaluation, option, value)
    assert ended.value.code == 2 and "usage: " in capsys.readouterr().err
