"""Classification of the masses marked on a single film."""

import sys
from pathlib import Path

import numpy as np

from data_prep.core.errors import InputError
from data_prep.core.records import CLASSES, Film
from data_prep.database import context_crops, grey_levels, manifest
from data_prep.sources import single_film
from scripts.evaluation import plots, saliency_maps, saliency_zones, selection
from scripts.evaluation.evaluation_table import SOURCES, films
from scripts.evaluation.thresholds import DEFAULT, Threshold
from scripts.nets import inference


def training_of(trained: selection.TrainedNet, data: Path) -> dict:
    """Return manifest.json of the database that the net was trained on, and print what it says of it."""
    if not (data / manifest.JSON).is_file():
        raise InputError(
            f"{data}: no {manifest.JSON} there, which says how the net's crops were cut; give its folder with --data"
        )
    content = manifest.read_json(data)
    print(f"trained on: {data}, {films(content)}, {content['context']} context")
    return content


def doubts(trained: selection.TrainedNet, data: Path, content: dict, kind: str) -> list[str]:
    """Return the reasons why this film may look different to the net from the films that it learnt from."""
    found = []
    if trained.run.get("data_digest", content["digest"]) != content["digest"]:
        found.append(f"{data} is another database than the net was trained on: context and mean may differ")
    alike = ("ddsm", "cbis") if content["source"] == "synthetic" else (content["source"],)
    if kind not in alike:
        found.append(f"the net learnt from {films(content)}, this film is prepared as {SOURCES[kind]}")
    return found


def far_from_training(content: dict, masses: list[plots.ClassifiedMass]) -> list[str]:
    """Return a warning for each mass whose crop has grey levels far from those of the training set's crops."""
    seen = [(mass, grey_levels.histogram(mass.crop)) for mass in masses if "histogram" in content]
    return [
        f"{mass.name}: its grey levels lie far from the training set's (mean {mass.crop.mean():.0f} of 255): "
        "another kind of film, or its bits mean something else"
        for mass, found in seen
        if grey_levels.distance(found, np.array(content["histogram"])) > grey_levels.FAR
    ]


def marks_of_overlay(path: Path, kind: str, overlay: Path) -> tuple[Film, list[single_film.Marked]]:
    """Return a film and the masses in its .OVERLAY; say which of the lesions in it are none."""
    film, masses, left_out = single_film.by_overlay(path, kind, overlay)
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    return film, masses


def classify_masses(
    trained: selection.TrainedNet,
    data: Path,
    context: str,
    image: np.ndarray,
    film: Film,
    masses: list[single_film.Marked],
    threshold: Threshold = DEFAULT,
) -> list[plots.ClassifiedMass]:
    """Return each mass with its probability, the crop that the net sees, and its saliency map.

    `image` is the stored film, uint8 (rows, columns); the mean that the net wants is that of `data`.
    """
    windows = [context_crops.context_window(mass.box, context) for mass in masses]
    stored = np.stack([context_crops.warp(image, film, window) for window in windows])
    inputs = inference.preprocess(trained.net, stored, data)
    # in eval.py's batch, for in one of another size the last bits of a sum differ
    net = inference.load_deploy(trained.net, trained.weights, selection.BATCH)
    probabilities = inference.predict(net, inputs)[:, 1]
    selection.check_numbers(trained, probabilities)
    found = saliency_maps.explain(net, inputs, "predicted", threshold.value)
    seen = inference.centre_crop(stored, inputs.shape[-1])
    return [
        plots.ClassifiedMass(
            name=mass.name,
            probability=float(probabilities[i]),
            of_class=CLASSES[found["classes"][i]],
            outline=mass.outline,
            window=windows[i],
            outline_seen=saliency_zones.seen(windows[i], mass.outline, seen.shape[-1]),
            crop=seen[i],
            heat=found["maps"][i],
            threshold=threshold,
        )
        for i, mass in enumerate(masses)
    ]
