"""Use a trained net on a film: how likely is the marked mass malignant, and what in the picture moves the answer.

    python scripts/classify.py film.png --box 410,622,180,150        # x, y, width, height in the image's pixels
    python scripts/classify.py film.dcm --mask mask.png --run runs/googlenet
    python scripts/classify.py A_1141_1.LEFT_MLO.LJPEG --overlay A_1141_1.LEFT_MLO.OVERLAY --net alexnet \\
        --weights runs/alexnet/snapshot_iter_5000.caffemodel         # each mass of a DDSM film; its .ics lies beside it

Films are of any kind that data_prep/build_lmdb.py reads, and prepared by the same code, in the context that the net was
trained with. Of the database that it was trained on (run.json names it) two small files are needed, manifest.json and
mean.binaryproto; where the database is gone, give the folder that holds these two with --data.

Prints the probability of malignancy and what the mass is called by it, and writes a picture: the film with the mass's
outline and the context square, the crop as the net sees it, and the saliency map of the called class.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from data_prep.core.files import whole_file
from data_prep.core.records import Film, InputError, run
from data_prep.database import context_crops, manifest
from data_prep.sources import csv_boxes, single_film
from scripts import saliency
from scripts.evaluation import paper_results, plots, saliency_zones, selection
from scripts.evaluation.evaluation_table import SOURCES
from scripts.nets import definitions


def main() -> None:
    """Choose, read, judge, print, draw."""
    args = parse_args()
    trained = selection.choose_net(args)
    if args.net not in (None, trained.net):
        raise InputError(f"{trained.weights}: holds {trained.net}, not --net {args.net}; give a snapshot of that net")
    out = args.out or Path(f"{args.film.stem}_{trained.net}.png")
    check_out(out, [args.film, args.mask, args.overlay])
    data = args.data or trained.trained_on
    content = training_of(trained, data)
    kind = single_film.kind_of(args.film, content["source"])
    film, masses = marks(args, kind)
    for warning in doubts(trained, data, content, kind):
        print(f"warning: {warning}", file=sys.stderr)
    definitions.set_mode(args.gpu)
    image = single_film.load(film, kind)
    judged = judge(trained, data, content["context"], image, film, masses)
    for mass in judged:
        print(f"{mass.name}: {mass.verdict}")
    heading = f"{paper_results.TITLES[trained.net]}, trained on {SOURCES[content['source']]}"
    with whole_file(out) as path:
        plots.classified(heading, image, (film.width, film.height), judged).savefig(path, format="png")
    print(f"picture: {out}")


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path, help="image, DICOM file or .LJPEG")
    mark = parser.add_mutually_exclusive_group(required=True)
    mark.add_argument("--box", type=box, metavar="X,Y,W,H", help="the mass's box in the image's pixels")
    mark.add_argument("--mask", type=Path, help="image of the film's size that is black but for the mass")
    mark.add_argument("--overlay", type=Path, help="a DDSM film's .OVERLAY: every mass in it")
    parser.add_argument("--film-size", type=size, metavar="W,H", help="of an image that was squashed: the film's")
    parser.add_argument(
        "--net", choices=definitions.NETS, help="which net the snapshot must hold (default: it says itself)"
    )
    selection.add_net_arguments(parser)
    parser.add_argument("--data", type=Path, help="database that the net was trained on (default: the run's)")
    parser.add_argument("--out", type=Path, help="PNG file (default: FILM_NET.png in this folder)")
    return parser.parse_args()


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


def training_of(trained: selection.Trained, data: Path) -> dict:
    """Return manifest.json of the database that the net was trained on, and print what it says of it."""
    if not (data / manifest.JSON).is_file():
        raise InputError(
            f"{data}: no {manifest.JSON} there, which says how the net's crops were cut; give its folder with --data"
        )
    content = manifest.read_json(data)
    print(f"trained on: {data}, {SOURCES[content['source']]}, {content['context']} context")
    return content


def doubts(trained: selection.Trained, data: Path, content: dict, kind: str) -> list[str]:
    """Return why the net may be shown this film otherwise than the films that it learnt from."""
    found = []
    if trained.run.get("data_digest", content["digest"]) != content["digest"]:
        found.append(f"{data} is another database than the net was trained on: context and mean may differ")
    alike = ("ddsm", "cbis") if content["source"] == "synthetic" else (content["source"],)
    if kind not in alike:
        found.append(f"the net learnt from {SOURCES[content['source']]}, this film is prepared as {SOURCES[kind]}")
    return found


def marks(args: argparse.Namespace, kind: str) -> tuple[Film, list[single_film.Marked]]:
    """Return the film and the masses that are marked on it; say which lesions of an .OVERLAY are none."""
    if kind == "ddsm" and args.film_size:
        raise InputError(f"{args.film}: its .ics gives the film's size; leave --film-size out")
    if not args.overlay:
        marked = args.box or {"mask": str(args.mask)}
        return single_film.by_row(args.film, kind, marked | (args.film_size or {}))
    film, masses, left_out = single_film.by_overlay(args.film, kind, args.overlay)
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    return film, masses


def judge(
    trained: selection.Trained,
    data: Path,
    context: str,
    image: np.ndarray,
    film: Film,
    masses: list[single_film.Marked],
) -> list[plots.Judged]:
    """Return each mass with its probability, the crop that the net sees, and its saliency map.

    `image` is the stored film, uint8 (rows, columns); the mean that the net wants is that of `data`.
    """
    windows = [context_crops.context_window(mass.box, context) for mass in masses]
    stored = np.stack([context_crops.warp(image, film, window) for window in windows])
    inputs = definitions.preprocess(trained.net, stored, data)
    # in eval.py's batch, for in one of another size the last bits of a sum differ
    net = definitions.load_deploy(trained.net, trained.weights, selection.BATCH)
    probabilities = definitions.predict(net, inputs)[:, 1]
    selection.check_numbers(trained, probabilities)
    found = saliency.explain(net, inputs, "predicted")
    seen = definitions.centre_crop(stored, inputs.shape[-1])
    return [
        plots.Judged(
            name=mass.name,
            probability=float(probabilities[i]),
            of_class=saliency.CLASSES[found["classes"][i]],
            outline=mass.outline,
            window=windows[i],
            outline_seen=saliency_zones.seen(windows[i], mass.outline, seen.shape[-1]),
            crop=seen[i],
            heat=found["maps"][i],
        )
        for i, mass in enumerate(masses)
    ]


if __name__ == "__main__":
    sys.exit(run(main))
