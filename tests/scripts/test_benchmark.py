"""The speed benchmark: its PyTorch nets compute what Caffe's do, its counts are right, every part writes its table."""

import json
import re
import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from data_prep.core.errors import InputError
from scripts import benchmark
from scripts.benchmarks import chart as charts
from scripts.benchmarks import engine_process, machine_peak, measurements
from scripts.nets import definitions, solver

# Adam and SGD; AlexNet is Adam again, and ten times as large.
TRAINED = [net for net in definitions.NETS if net != "alexnet"]
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")


# ---- counts


def flops(net: str, batch: int) -> dict[str, tuple[int, int]]:
    """Forward and backward operations by layer of one of our nets in training."""
    rows = machine_peak.flops(solver.make_solver(net, solver.from_memory(net, batch)).net)
    return {row["name"]: (row["forward"], row["backward"]) for row in rows}


def test_flops_are_those_counted_by_hand():
    found = flops("alexnet", 2)
    conv1 = 2 * 2 * (55 * 55 * 96) * (11 * 11 * 3)
    assert found["conv1"] == (conv1, conv1)  # no gradient of the images
    conv2 = 2 * 2 * (27 * 27 * 256) * (5 * 5 * 48)  # two groups: half of the 96 channels for each filter
    assert found["conv2"] == (conv2, 2 * conv2)
    fc6 = 2 * 2 * 4096 * (6 * 6 * 256)
    assert found["fc6_mass"] == (fc6, 2 * fc6)
    assert found["norm1"] == found["pool1"] == found["relu1"] == (0, 0)


def test_flops_of_googlenet_are_the_known_ones():
    assert sum(forward for forward, _ in flops("googlenet", 1).values()) == pytest.approx(3.2e9, rel=0.02)


@pytest.mark.parametrize(("available", "batch"), [(740, 64), (739, 32), (260, 16), (0, 1)])
def test_a_batch_is_halved_until_it_fits(available, batch):
    assert measurements.fitting_batch(64, 100, 10, available) == batch


@pytest.mark.slow
def test_memory_of_a_batch_is_estimated_from_small_ones():
    taken = measurements.peak("stock", measurements.make_job("baseline", 24))["peak"]
    for share, batch in ((1.2, 24), (0.8, 12)):
        assert measurements.fitting_job("baseline", measurements.Scale(batch=24), 2, 2 * share * taken).batch == batch


# ---- the same work


@needs_torch
@pytest.mark.parametrize("net", definitions.NETS)
def test_torch_net_computes_what_caffe_does(net):
    from scripts.benchmarks import caffe_engine, torch_engine

    job = measurements.make_job(net, 2, dropout=False)
    ours, torchs = caffe_engine.Engine(), torch_engine.Engine()
    ours.train(job, None)
    wanted = ours.compute()
    torchs.train(job, ours.weights())
    found = torchs.compute()
    for output in ("loss", "scores"):
        np.testing.assert_allclose(found[output], wanted[output], rtol=1e-4, atol=1e-5)
    differences = [
        measurements.difference(one, other)
        for name, blobs in wanted["gradients"].items()
        for one, other in zip(blobs, found["gradients"][name], strict=True)
    ]
    assert np.median(differences) < 1e-3
    assert max(differences) < measurements.SAME_GRADIENTS  # where ReLUs and pools decide otherwise over rounding

    ours.deploy(job, ours.weights())
    torchs.deploy(job, ours.weights())
    np.testing.assert_allclose(torchs.predict()[1], ours.predict()[1], atol=1e-4)
    assert measurements.difference(ours.explain()[1], torchs.explain()[1]) < measurements.SAME_GRADIENTS


