"""Annotations in COCO's JSON -> a CSV of boxes.

    python data_prep/from_coco.py data/my_films                           # every JSON file of that kind below it
    python data_prep/from_coco.py data/my_films/train.json --patient "^([^_]+)_"
    python data_prep/build_lmdb.py --source boxes --root data/my_films/boxes.csv

A file has `images` (id, file_name, width, height), `annotations` (image_id, category_id, bbox: x, y, width, height) and
`categories` (id, name). Images are looked for beside the file and below the folder, by their names. Annotations whose
category is a mass are taken ("Mass", "malignant_mass", "benign" ...). Their pathology is what the category's name says,
or `pathology` of annotation or image.

Masses of a patient must go into one set: the patient is `patient_id` or `study_id` of the image, or what --patient, a
regular expression with one group, finds in the file's name. Without either nothing is written.
"""

import argparse
import json
import re
import sys
from collections import defaultdict
from pathlib import Path

from data_prep.core.errors import InputError, run
from data_prep.core.files import files_below
from data_prep.core.records import LABELS, pathology_of
from data_prep.sources.box_csv import LeftOut, Row, convert, images_below, in_image, parser_of


def read(args: argparse.Namespace) -> tuple[list[Row], LeftOut]:
    """Return a row for each mass of the files, and everything else by reason."""
    folder = args.root if args.root.is_dir() else args.root.parent
    files = [args.root] if args.root.is_file() else files_below(folder)
    sets = {path: _content(path) for path in files if path.suffix.lower() == ".json"}
    if not any(sets.values()):
        raise InputError(f"{args.root}: no JSON file with images, annotations and categories in it")
    films = images_below(folder)
    rows: list[Row] = []
    left_out: LeftOut = defaultdict(list)
    for path, content in sets.items():
        for image, kind, annotation in content:
            name = image["file_name"]
            if not re.search("mass|malignant|benign", kind, re.IGNORECASE):
                left_out[f"annotations of kind {kind}"].append(name)
                continue
            beside = path.parent / name
            film = beside if beside.is_file() else films.get(Path(name).stem.lower(), beside)
            words = [kind, *re.findall("[A-Za-z]{2,}", kind), *(str(a.get("pathology")) for a in (annotation, image))]
            proven = [word for word in map(pathology_of, words) if word in LABELS]
            rows.append(
                {
                    "image": film,
                    "patient_id": _patient(path, image, args.patient),
                    "pathology": proven[0] if proven else f"UNPROVEN ({kind})",
                    **in_image(annotation["bbox"], image["width"], image["height"], film),
                }
            )
    return rows, left_out


def _content(path: Path) -> list[tuple[dict, str, dict]]:
    """Return each annotation of a file with its image and the name of its category; none where it is another JSON."""
    try:
        content = json.loads(path.read_text("utf-8-sig"))
        if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
            return []
        images = {image["id"]: image for image in content["images"]}
        kinds = {category["id"]: category["name"] for category in content["categories"]}
        found = [(images[one["image_id"]], kinds[one["category_id"]], one) for one in content["annotations"]]
        for image, _, one in found:
            if (
                len([*map(float, one["bbox"])]) != 4
                or min(image["width"], image["height"]) < 1
                or not image["file_name"]
            ):
                raise ValueError(f"annotation {one.get('id')} or its image lacks numbers")
        return found
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not annotations as COCO has them ({error!r})") from None


def _patient(path: Path, image: dict, pattern: str | None) -> str:
    found = re.search(pattern, image["file_name"]) if pattern else None
    patient = found[1] if found else image.get("patient_id") or image.get("study_id")
    if not patient:
        raise InputError(f"{path}: whose film is {image['file_name']}? Say it with --patient; see --help")
    return str(patient)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--patient", metavar="REGEX", help="finds the patient, its one group, in an image's file name")
    convert(read, parser)


if __name__ == "__main__":
    sys.exit(run(main))
