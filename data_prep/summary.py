"""Counts of a database, as data and as the table printed at the end of a build, the paper's figures beside."""

from collections import Counter
from collections.abc import Iterable

from data_prep.mass import Mass
from data_prep.split import SPLITS

ROWS = ("images", "masses", "patients", "malignant", "benign", "records")
PAPER = {"images": 1820, "patients": 997}  # section 3; how many masses, and of which class, is not said
PAPER_HELD_OUT = {
    "images": 182,
    "malignant": 91,
    "benign": 91,
}  # test set, recovered from Table 3's fractions


Table = dict[str, dict[str, int]]
"""Counts by split ("train") and row ("masses")."""
Reasons = Counter[str]
"""How many lesions were left out, by kind of reason."""


def counts(masses: Iterable[Mass], split: dict[str, str], records: dict[str, int]) -> Table:
    """Return images, masses, patients, malignant, benign and LMDB records of the used masses, by split."""
    table = {}
    for name in SPLITS:
        part = [mass for mass in masses if split[mass.patient] == name]
        table[name] = {
            "images": len({mass.film.path for mass in part}),
            "masses": len(part),
            "patients": len({mass.patient for mass in part}),
            "malignant": sum(mass.label for mass in part),
            "benign": sum(1 - mass.label for mass in part),
            "records": records[name],
        }
    return table


def reasons(masses: Iterable[Mass]) -> Reasons:
    """Return how many lesions were left out for each kind of reason (the words before the colon)."""
    return Counter(mass.reason.partition(":")[0] for mass in masses if mass.reason)


def render(table: Table, left_out: Reasons) -> str:
    """Return the printed summary: a column a split, their sum, the paper's sum and the paper's test set."""
    lines = [f"{'':12}" + "".join(f"{head:>10}" for head in (*SPLITS, "all", "paper", "its test"))]
    for row in ROWS:
        values = [table[name][row] for name in SPLITS]
        cells = [*values, sum(values), PAPER.get(row), PAPER_HELD_OUT.get(row)]
        lines.append(f"{row:12}" + "".join(f"{'-' if cell is None else format(cell, ','):>10}" for cell in cells))
    if left_out:
        lines.append(f"left out: {left_out.total():,} lesions (each with its reason in manifest.csv)")
        lines += [f"{number:>10,}  {reason}" for reason, number in left_out.most_common()]
    return "\n".join(lines)