@needs_torch
@pytest.mark.parametrize("net", TRAINED)
def test_torch_optimizer_updates_as_caffes_solver_does(net, monkeypatch):
    """Each parameter moves as far: lr_mult, decay_mult and the kind of solver are the same."""
    from scripts.benchmarks import caffe_engine, torch_engine

    for module in (caffe_engine, torch_engine):
        monkeypatch.setattr(module, "RATE", 0.01)
    job = measurements.make_job(net, 2, dropout=False)
    ours, torchs = caffe_engine.Engine(), torch_engine.Engine()
    ours.train(job, None)
    before = ours.weights()
    torchs.train(job, before)
    ours.step()
    torchs.step()
    after = ours.weights()
    for name, parameters in torchs.net.caffe_parameters().items():
        for start, wanted, found in zip(before[name], after[name], parameters, strict=True):
            moved, wanted = found.detach().numpy() - start, wanted - start
            # Adam's first step is +-rate, of whichever sign rounding gives a gradient of 0
            assert np.median(np.abs(moved - wanted)) <= 1e-3 * np.abs(wanted).max(), name
            assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(wanted), rel=0.05), name


@needs_torch
def test_a_layer_that_torch_nets_do_not_know_is_named():
    from scripts.benchmarks import torch_nets

    with pytest.raises(InputError, match=r"sig.*Sigmoid"):
        torch_nets.part({"name": "sig", "type": "Sigmoid"})


def test_engines_that_compute_something_else_are_not_compared():
    measurements.check_same("baseline", "stock", "outputs", 1e-5, 1e-4)
    for wrong in (2e-4, float("nan")):
        with pytest.raises(InputError, match="stock's outputs differ"):
            measurements.check_same("baseline", "stock", "outputs", wrong, 1e-4)


def test_other_weights_are_found_to_be_other_work():
    from scripts.benchmarks import caffe_engine

    job = measurements.make_job("baseline", 2, dropout=False)
    ours = caffe_engine.Engine()
    ours.train(job, None)
    wanted, weights = ours.compute(), ours.weights()
    weights["fc2"][0] *= 1.01
    ours.train(job, weights)
    found = ours.compute()
    assert measurements.difference(wanted["scores"], found["scores"]) > measurements.SAME_OUTPUTS


# ---- processes


@pytest.fixture(scope="module")
def ours():
    with engine_process.workers("ours") as engines:
        yield engines["ours"]


def test_sgemm_is_measured_through_caffes_own_blas(ours):
    about = ours.ask("about")
    assert any("openblas" in one["library"] and one["kernels"] for one in about["blas"])
    assert re.fullmatch(r"oneDNN \d+\.\d+\.\d+ for [A-Z0-9.-]+", about["onednn"])
    assert all(rate > 0.1 for rate in ours.ask("sgemm", 256).values())  # GFLOP/s, on however busy a machine


def test_kernels_older_than_the_processor_are_said(monkeypatch):
    monkeypatch.setattr(machine_peak, "instructions", lambda: "AVX-512")
    assert "AVX-512" in machine_peak.warning("Prescott")
    assert machine_peak.warning("Haswell")
    assert machine_peak.warning("SkylakeX") is None
    monkeypatch.setattr(machine_peak, "instructions", lambda: "AVX2")
    assert machine_peak.warning("Zen") is None


def test_the_processors_instructions_are_known():
    assert machine_peak.instructions() in (*machine_peak.VECTORS.values(), "aarch64")


def test_products_are_products():
    from scripts.benchmarks import caffe_engine, machine_peak

    for multiply in machine_peak.products(caffe_engine.Engine().library, 50).values():
        a, b, c = multiply()
        np.testing.assert_allclose(c, a @ b, rtol=1e-4, atol=1e-4)


def test_peak_memory_is_the_workers_own_and_remembered(ours):
    before = ours.memory()
    ours.ask("sgemm", 4096)  # four matrices of 67 MB, for a moment
    ours.ask("sgemm", 16)
    after = ours.memory()
    assert after["peak"] - before["peak"] > 200e6
    assert after["peak"] - after["now"] > 150e6
    held = bytearray(300_000_000)  # this process's memory is not the worker's
    assert ours.memory()["peak"] == after["peak"]
    del held


