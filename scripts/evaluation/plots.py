"""Plots of an evaluation (ROC, precision against recall, confusion), of saliency maps and of classified masses.

The paper's operating point is drawn for orientation and marked as other data.
"""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from sklearn.metrics import precision_recall_curve, roc_curve

from data_prep.auditing.contact_sheet import DPI, OUTLINE
from data_prep.database.context_crops import Window
from scripts.evaluation import evaluation_table, metrics, paper_results
from scripts.evaluation.thresholds import DEFAULT, Threshold

BLUE, ORANGE, GREY = "#0b5394", "#d35400", "#8a8a8a"
SQUARE = "#39c5ff"  # of a mass's context: visible on black and on white tissue, as OUTLINE is
TINY = 1e-30  # keeps the scale of an all-zero map valid
BRIGHTEST = 99.5  # percentile of a map shown as white: its largest values would leave the rest black
VERDICT_WIDTH = 58  # characters beneath a crop
LARGEST_FILM = 1000  # pixels of a film's longer side in a picture


class ClassifiedMass(NamedTuple):
    """A mass as `classified` draws it; lines are (k, 2) of (column, row)."""

    name: str
    probability: float  # of malignancy
    of_class: str  # whose score's map it is
    outline: np.ndarray  # in film pixels
    window: Window  # the context square, upright
    outline_seen: np.ndarray  # in the net's input pixels
    crop: np.ndarray  # what the net sees: (s, s) uint8
    heat: np.ndarray  # its saliency map: (s, s)
    threshold: Threshold = DEFAULT

    @property
    def verdict(self) -> str:
        """The probability, and what the mass is called by it."""
        called = "malignant" if metrics.called_malignant(self.probability, self.threshold.value) else "benign"
        return f"P(malignant) = {self.probability:.4f}, called {called} ({self.threshold})"


def roc(summary: dict, labels: np.ndarray, probabilities: np.ndarray) -> Figure:
    """Sensitivity against 1 - specificity over all thresholds."""
    figure, axes = _square(summary, "1 - specificity", "recall (sensitivity)")
    false_positives, recall, _ = roc_curve(labels, probabilities)
    auc = evaluation_table.interval(*evaluation_table.ends(summary, "auc"))
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":", label="chance")
    axes.plot(false_positives, recall, color=BLUE, lw=2, label=f"this net, AUC {auc}")
    _mark(axes, summary, lambda rates: (1 - rates["specificity"], rates["recall"]))
    axes.legend(loc="lower right")
    return figure


def precision_recall(summary: dict, labels: np.ndarray, probabilities: np.ndarray) -> Figure:
    """Precision against recall over all thresholds."""
    figure, axes = _square(summary, "recall (sensitivity)", "precision")
    precision, recall, _ = precision_recall_curve(labels, probabilities)
    share = labels.mean()
    axes.plot([0, 1], [share, share], color=GREY, lw=1, ls=":", label=f"chance ({share:.2f} are malignant)")
    # without scikit-learn's last point, recall 0 at precision 1, which no threshold gives
    axes.plot(recall[:-1], precision[:-1], color=BLUE, lw=2, drawstyle="steps-post", label="this net")
    _mark(axes, summary, lambda rates: (rates["recall"], rates["precision"]))
    axes.legend(loc="lower left")
    return figure


def confusion(summary: dict, labels: np.ndarray, probabilities: np.ndarray) -> Figure:
    """Counts at the threshold: a row per true class, shaded by the share of that class."""
    counts = metrics.confusion(labels, probabilities, summary["threshold"])
    table = np.array([[counts.tp, counts.fn], [counts.fp, counts.tn]])
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(4.6, 4.4), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        ink = "white" if share > 0.55 else "black"
        axes.text(column, row - 0.06, table[row, column], ha="center", va="center", fontsize=20, color=ink)
        axes.text(column, row + 0.14, f"{share:.0%}", ha="center", va="center", fontsize=11, color=ink)
    axes.axhline(0.5, color="white", lw=3)
    axes.axvline(0.5, color="white", lw=3)
    axes.spines[:].set_visible(False)
    classes = ["malignant", "benign"]
    axes.set_xticks([0, 1], classes)
    axes.set_yticks([0, 1], classes, rotation=90, va="center")
    axes.tick_params(length=0)
    axes.set(xlabel=f"called ({Threshold(summary['threshold'])})", ylabel="truth")
    axes.set_title(evaluation_table.heading(summary["net"], summary["split"], summary), fontsize=10)
    return figure


def saliency(
    heading: str,
    images: np.ndarray,
    maps: np.ndarray,
    truths: list[str],
    captions: list[str],
    outlines: Sequence[np.ndarray] = (),
) -> Figure:
    """Masses (n, s, s) in a row, contrast stretched; beneath each its map (n, s, s), brighter for larger gradients.

    `outlines`, where given, are n closed lines (k, 2) of (column, row), drawn on mass and map.
    """
    n = len(images)
    figure = Figure(figsize=(max(1.9 * n, 4.6), 4.6), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.03, w_pad=0.03, hspace=0, wspace=0)
    axes = figure.subplots(2, n, squeeze=False)
    for column in range(n):
        above, below = axes[:, column]
        outline = outlines[column] if len(outlines) else None
        _panel(above, images[column], outline)
        above.set_title(truths[column], fontsize=9)
        _panel(below, maps[column], outline, vmin=0, vmax=_white(maps[column]))
        below.set_xlabel(captions[column], fontsize=8)
    figure.suptitle(heading, fontsize=10)
    return figure


