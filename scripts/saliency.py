"""Saliency maps: which pixels a trained net's class score is most sensitive to (the paper's Fig 3).

    python scripts/saliency.py                                # newest snapshot, five validation masses
    python scripts/saliency.py --run runs/googlenet --count 8 --class malignant
    python scripts/saliency.py --weights runs/alexnet_iter_5000.caffemodel --masses MASS_ID MASS_ID

After Simonyan, Vedaldi and Zisserman, arXiv 1312.6034, section 3: the gradient of the unnormalised class score (the
softmax's input, so that a confident net still has one) with respect to the net's input, and of its three channels the
largest magnitude. Writes to runs/NAME/saliency_<split>/: saliency.png, and saliency.npz with keys, images (uint8),
maps, gradients (float32), classes, labels, scores, probabilities and boxes: of each mass's box, in the image's pixels,
the left column, top row, right column and bottom row (float32; of a turned box, those of the upright one around it).
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from data_prep.core.errors import InputError, run
from data_prep.core.files import atomic_write
from data_prep.core.records import CLASSES
from data_prep.database import lmdb_io, manifest
from scripts.evaluation import evaluation_table, plots, saliency_zones, selection
from scripts.evaluation.saliency_maps import explain
from scripts.nets import device, inference

MOST = 20  # masses in a figure, and in one pass through the net


def main() -> None:
    """Choose, explain, write."""
    args = parse_args()
    target = selection.choose_target(args)
    out = selection.out_folder(target, args.out, "saliency")
    device.set_mode(args.gpu)
    records = pick(target, args.masses, args.count)
    images = np.stack([record.image for record in records])
    net = inference.load_deploy(target.net, target.weights, len(images))
    found = explain(net, inference.preprocess(target.net, images, target.mean_folder), args.of_class)
    selection.check_numbers(target, found["scores"])
    found["keys"] = np.array([record.key for record in records])
    found["labels"] = np.array([record.label for record in records])
    size = found["maps"].shape[-1]
    found["images"] = inference.centre_crop(images, size)
    corners = saliency_zones.box_corners(found["keys"].tolist(), manifest.read_csv(target.data), target.manifest, size)
    found["boxes"] = np.hstack([corners.min(axis=1), corners.max(axis=1)])
    write(out, target, found, corners)
    print(f"{out}: saliency.png, saliency.npz; next: python scripts/gallery.py {selection.typed(target)}")


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = selection.parser(__doc__, split="val")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--count", type=int, default=5, help=f"masses, classes in turn (default: 5; at most {MOST})")
    which.add_argument("--masses", nargs="+", metavar="ID", help="these masses (mass_id in manifest.csv)")
    parser.add_argument(
        "--class",
        dest="of_class",
        choices=("predicted", *CLASSES),
        default="predicted",
        help="whose score (default: the predicted class's)",
    )
    return parser.parse_args()


def pick(target: selection.EvaluationTarget, masses: list[str] | None, count: int) -> list[lmdb_io.Record]:
    """Return the records to explain: those named, in that order, or the first `count` of both classes in turn.

    A named mass stands for its first record. Without names it is malignant, benign, malignant and so on, each class in
    key order; what one class lacks, the other fills.
    """
    if not 1 <= (wanted := len(masses) if masses else count) <= MOST:
        raise InputError(f"{wanted} masses: from 1 to {MOST} fit in a figure; change --count or --masses")
    if masses:
        first: dict[str, lmdb_io.Record] = {}
        for record in selection.records(target):
            if (mass := lmdb_io.mass_id_of(record.key)) in masses:
                first.setdefault(mass, record)
        if absent := [mass for mass in masses if mass not in first]:
            raise InputError(f"{target.data}: no mass {absent[0]} in {target.split}; manifest.csv lists them")
        return [first[mass] for mass in masses]
    by_class: tuple[list, list] = ([], [])
    for record in selection.records(target):
        if len(by_class[record.label]) < count:
            by_class[record.label].append(record)
        elif all(len(some) == count for some in by_class):
            break
    turns = [(turn, -label, record) for label in (0, 1) for turn, record in enumerate(by_class[label])]
    return [record for *_, record in sorted(turns, key=lambda each: each[:2])[:count]]


def write(out: Path, target: selection.EvaluationTarget, found: dict[str, np.ndarray], corners: np.ndarray) -> None:
    """Write the arrays, then the figure, with the boxes of these corners (n, 4, 2) drawn on it."""
    heading = evaluation_table.heading(target.net, target.split, target.manifest)
    truths = [CLASSES[label] for label in found["labels"]]
    captions = [
        f"P(malignant) = {malignant:.2f}\nmap: {CLASSES[of_class]} score"
        for malignant, of_class in zip(found["probabilities"][:, 1], found["classes"], strict=True)
    ]
    with atomic_write(out / "saliency.npz") as path:
        np.savez_compressed(path, **found)
    with atomic_write(out / "saliency.png") as path:
        plots.saliency(heading, found["images"], found["maps"], truths, captions, corners).savefig(path)


if __name__ == "__main__":
    sys.exit(run(main))
