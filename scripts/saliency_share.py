"""How much of the saliency falls on the mass, on its margin and around it: a test of what the paper saw in its Fig 3.

    python scripts/saliency_share.py                                   # newest snapshot, whole validation split
    python scripts/saliency_share.py --run runs/googlenet --split test

Section 5.3 concludes from five maps that the nets "learn to attend to the edges of the mass". Here every mass of the
split is counted: its map (scripts/saliency.py's, of the predicted class), scaled to a sum of 1, is added up in the
zones of scripts/evaluation/saliency_zones.py, where a mass is the ellipse inscribed in its box, as outlines are not kept. Beside the
shares of the trained net stand

    area      the zones' own sizes
    random    shares of nets with random weights (scripts/nets/random_init.py), the mean of three: pooling and the image's
              border shape every net's map
    place     shares of the trained net's mean map: what a net would give that looks at the same place whatever it is
              shown. Masses lie in the middle of their crops, so only what exceeds this follows the very mass

Intervals resample patients, differences are of the same masses. Concentration is a share divided by the area's. Writes
saliency_share.json and saliency_share.md to runs/NAME/saliency_share_<split>/.
"""

import sys
from itertools import islice

import numpy as np

from data_prep.core import provenance
from data_prep.core.files import whole_file, write_json
from data_prep.core.records import InputError, run
from data_prep.database import manifest
from data_prep.database.lmdb_io import mass_id_of
from scripts import saliency
from scripts.evaluation import evaluation_table, metrics, saliency_zones, selection
from scripts.nets import definitions
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
"""What is reported of each zone, by its name in saliency_share.json."""


def main() -> None:
    """Choose, measure, judge, write, print."""
    args = selection.parser(__doc__, split="val").parse_args()
    chosen = selection.choose(args)
    out = selection.out_folder(chosen, args.out, "saliency_share")
    definitions.set_mode(args.gpu)
    summary = summarise(chosen, *measure(chosen))
    with whole_file(out / "saliency_share.md") as path:
        path.write_text(f"# {heading(summary)}\n\n{render(summary)}")
    write_json(out / "saliency_share.json", summary)
    print(f"\n{render(summary)}\n{out}: saliency_share.json, saliency_share.md")


def measure(chosen: selection.Chosen) -> tuple[list[str], np.ndarray]:
    """Return the mass_id of each record and its shares: (n, 4, 3), of area, trained, random, place in each zone."""
    keys = [record.key for record in selection.records(chosen)]
    net = definitions.load_deploy(chosen.net, chosen.weights)
    size = net.blobs["data"].shape[-1]
    corners = saliency_zones.box_corners(keys, manifest.read_csv(chosen.data), chosen.manifest, size)
    trained, mean_map = look(chosen, net, corners, "trained net")
    random = []
    for seed in SEEDS:
        settling = (inputs for _, _, inputs in islice(selection.batches(chosen), SETTLING))
        net = load_untrained(chosen.net, seed, settling)
        random.append(look(chosen, net, corners, f"random net {seed}")[0])
    area, place = (
        [saliency_zones.shares(heat, each) for each in corners] for heat in (np.ones((size, size)), mean_map)
    )
    return [mass_id_of(key) for key in keys], np.stack([area, trained, np.mean(random, axis=0), place], axis=1)


def look(chosen: selection.Chosen, net, corners: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares (n, 3) of a net's maps, NaN for a map that is zero everywhere, and the mean map (s, s)."""
    shares, maps_sum = [], 0
    for _, _, inputs in selection.batches(chosen, what):
        found = saliency.explain(net, inputs, "predicted")
        selection.check_numbers(chosen, found["scores"])
        for heat in found["maps"].astype(np.float64):
            shares.append(saliency_zones.shares(heat, corners[len(shares)]))
            maps_sum = maps_sum + heat / (heat.sum() or 1)
    return np.array(shares), maps_sum / len(shares)


def summarise(chosen: selection.Chosen, masses: list[str], shares: np.ndarray) -> dict:
    """Return what saliency_share.json holds, of measure's result.

    Masses with a map of zeros (a ReLU net can be dead to an image) are left out and counted; InputError when all are.
    """
    kept = np.isfinite(shares).all(axis=(1, 2))
    if not kept.any():
        raise InputError(f"{chosen.weights}: the scores do not depend on the image, so the net is dead; train again")
    about = manifest.read_csv(chosen.data)
    masses = [mass for mass, keep in zip(masses, kept, strict=True) if keep]
    patients = np.array([about[mass]["patient"] for mass in masses])
    return {
        **selection.describe(chosen),
        "n": len(masses),
        "masses": len(set(masses)),
        "patients": len(set(patients)),
        "left_out": int((~kept).sum()),
        "outline": "ellipse inscribed in the mass's box",
        "bounds": saliency_zones.BOUNDS,
        "zones": estimates(shares[kept], patients),
        "random_seeds": SEEDS,
        "interval": metrics.INTERVAL,
        "doubts": selection.doubts(chosen),
        "command": provenance.command(),
        "commit": provenance.commit(),
        "versions": provenance.versions("numpy"),
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
    return f"Saliency: {evaluation_table.heading(summary['net'], summary['split'], summary['source'])}"


def render(summary: dict) -> str:
    """Return the table and what it rests on, as Markdown that also reads well in a terminal."""
    inner, outer = summary["bounds"]
    heads = (f"mass (r < {inner})", f"margin ({inner} to {outer})", f"context (r > {outer})")
    columns = [["", *FIGURES.values()]]
    for head, zone in zip(heads, summary["zones"].values(), strict=True):
        columns.append([head, *(cell(zone[name], signed="minus" in name) for name in FIGURES)])
    crops = "" if summary["n"] == summary["masses"] else f" in {summary['n']} crops"
    notes = [
        f"{summary['masses']} masses{crops} of {summary['patients']} patients. Weights: {summary['weights']}",
        f"r: elliptical radius, 1 on the outline, which is here the {summary['outline']}.",
        f"Random nets: weights drawn anew with seeds {', '.join(map(str, summary['random_seeds']))}; the mean of them.",
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


if __name__ == "__main__":
    sys.exit(run(main))
