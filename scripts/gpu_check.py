"""Prove Caffe on this machine's GPU, and write a report to send back. Exit status 1 where something is not right.

    scripts/install/caffe_test.sh --cuda              # builds Caffe's own tests for this GPU; once, if they are to run
    python scripts/gpu_check.py                       # all of it on GPU 0, into runs/gpu_check.md
    python scripts/gpu_check.py --quick               # the smallest net alone, a tiny batch, no unit tests
    python scripts/gpu_check.py --unit-tests 'ConvolutionLayerTest/*'
    python scripts/gpu_check.py --cpu --quick         # with no GPU: shows that this script works, and no more

Each of the three nets, with the same weights and images on the CPU and on the GPU: a pass forward and backward, in
training and as deployed, and the solver's changes of the weights; then the time of a training iteration, and Caffe's
own unit tests. The report is written again after each part. Where Caffe aborts the process in a part, the report
says so, and the other parts still run. Temporary files take up to 2 GB.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from data_prep.core.errors import run
from data_prep.core.files import scratch_folder
from scripts.gpu_checks import caffe_unit_tests, cuda_runtime, verdicts
from scripts.gpu_checks.checks import NONE, OUT, describe, plan, write_page


def main() -> None:
    """Run the parts one by one, and write the report after each."""
    args = parse_args()
    gpu = None if args.cpu else args.gpu
    if gpu is not None:
        cuda_runtime.check_gpu(gpu)
    machine = describe(gpu)
    with scratch_folder() as folder:
        parts = plan(gpu, folder, args.quick, args.unit_tests)
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


if __name__ == "__main__":
    sys.exit(run(main))
