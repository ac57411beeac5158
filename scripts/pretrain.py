"""Pre-train a net's convolutions on fractals: a stand-in for ImageNet weights where BVLC's files cannot be had.

    python scripts/pretrain.py --net alexnet                # data/fractals, then weights/fractal_alexnet.caffemodel
    python scripts/pretrain.py --net googlenet --gpu 0
    python scripts/train.py --net alexnet --weights weights/fractal_alexnet.caffemodel

Formula-driven supervised learning (Kataoka et al., "Pre-training without Natural Images", ACCV 2020, arXiv 2101.08515)
at a size for one CPU core. The net is the hand-written one up to its last feature map, with batch norms, which are
folded into the convolutions at the end (fractal_pretraining.py): the caffemodel holds plain layers of BVLC's names and
shapes. The images are half as wide as the mammograms' crops, a quarter of the work: a convolution's weights do not
depend on it. A run that was stopped goes on when the command is typed again. The JSON beside the caffemodel says how it
was made.

The validation figures on the way are too low: the batch norms' running statistics lag behind the weights while the
learning rate is high. At the end it is nothing, and the last figures are those of the weights that are kept.
"""

import argparse
import hashlib
import math
import sys
from pathlib import Path

from data_prep.core.errors import InputError, natural, positive, run
from data_prep.core.files import atomic_write, write_json
from data_prep.core.provenance import command, commit
from data_prep.database import lmdb_io, manifest
from data_prep.synthesis import fractal_set
from scripts.evaluation import run_files
from scripts.nets import batch_norm, definitions, device
from scripts.training import fractal_pretraining, loop, run_folder, snapshots
from scripts.training.fractal_pretraining import recalibrate
from scripts.training.run_folder import describe
from scripts.training.settings import EVALUATIONS, Settings, val_batch_of

EPOCHS = {"alexnet": 4, "googlenet": 2}
BATCHES = {"alexnet": 64, "googlenet": 32}
SOLVER = definitions.ROOT / "solvers" / "fractals.prototxt"


def main() -> None:
    args = parse_args()
    out = args.out or Path("weights") / f"fractal_{args.net}.caffemodel"
    if out.suffix != ".caffemodel":
        raise InputError(f"{out}: name it with the ending .caffemodel")
    if out.exists():
        raise InputError(f"{out}: is there already; remove it to make it anew, or give another --out")
    fractal_set.ensure(args.data, args.categories, args.images)
    categories = fractal_set.read_manifest(args.data)["categories"]
    settings, provenance = new_settings(args), describe(args.gpu)
    folder = out.with_suffix(".run")
    device.set_mode(args.gpu)
    folder.mkdir(parents=True, exist_ok=True)
    with run_folder.locked(folder):
        own = fractal_pretraining.derive(args.net, categories), SOLVER
        done, progress = 0, snapshots.Progress()
        if (folder / run_files.JSON).exists():
            begun, content = run_folder.read_run(folder, *own)
            if begun != settings:
                raise InputError(
                    f"{folder}: was begun with other options; remove it (rm -r {folder}) or give another --out"
                )
            provenance |= {"command": content["command"]}
            done, progress = snapshots.newest_whole(folder, saved=content.get("iteration", 0))
        else:
            run_folder.create(folder, settings, provenance, *own)
        if done < settings.iterations:
            loop.train(loop.Training(folder, settings, provenance, command(), done, progress))
        finish(folder, settings, categories, out)
    print(f"{out}: finished; next: python scripts/train.py --net {args.net} --weights {out}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=EPOCHS, required=True)
    parser.add_argument(
        "--data", type=Path, default=fractal_set.DEFAULT, help=f"fractals (default: {fractal_set.DEFAULT})"
    )
    for name in ("categories", "images"):
        default = fractal_set.DEFAULTS[name]
        parser.add_argument(f"--{name}", type=positive, help=f"of fractals (default: as in --data, else {default})")
    parser.add_argument(
        "--epochs", type=positive, help=f"default: {EPOCHS['alexnet']} (alexnet), {EPOCHS['googlenet']}"
    )
    parser.add_argument("--seed", type=natural, default=1, help="of the training (default: 1)")
    parser.add_argument("--gpu", metavar="ID", help="GPU to use (default: CPU)")
    parser.add_argument("--out", type=Path, help="default: weights/fractal_NET.caffemodel")
    return parser.parse_args()


def new_settings(args: argparse.Namespace) -> Settings:
    """Return the pre-training's settings; its validation set is the fractals that the net is not shown."""
    images = {split: lmdb_io.count(args.data / split) for split in ("train", "val")}
    epochs, batch = args.epochs or EPOCHS[args.net], BATCHES[args.net]
    iterations = math.ceil(epochs * images["train"] / batch)
    return Settings(
        net=args.net,
        data=str(args.data),
        data_digest=manifest.read_json(args.data)["digest"],
        weights=None,
        from_scratch=True,
        seed=args.seed,
        batch=batch,
        epochs=epochs,
        iterations=iterations,
        evaluate_every=math.ceil(iterations / EVALUATIONS),
        train_images=images["train"],
        val_images=images["val"],
        val_batch=val_batch_of(images["val"]),
    )


def finish(folder: Path, settings: Settings, categories: int, out: Path) -> None:
    """Write the folded weights of the finished run, and the JSON that says how they were made."""
    weights = snapshots.file_of(folder, settings.iterations, ".caffemodel")
    train_val = definitions.read_prototxt(folder / run_folder.TRAIN_VAL)
    whole = recalibrate(train_val, weights, Path(settings.data), settings.seed)
    folded = batch_norm.fold(whole, out.stem).SerializeToString()
    content = run_files.read_run(folder)
    result = {
        "categories": categories,
        "val_accuracy": run_files.read_log(folder)[-1]["val_accuracy"],
        "folded_by": commit(),
        "sha256": hashlib.sha256(folded).hexdigest(),
    }
    write_json(out.with_suffix(".json"), content | result)
    with atomic_write(out) as path:
        path.write_bytes(folded)


if __name__ == "__main__":
    sys.exit(run(main))