def test_an_idle_worker_takes_no_processor_time(ours):
    ours.ask("train", measurements.make_job("baseline", 2), None)
    ours.ask("step")
    time.sleep(engine_process.REST)
    process = psutil.Process(ours.process.pid)
    before = sum(process.cpu_times()[:2])
    time.sleep(0.5)
    assert sum(process.cpu_times()[:2]) - before <= 0.02


def test_a_step_times_the_part_before_the_update(ours):
    # a batch large enough to outweigh Adam's update; the best of several steps, as any one can be held up by others
    ours.ask("train", measurements.make_job("baseline", 32), None)
    steps = [ours.ask("step") for _ in range(6)]
    assert all(0 < before_update < whole for whole, before_update in steps)
    assert max(before_update / whole for whole, before_update in steps) > 1 / 2


def test_the_end_of_an_engines_process_is_a_clear_error():
    with engine_process.workers("ours") as engines:
        engines["ours"].ask("about")
        engines["ours"].process.send_signal(signal.SIGKILL)
        with pytest.raises(InputError, match=r"ours: its process ended in 'about' with status -9"):
            engines["ours"].ask("about")


def test_stock_comes_from_its_own_folder():
    if not (engine_process.STOCK / "caffe").is_dir():
        pytest.skip("stock Caffe is not built")
    with engine_process.workers("ours", "stock") as engines:
        loaded = {}
        for name, worker in engines.items():
            worker.ask("about")
            loaded[name] = Path(f"/proc/{worker.process.pid}/maps").read_text()
    stock = str((engine_process.STOCK / "caffe").resolve())
    assert f"{stock}/_caffe.so" in loaded["stock"]
    assert stock not in loaded["ours"]


# ---- the page


def layer_rows(net: str) -> dict:
    """Times of a net's layers as layers.json holds them: number i takes i ms and 2 i back; PyTorch lacks one."""
    names = [("data", "DummyData"), ("conv1", "Convolution"), ("bn1", "BatchNorm"), ("scale1", "Scale")]
    names += [(f"{net}/conv{i}", "Convolution") for i in range(2, 12)]
    rows = [
        {"name": name, "type": kind, "forward": i / 1000, "backward": 2 * i / 1000}
        for i, (name, kind) in enumerate(names)
    ]
    work = [
        {"name": name, "type": kind, "forward": 1e9 * (i > 2), "backward": 2e9} for i, (name, kind) in enumerate(names)
    ]
    torchs = [row for row in rows if row["type"] != "Scale"]
    return {"batch": 32, "flops": work, "times": {"ours": rows, "stock": rows, "eager": torchs}}


def test_times_are_summed_by_kind_of_layer():
    kinds = charts.by_kind(layer_rows("googlenet"))
    assert list(kinds) == ["Convolution", "BatchNorm, Scale", "data, loss"]
    assert kinds["BatchNorm, Scale"]["ours"] == pytest.approx((0.005, 0.010))
    assert kinds["BatchNorm, Scale"]["eager"] == pytest.approx((0.002, 0.004))
    assert charts.together(kinds)["ours"] == pytest.approx((0.091, 0.182))


def test_layers_come_slowest_first():
    layers = charts.by_layer(layer_rows("alexnet"))
    assert list(layers)[:2] == ["alexnet/conv11", "alexnet/conv10"]
    assert "eager" not in layers["scale1"]


def test_a_patch_is_credited_with_its_kinds_of_layer_alone():
    row = layer_rows("googlenet")
    row["times"]["ours"] = [each | {"forward": 0.001, "backward": 0} for each in row["times"]["stock"]]
    assert charts.gain(row, ("BatchNorm, Scale",)) == pytest.approx((0.015, 0.002))
    assert charts.gain(row, ("Pooling",)) == (0, 0)


