"""Fig 3 in numbers: the shares of saliency_share.py of several runs as one table."""

import json
from pathlib import Path

from scripts.evaluation.comparisons import Difference
from scripts.evaluation.metrics import Estimate
from scripts.evaluation.results_table import Table
from scripts.experiments.matrix import Finished
from scripts.experiments.plan import SHARES
from scripts.experiments.results import model

HEADER = ("Model", "Zone", "Area", "Trained net", "Random nets", "Mean map", "Trained - random", "Trained - mean map")
FIGURES = ("area", "trained", "random", "place")
DIFFERENCES = ("trained_minus_random", "trained_minus_place")


def write(out: Path, runs: list[Finished], about: str) -> list[Table]:
    """Write saliency.csv and .md of the runs whose saliency was counted, and return the table; nothing without any."""
    counted = [(run, json.loads((run.folder / SHARES).read_text())) for run in runs if (run.folder / SHARES).is_file()]
    if not counted:
        return []
    inner, outer = counted[0][1]["bounds"]
    notes = (
        "Share of the saliency on each zone, the mean over the validation masses, with 95% intervals by patient.",
        f"A mass is the ellipse inscribed in its box; its margin is the band from {inner} to {outer} of its radius.",
        "Random nets: the same architecture with fresh weights, the mean of three.",
        "Mean map: what a net would give that looks at the same place whatever it is shown. Masses lie in the middle, "
        "so only what exceeds it follows the very mass.",
    )
    rows = [row for run, shares in counted for row in rows_of(run, shares)]
    table = Table("saliency", "Fig 3 in numbers: where the saliency falls", about, HEADER, rows, notes)
    table.write(out)
    return [table]


def rows_of(run: Finished, shares: dict) -> list[tuple]:
    """A row for each zone."""
    return [
        (
            model(run.arm),
            zone,
            *(Estimate(**found[name]) for name in FIGURES),
            *(Difference(found[name]["value"], found[name]["low"], found[name]["high"], None) for name in DIFFERENCES),
        )
        for zone, found in shares["zones"].items()
    ]