def classified(heading: str, film: np.ndarray, size: tuple[int, int], masses: Sequence[ClassifiedMass]) -> Figure:
    """Masses of one film, one row each: the film with outline and context square, what the net sees, its map.

    `film` is the stored image, uint8 (rows, columns), perhaps squashed; `size` the film's (width, height) in pixels.
    """
    scale = LARGEST_FILM / max(size)
    film = cv2.resize(film, [max(round(scale * side), 1) for side in size], interpolation=cv2.INTER_AREA)
    figure = Figure(figsize=(9.2, 3.3 * len(masses) + 0.5), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.03, w_pad=0.03, hspace=0.02, wspace=0.02)
    for (whole, crop, heat), mass in zip(figure.subplots(len(masses), 3, squeeze=False), masses, strict=True):
        _panel(whole, film, mass.outline, size, vmin=0, vmax=255)
        window = mass.window
        corner = window.x - window.side / 2, window.y - window.side / 2
        whole.add_patch(Rectangle(corner, window.side, window.side, fill=False, edgecolor=SQUARE, lw=0.8))
        _panel(crop, mass.crop, mass.outline_seen, vmin=0, vmax=255)
        _panel(heat, mass.heat, mass.outline_seen, vmin=0, vmax=_white(mass.heat))
        whole.set_xlabel(mass.name, fontsize=9)
        crop.set_xlabel(textwrap.fill(mass.verdict, VERDICT_WIDTH), fontsize=9)
        heat.set_xlabel(f"saliency of the {mass.of_class} score", fontsize=9)
    figure.suptitle(heading, fontsize=10)
    return figure


def _panel(axes, image: np.ndarray, outline: np.ndarray | None, size: tuple[int, int] | None = None, **grey) -> None:
    """Show an image that spans `size` (its own where that is not given) and a closed line on it; nothing else."""
    width, height = size or image.shape[::-1]
    axes.imshow(image, cmap="gray", extent=(0, width, height, 0), **grey)
    axes.set_xticks([])
    axes.set_yticks([])
    if outline is not None:
        axes.add_patch(Polygon(outline, closed=True, fill=False, edgecolor=OUTLINE, lw=0.6))


def _white(heat: np.ndarray) -> float:
    """Return the value of a map that is shown as white."""
    return max(np.percentile(heat, BRIGHTEST), TINY)


def _square(summary: dict, xlabel: str, ylabel: str):
    figure = Figure(figsize=(5.4, 5.5), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=xlabel, ylabel=ylabel, aspect="equal")
    axes.grid(color="#e6e6e6", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    sample = f"{summary['n']} masses of {summary['patients']} patients"
    axes.set_title(f"{evaluation_table.heading(summary['net'], summary['split'], summary)}\n{sample}", fontsize=10)
    return figure, axes


def _mark(axes, summary: dict, place) -> None:
    """Mark this net at its threshold, and the paper's net at its own; `place` maps rates to a point."""
    own = place(metrics.rates(**summary["counts"]))
    axes.plot(*own, "o", color=BLUE, ms=8, mec="white", label=f"this net at {Threshold(summary['threshold'])}")
    theirs = place(metrics.rates(*paper_results.TEST[summary["net"]].counts))
    axes.plot(*theirs, "D", color=ORANGE, ms=8, mec="white", label=f"{paper_results.CITATION}, Table 3 (other data)")


def curves(title: str, log: list[dict[str, float]]) -> Figure:
    """Accuracy and loss by iteration, training and validation, from log.csv's rows (the paper's Fig 2)."""
    figure = Figure(figsize=(9.2, 3.4), dpi=DPI, layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        _lines(axes, log, name)
        axes.set_ylabel(name)
    figure.suptitle(title, fontsize=10)
    return figure


def augmentation_curves(heading: str, without: list[dict[str, float]], augmented: list[dict[str, float]]) -> Figure:
    """Training and validation accuracy by iteration, without and with augmentation (the paper's Fig 2).

    From the rows of two log.csv; `heading` says net, context, data and budget. A training accuracy is the mean of the
    batches since the point before, with dropout.
    """
    figure = Figure(figsize=(9.2, 3.8), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, log, title in zip(panels, (without, augmented), ("No Aug", "Aug"), strict=True):
        _lines(axes, log, "accuracy")
        axes.set_title(title, fontsize=10)
    panels[0].set_ylabel("accuracy")
    figure.suptitle(heading, fontsize=10)
    return figure


def _lines(axes, log: list[dict[str, float]], name: str) -> None:
    """Draw one quantity of a log by iteration, training and validation.

    A last row that stands for less than half as many batches as the others is no point of the training curve: the mean
    of one or two batches is mere noise there.
    """
    steps = np.diff([row["iteration"] for row in log])
    cut = len(log) - 1 if len(steps) > 1 and steps[-1] < steps[0] / 2 else len(log)
    for split, colour, rows in (("train", BLUE, log[:cut]), ("val", ORANGE, log)):
        iterations, values = [row["iteration"] for row in rows], [row[f"{split}_{name}"] for row in rows]
        axes.plot(iterations, values, color=colour, lw=1.8, marker=".", label=split)
    axes.set_xlabel("iteration")
    axes.grid(color="#e6e6e6", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend()
