"""The checks of gpu_check.py: passes, updates, training speed, Caffe's own GPU tests, and their report."""

import os
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path

from data_prep.core import provenance
from data_prep.core.errors import InputError, one_line
from data_prep.core.files import write_text
from scripts.benchmarks import compare_nets
from scripts.benchmarks.compare_nets import PASSES
from scripts.benchmarks.measurements import own_batch
from scripts.gpu_checks import caffe_unit_tests, cuda_runtime, isolated_runs, verdicts
from scripts.nets import definitions
from scripts.reporting.page_templates import render

OUT = Path("runs/gpu_check.md")
ITERATIONS = 20
QUICK_NETS, QUICK_BATCH, QUICK_ITERATIONS = ("baseline",), 4, 3
NONE = "none"
VARIABLES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "CUDA_LAUNCH_BLOCKING")
"""Environment variables that change how a GPU computes."""


def describe(gpu: int | None) -> dict[str, str]:
    """Return what the report says of the machine; InputError when Caffe cannot use the GPU at all."""
    try:
        card = {} if gpu is None else isolated_runs.on(gpu, cuda_runtime.describe, gpu)
    except isolated_runs.Failed as error:
        raise InputError(f"--gpu {gpu}: {one_line(error)}") from None
    hardware = provenance.hardware()
    return {
        **card,
        **cuda_runtime.versions(),
        "Caffe": definitions.import_caffe().__version__,
        "CPU": f"{hardware['cores']} cores of {hardware['cpu']}",
        "system": platform.platform(),
        "environment": ", ".join(f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ)
        or "as it is",
        "command": f"`{provenance.command()}`",
        "commit": provenance.commit(),
    }


def plan(gpu: int | None, folder: Path, quick: bool, unit_tests: str) -> dict[str, Callable]:
    """Return the parts by name, in their order; each is a function that returns its outcome."""
    chosen = QUICK_NETS if quick else definitions.NETS
    compare = partial(check, verdicts.judge_differences)
    parts = {}
    for net in chosen:
        for phase, name in PASSES.items():
            parts[f"{net}, {name}"] = partial(compare, isolated_runs.compare_pass, net, phase, folder / net, gpu)
        parts[f"{net}, solver"] = partial(compare, isolated_runs.compare_update, net, folder / net, gpu)
    for net in chosen:
        size = (QUICK_BATCH, QUICK_ITERATIONS) if quick else (own_batch(net), ITERATIONS)
        parts[f"{net}, time"] = partial(check, verdicts.judge_training, isolated_runs.time_training, net, *size, gpu)
    parts["Caffe's unit tests"] = partial(check_tests, unit_tests, gpu)
    return parts


def check(judge: Callable, measure: Callable, *arguments) -> dict:
    """Return the verdict on what a measurement found."""
    return judge(measure(*arguments))


def check_tests(chosen: str, gpu: int | None) -> dict:
    """Run Caffe's own tests, where they are asked for and built."""
    if chosen == NONE:
        return verdicts.not_run("left out; --unit-tests takes them in")
    if not caffe_unit_tests.program().exists():
        return verdicts.not_run(f"not built; to build them: `{caffe_unit_tests.BUILD}`")
    return verdicts.judge_tests(caffe_unit_tests.run(chosen, gpu))


def write_page(out: Path, gpu: int | None, machine: dict[str, str], outcomes: dict[str, dict]) -> None:
    """Write the report."""
    page = render(
        "gpu_check.md",
        cpu=gpu is None,
        machine=machine,
        outcomes=outcomes,
        verdict=verdicts.verdict(outcomes),
        bad=verdicts.BAD,
        allowed=verdicts.ALLOWED,
        batch=compare_nets.BATCH,
        updates=isolated_runs.UPDATES,
    )
    write_text(out, page)
