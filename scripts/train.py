"""Train a net with Caffe: live progress, a log of every evaluation, exact resume.

    python scripts/train.py --net baseline                                               # the paper's 35 epochs
    python scripts/train.py --net alexnet --weights weights/bvlc_alexnet.caffemodel --gpu 0
    python scripts/train.py --net alexnet --weights weights/bvlc_alexnet.caffemodel --gpu 0,1 --iter-size 2
    python scripts/train.py --net googlenet --from-scratch --epochs 5 --out runs/try     # without ImageNet weights
    python scripts/train.py --net googlenet --out runs/try --resume                      # go on after a stop

The net and the solver are the hand-written ones (prototxt/, solvers/); what the options change in them is written to
the run's folder, whose files scripts/training/run_folder.py describes; live.html there shows the curves while they
grow. The net is evaluated on the whole validation set after each epoch, or 25 times in a run counted in --iterations.
Ctrl-C or SIGTERM saves a snapshot first. A resumed run ends with the weights and the log that it would have without the
stop (on a GPU, up to the order of its sums).

Several GPUs (NCCL), and passes of --iter-size for a small one, divide the batch: it stays what --batch says, and with
it the learning rate, the iterations and the records of each. The log has the mean over the parts. Batch norm (the
baseline's) takes its statistics over each part, and its running ones from the first GPU's.
"""

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path

from data_prep.core.errors import InputError, natural, positive, run
from data_prep.core.files import pasted
from data_prep.core.locks import locked
from data_prep.core.process_pool import run_in_fresh_process
from scripts.nets import definitions, device
from scripts.reporting import live_page, tensorboard_events
from scripts.training import loop, multi_gpu, run_folder, snapshots
from scripts.training.run_folder import describe
from scripts.training.settings import Options, Settings, check_data, check_same, check_weights, new_settings


def main() -> None:
    args = parse_args()
    for name in ("data", "weights"):
        if (path := getattr(args, name)) and path.is_absolute() and path.is_relative_to(Path.cwd()):
            setattr(args, name, path.relative_to(Path.cwd()))  # snapshots hold it, and are given away
    if args.tensorboard:
        tensorboard_events.check()
    folder = args.out or Path("runs") / args.net
    options = Options(**{field.name: getattr(args, field.name) for field in fields(Options)})
    if args.resume:
        if not folder.is_dir():
            raise InputError(f"{folder}: no run to resume; leave --resume out")
    else:
        if os.path.lexists(folder):
            raise InputError(f"{folder}: exists already; go on with --resume, or give another --out")
        gpus = multi_gpu.usable(args.gpu)
        settings, provenance = new_settings(options, len(gpus)), describe(args.gpu)
        check(settings, gpus)
        run_folder.make(folder)
    with locked(folder):
        done, progress = 0, snapshots.Progress()
        if args.resume:
            settings, content = run_folder.read_run(folder)
            gpu = None if args.cpu else args.gpu or content["gpu"]
            gpus = multi_gpu.usable(gpu)
            check_same(options, folder, settings, len(gpus))
            provenance = describe(gpu) | {"command": content["command"]}  # the one that began the run
            done, progress = snapshots.newest_whole(folder, saved=content.get("iteration", 0))
            check(settings, gpus, start=not done)
        else:
            run_folder.create(folder, settings, provenance)
        if done < settings.iterations:
            resume_command = f"python scripts/train.py --net {settings.net} --out {pasted(folder)} --resume"
            show = tensorboard_events.show if args.tensorboard else live_page.write_own
            training = loop.Training(folder, settings, provenance, resume_command, done, progress, show)
            print(f"{folder / live_page.NAME}: the curves, while they grow; open it in a browser", flush=True)
            if len(gpus) == 1:
                device.select_device(*gpus)
                loop.train(training)
            else:
                multi_gpu.train(gpus, training)
        else:
            snapshots.remove_older(folder, done)  # killed before the last one's save did
    weights = snapshots.file_of(folder, settings.iterations, ".caffemodel")
    print(f"{weights}: finished; next: python scripts/eval.py --weights {pasted(weights)}")


def check(settings: Settings, gpus: list[int | None], start: bool = True) -> None:
    """Raise InputError where Caffe would abort: on the data, or the weights that a training is to start from."""
    check_data(settings)
    if settings.weights and start:
        # In a process of its own where others are to have the GPUs: Caffe takes hold of one even to look at a net.
        check_weights(settings) if len(gpus) == 1 else run_in_fresh_process(check_weights, settings)


def rate(text: str) -> float:
    """Parse a learning rate."""
    if not 0 < float(text) < 10:
        raise ValueError
    return float(text)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=definitions.NETS, required=True)
    parser.add_argument("--data", type=Path, help="folder made by data_prep/build_lmdb.py (default: data/lmdb)")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--weights", type=Path, help="caffemodel to start from (alexnet, googlenet: ImageNet's)")
    start.add_argument("--from-scratch", action="store_true", default=None, help="all layers random, lr_mult 1 and 2")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=positive, help="default: the paper's 35 (baseline) or 30")
    length.add_argument("--iterations", type=positive)
    parser.add_argument("--batch", type=positive, help="training batch (default: 64, alexnet 256, googlenet 32)")
    parser.add_argument("--iter-size", type=positive, help="passes a batch is divided into, on each GPU (default: 1)")
    parser.add_argument("--base-lr", type=rate, help="learning rate in place of the solver's, which is the paper's")
    parser.add_argument("--seed", type=natural, help="default: the solver's random_seed, 1")
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--gpu", metavar="ID", help="0; several: 0,1; all (default: CPU, or what a resumed run used last)"
    )
    place.add_argument("--cpu", action="store_true", help="go on without the GPU that the run began with")
    parser.add_argument("--out", type=Path, help="the run's folder (default: runs/NET)")
    parser.add_argument("--tensorboard", action="store_true", help="write its event files too (needs tensorboardX)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, with its own settings")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run(main))
