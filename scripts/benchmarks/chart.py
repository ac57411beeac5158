"""Where the time of training goes, by kind of layer and by layer: for the speed benchmark's tables and its chart."""

from collections import defaultdict

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from scripts.benchmarks.engine_process import ENGINES
from scripts.evaluation import paper_results
from scripts.evaluation.plots import BLUE, DPI, GREY, ORANGE

COLOURS = {"ours": BLUE, "stock": GREY, "eager": ORANGE}
PALE = 0.45  # opacity of the backward part of a bar
SHOWN, VISIBLE = 8, 0.01  # bars in a panel: at most so many, and none below this share of the longest
KINDS = {
    "BatchNorm": "BatchNorm, Scale",  # one layer in PyTorch
    "Scale": "BatchNorm, Scale",
    "DummyData": "data, loss",
    "SoftmaxWithLoss": "data, loss",
    "Accuracy": "data, loss",
}
"""What a layer's type is counted under, where it is not by its own name."""

PATCHES = {
    "0102-convolution-onednn": ("Convolution",),
    "0103-pooling-parallel": ("Pooling",),
    "0104-lrn-fused": ("LRN",),
    "0105-batch-norm-and-scale-fused": ("BatchNorm, Scale",),
    "0106-elementwise-parallel": ("ReLU", "Dropout", "Concat", "Split"),
    "0109-products-onednn": ("InnerProduct",),
}
"""The kinds of layer that each of the patches in scripts/install/patches/speed/ is for."""

Times = dict[str, dict[str, tuple[float, float]]]
"""Forward and backward seconds by kind or layer, then by engine."""


def by_kind(row: dict) -> Times:
    """Return a net's times (a row of layers.json) summed by kind of layer, slowest first."""
    sums: dict[str, dict[str, tuple[float, float]]] = defaultdict(lambda: dict.fromkeys(row["times"], (0.0, 0.0)))
    for engine, layers in row["times"].items():
        for layer in layers:
            of_kind = sums[KINDS.get(layer["type"], layer["type"])]
            forward, backward = of_kind[engine]
            of_kind[engine] = (forward + layer["forward"], backward + layer["backward"])
    return _slowest_first(sums)


def by_layer(row: dict) -> Times:
    """Return a net's times by layer, slowest first; a layer that an engine does not have is not in its row."""
    found: Times = defaultdict(dict)
    for engine, layers in row["times"].items():
        for layer in layers:
            found[layer["name"]][engine] = (layer["forward"], layer["backward"])
    return _slowest_first(found)


def gain(row: dict, kinds: tuple[str, ...]) -> tuple[float, float]:
    """Return the seconds that stock Caffe and ours spend in these kinds of layer, forward and backward."""
    sums = together({kind: times for kind, times in by_kind(row).items() if kind in kinds})
    stock, ours = (sum(sums.get(engine, ())) for engine in ("stock", "ours"))
    return stock, ours


def together(times: Times) -> dict[str, tuple[float, float]]:
    """Return the sums of the times, by engine."""
    sums: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for of_engine in times.values():
        for engine, (forward, backward) in of_engine.items():
            sums[engine] = (sums[engine][0] + forward, sums[engine][1] + backward)
    return dict(sums)


def _slowest_first(times: Times) -> Times:
    return dict(sorted(times.items(), key=lambda item: -max(map(sum, item[1].values()))))


def chart(rows: dict[str, dict]) -> Figure:
    """Bars of each engine's times in milliseconds, a row of panels a net: by kind of layer, and the slowest layers."""
    figure = Figure(figsize=(10, 1.0 + 3.6 * len(rows)), dpi=DPI, layout="constrained")
    for (net, row), (left, right) in zip(rows.items(), figure.subplots(len(rows), 2, squeeze=False), strict=True):
        _bars(left, by_kind(row))
        _bars(right, by_layer(row))
        left.set_title(f"{paper_results.TITLES[net]}, batch {row['batch']}: by kind of layer", fontsize=11)
        right.set_title("the slowest layers", fontsize=11)
    patches = [Patch(color=colour, label=ENGINES[engine]) for engine, colour in COLOURS.items()]
    figure.legend(handles=patches, loc="outside upper center", ncols=len(patches), frameon=False, fontsize=11)
    return figure


def _bars(axes: Axes, times: Times) -> None:
    slowest = max(map(sum, next(iter(times.values())).values()))
    shown = [item for item in times.items() if max(map(sum, item[1].values())) >= VISIBLE * slowest][:SHOWN]
    height = 0.8 / len(COLOURS)
    for place, (_, of_engine) in enumerate(shown):
        for number, (engine, colour) in enumerate(COLOURS.items()):
            forward, backward = (1000 * each for each in of_engine.get(engine, (0, 0)))
            y = place + (number - 1) * height
            axes.barh(y, forward, height, color=colour)
            axes.barh(y, backward, height, left=forward, color=colour, alpha=PALE, lw=0)
    axes.set_yticks(range(len(shown)), [name for name, _ in shown], fontsize=10)
    axes.invert_yaxis()
    axes.set_xlabel("ms; dark: forward, pale: backward", fontsize=10)
    axes.grid(axis="x", color="#e6e6e6", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
