"""The paper's results as data: Lévy & Jain, "Breast Mass Classification from Mammograms using Deep Convolutional
Neural Networks", NIPS ML4H workshop 2016, arXiv 1612.00542. The one home of its results
(data_prep/database/build_summary.py has the sizes of its data).

Table 3's figures have three decimals and the test set is balanced, so the confusion counts behind them can be
recovered: 91 malignant and 91 benign masses give all nine figures exactly, and with the counts come the specificity
and an interval for each figure, which the paper does not print.
"""

from typing import NamedTuple

from data_prep.database.build_summary import PAPER, PAPER_HELD_OUT
from scripts.evaluation.metrics import LEVEL, Counts, fractions

CITATION = "Lévy & Jain 2016"

IMAGES, PATIENTS = PAPER["images"], PAPER["patients"]
TEST_MALIGNANT, TEST_BENIGN = PAPER_HELD_OUT["malignant"], PAPER_HELD_OUT["benign"]
HELD_OUT = PAPER_HELD_OUT["images"]  # of the test set, and, as both are a tenth, of the validation set
TRAINING_IMAGES = IMAGES - 2 * HELD_OUT
AUGMENTATION = 25  # times the training images: 5 rotations x 5 crops of each (section 4.2)

RADIOLOGISTS_RECALL = (0.745, 0.923)
"""Lowest and highest recall of radiologists in the study that the paper cites (its reference 10)."""

TITLES = {"baseline": "Baseline", "alexnet": "AlexNet", "googlenet": "GoogLeNet"}
START = {"baseline": "random", "alexnet": "ImageNet", "googlenet": "ImageNet"}
CAPTIONS = {
    1: "Effectiveness of transfer learning",
    2: "Influence of context around the breast mass on the model performance",
    3: "Summary of performance on the test set",
}


class ValidationRow(NamedTuple):
    """One row of Table 1 or 2: validation accuracy."""

    table: int
    net: str
    augmented: bool
    context: str
    accuracy: float


VALIDATION = (
    ValidationRow(1, "baseline", True, "large", 0.66),
    ValidationRow(1, "alexnet", True, "large", 0.90),
    ValidationRow(2, "alexnet", False, "small", 0.64),
    ValidationRow(2, "alexnet", False, "large", 0.71),
)


class ResultRow(NamedTuple):
    """One row of Table 3 (all: augmented, large context), and the counts recovered from it."""

    accuracy: float
    precision: float
    recall: float
    epochs: int
    counts: Counts


TEST = {
    "baseline": ResultRow(0.604, 0.587, 0.703, 35, Counts(tp=64, fp=45, fn=27, tn=46)),
    "alexnet": ResultRow(0.890, 0.908, 0.868, 30, Counts(tp=79, fp=8, fn=12, tn=83)),
    "googlenet": ResultRow(0.929, 0.924, 0.934, 30, Counts(tp=85, fp=7, fn=6, tn=84)),
}


def wilson(counts: Counts) -> dict[str, tuple[float, float]]:
    """Wilson 95 % interval of accuracy, precision, recall and specificity, each taken as a binomial proportion.

    It treats masses as independent, since the paper does not say which of its test masses share a patient; the true
    uncertainty is somewhat larger. A figure without cases (denominator 0) is absent.
    """
    return {name: _wilson(part, whole) for name, (part, whole) in fractions(*counts).items() if whole}


def validation_wilson(accuracy: float) -> tuple[float, float]:
    """Wilson 95 % interval of a validation accuracy: of the nearest whole number of HELD_OUT masses.

    The paper gives two decimals, and not how many validation masses it has: the count is a guess within one.
    """
    return _wilson(round(accuracy * HELD_OUT), HELD_OUT)


def _wilson(part: int, whole: int) -> tuple[float, float]:
    from scipy.stats import binomtest  # here: it takes a second, which a training need not wait

    low, high = binomtest(part, whole).proportion_ci(LEVEL, method="wilson")
    return float(low), float(high)
