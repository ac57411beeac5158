"""The paper's claims as pairs of experiments: is the second better than the first on the same masses?"""

from scripts.evaluation import comparisons, metrics, paper_results
from scripts.evaluation.comparisons import Comparison, Difference
from scripts.evaluation.results_table import Cell, Table
from scripts.experiments.matrix import Experiment
from scripts.experiments.results import NOT_RUN, Results, model, paper_start

HEADER = (
    "Claim",
    "First",
    "Second",
    "Split",
    "Accuracy, second - first",
    "p of accuracy",
    "The paper's accuracy, second - first",
    "AUC, second - first",
    "p of AUC",
    "Right: first only",
    "Right: second only",
    "p by McNemar",
    "Verdict",
)


OUT_OF_FOLD = (
    "Out-of-fold: every mass with its probability by the net that never saw its patient, all folds' together; beneath "
    "it each fold by itself. Together, AUC also compares masses that different nets judged.",
)


def claims(results: Results) -> Table:
    """Each pair on each split, in a cross-validation on all masses and on each fold, with a verdict by rule."""
    rows, tests = [], 0
    parts = [(word, split, "") for split, word in results.splits.items()]
    parts += [(f"fold {fold}", "test", fold) for fold in results.folds]
    for claim, pairs in results.matrix.get("claims", {}).items():
        for names in pairs:
            experiments = [results.matrix["arms"][name] for name in names]
            for word, split, fold in parts:
                found = compare(results, experiments, split, fold)
                tests += found is not None
                papers = None if fold else papers_difference(experiments, split)
                if results.folds and not fold and not papers:
                    papers = papers_difference(experiments, "val")
                rows.append((claim, *map(model, experiments), word, *cells(found, papers)))
    by_chance = (1 - metrics.LEVEL) * tests
    notes = (
        "Verdict, by rule: supported where the interval of AUC's difference lies above 0, contradicted where it lies "
        "below, else open. Open does not mean equal: there are too few masses to tell.",
        f"{tests} comparisons, none corrected for their number: if no pair differed, about {by_chance:.1f} of them "
        "would still not be open. Those that share an experiment are not independent.",
        f"Differences and their p: {metrics.DRAWS:,} bootstrap draws of patients, the same for both nets; "
        f"{metrics.LEVEL:.0%} intervals; no p can be below {2 / (metrics.DRAWS + 1):.3f}.",
        "McNemar's exact test, on the masses that one net alone calls rightly, takes masses as independent. Those of a "
        "patient, two views of one lesion above all, are not, so its p is likely too small.",
        "Each experiment is its first seed's net: the intervals are for these nets on other patients, not for nets "
        "trained again, which vary too (seeds.md).",
        "The paper's differences are of accuracy, on other masses, and it does not test them.",
        *(OUT_OF_FOLD if results.folds else ()),
    )
    return Table("claims", "The paper's claims, on the same masses", results.about, HEADER, rows, notes)


def compare(results: Results, experiments: list[Experiment], split: str, fold: str = "") -> Comparison | None:
    """The comparison of two experiments, on one fold alone where it is given; None where one was not run."""
    first, second = (results.first(experiment, split) for experiment in experiments)
    if not (first and second):
        return None
    here = first.predictions.folds == fold if fold else slice(None)
    labels, probabilities, patients = (array[here] for array in first.arrays)
    return comparisons.compare(labels, probabilities, second.predictions.probabilities[here], patients)


def cells(found: Comparison | None, papers: Difference | None) -> tuple[Cell, ...]:
    """A row's cells from the accuracy on."""
    if not found:
        return NOT_RUN, None, papers, NOT_RUN, None, None, None, None, NOT_RUN
    counts = (found.only_first, found.only_second, found.mcnemar)
    return found.accuracy, found.accuracy.p, papers, found.auc, found.auc.p, *counts, verdict(found.auc)


def verdict(difference: Difference) -> str:
    """Return whether the interval of a difference supports "the second is better"."""
    if difference.low is None or difference.low <= 0 <= difference.high:
        return "open"
    return "supported" if difference.low > 0 else "contradicted"


def papers_difference(experiments: list[Experiment], split: str) -> Difference | None:
    """The difference of the accuracies that the paper gives for both experiments; None where it does not."""
    first, second = (papers_accuracy(experiment, split) for experiment in experiments)
    if first is None or second is None:
        return None
    return Difference(round(second - first, 3), None, None, None)  # of three decimals at most


def papers_accuracy(experiment: Experiment, split: str) -> float | None:
    """The paper's accuracy of an experiment, from Tables 1 and 2 or from Table 3; None where it has none."""
    if not paper_start(experiment):
        return None
    if split == "test":
        return (
            paper_results.TEST[experiment.net].accuracy
            if (experiment.augmented, experiment.context) == (True, "large")
            else None
        )
    crops = (experiment.net, experiment.augmented, experiment.context)
    return next(
        (row.accuracy for row in paper_results.VALIDATION if (row.net, row.augmented, row.context) == crops), None
    )
