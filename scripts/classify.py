"""Classify the marked masses of a film with a trained net, and show which pixels its answer is sensitive to.

    python scripts/classify.py --example                             # draws a synthetic film, and classifies its mass
    python scripts/classify.py film.png --box 410,622,180,150        # x, y, width, height in the image's pixels
    python scripts/classify.py film.dcm --mask mask.png --run runs/googlenet --at-recall 0.923
    python scripts/classify.py A_1141_1.LEFT_MLO.LJPEG --overlay A_1141_1.LEFT_MLO.OVERLAY --net alexnet \\
        --weights runs/alexnet/snapshot_iter_5000.caffemodel         # each mass of a DDSM film; its .ics lies beside it

Without --run or --weights the net is the one in results/nets. Films are of any kind that data_prep/build_lmdb.py reads,
and prepared by the same code, in the context that the net was trained with. Of the database that it was trained on
(run.json names it) two small files are needed, manifest.json and mean.binaryproto; where the database is gone, put
these two beside the weights or give their folder with --data.

Prints the probability of malignancy and what the mass is called by it, and writes a picture: the film with the mass's
outline and the context square, the crop as the net sees it, and the saliency map of the called class. A mass is called
malignant from probability 0.5 on; with --threshold from another, with --at-recall from the one that reaches that recall
on the net's validation set.
"""

import argparse
import sys
from pathlib import Path

from data_prep.core.errors import InputError, run
from data_prep.core.files import atomic_write, make_empty
from data_prep.sources import csv_boxes, single_film
from data_prep.synthesis import ddsm_set
from scripts.evaluation import paper_results, plots, selection, thresholds
from scripts.evaluation.evaluation_table import films
from scripts.evaluation.film_classification import (
    classify_masses,
    doubts,
    far_from_training,
    marks_of_overlay,
    training_of,
)
from scripts.nets import definitions, device

EXAMPLE = Path("data/example")


def main() -> None:
    """Choose, read, judge, print, draw."""
    args = parse_args()
    if args.example:
        make_empty(EXAMPLE)
        args.overlay = ddsm_set.draw_example(EXAMPLE)
        args.film = args.overlay.with_suffix(".LJPEG")
        print(f"film: {args.film}, synthetic: drawn from random numbers")
    if not (args.run or args.weights):
        args.run = selection.published(args.net)
    trained = selection.choose_net(args)
    if args.net not in (None, trained.net):
        raise InputError(f"{trained.weights}: holds {trained.net}, not --net {args.net}; give a snapshot of that net")
    threshold = thresholds.choose(args, trained)
    out = args.out or Path(f"{args.film.stem}_{trained.net}.png")
    check_out(out, [args.film, args.mask, args.overlay])
    data = args.data or trained.trained_on
    content = training_of(trained, data)
    kind = single_film.kind_of(args.film, content["source"])
    if kind == "ddsm" and args.film_size:
        raise InputError(f"{args.film}: its .ics gives the film's size; leave --film-size out")
    if args.overlay:
        film, masses = marks_of_overlay(args.film, kind, args.overlay)
    else:
        marked = (args.box or {"mask": str(args.mask)}) | (args.film_size or {})
        film, masses = single_film.by_row(args.film, kind, marked)
    for warning in doubts(trained, data, content, kind):
        print(f"warning: {warning}", file=sys.stderr)
    device.set_mode(args.gpu)
    image = single_film.load(film, kind)
    judged = classify_masses(trained, data, content["context"], image, film, masses, threshold)
    for warning in far_from_training(content, judged):
        print(f"warning: {warning}", file=sys.stderr)
    for mass in judged:
        print(f"{mass.name}: {mass.verdict}")
    heading = f"{paper_results.TITLES[trained.net]}, trained on {films(content)}"
    with atomic_write(out) as path:
        plots.classified(heading, image, (film.width, film.height), judged).savefig(path, format="png")
    print(f"picture: {out}")


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", nargs="?", type=Path, help="image, DICOM file or .LJPEG")
    mark = parser.add_mutually_exclusive_group(required=True)
    mark.add_argument("--box", type=box, metavar="X,Y,W,H", help="the mass's box in the image's pixels")
    mark.add_argument("--mask", type=Path, help="image of the film's size that is black but for the mass")
    mark.add_argument("--overlay", type=Path, help="a DDSM film's .OVERLAY: every mass in it")
    mark.add_argument("--example", action="store_true", help="draw a synthetic film with a mass (in data/example)")
    parser.add_argument("--film-size", type=size, metavar="W,H", help="of an image that was squashed: the film's")
    parser.add_argument(
        "--net", choices=definitions.NETS, help="which net the snapshot must hold (default: it says itself)"
    )
    selection.add_net_arguments(parser, default="the net kept in results/nets")
    thresholds.add_arguments(parser)
    parser.add_argument("--data", type=Path, help="database that the net was trained on (default: the run's)")
    parser.add_argument("--out", type=Path, help="PNG file (default: FILM_NET.png in this folder)")
    args = parser.parse_args()
    if args.example and args.film:
        parser.error("--example draws its own film; leave the other out")
    if not (args.example or args.film):
        parser.error("give a film and the place of its mass, or --example")
    return args


def box(text: str) -> dict[str, str]:
    """Parse "410,622,180,150" into columns of data_prep/sources/csv_boxes.py."""
    return _row(text, csv_boxes.BOX)


def size(text: str) -> dict[str, str]:
    """Parse "3000,4800" into columns of data_prep/sources/csv_boxes.py."""
    if min(map(float, text.split(","))) < 1:
        raise ValueError
    return _row(text, ("film_width", "film_height"))


def _row(text: str, columns: tuple[str, ...]) -> dict[str, str]:
    fields = text.split(",")
    return {name: str(float(field)) for name, field in zip(columns, fields, strict=True)}


def check_out(out: Path, inputs: list[Path | None]) -> None:
    """Raise InputError where the picture would replace what it is made from."""
    if out.exists() and any(path and path.exists() and out.samefile(path) for path in inputs):
        raise InputError(f"{out}: is one of the images given; choose another --out")


if __name__ == "__main__":
    sys.exit(run(main))
