"""Contact sheets: crops of a database with their boxes, and the paper's Fig 1."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from data_prep.core.errors import InputError
from data_prep.core.files import atomic_write
from data_prep.core.records import CLASSES, LABELS
from data_prep.database import context_crops, lmdb_io, manifest
from data_prep.database.context_crops import SIZE, Window
from data_prep.database.split import SPLITS

FIG1_ROWS, FIG1_COLUMNS = 2, 2  # of each class
FIG1_MASSES = FIG1_ROWS * FIG1_COLUMNS
DPI = 150
CELL, CAPTION = 1.7, 0.56  # inches: side of a crop on the sheet, height of the text beneath
OUTLINE = "#ffb000"  # visible on black and on white tissue


class Sample(NamedTuple):
    """A record to draw: its row of manifest.csv, its window of the film, and its image."""

    row: dict[str, str]
    window: Window
    image: np.ndarray


def read(
    folder: Path, content: dict, number: int, seed: int, splits: Sequence[str] = SPLITS
) -> dict[str, list[Sample]]:
    """Return, by split, `number` records of each class (fewer where there are fewer), benign ones first."""
    rng = np.random.default_rng(seed)
    try:
        rows = list(manifest.read_csv(folder).values())
        wanted = {split: choose(rows, content, split, number, rng) for split in splits}
        return {split: fetch(folder / split, wanted[split]) for split in splits}
    except (OSError, LookupError, TypeError, ValueError):
        raise InputError(f"{folder}: damaged; python data_prep/audit.py {folder} says where") from None


def choose(
    rows: list[dict[str, str]], content: dict, split: str, number: int, rng: np.random.Generator
) -> dict[str, tuple[dict[str, str], Window]]:
    """Choose a split's masses at random, and of each one of its windows; by the records' names."""
    wanted = {}
    for label in range(len(CLASSES)):
        masses = [row for row in rows if row["split"] == split and LABELS[row["pathology"]] == label]
        for index in rng.permutation(len(masses))[:number]:
            window = rng.choice(manifest.windows(masses[index], content))
            wanted[lmdb_io.record_name(masses[index]["mass_id"], window.name)] = masses[index], window
    return wanted


def fetch(folder: Path, wanted: dict[str, tuple[dict[str, str], Window]]) -> list[Sample]:
    """Return the wanted records of one LMDB, in the order in which they are wanted; KeyError when one is missing."""
    images = {
        name: lmdb_io.unpack(folder, key, value).image
        for key, value in lmdb_io.items(folder)
        if (name := lmdb_io.name_of(key.decode())) in wanted
    }
    return [Sample(row, window, images[name]) for name, (row, window) in wanted.items()]


def contact_sheet(samples: dict[str, list[Sample]], content: dict, columns: int) -> Figure:
    """Draw a row of records for each split and class, with boxes and captions."""
    rows = len(SPLITS) * len(CLASSES)
    left, top, bottom = 0.55, 0.75, 0.05  # inches
    width, height = left + columns * (CELL + 0.1), top + rows * (CELL + CAPTION) + bottom
    figure = Figure(figsize=(width, height), dpi=DPI)
    grid = figure.add_gridspec(
        rows,
        columns,
        left=left / width,
        right=1 - 0.05 / width,
        top=1 - top / height,
        bottom=(bottom + CAPTION) / height,
        wspace=0.1 / CELL,
        hspace=CAPTION / CELL,
    )
    for row in range(rows):
        split, label = SPLITS[row // len(CLASSES)], row % len(CLASSES)
        of_row = [sample for sample in samples[split] if LABELS[sample.row["pathology"]] == label]
        for column in range(columns):
            axes = blank(figure.add_subplot(grid[row, column]))
            if column == 0:
                number = content["counts"][split][CLASSES[label]]
                axes.set_ylabel(f"{split}, {CLASSES[label]}\n{number} masses", fontsize=10)
            if column < len(of_row):
                show(axes, of_row[column])
    figure.suptitle(heading(content), fontsize=11, y=1 - 0.15 / height, va="top")
    return figure


def blank(axes: Axes) -> Axes:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return axes


def show(axes: Axes, sample: Sample) -> None:
    """Draw one record with its mass's box and what the manifest says of it."""
    draw_image(axes, sample)
    corners = context_crops.places(sample.window, manifest.box_of(sample.row).corners)
    axes.add_patch(Polygon(corners, closed=True, fill=False, edgecolor=OUTLINE, lw=0.9))
    row = sample.row
    words = [row["pathology"], *filter(None, (row["shape"], row["margins"]))]
    text = ", ".join(words).lower().replace("_", " ").replace("-", " + ")
    text = f"{sample.window.name} {text}".strip()
    caption = [row["mass_id"], *textwrap.wrap(text, 36, max_lines=3, placeholder=" ...")]
    axes.set_xlabel("\n".join(caption), fontsize=6.2, labelpad=2)


def draw_image(axes: Axes, sample: Sample) -> None:
    axes.imshow(sample.image, cmap="gray", vmin=0, vmax=255, extent=(0, SIZE, SIZE, 0))


def heading(content: dict) -> str:
    """Return what the database is, in two lines."""
    augmented = "not augmented"
    if content["rotations"]:
        augmented = f"augmented {content['rotations']} rotations x {content['crops']} crops"
    return (
        f"{source(content)}\n{content['context']} context, training set {augmented}, seed {content['seed']}, "
        f"digest {content['digest'][:12]}"
    )


def source(content: dict) -> str:
    """Return where the films come from; made ones are called so in capitals."""
    if content["source"] == "synthetic":
        return "SYNTHETIC films, drawn from random numbers"
    return f"Films: {content['source']} ({'/'.join(Path(content['root']).parts[-2:])})"


def fig1(samples: list[Sample], content: dict) -> Figure:
    """Draw the paper's Fig 1: "Benign (Left) and malignant (Right) breast masses from the dataset", upright crops."""
    figure = Figure(figsize=(8.4, 4.75), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.03, w_pad=0.03, hspace=0, wspace=0)
    for label, half in enumerate(figure.subfigures(1, len(CLASSES), wspace=0.02)):
        of_class = [sample for sample in samples if LABELS[sample.row["pathology"]] == label]
        half.suptitle(CLASSES[label].capitalize(), fontsize=12)
        for index, axes in enumerate(half.subplots(FIG1_ROWS, FIG1_COLUMNS).flat):
            blank(axes)
            if index < len(of_class):
                draw_image(axes, of_class[index])
    figure.supxlabel(f"{source(content)}, {content['context']} context", fontsize=10)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a picture and say so."""
    with atomic_write(path) as working:
        figure.savefig(working, format="png")
    print(path)
