"""Verdicts on the parts of scripts/gpu_check.py: a "state", "lines" that say why, and the figures."""

import math
from collections.abc import Callable, Mapping

from scripts.gpu_checks import caffe_unit_tests
from scripts.gpu_checks.isolated_runs import Failed
from scripts.training.loop import DIVERGED

AGREED, MEASURED, NOT_RUN, DISAGREED, FAILED = "agreed", "measured", "not run", "disagreed", "failed"
BAD = DISAGREED, FAILED
ALONE, THROUGH = 1e-4, 1e-3
ALLOWED = {"outputs": THROUGH, "layers": ALONE, "gradients": THROUGH, "updates": ALONE}
"""Bounds of the relative difference of an array, max |a - b| / max |a|.

ALONE: where both are given the same numbers. In the layers of the three nets, sums of float32 in another order differ
by 9e-7 (results/benchmark/same_caffe.md), and fast ways of convolution, such as Winograd's, by some times as much. TF32
is not to pass: with inputs and weights rounded to its ten bits, on the CPU, each of the 65 convolutions differs by
2.2e-4 to 5.4e-4. THROUGH: of the whole net, where rounding adds up, in the baseline's gradients to twenty times a
layer's.
"""
KINDS = {
    "outputs": "outputs, through the whole net,",
    "layers": "outputs of layers alone",
    "gradients": "gradients",
    "updates": "changes of the weights",
}
NAMED = 5

Outcome = dict


def attempt(part: Callable[[], Outcome]) -> Outcome:
    """Return a part's outcome, also where its process was aborted; "said" is then the last that it wrote."""
    try:
        return part()
    except Failed as error:
        return {"state": FAILED, "lines": ["it ended early; its last output is below"], "said": str(error)}


def judge_differences(found: Mapping[str, Mapping[str, float]]) -> Outcome:
    """Return the outcome of a comparison: `found` holds the arrays' differences by kind (keys of ALLOWED)."""
    lines = [line for kind, each in found.items() if (line := _beyond(kind, each))]
    return {"state": DISAGREED if lines else AGREED, "lines": lines, "differences": found}


def _beyond(kind: str, found: Mapping[str, float]) -> str:
    """Return a line on the arrays that differ by more than is allowed, "" when none does."""
    bound = ALLOWED[kind]
    names = [name for name, each in found.items() if not each <= bound]
    if not names:
        return ""
    worst = max(names, key=found.get)
    named = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
    return (
        f"{KINDS[kind]} differ by up to {found[worst]:.1e} ({worst}), {bound:g} is allowed; "
        f"beyond it {len(names)} of {len(found)}: {named}"
    )


def judge_training(found: dict) -> Outcome:
    """Return the outcome of isolated_runs.time_training; a loss that is no number, or out of bounds, is not right."""
    right = math.isfinite(found["loss"]) and found["loss"] < DIVERGED
    lines = [] if right else [f"the loss is {found['loss']:g}"]
    return {"state": MEASURED if right else DISAGREED, "lines": lines, "training": found}


def judge_tests(found: Mapping[str, dict]) -> Outcome:
    """Return the outcome of caffe_unit_tests.run."""
    results = [test["result"] for test in found.values()]
    counts = {result: results.count(result) for result in dict.fromkeys(results)}
    line = f"of {len(found)} tests " + ", ".join(f"{count} {result}" for result, count in counts.items())
    failed = {name: test for name, test in found.items() if test["result"] != caffe_unit_tests.PASSED}
    return {"state": DISAGREED if failed else AGREED, "lines": [line], "failed_tests": failed}


def not_run(why: str) -> Outcome:
    """Return the outcome of a part that was not run."""
    return {"state": NOT_RUN, "lines": [why]}


def verdict(outcomes: Mapping[str, Outcome]) -> str:
    """Return in a line how many parts are right, which are wrong, and which were not run."""
    wrong = [name for name, outcome in outcomes.items() if outcome["state"] in BAD]
    left = [name for name, outcome in outcomes.items() if outcome["state"] == NOT_RUN]
    right = len(outcomes) - len(wrong) - len(left)
    return f"Right: {right} parts. Wrong: {', '.join(wrong) or 'none'}. Not run: {', '.join(left) or 'none'}."
