"""Train a net with Caffe: live progress, a log of every evaluation, exact resume.

    python scripts/train.py --net baseline                                               # the paper's 35 epochs
    python scripts/train.py --net alexnet --weights weights/bvlc_alexnet.caffemodel --gpu 0
    python scripts/train.py --net googlenet --from-scratch --epochs 5 --out runs/try     # without ImageNet weights
    python scripts/train.py --net googlenet --out runs/try --resume                      # go on after a stop

The net and the solver are the hand-written ones (prototxt/, solvers/); what the options change in them is written to
the run's folder, whose files scripts/run_folder.py describes. The net is evaluated on the whole validation set after
each epoch, or 25 times in a run counted in --iterations. Ctrl-C or SIGTERM saves a snapshot first. A resumed run
ends with the very weights and log that it would have without the stop (on a GPU, up to the order of its sums).
"""

import argparse
import shlex
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from data_prep import provenance
from data_prep.mass import InputError, run
from data_prep.whole_file import write_json
from scripts import nets, run_folder, snapshots, training
from scripts.settings import Settings, check_data, check_same, check_weights, new_settings


def main() -> None:
    args = parse_args()
    folder = args.out or Path("runs") / args.net
    if args.resume:
        settings, content = run_folder.read_run(folder)
        check_same(args, folder, settings)
        gpu = None if args.cpu else args.gpu or content["gpu"]
        about = describe(gpu) | {"command": content["command"]}  # the one that began the run
    else:
        if folder.exists():
            raise InputError(f"{folder}: exists already; go on with --resume, or give another --out")
        settings, gpu = new_settings(args), args.gpu
        about = describe(gpu)
    check_data(settings)
    done, progress = snapshots.newest_whole(folder)
    if settings.weights and not done:
        check_weights(settings)
    nets.set_mode(gpu)
    if not args.resume:
        run_folder.create(folder, settings, about)
    with run_folder.locked(folder):
        if done < settings.iterations:
            again = f"python scripts/train.py --net {settings.net} --out {shlex.quote(str(folder))} --resume"
            train(folder, settings, about, done, progress, again)
    weights = snapshots.file_of(folder, settings.iterations, ".caffemodel")
    print(f"{weights}: finished; next: python scripts/eval.py --weights {shlex.quote(str(weights))}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=nets.NETS, required=True)
    parser.add_argument("--data", type=Path, help="folder made by data_prep/build_lmdb.py (default: data/lmdb)")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--weights", type=Path, help="caffemodel to start from (alexnet, googlenet: ImageNet's)")
    start.add_argument("--from-scratch", action="store_true", default=None, help="all layers random, lr_mult 1 and 2")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=positive, help="default: the paper's 35 (baseline) or 30")
    length.add_argument("--iterations", type=positive)
    parser.add_argument("--batch", type=positive, help="training batch (default: 64, alexnet 256, googlenet 32)")
    parser.add_argument("--seed", type=natural, help="default: the solver's random_seed, 1")
    device = parser.add_mutually_exclusive_group()
    device.add_argument("--gpu", metavar="ID", help="GPU to use (default: CPU, or what a resumed run used last)")
    device.add_argument("--cpu", action="store_true", help="go on without the GPU that the run began with")
    parser.add_argument("--out", type=Path, help="the run's folder (default: runs/NET)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, with its own settings")
    return parser.parse_args()


def natural(text: str) -> int:
    """Parse a whole number from 0 to 2^31 - 1."""
    if not 0 <= int(text) < 2**31:
        raise ValueError
    return int(text)


def positive(text: str) -> int:
    """Parse a whole number from 1 to 2^31 - 1, the most that Caffe's sizes hold."""
    number = natural(text)
    if number == 0:
        raise ValueError
    return number


def train(folder: Path, settings: Settings, about: dict, done: int, progress: snapshots.Progress, again: str) -> None:
    """Train from the snapshot after `done` iterations (0: the start) to the end.

    SystemExit after a stop signal, with the command `again`, which goes on, on stderr.
    """
    stop = stop_signals()
    with run_folder.quiet_solver(folder, resuming=done > 0) as path:
        solver = nets.import_caffe().get_solver(str(path))
    snapshots.check_space(solver, folder)
    snapshots.remove_after(folder, done)
    run_folder.trim_log(folder, done)
    if done:
        print(f"{folder}: going on after iteration {done} of {settings.iterations}", flush=True)
        solver.restore(str(snapshots.file_of(folder, done, ".solverstate")))
        training.replay_data(solver, done, stop)

    def save() -> None:
        snapshots.save(solver, folder, progress)
        state = {"iteration": solver.iter, "seconds": round(progress.seconds, 1)}
        write_json(folder / "run.json", asdict(settings) | about | state)

    training.iterate(solver, folder, settings, progress, save, stop)
    if solver.iter < settings.iterations:
        if solver.iter > done:
            save()
        print(f"stopped after iteration {solver.iter} of {settings.iterations}; to go on: {again}", file=sys.stderr)
        sys.exit(128 + stop[0])


def stop_signals() -> list[int]:
    """Return a list that SIGINT and SIGTERM put their number in, to be looked at between two iterations."""
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: received.append(number))
    return received


def describe(gpu: str | None) -> dict:
    """Return what run.json says of code and machine."""
    return {
        "gpu": gpu,
        "command": provenance.command(),
        "commit": provenance.commit(),
        "versions": provenance.versions("numpy", "protobuf") | {"caffe": nets.import_caffe().__version__},
        "hardware": provenance.hardware(),
    }


if __name__ == "__main__":
    sys.exit(run(main))
