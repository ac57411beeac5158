"""From finished arms to tables: the paper's three, its figures beside ours, and what else the predictions say.

    table1, table2, table3    the paper's, in its order
    extra                     the arms that the paper does not have
    per_patient, callback, operating, seeds    (extra_tables.py)
    claims                    pairs of arms, tested on the same masses (claims_table.py)

write() puts each in a folder as NAME.csv (full numbers) and NAME.md, and returns them for a page. An arm that is not
among the finished ones is "not run".
"""

from pathlib import Path

from scripts.evaluation import metrics, paper_results
from scripts.evaluation.metrics import Estimate
from scripts.evaluation.results_table import Cell, Table
from scripts.experiments import claims_table, extra_tables
from scripts.experiments.matrix import Experiment, Finished
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
EPOCHS = "Epochs are passes through the arm's own training set, which augmentation makes 25 times as large."


def write(out: Path, finished: list[Finished], experiments: dict, budget: str, source: str) -> list[Table]:
    """Write every table of these runs to `out`, and return them.

    `experiments` is what arms.read_experiments returns, `budget` one of its budgets by name, `source` the data's as
    manifest.json has it. Raises InputError when the runs were not evaluated on the same masses.
    """
    results = read_results(finished, experiments, budget, source)
    tables = [
        validation_table(results, 1),
        validation_table(results, 2),
        test_table(results),
        extra_table(results),
        extra_tables.per_patient(results),
        extra_tables.callback(results),
        extra_tables.operating(results),
        extra_tables.seeds(results),
        claims_table.claims(results),
    ]
    for table in tables:
        table.write(out)
    return tables


def validation_table(results: Results, number: int) -> Table:
    """Table 1 or 2: validation accuracy."""
    rows = [
        (
            model(arm),
            *figures(results.first(arm, "val"), ["accuracy"]),
            papers_validation(arm, number),
            *training(results, arm),
            results.over_seeds(arm, "val", "accuracy"),
        )
        for arm in results.shown(str(number))
    ]
    header = ("Model", "Validation accuracy", "The paper's", *TRAINING, OVER_SEEDS.format("Accuracy"))
    notes = (
        f"{INTERVALS}; the paper's: Wilson's. It prints two decimals and not the size of its validation set: that is "
        f"taken as a tenth of its images, {paper_results.HELD_OUT}, and the count as the nearest whole number.",
        *samples(results, "val"),
        UNIT,
        FIRST_SEED,
        EPOCHS,
    )
    return Table(
        f"table{number}", f"Table {number}: {paper_results.CAPTIONS[number]}", results.about, header, rows, notes
    )


def test_table(results: Results) -> Table:
    """Table 3: the test set; beneath each arm's row the paper's."""
    rows = []
    for arm in results.shown("3"):
        rows += [(model(arm), "ours", *test_cells(results, arm)), (model(arm), "the paper's", *papers_cells(arm.net))]
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
    """The arms that the paper does not have, as in Table 3."""
    rows = [
        (model(arm), *figures(results.first(arm, "val"), ["accuracy"]), *test_cells(results, arm))
        for arm in results.shown("extra")
    ]
    header = ("Model", "Validation accuracy", *TEST)
    notes = (f"{INTERVALS}.", *samples(results, "test"), UNIT, FIRST_SEED, EPOCHS)
    return Table("extra", "Arms that the paper does not have: test set", results.about, header, rows, notes)


def papers_validation(arm: Experiment, table: int) -> Estimate | None:
    """The paper's validation accuracy of an arm in its Table 1 or 2; None where it has none."""
    for row in paper_results.VALIDATION:
        if (row.table, row.net, row.augmented, row.context) == (table, arm.net, arm.augmented, arm.context):
            return Estimate(row.accuracy, *paper_results.validation_wilson(row.accuracy), draws=0)
    return None


def papers_cells(net: str) -> tuple[Cell, ...]:
    """The cells of TEST for the paper's net."""
    row = paper_results.TEST[net]
    wilson, rates = paper_results.wilson(row.counts), metrics.rates(*row.counts)
    figures = (Estimate(float(rates[name]), *wilson[name], draws=0) if name in rates else None for name in HEADS)
    images = row.epochs * paper_results.AUGMENTATION * paper_results.TRAINING_IMAGES
    return *figures, *row.counts, None, row.epochs, images, paper_results.START[net], None, None


def test_cells(results: Results, arm: Experiment) -> tuple[Cell, ...]:
    """The cells of TEST for one arm."""
    found = results.first(arm, "test")
    counts = metrics.confusion(*found.arrays[:2]) if found else [None] * len(COUNTS)
    spreads = (results.over_seeds(arm, "test", name) for name in ("accuracy", "auc"))
    return *figures(found), *counts, *training(results, arm), *spreads


def training(results: Results, arm: Experiment) -> tuple[Cell, ...]:
    """The cells of TRAINING for the arm's first seed."""
    runs = results.runs.get(arm.name)
    if not runs:
        return (None,) * len(TRAINING)
    first = runs[0]
    return len(runs), first.images / first.run["train_images"], first.images, first.weights
