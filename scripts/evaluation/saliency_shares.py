"""Shares of the saliency on the mass, its margin and its surroundings, beside those of random nets."""

from itertools import islice

import numpy as np

from data_prep.core import provenance
from data_prep.core.errors import InputError
from data_prep.database import manifest
from data_prep.database.lmdb_io import mass_id_of
from scripts.evaluation import evaluation_table, metrics, saliency_maps, saliency_zones, selection
from scripts.evaluation.selection import EvaluationTarget
from scripts.nets import inference
from scripts.nets.random_init import load_untrained

SEEDS = (1, 2, 3)  # of the nets with random weights
SETTLING = 8  # batches of the split from which their batch norm takes its statistics
FIGURES = {
    "area": "share of the area",
    "trained": "share of the saliency, trained net",
    "random": "share of the saliency, random nets",
    "place": "share of the trained net's mean map",
    "trained_minus_random": "trained net - random nets",
    "trained_minus_place": "trained net - its mean map",
    "concentration_trained": "concentration, trained net",
    "concentration_random": "concentration, random nets",
}
"""The figures of each zone, by their names in saliency_share.json."""
SHARES = [f"{name}_{zone}" for name in ("area", "trained", "random", "place") for zone in saliency_zones.ZONES]
"""The shares of a record, columns of saliency_share.csv."""


def measure(target: EvaluationTarget) -> tuple[list[str], np.ndarray]:
    """Return the mass_id of each record and its shares: (n, 4, 3), of area, trained, random, place in each zone."""
    keys = [record.key for record in selection.records(target)]
    net = inference.load_deploy(target.net, target.weights)
    size = net.blobs["data"].shape[-1]
    corners = saliency_zones.box_corners(keys, manifest.read_csv(target.data), target.manifest, size)
    trained, mean_map = map_shares(target, net, corners, "trained net")
    random = []
    for seed in SEEDS:
        settling = (inputs for _, _, inputs in islice(selection.batches(target), SETTLING))
        net = load_untrained(target.net, seed, settling)
        random.append(map_shares(target, net, corners, f"random net {seed}")[0])
    area, place = (
        [saliency_zones.shares(heat, each) for each in corners] for heat in (np.ones((size, size)), mean_map)
    )
    return [mass_id_of(key) for key in keys], np.stack([area, trained, np.mean(random, axis=0), place], axis=1)


