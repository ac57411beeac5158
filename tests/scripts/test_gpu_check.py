"""The check of a GPU: it runs whole on the CPU, a difference anywhere fails it by name, an abort ends one part only."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep.core.errors import run
from scripts import gpu_check
from scripts.benchmarks import compare_nets
from scripts.gpu_checks import caffe_unit_tests, checks, cuda_runtime, isolated_runs, verdicts
from scripts.nets import definitions

NET = "baseline"
SAID = """\
Cuda number of devices: 1
Note: Google Test filter = GemmTest/0.First:GemmTest/0.Second:GemmTest/0.Third:GemmTest/0.Fourth
[==========] Running 4 tests from 1 test case.
[----------] 4 tests from GemmTest/0, where TypeParam = float
[ RUN      ] GemmTest/0.First
[       OK ] GemmTest/0.First (2 ms)
[ RUN      ] GemmTest/0.Second
src/caffe/test/test_util_blas.cpp:40: Failure
The difference between data[i] and result[i] is 15
[  FAILED  ] GemmTest/0.Second, where TypeParam = float (3 ms)
[ RUN      ] GemmTest/0.Third
F0101 math_functions.cu:27] Check failed: status == CUBLAS_STATUS_SUCCESS (13 vs. 0)
*** Check failure stack trace: ***
    @     0x7f1d google::LogMessage::Fail()
"""
"""What a test case of Caffe's own tests writes where one test fails and the next makes Caffe abort."""


