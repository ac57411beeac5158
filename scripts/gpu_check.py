"""Prove Caffe on this machine's GPU, and write a report to send back. Exit status 1 where something is not right.

    scripts/install/caffe_test.sh --cuda              # builds Caffe's own tests for this GPU; once, if they are to run
    python scripts/gpu_check.py                       # all of it on GPU 0, into runs/gpu_check.md
    python scripts/gpu_check.py --quick               # the smallest net alone, a tiny batch, no unit tests
    python scripts/gpu_check.py --unit-tests 'ConvolutionLayerTest/*'
    python scripts/gpu_check.py --cpu --quick         # with no GPU: shows that this script works, and no more

Each of the three nets, with the same weights and images on the CPU and on the GPU: a pass forward and backward, in
training and as deployed, and the solver's changes of the weights; then the time of a training iteration, and Caffe's
own unit tests. The report is written anew after each part; a part in which Caffe aborts the process is told of, and the
others still run. Files of up to 2 GB come and go in the folder for temporary files.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jinja2
from tqdm import tqdm

from data_prep.core import provenance
from data_prep.core.files import whole_file
from data_prep.core.records import InputError, one_line, run
from scripts.benchmarks import compare_nets
from scripts.benchmarks.measurements import own_batch
from scripts.gpu_checks import caffe_unit_tests, cuda_runtime, isolated_runs, verdicts
from scripts.nets import definitions
from scripts.report import TEMPLATES
from scripts.reporting.benchmark_page import spread
from scripts.same_caffe import PASSES

OUT = Path("runs/gpu_check.md")
ITERATIONS = 20
QUICK_NETS, QUICK_BATCH, QUICK_ITERATIONS = ("baseline",), 4, 3
NONE = "none"
VARIABLES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "CUDA_LAUNCH_BLOCKING")
"""What in the environment changes how a GPU computes."""


def main() -> None:
    """Run the parts one by one, and write the report after each."""
    args = parse_args()
    gpu = None if args.cpu else args.gpu
    if gpu is not None:
        cuda_runtime.check_gpu(gpu)
    machine = describe(gpu)
    with tempfile.TemporaryDirectory() as folder:
        parts = plan(args, gpu, Path(folder))
        outcomes = {name: verdicts.not_run("the check was ended before it") for name in parts}
        write_page(args.out, gpu, machine, outcomes)
        for name, part in tqdm(parts.items(), unit="part", disable=None):
            outcomes[name] = verdicts.attempt(part)
            write_page(args.out, gpu, machine, outcomes)
    print(verdicts.verdict(outcomes))
    print(f"{args.out}: {'of this script alone' if args.cpu else 'the report, to send back'}")
    if any(outcome["state"] in verdicts.BAD for outcome in outcomes.values()):
        sys.exit(1)


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    device = parser.add_mutually_exclusive_group()
    device.add_argument("--gpu", type=int, metavar="ID", default=0, help="GPU to check (default: 0)")
    device.add_argument("--cpu", action="store_true", help="compare the CPU with itself: proves this script, not a GPU")
    parser.add_argument("--quick", action="store_true", help="the smallest net alone, a tiny batch, no unit tests")
    parser.add_argument(
        "--unit-tests",
        metavar="FILTER",
        help=f"gtest's filter of Caffe's own tests, or {NONE} (default: those that compute on a GPU)",
    )
    parser.add_argument("--out", type=Path, default=OUT, help=f"the report (default: {OUT})")
    args = parser.parse_args()
    if args.unit_tests is None:
        args.unit_tests = NONE if args.quick or args.cpu else caffe_unit_tests.ON_GPU
    return args


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


def plan(args: argparse.Namespace, gpu: int | None, folder: Path) -> dict[str, Callable]:
    """Return the parts by name, in their order; each is a function that returns its outcome."""
    chosen = QUICK_NETS if args.quick else definitions.NETS
    parts = {}
    for net in chosen:
        for phase, name in PASSES.items():
            parts[f"{net}, {name}"] = partial(check_pass, net, phase, folder / net, gpu)
        parts[f"{net}, solver"] = partial(check_update, net, folder / net, gpu)
    for net in chosen:
        size = (QUICK_BATCH, QUICK_ITERATIONS) if args.quick else (own_batch(net), ITERATIONS)
        parts[f"{net}, time"] = partial(check_training, net, *size, gpu)
    parts["Caffe's unit tests"] = partial(check_tests, args.unit_tests, gpu)
    return parts


def check_pass(net: str, phase: str, folder: Path, gpu: int | None) -> dict:
    """Compare a pass forward and backward."""
    return verdicts.judge_differences(isolated_runs.compare_pass(net, phase, folder, gpu))


def check_update(net: str, folder: Path, gpu: int | None) -> dict:
    """Compare what the solver makes of given gradients."""
    return verdicts.judge_differences(isolated_runs.compare_update(net, folder, gpu))


def check_training(net: str, batch: int, iterations: int, gpu: int | None) -> dict:
    """Time training iterations."""
    return verdicts.judge_training(isolated_runs.time_training(net, batch, iterations, gpu))


def check_tests(chosen: str, gpu: int | None) -> dict:
    """Run Caffe's own tests, where they are asked for and built."""
    if chosen == NONE:
        return verdicts.not_run("left out; --unit-tests takes them in")
    if not caffe_unit_tests.program().exists():
        return verdicts.not_run(f"not built; to build them: `{caffe_unit_tests.BUILD}`")
    return verdicts.judge_tests(caffe_unit_tests.run(chosen, gpu))


def write_page(out: Path, gpu: int | None, machine: dict[str, str], outcomes: dict[str, dict]) -> None:
    """Write the report."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"median": statistics.median, "spread": spread}
    page = environment.get_template("gpu_check.md").render(
        cpu=gpu is None,
        machine=machine,
        outcomes=outcomes,
        verdict=verdicts.verdict(outcomes),
        bad=verdicts.BAD,
        allowed=verdicts.ALLOWED,
        batch=compare_nets.BATCH,
        updates=isolated_runs.UPDATES,
    )
    with whole_file(out) as path:
        path.write_text(page)


if __name__ == "__main__":
    sys.exit(run(main))
