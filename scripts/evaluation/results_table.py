"""Tables of results, as CSV files with all digits, as Markdown and as texts for a page."""

import csv
from dataclasses import dataclass
from pathlib import Path

from data_prep.core.files import atomic_write, write_text
from scripts.evaluation import evaluation_table
from scripts.evaluation.comparisons import Difference, Spread
from scripts.evaluation.metrics import Estimate

Cell = str | int | float | Estimate | Difference | Spread | None


@dataclass(frozen=True)
class Table:
    """Rows of one length under a header; `name` is that of its files, `about` the line that says what data it is."""

    name: str
    title: str
    about: str
    header: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    notes: tuple[str, ...]

    def texts(self) -> list[list[str]]:
        """The rows as shown, figures with their intervals."""
        return [[text(cell) for cell in row] for row in self.rows]

    def to_markdown(self) -> str:
        """Title, what data, the table, its notes."""
        columns = [list(column) for column in zip(self.header, *self.texts(), strict=True)]
        notes = (f"- {note}" for note in self.notes)
        return "\n".join([f"# {self.title}", "", self.about, "", *evaluation_table.table(columns), "", *notes]) + "\n"

    def to_csv(self) -> list[list[str | int | float | None]]:
        """Header and rows of full numbers; a column of figures becomes three, their interval's ends in the others."""
        figures = [any(isinstance(row[place], tuple) for row in self.rows) for place in range(len(self.header))]
        lines: list[list] = [[], *([] for _ in self.rows)]
        for place, wide in enumerate(figures):
            name = self.header[place]
            lines[0] += [name, f"{name}: low", f"{name}: high"] if wide else [name]
            for line, row in zip(lines[1:], self.rows, strict=True):
                cell = row[place]
                ends = [cell.value, cell.low, cell.high] if isinstance(cell, tuple) else [cell, None, None]
                line += ends if wide else [cell]
        return lines

    def write(self, out: Path) -> None:
        """Write NAME.csv and NAME.md to the folder."""
        with atomic_write(out / f"{self.name}.csv") as path, path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(self.to_csv())
        write_text(out / f"{self.name}.md", self.to_markdown())


def text(cell: Cell) -> str:
    """Return a cell as shown."""
    match cell:
        case None:
            return ""
        case str():
            return cell
        case int():
            return f"{cell:,}"
        case float():
            return evaluation_table.interval(cell, None, None)
        case Difference():
            return evaluation_table.difference(cell.value, cell.low, cell.high)
        case _:
            return evaluation_table.interval(cell.value, cell.low, cell.high)
