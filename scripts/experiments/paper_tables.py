"""The tables of finished experiments: the paper's three with its figures beside ours, and others.

    table1, table2, table3    the paper's, in its order
    extra                     the experiments that the paper does not have
    per_patient, callback, operating, seeds    (extra_tables.py)
    folds                     each fold of a cross-validation (extra_tables.py)
    claims                    pairs of experiments, tested on the same masses (claims_table.py)

write() puts each in a folder as NAME.csv (full numbers) and NAME.md, and returns them for a page. An experiment that
is not among the finished ones is "not run".
"""

from pathlib import Path

from scripts.evaluation import metrics, paper_results
from scripts.evaluation.metrics import Estimate
from scripts.evaluation.results_table import Cell, Table
from scripts.experiments import claims_table, extra_tables
from scripts.experiments.matrix import Experiment, Runs
from scripts.experiments.results import (
    FIRST_SEED,
    HEADS,
    INTERVALS,
    UNIT,
    Results,
    figures,
    model,
    read_results,
    samples,
)

TRAINING = ("Seeds", "Epochs", "Images", "Start")
COUNTS = tuple(name.upper() for name in metrics.Counts._fields)
OVER_SEEDS = "{}, mean of seeds (lowest-highest)"
TEST = (*HEADS.values(), *COUNTS, *TRAINING, OVER_SEEDS.format("Accuracy"), OVER_SEEDS.format("AUC"))
EPOCHS = "Epochs are passes through the experiment's own training set, which augmentation makes 25 times as large."


def write(out: Path, runs: Runs, matrix: dict, budget: str, source: str) -> list[Table]:
    """Write every table of these runs to `out`, and return them.

    `matrix` is what matrix.read_experiments returns, `budget` one of its budgets by name, `source` the data's as
    manifest.json has it. Raises InputError when the runs were not evaluated on the same masses.
    """
    results = read_results(runs, matrix, budget, source)
    tables = [
        validation_table(results, 1),
        validation_table(results, 2),
        test_table(results),
        extra_table(results),
        extra_tables.per_patient(results),
        extra_tables.callback(results),
        extra_tables.operating(results),
        extra_tables.seeds(results),
        *([extra_tables.folds(results)] if results.folds else []),
        claims_table.claims(results),
    ]
    for table in tables:
        table.write(out)
    return tables


def validation_table(results: Results, number: int) -> Table:
    """Table 1 or 2: validation accuracy, in a cross-validation that of all masses."""
    split, word = next(iter(results.splits.items()))
    rows = [
        (
            model(experiment),
            *figures(results.first(experiment, split), ["accuracy"]),
            papers_validation(experiment, number),
            *training(results, experiment),
            results.over_seeds(experiment, split, "accuracy"),
        )
        for experiment in results.shown(str(number))
    ]
    header = ("Model", f"{word.capitalize()} accuracy", "The paper's", *TRAINING, OVER_SEEDS.format("Accuracy"))
    notes = (
        f"{INTERVALS}; the paper's, of its validation set: Wilson's. It prints two decimals and not how large that is: "
        f"taken as a tenth of its images, {paper_results.HELD_OUT}, and the count as the nearest whole number.",
        *samples(results, split),
        UNIT,
        FIRST_SEED,
        EPOCHS,
    )
    return Table(
        f"table{number}", f"Table {number}: {paper_results.CAPTIONS[number]}", results.about, header, rows, notes
    )


def test_table(results: Results) -> Table:
    """Table 3: the test set; beneath each experiment's row the paper's."""
    rows = []
    for experiment in results.shown("3"):
        rows += [
            (model(experiment), "ours", *test_cells(results, experiment)),
            (model(experiment), "the paper's", *papers_cells(experiment.net)),
        ]
    notes = (
        f"{INTERVALS}; the paper's: Wilson's, of the counts behind its figures, which it does not print: the only ones "
        f"of {paper_results.TEST_MALIGNANT} malignant and {paper_results.TEST_BENIGN} benign masses that give all its "
        "figures. It gives no AUC.",
        f"The paper's images are its epochs of {paper_results.AUGMENTATION} crops of each of "
        f"{paper_results.TRAINING_IMAGES:,} images.",
        "Radiologists' recall, as the paper cites it: {:.3f} to {:.3f}.".format(*paper_results.RADIOLOGISTS_RECALL),
        *samples(results, "test"),
        UNIT,
        FIRST_SEED,
        EPOCHS,
    )
    header = ("Model", "Whose", *TEST)
    return Table("table3", f"Table 3: {paper_results.CAPTIONS[3]}", results.about, header, rows, notes)


def extra_table(results: Results) -> Table:
    """The experiments that the paper does not have, as in Table 3."""
    val = ["Validation accuracy"] if "val" in results.splits else []
    rows = [
        (
            model(experiment),
            *(figures(results.first(experiment, "val"), ["accuracy"]) if val else ()),
            *test_cells(results, experiment),
        )
        for experiment in results.shown("extra")
    ]
    header = ("Model", *val, *TEST)
    notes = (f"{INTERVALS}.", *samples(results, "test"), UNIT, FIRST_SEED, EPOCHS)
    return Table("extra", "Experiments that the paper does not have: test set", results.about, header, rows, notes)


def papers_validation(experiment: Experiment, table: int) -> Estimate | None:
    """The paper's validation accuracy of an experiment in its Table 1 or 2; None where it has none."""
    for row in paper_results.VALIDATION:
        if (row.table, row.net, row.augmented, row.context) == (
            table,
            experiment.net,
            experiment.augmented,
            experiment.context,
        ):
            return Estimate(row.accuracy, *paper_results.validation_wilson(row.accuracy), draws=0)
    return None


def papers_cells(net: str) -> tuple[Cell, ...]:
    """The cells of TEST for the paper's net."""
    row = paper_results.TEST[net]
    wilson, rates = paper_results.wilson(row.counts), metrics.rates(*row.counts)
    figures = (Estimate(float(rates[name]), *wilson[name], draws=0) if name in rates else None for name in HEADS)
    images = row.epochs * paper_results.AUGMENTATION * paper_results.TRAINING_IMAGES
    return *figures, *row.counts, None, row.epochs, images, paper_results.START[net], None, None


def test_cells(results: Results, experiment: Experiment) -> tuple[Cell, ...]:
    """The cells of TEST for one experiment."""
    found = results.first(experiment, "test")
    counts = metrics.confusion(*found.arrays[:2]) if found else [None] * len(COUNTS)
    spreads = (results.over_seeds(experiment, "test", name) for name in ("accuracy", "auc"))
    return *figures(found), *counts, *training(results, experiment), *spreads


def training(results: Results, experiment: Experiment) -> tuple[Cell, ...]:
    """The cells of TRAINING for the experiment's first seed."""
    runs = results.runs.get(experiment.name)
    if not runs:
        return (None,) * len(TRAINING)
    first = runs[0]
    return len(runs), first.images / first.settings["train_images"], first.images, first.start
