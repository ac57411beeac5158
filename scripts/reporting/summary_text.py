"""The report's answer in a few sentences, and its caveats."""

import re
from collections.abc import Iterable, Sequence

from scripts.evaluation import evaluation_table, paper_results
from scripts.reporting.finished_run import FinishedRun


def answer(runs: Sequence[FinishedRun]) -> list[str]:
    """Return sentences on each net's accuracy on the test set, compared with the paper's and with chance."""
    leading = leading_runs(runs)
    samples = dict.fromkeys(
        f"{run.scores['masses']} test masses of {run.scores['patients']} patients" for run in leading
    )
    sources = dict.fromkeys(run.films for run in leading)
    figures = (
        f"{evaluation_table.interval(*evaluation_table.ends(run.scores, 'accuracy'))} for {run.title}"
        for run in leading
    )
    found = [f"Here, on {listed(sources)}, {listed(samples)}, accuracy is {listed(figures)}."]
    found.append("Brackets give 95 % confidence intervals.")
    alike = [] if is_synthetic(runs) else [run for run in leading if run.as_in_table_3 and side(run) is not None]
    places = {"within": 0, "above": 1, "below": -1}
    sides = {place: [run.net_title for run in alike if side(run) == where] for place, where in places.items()}
    if alike:
        said = listed(f"{place} the interval of {listed(titles)}" for place, titles in sides.items() if titles)
        found.append(f"The paper's accuracy of the same net lies {said}.")
    if chance := [run.net_title for run in leading if may_be_chance(run)]:
        found.append(f"Chance is not ruled out for {listed(chance)}: the interval of the AUC reaches 0.5.")
    return found


def leading_runs(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """Return of each net one run, the first on crops as in the paper's Table 3, or else the first."""
    by_net = {net: [run for run in runs if run.net == net] for net in paper_results.TEST}
    return [max(kin, key=lambda run: run.as_in_table_3) for kin in by_net.values() if kin]


def side(run: FinishedRun) -> int | None:
    """Return 0 where the paper's accuracy of the net lies within the run's interval, 1 above it, -1 below it.

    None where the run has no interval.
    """
    _, low, high = evaluation_table.ends(run.scores, "accuracy")
    theirs = paper_results.TEST[run.net].accuracy
    return None if low is None else int(theirs > high) - int(theirs < low)


def may_be_chance(run: FinishedRun) -> bool:
    """Return whether the interval of the AUC reaches down to one half, or is not known."""
    low = run.scores["metrics"]["auc"]["low"]
    return low is None or low <= 0.5


def is_synthetic(runs: Sequence[FinishedRun]) -> bool:
    return any(run.scores["source"] == "synthetic" for run in runs)


def caveats(runs: Sequence[FinishedRun]) -> list[str]:
    """Return the reasons not to compare these figures with the paper's; those of some runs only, with their names."""
    found: dict[str, list[str]] = {}
    for run in runs:
        caveats = evaluation_table.caveats(run.scores)
        if rate := run.settings.get("base_lr"):
            caveats.append(f"The learning rate is {rate:g}, which is not the paper's.")
        for caveat in caveats:
            found.setdefault(caveat, []).append(run.name)
    return [caveat if len(names) == len(runs) else f"{', '.join(names)}: {caveat}" for caveat, names in found.items()]


def listed(words: Iterable[str]) -> str:
    """Return words as one says them: "a", "a and b", "a, b and c"."""
    *first, last = words
    return " and ".join([", ".join(first), last] if first else [last])


def halves(text: str) -> tuple[str, str]:
    """Return a table's "0.929 (0.882-0.958)" as the figure and its interval; other texts whole, and ""."""
    parts = re.fullmatch(r"([-+\d.,]+) \((.+)\)", text)
    return parts.groups() if parts else (text, "")