def check(monkeypatch, out: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and report of the script."""
    monkeypatch.setattr(sys, "argv", ["scripts/gpu_check.py", *arguments, "--out", str(out)])
    try:
        status = run(gpu_check.main)
    except SystemExit as ended:
        status = ended.code
    return status, out.read_text() if out.exists() else ""


def state(page: str, part: str) -> tuple[str, str]:
    """What the report's first table says of a part: its state, and why."""
    return re.search(rf"^\| {part} \| (.*?) \| (.*?) \|$", page, re.MULTILINE).groups()


def change(file: Path, name: str, by: float) -> None:
    """Add to one number of an array in a file, `by` times the array's largest."""
    with np.load(file) as arrays:
        changed = dict(arrays)
    numbers = changed[name].reshape(-1)
    numbers[7] += by * np.abs(numbers).max()
    np.savez(file, **changed)


def change_weight(file: Path, layer: str) -> None:
    """Add to one weight of a layer in a caffemodel."""
    param = definitions.import_caffe().proto.caffe_pb2.NetParameter.FromString(file.read_bytes())
    weights = next(each for each in param.layer if each.name == layer).blobs[0].data
    weights[7] += 0.1 * max(map(abs, weights))
    file.write_bytes(param.SerializeToString())


def after(monkeypatch, computed, changed) -> None:
    """Let `changed` do something to the folder that a computation has just written its results to."""
    on = isolated_runs.on

    def on_and_change(gpu, function, *arguments):
        found = on(gpu, function, *arguments)
        if function is computed:
            changed(next(each for each in arguments if isinstance(each, Path)))
        return found

    monkeypatch.setattr(isolated_runs, "on", on_and_change)


def test_the_whole_check_runs_on_the_cpu_which_agrees_with_itself(monkeypatch, tmp_path):
    status, page = check(monkeypatch, tmp_path / "report.md", "--cpu", "--quick")
    assert status == 0
    assert "**Right: 4 parts. Wrong: none. Not run: Caffe's unit tests.**" in page
    assert "The CPU against itself: this proves the script, not a GPU." in page
    assert [state(page, f"{NET}, {part}")[0] for part in ("in training", "deployed", "solver", "time")] == [
        *["agreed"] * 3,
        "measured",
    ]
    assert re.search(r"^\| conv3: conv3 \| 0\.0e\+00 \| 0\.0e\+00 \|$", page, re.MULTILINE)


def test_a_gradient_that_is_off_fails_the_check_by_name(monkeypatch, tmp_path):
    wrong = 2 * verdicts.THROUGH
    after(monkeypatch, compare_nets.write_pass, lambda folder: change(folder / "gradients.npz", "conv3 0", wrong))
    status, page = check(monkeypatch, tmp_path / "report.md", "--cpu", "--quick")
    assert status == 1
    assert state(page, f"{NET}, deployed") == (
        "**disagreed**",
        "gradients differ by up to 2.0e-03 (conv3 0), 0.001 is allowed; beyond it 1 of 25: conv3 0",
    )
    assert state(page, f"{NET}, solver")[0] == "agreed"
    assert f"Wrong: {NET}, in training, {NET}, deployed." in page


def test_a_weight_that_is_off_is_found_in_its_own_layer(monkeypatch, tmp_path):
    after(monkeypatch, compare_nets.write_pass, lambda folder: change_weight(folder / compare_nets.WEIGHTS, "conv2"))
    found = verdicts.judge_differences(isolated_runs.compare_pass(NET, "TEST", tmp_path, None))
    assert found["state"] == "disagreed"
    alone = next(line for line in found["lines"] if line.startswith("outputs of layers alone"))
    assert alone.endswith("beyond it 1 of 30: conv2: conv2")


def test_an_update_that_is_off_is_found(monkeypatch, tmp_path):
    wrong = 2 * verdicts.ALONE
    after(monkeypatch, isolated_runs.update, lambda folder: change(folder / "cpu.npz", "scale1 0", wrong))
    found = verdicts.judge_differences(isolated_runs.compare_update(NET, tmp_path, None))
    assert found["state"] == "disagreed" and "(scale1 0)" in found["lines"][0]


@pytest.mark.parametrize(
    ("difference", "wanted"),
    [(0.9e-4, "agreed"), (1.1e-4, "disagreed"), (np.inf, "disagreed"), (np.nan, "disagreed")],
)
def test_a_difference_is_judged_by_its_bound(difference, wanted):
    found = verdicts.judge_differences({"layers": {"conv1: conv1": 1e-7, "conv2: conv2": difference}})
    assert found["state"] == wanted
    assert ["conv2: conv2" in line for line in found["lines"]] == [True] * (wanted == "disagreed")


def test_an_abort_is_told_of_and_the_other_parts_still_run(monkeypatch, tmp_path):
    after(monkeypatch, compare_nets.make_weights, lambda folder: (folder / compare_nets.WEIGHTS).write_bytes(b"no net"))
    status, page = check(monkeypatch, tmp_path / "report.md", "--cpu", "--quick")
    assert status == 1
    assert [state(page, f"{NET}, {part}")[0] for part in ("in training", "time")] == ["**failed**", "measured"]
    assert "Check failed: " in page and page.count(f"{NET}, in training:\n") == 1


def test_the_last_words_are_those_before_the_stack_trace():
    text = "F0101 common.cpp:1] Check failed: error == cudaSuccess\n*** Check failure stack trace: ***\n    @ 0x7f\n\n"
    assert isolated_runs.last_words("early\n" * 40 + text).splitlines()[-2:] == text.splitlines()[:2]


@pytest.mark.parametrize(("fits", "batch"), [(256, 256), (70, 64), (0, None)])
def test_a_batch_that_lacks_memory_is_halved(monkeypatch, fits, batch):
    def on(gpu, function, net, batch, *others):
        if batch > fits:
            raise isolated_runs.Failed("Check failed: error == cudaSuccess (2 vs. 0)  out of memory")
        return {"seconds": [0.1]}

    monkeypatch.setattr(isolated_runs, "on", on)
    if batch is None:
        with pytest.raises(isolated_runs.Failed):
            isolated_runs.time_training(NET, 256, 1, 0)
    else:
        assert isolated_runs.time_training(NET, 256, 1, 0) == {"batch": batch, "seconds": [0.1]}


@pytest.mark.parametrize(("loss", "wanted"), [(0.7, "measured"), (87.4, "disagreed"), (np.nan, "disagreed")])
def test_a_loss_that_is_no_loss_is_not_right(loss, wanted):
    assert verdicts.judge_training({"loss": loss})["state"] == wanted


def test_a_caffe_without_cuda_is_one_line_that_names_what_to_type(monkeypatch, tmp_path, capsys):
    if cuda_runtime.has_cuda():
        pytest.skip("this Caffe has GPU code")
    status, page = check(monkeypatch, tmp_path / "report.md")
    assert (status, page) == (2, "")
    wanted = "error: this Caffe is built without CUDA; for one with it: scripts/install/setup.sh --cuda\n"
    assert capsys.readouterr().err == wanted


def test_a_caffe_with_cuda_and_no_gpu_is_one_line_that_says_why():
    if not cuda_runtime.has_cuda():
        pytest.skip("this Caffe has no GPU code")
    command = [sys.executable, "scripts/gpu_check.py"]
    ended = subprocess.run(command, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert ended.stderr.startswith("error: no usable GPU (cudaGetDeviceCount: error ")


@pytest.fixture
def program(monkeypatch, tmp_path):
    """A script in the place of the program of Caffe's tests: it lists four and says what they would."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = caffe_unit_tests.program()
    path.parent.mkdir(parents=True)
    listed = "GemmTest/0.\n  First\n  Second\n  Third\n  Fourth\n"
    path.write_text(f"""#!/bin/bash
if [[ $* == *none_such* ]]; then exit; fi
if [[ $* == *--gtest_list_tests* ]]; then cat <<'END'
{listed}END
else cat <<'END'
{SAID}END
kill -ABRT $$
fi
""")
    path.chmod(0o755)
    return path


def test_each_of_caffes_own_tests_has_its_result(program):
    found = caffe_unit_tests.run("*", None)
    assert {name.partition(".")[2]: test["result"] for name, test in found.items()} == {
        "First": "passed",
        "Second": "failed",
        "Third": "aborted",
        "Fourth": "not reached",
    }
    assert "is 15" in found["GemmTest/0.Second"]["said"]
    assert "CUBLAS_STATUS_SUCCESS" in found["GemmTest/0.Third"]["said"]


def test_a_failed_unit_test_fails_the_check_by_name(program, monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "QUICK_NETS", ())
    status, page = check(monkeypatch, tmp_path / "report.md", "--cpu", "--quick", "--unit-tests", "Gemm*")
    assert status == 1
    counts = "of 4 tests 1 passed, 1 failed, 1 aborted, 1 not reached"
    assert state(page, "Caffe's unit tests") == ("**disagreed**", counts)
    assert "GemmTest/0.Third: aborted" in page and "GemmTest/0.First" not in page


def test_a_filter_that_takes_in_no_test_is_no_pass(program):
    outcome = verdicts.attempt(lambda: checks.check_tests("none_such", None))
    assert outcome["state"] == "failed" and "no test" in outcome["said"]


def test_unit_tests_that_are_not_built_are_not_run_and_the_report_says_how_to_build_them(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    outcome = checks.check_tests(caffe_unit_tests.ON_GPU, 0)
    assert outcome["state"] == "not run" and "scripts/install/caffe_test.sh --cuda" in outcome["lines"][0]


def test_the_tests_program_is_where_setup_has_its_cache(monkeypatch, tmp_path):
    setup = definitions.ROOT / "scripts" / "install" / "setup.sh"
    for environment in ({"XDG_CACHE_HOME": str(tmp_path)}, {"XDG_CACHE_HOME": "", "HOME": str(tmp_path)}):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        told = subprocess.run(["bash", "-c", f"source {setup}; echo $cache"], capture_output=True, text=True).stdout
        assert caffe_unit_tests.program() == Path(told.strip()) / "test-cuda" / "run"


def test_the_unit_tests_of_a_gpu_want_a_caffe_with_gpu_code():
    if cuda_runtime.has_cuda():
        pytest.skip("this Caffe has GPU code")
    command = [definitions.ROOT / "scripts" / "install" / "caffe_test.sh", "--cuda"]
    ended = subprocess.run(command, capture_output=True, text=True)
    wanted = "error: the Caffe in .venv has no GPU code; first: scripts/install/setup.sh --cuda\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", wanted)
