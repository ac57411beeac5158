"""The page's charts: numbers as places on the drawing; templates/charts.html draws them as SVG in the page's colours.

Every chart is as wide, in CSS pixels, as a phone: so its letters are as large there as on a desk.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from scripts.evaluation import curves
from scripts.evaluation.predictions import Predictions

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 340, 48, 10, 8, 40
UNIT = (0.0, 1.0)
FIFTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
LOWEST_ACCURACY = 0.4  # where the axis begins, unless something lies below: the paper's Fig 2


@dataclass(frozen=True)
class Frame:
    """A chart's axes: the values at their ends, those with a tick, and the drawing's height in pixels."""

    x_ends: tuple[float, float]
    y_ends: tuple[float, float]
    x_ticks: tuple[float, ...]
    y_ticks: tuple[float, ...]
    height: int

    width, left, right, top = WIDTH, LEFT, WIDTH - RIGHT, TOP

    @property
    def bottom(self) -> int:
        """The lower end of the y axis, in pixels from the drawing's upper edge."""
        return self.height - BOTTOM

    def x(self, value: float) -> float:
        """Return a value's place, in pixels from the drawing's left edge."""
        low, high = self.x_ends
        return round(float(LEFT + (value - low) / (high - low) * (self.right - LEFT)), 1)

    def y(self, value: float) -> float:
        """Return a value's place, in pixels from the drawing's upper edge."""
        low, high = self.y_ends
        return round(float(self.bottom - (value - low) / (high - low) * (self.bottom - TOP)), 1)

    def line(self, xs, ys) -> str:
        """Return the path through these points, as SVG's `d`."""
        return "M" + "L".join(f"{self.x(x):g} {self.y(y):g}" for x, y in zip(xs, ys, strict=True))

    def area(self, xs, low, high) -> str:
        """Return the outline of what lies between two curves over the same xs, as SVG's `d`."""
        return self.line([*xs, *xs[::-1]], [*low, *high[::-1]]) + "Z"


SQUARE = Frame(UNIT, UNIT, FIFTHS, FIFTHS, WIDTH - LEFT - RIGHT + TOP + BOTTOM)
"""Two shares in [0, 1] against each other: ROC, calibration."""


def roc(found: Predictions) -> dict[str, str] | None:
    """Return the ROC curve and its band as paths in SQUARE; None where a class is absent."""
    arrays = found.labels, found.probabilities
    if len(np.unique(found.labels)) < 2:
        return None
    false_positives, recall, _ = roc_curve(*arrays)
    band = curves.roc_band(*arrays, found.patients)
    return {"line": SQUARE.line(false_positives, recall), "band": SQUARE.area(curves.GRID, *band)}


def strokes(labels: np.ndarray, probabilities: np.ndarray) -> str:
    """Return a short stroke per mass at its probability in SQUARE, on the upper edge if malignant, else the lower."""
    edges = {1: (SQUARE.top, 6), 0: (SQUARE.bottom, -6)}
    return "".join(
        f"M{SQUARE.x(probability):g} {edges[label][0]}v{edges[label][1]}"
        for label, probability in zip(labels.tolist(), probabilities, strict=True)
    )


def accuracy(log: list[dict[str, float]]) -> tuple[Frame, dict[str, str]]:
    """Return the axes, and the paths of training and validation accuracy, from log.csv's rows."""
    lowest = min(row[f"{split}_accuracy"] for row in log for split in ("train", "val"))
    return _history(log, "accuracy", min(LOWEST_ACCURACY, np.floor(10 * lowest) / 10), 1.0)


def loss(log: list[dict[str, float]]) -> tuple[Frame, dict[str, str]]:
    """Return the same of the loss; the first evaluation, when it is far above the others, is cut off by the frame."""
    highest = max(row[f"{split}_loss"] for row in log[len(log) > 1 :] for split in ("train", "val"))
    return _history(log, "loss", 0.0, 1.1 * highest)


def _history(log: list[dict[str, float]], name: str, low: float, high: float) -> tuple[Frame, dict[str, str]]:
    iterations = [row["iteration"] for row in log]
    x_ends = (0.0, iterations[-1])
    x_ticks, y_ticks = (
        tuple(tick for tick in MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(*ends) if ends[0] <= tick <= ends[1])
        for most, ends in ((4, x_ends), (5, (low, high)))
    )
    frame = Frame(x_ends, (low, high), x_ticks, y_ticks, 220)
    return frame, {split: frame.line(iterations, [row[f"{split}_{name}"] for row in log]) for split in ("train", "val")}
