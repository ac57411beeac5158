"""The benchmark of data preparation: every part writes a table, also one that was measured once."""

import json
import re

import numpy as np
import pytest

from data_prep.database import lmdb_io
from scripts import benchmark_data
from scripts.benchmarks import data_layer
from scripts.nets import definitions
from scripts.reporting import benchmark_page


def test_dummy_data_computes_what_the_database_does(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 227, 227), np.uint8)
    packed = [lmdb_io.pack(lmdb_io.Record(f"{i:08}_x", i % 2, image)) for i, image in enumerate(images)]
    lmdb_io.write(tmp_path / "train", packed, 227, 6)
    lmdb_io.write_mean(tmp_path / lmdb_io.MEAN, np.full((227, 227), 120.0))
    times = data_layer.training_times("baseline", tmp_path, 2, 2)  # RuntimeError if the losses differ
    assert len(times) == 2 and min(map(min, times)) > 0


@pytest.mark.slow
def test_every_part_writes_its_table(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["benchmark_data.py", "--toy", "--out", str(tmp_path), "--work", str(tmp_path / "w")]
    )
    benchmark_data.main()
    page = (tmp_path / "README.md").read_text()
    for part in benchmark_data.PARTS:
        assert json.loads((tmp_path / f"{part}.json").read_text())["about"]["hardware"]["cores"] > 0
    for heading in ("Two workers", "Training"):
        assert heading in page
    assert len(re.findall(r"^\| (baseline|alexnet|googlenet) ", page, re.MULTILINE)) == 3


def test_the_committed_page_is_what_the_committed_figures_give(tmp_path):
    results = definitions.ROOT / benchmark_data.RESULTS
    found = benchmark_page.measured(results, (*benchmark_data.PARTS, *benchmark_data.MEASURED_ONCE))
    page = benchmark_page.write_page(tmp_path, "data_benchmark.md", found, toy=False)
    ours, committed = (
        [re.findall(r"\d[\d,.]*", row) for row in re.findall(r"^\|.*", text, re.MULTILINE)]
        for text in (page, (results / "README.md").read_text())
    )
    assert ours == committed


def test_an_unknown_part_is_a_clear_error(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmark_data.py", "speed"])
    assert benchmark_data.run(benchmark_data.main) == 2
    assert "speed: no such part" in capsys.readouterr().err
