"""Counts of a database, as data and as the table printed at the end of a build, the paper's figures beside."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable

from data_prep.core.records import Mass
from data_prep.database.split import SPLITS

UNITS = ("lesions", "images", "patients")
FOUND, SEVERAL, USED = "found", "several of these reasons", "used"
ROWS = ("images", "masses", "patients", "malignant", "benign", "records")
PAPER = {"images": 1820, "patients": 997}  # section 3; how many masses, and of which class, is not said
PAPER_HELD_OUT = {"images": 182, "malignant": 91, "benign": 91}  # test set, recovered from Table 3's fractions

Table = dict[str, dict[str, int]]
"""Counts by split ("train") and row ("masses")."""
Account = dict[str, dict[str, int]]
"""Counts by row (FOUND, each reason for leaving out, perhaps SEVERAL, USED) and unit ("lesions")."""


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


def account(masses: Iterable[Mass]) -> Account:
    """Return how the lesions, images and patients that were found divide into those used and those left out, and why.

    Reasons are the words before the colon. An image (or patient) is used when any of its lesions is; it is left out
    for its lesions' reason, or for SEVERAL where they differ. So every column adds up to what was found.
    """
    masses = list(masses)
    units = {
        "lesions": [[mass.reason] for mass in masses],
        "images": _reasons_by(masses, lambda mass: mass.film.path),
        "patients": _reasons_by(masses, lambda mass: mass.patient),
    }
    columns = {unit: Counter(map(_fate, groups)) for unit, groups in units.items()}
    reasons = [fate for fate, _ in columns["lesions"].most_common() if fate != USED]
    several = [SEVERAL] if any(SEVERAL in column for column in columns.values()) else []
    rows = [*reasons, *several, USED]
    found = {FOUND: {unit: len(groups) for unit, groups in units.items()}}
    return found | {row: {unit: columns[unit][row] for unit in units} for row in rows}


def _reasons_by(masses: list[Mass], key: Callable[[Mass], Hashable]) -> list[list[str]]:
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for mass in masses:
        groups[key(mass)].append(mass.reason)
    return list(groups.values())


def _fate(reasons: list[str]) -> str:
    """Return what becomes of an image or patient whose lesions have these reasons ("" for a lesion that is used)."""
    if "" in reasons:
        return USED
    kinds = {reason.partition(":")[0] for reason in reasons}
    return kinds.pop() if len(kinds) == 1 else SEVERAL


def render(table: Table, account: Account) -> str:
    """Return the printed summary: the sets beside the paper's, then what was left out and why."""
    return f"{_sets(table)}\n\n{_balance(account)}"


def _sets(table: Table) -> str:
    """Return a column per split, their sum, the paper's sum and the paper's test set."""
    lines = [_line("", (*SPLITS, "all", "paper", "its test"), 12)]
    for row in ROWS:
        values = [table[name][row] for name in SPLITS]
        lines.append(_line(row, (*values, sum(values), PAPER.get(row), PAPER_HELD_OUT.get(row)), 12))
    return "\n".join(lines)


def _balance(account: Account) -> str:
    """Return the way from the paper's numbers to those used here, in rows that add up."""
    found, *reasons, used = account
    paper = {unit: PAPER.get(unit) for unit in UNITS}
    more = {unit: account[found][unit] - number if number else None for unit, number in paper.items()}
    rows = {"the paper": paper, "difference from the paper": more, f"= {found}": account[found]}
    rows |= {f"- {reason}": account[reason] for reason in reasons} | {f"= {used}": account[used]}
    width = 2 + max(map(len, rows))
    lines = [_line("", UNITS, width), *(_line(head, row.values(), width) for head, row in rows.items())]
    if reasons:
        lines.append("(each lesion with its reason: manifest.csv)")
    return "\n".join(lines)


def _line(head: str, cells: Iterable[int | str | None], width: int) -> str:
    texts = ("-" if cell is None else cell if isinstance(cell, str) else f"{cell:,}" for cell in cells)
    return f"{head:{width}}" + "".join(f"{text:>10}" for text in texts)
