"""The table of an evaluation beside the paper's figures, and the reasons not to compare the two, from metrics.json."""

from scripts.evaluation import metrics, paper_results

SOURCES = {"synthetic": "synthetic films", "ddsm": "DDSM", "cbis": "CBIS-DDSM", "boxes": "own films (CSV of boxes)"}

Column = dict[str, str]
"""A column of the table: its head under "", then a text for each figure it has."""


def films(content: dict) -> str:
    """Return what to call the films of a manifest.json or metrics.json: the set's own name, else that of its kind.

    Synthetic films are called so whatever name was given.
    """
    source = content["source"]
    return (content.get("name") if source != "synthetic" else None) or SOURCES.get(source, source)


def heading(net: str, split: str, content: dict) -> str:
    """Return one line for titles, with the films of `content`, as films() has them."""
    return f"{paper_results.TITLES[net]}, {split} split, {films(content)}"


def render(summary: dict) -> str:
    """Return the table, the sample and the caveats, as Markdown that also reads well in a terminal."""
    columns = [own_column(summary), *paper_columns(summary["net"], summary["split"])]
    names = ["", *metrics.NAMES, *summary["counts"]]
    first = [name.upper() if name == "auc" or name in summary["counts"] else name for name in names]
    cells = [first, *([column.get(name, "") for name in names] for column in columns)]
    return "\n".join([*table(cells), "", *(f"- {note}" for note in notes(summary))]) + "\n"


def table(columns: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table from its columns, heads first."""
    padded = [[cell.ljust(max(map(len, column))) for cell in column] for column in columns]
    rows = list(zip(*padded, strict=True))
    rows.insert(1, tuple("-" * len(cell) for cell in rows[0]))
    return [f"| {' | '.join(row)} |" for row in rows]


def own_column(summary: dict) -> Column:
    """Return the table's column of the net that was evaluated."""
    figures = {name: interval(*ends(summary, name)) for name in metrics.NAMES}
    return {"": "this net"} | figures | {name: str(count) for name, count in summary["counts"].items()}


def paper_columns(net: str, split: str) -> list[Column]:
    """Return the paper's figures for the net on this split: Table 3 for test, Tables 1 and 2 for val."""
    if split == "test":
        counts = paper_results.TEST[net].counts
        wilson = paper_results.wilson(counts)
        figures = {name: interval(float(rate), *wilson[name]) for name, rate in metrics.rates(*counts).items()}
        radiologists = "{:.3f} to {:.3f}".format(*paper_results.RADIOLOGISTS_RECALL)
        return [
            {"": "paper, Table 3"} | figures | {name: str(count) for name, count in counts._asdict().items()},
            {"": "radiologists, cited there", "recall": radiologists},
        ]
    if split == "val":
        return [
            {"": f"paper, Table {row.table} ({'aug' if row.augmented else 'no aug'}, {row.context})"}
            | {"accuracy": f"{row.accuracy:.2f}"}
            for row in paper_results.VALIDATION
            if row.net == net
        ]
    return []


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """Return a figure as "0.929 (0.882-0.958)", or as much of that as is defined."""
    if value is None:
        return "undefined"
    return f"{value:.3f}" if low is None else f"{value:.3f} ({low:.3f}-{high:.3f})"


def difference(value: float | None, low: float | None, high: float | None) -> str:
    """Return a difference as "+0.035 (-0.020 to +0.090)", or as much of that as is defined."""
    if value is None:
        return "undefined"
    return f"{value:+.3f}" if low is None else f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def ends(summary: dict, name: str) -> tuple[float | None, float | None, float | None]:
    """Return value, low and high of one figure."""
    return tuple(summary["metrics"][name][end] for end in ("value", "low", "high"))


def notes(summary: dict) -> list[str]:
    """Return the sample and the method, then every reason not to compare the figures with the paper's."""
    crops = "" if summary["n"] == summary["masses"] else f" in {summary['n']} crops"
    intervals = "{level:.0%} intervals: {draws:,} bootstrap draws of patients".format(**summary["interval"])
    chosen = f", {summary['threshold_chosen']}" if summary.get("threshold_chosen") else ""
    wilson = "; the paper's: Wilson's, of the counts behind its figures" if summary["split"] == "test" else ""
    return [
        f"{summary['masses']} masses{crops} of {summary['patients']} patients: "
        f"{summary['malignant']} malignant, {summary['benign']} benign. Weights: {summary['weights']}",
        f"{intervals}{wilson}.",
        *([f"Malignant from probability {summary['threshold']:.4g} on{chosen}."] if chosen else []),
        *caveats(summary),
    ]


def other_data(source: str) -> str:
    """Return why figures on masses of this source are not the paper's."""
    if source == "synthetic":
        return "SYNTHETIC films: these figures show that the code works, and nothing about mammograms or the paper."
    if source == "ddsm":
        return "The paper did not publish its split: these are other masses of the same database."
    return "Our masses differ from the paper's: its figures stand here for orientation only."


def caveats(summary: dict) -> list[str]:
    """Return the reasons why the paper's figures cannot be compared, or this net's are doubtful."""
    found = [other_data(summary["source"])]
    if summary["context"] != "large" and summary["split"] == "test":
        found.append(f"The context is {summary['context']}; the paper's Table 3 has large context.")
    if summary["augmented_training"] is False and summary["split"] == "test":
        found.append("Trained without augmentation; the paper's Table 3 has it.")
    if summary["malignant"] != summary["benign"]:
        found.append(
            "The classes are not balanced, which changes accuracy and precision; the paper's sets are balanced."
        )
    short = [name for name in metrics.NAMES if summary["metrics"][name]["draws"] < summary["interval"]["draws"]]
    if short:
        found.append(f"Draws that lacked a class, or any mass called malignant, were left out for {', '.join(short)}.")
    if any(summary["metrics"][name]["value"] in (0, 1) for name in metrics.NAMES):
        found.append(
            "The interval of a figure of exactly 0 or 1 has no width: that is the method's limit, and no certainty."
        )
    return found + [f"Doubtful: {doubt}." for doubt in summary["doubts"]]