def map_shares(target: EvaluationTarget, net, corners: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares (n, 3) of a net's maps, NaN for a map that is zero everywhere, and the mean map (s, s)."""
    shares, maps_sum = [], 0
    for _, _, inputs in selection.batches(target, what):
        found = saliency_maps.explain(net, inputs, "predicted")
        selection.check_numbers(target, found["scores"])
        for heat in found["maps"].astype(np.float64):
            shares.append(saliency_zones.shares(heat, corners[len(shares)]))
            maps_sum = maps_sum + heat / (heat.sum() or 1)
    return np.array(shares), maps_sum / len(shares)


def rows_of(target: EvaluationTarget, masses: list[str], shares: np.ndarray) -> list[dict]:
    """Return a row of saliency_share.csv for each record, of measure's result.

    Masses with a map of zeros (a ReLU net can be dead to an image) are left out; InputError when all are.
    """
    kept = np.isfinite(shares).all(axis=(1, 2))
    if not kept.any():
        raise InputError(f"{target.weights}: the scores do not depend on the image, so the net is dead; train again")
    about = manifest.read_csv(target.data)
    return [
        {"mass_id": mass, "patient": about[mass]["patient"]} | dict(zip(SHARES, share.ravel().tolist(), strict=True))
        for mass, share, keep in zip(masses, shares, kept, strict=True)
        if keep
    ]


def summarise(target: EvaluationTarget, rows: list[dict]) -> dict:
    """Return what saliency_share.json holds, of rows_of's result."""
    return {
        **selection.describe(target),
        **measured(rows),
        "left_out": target.count - len(rows),
        "outline": "ellipse inscribed in the mass's box",
        "bounds": saliency_zones.BOUNDS,
        "random_seeds": SEEDS,
        "interval": metrics.INTERVAL,
        "doubts": selection.doubts(target),
        **provenance.made_by("numpy"),
    }


def measured(rows: list[dict]) -> dict:
    """Return the sample, and the figures of each zone."""
    patients = np.array([row["patient"] for row in rows])
    shares = np.array([[row[name] for name in SHARES] for row in rows])
    return {
        "n": len(rows),
        "masses": len({row["mass_id"] for row in rows}),
        "patients": len(set(patients)),
        "zones": estimates(shares.reshape(len(rows), -1, len(saliency_zones.ZONES)), patients),
    }


def estimates(shares: np.ndarray, patients: np.ndarray) -> dict[str, dict[str, dict]]:
    """Return by zone and by figure what metrics.Estimate holds; no interval where there is but one patient."""
    values, drawn = figures(shares.mean(axis=0)), figures(metrics.resampled_means(shares, patients))
    several = len(np.unique(patients)) > 1
    found: dict[str, dict[str, dict]] = {zone: {} for zone in saliency_zones.ZONES}
    for name in FIGURES:
        for zone, value, of_draws in zip(saliency_zones.ZONES, values[name], drawn[name].T, strict=True):
            low, high = metrics.interval(of_draws) if several else (None, None)
            found[zone][name] = metrics.Estimate(float(value), low, high, len(of_draws))._asdict()
    return found


def figures(means: np.ndarray) -> dict[str, np.ndarray]:
    """Return each of FIGURES, (..., 3), of mean shares (..., 4, 3)."""
    area, trained, random, place = np.moveaxis(means, -2, 0)
    shown = (area, trained, random, place, trained - random, trained - place, trained / area, random / area)
    return dict(zip(FIGURES, shown, strict=True))


def heading(summary: dict) -> str:
    """Return one line for the title."""
    return f"Saliency: {evaluation_table.heading(summary['net'], summary['split'], summary)}"


def render(summary: dict) -> str:
    """Return the table with its sample and method, as Markdown that also reads well in a terminal."""
    inner, outer = summary["bounds"]
    heads = (f"mass (r < {inner})", f"margin ({inner} to {outer})", f"context (r > {outer})")
    columns = [["", *FIGURES.values()]]
    for head, zone in zip(heads, summary["zones"].values(), strict=True):
        columns.append([head, *(cell(zone[name], signed="minus" in name) for name in FIGURES)])
    crops = "" if summary["n"] == summary["masses"] else f" in {summary['n']} crops"
    notes = [
        f"{summary['masses']} masses{crops} of {summary['patients']} patients. Weights: {summary['weights']}",
        f"r: elliptical radius, 1 on the outline, which is here the {summary['outline']}.",
        f"Random nets: the mean of fresh weights with seeds {', '.join(map(str, summary['random_seeds']))}.",
        "{level:.0%} intervals: {draws:,} bootstrap draws of patients.".format(**summary["interval"]),
    ]
    if summary["left_out"]:
        notes.append(f"Left out: {summary['left_out']} crops, of which some net's map is zero everywhere.")
    if summary["source"] == "synthetic":
        notes.append("SYNTHETIC films: these figures show that the code works, and nothing about mammograms.")
    notes += [f"Doubtful: {doubt}." for doubt in summary["doubts"]]
    return "\n".join([*evaluation_table.table(columns), "", *(f"- {note}" for note in notes)]) + "\n"


def cell(estimate: dict, signed: bool) -> str:
    """Return a figure and its interval as "0.312 (0.300 to 0.325)", with a sign where it is a difference."""
    value, low, high = (
        None if estimate[end] is None else format(estimate[end], "+.3f" if signed else ".3f")
        for end in ("value", "low", "high")
    )
    return value if low is None else f"{value} ({low} to {high})"