def test_the_patches_that_speed_up_layers_are_those_that_there_are():
    files = {path.stem for path in (definitions.ROOT / "scripts/install/patches/speed").iterdir()}
    elsewhere = {"0101-build-onednn-and-openmp", "0107-solver-updates-fused", "0108-threads-in-containers"}
    elsewhere |= {"0110-waiting-threads-sleep", "0111-memory-shared", "0112-normalization-as-one"}
    assert files == {*charts.PATCHES, *elsewhere}


def test_chart_names_nets_engines_and_layers(tmp_path):
    chart = charts.chart({net: layer_rows(net) for net in definitions.NETS})
    chart.savefig(tmp_path / "layers.png")
    assert Image.open(tmp_path / "layers.png").width >= 1400
    assert [text.get_text() for text in chart.legends[0].get_texts()] == ["our Caffe", "stock Caffe", "PyTorch, eager"]
    assert len(chart.axes) == 6
    for net, right in zip(definitions.NETS, chart.axes[1::2], strict=True):
        assert [label.get_text() for label in right.get_yticklabels()][:2] == [f"{net}/conv11", f"{net}/conv10"]
        ends = sorted({round(bar.get_x() + bar.get_width()) for bar in right.patches})
        assert ends[-1] == 39  # 13 ms forward and 26 back


def test_figures_of_other_engines_are_left_out_of_the_page_and_named(tmp_path, capsys):
    part = json.loads((definitions.ROOT / "results/benchmark/memory.json").read_text())
    for row in part["figures"]["rows"].values():
        row["engines"]["gone"] = row["engines"]["ours"]
    (tmp_path / "memory.json").write_text(json.dumps(part))
    assert "## Memory" not in benchmark.write_page(tmp_path, toy=False)
    assert f"{tmp_path / 'memory.json'}: left out" in capsys.readouterr().out


def test_ratios_are_taken_turn_by_turn():
    assert measurements.ratios({"ours": [1, 2], "stock": [3, 4]}) == {"stock": [3, 2]}


@pytest.mark.slow
@needs_torch
def test_every_part_writes_its_table(tmp_path, monkeypatch, capsys):
    if not (engine_process.STOCK / "caffe").is_dir():
        pytest.skip("stock Caffe is not built")
    monkeypatch.setattr("sys.argv", ["benchmark.py", "--toy", "--out", str(tmp_path)])
    benchmark.main()
    page = (tmp_path / "README.md").read_text()
    assert page in capsys.readouterr().out
    for part in benchmark.PARTS:
        assert json.loads((tmp_path / f"{part}.json").read_text())["about"]["hardware"]["cores"] > 0
    for heading in ("Training", "limit", "same work", "Layers", "Inference", "Saliency", "Memory"):
        assert re.search(rf"^##.*{heading}", page, re.MULTILINE)
    rows = {"training": 2, "limit": 1, "differences": 3, "layers": 1, "inference": 2, "saliency": 1, "memory": 1}
    assert page.count("\n| Baseline") == sum(rows.values())
    assert Image.open(tmp_path / "layers.png").width >= 1400


# ---- what a user can do wrong


@pytest.mark.parametrize(("typed", "said"), [(["speed"], "speed: no such part"), (["--repeats", "0"], "--repeats 0")])
def test_a_wrong_argument_is_a_clear_error(typed, said, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmark.py", *typed])
    assert benchmark.run(benchmark.main) == 2
    assert said in capsys.readouterr().err


def test_what_is_not_installed_is_said_with_what_to_type(monkeypatch, tmp_path):
    monkeypatch.setattr(engine_process, "STOCK", tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"pip install -r requirements-benchmark\.txt"):
        engine_process.check_engines()
    monkeypatch.setattr(engine_process, "find_spec", lambda name: name)  # as though it were
    with pytest.raises(InputError, match=r"setup\.sh --stock"):
        engine_process.check_engines()
