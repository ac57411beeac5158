"""The benchmarks' JSON files, one per part that is measured, and the page made from them."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from data_prep.core import provenance
from data_prep.core.errors import InputError
from data_prep.core.files import write_text
from data_prep.core.json_files import read_json, write_json
from scripts.reporting.page_templates import render


def check_parts(typed: Iterable[str], parts: Iterable[str]) -> None:
    """Raise InputError for a part that there is not."""
    for part in typed:
        if part not in parts:
            raise InputError(f"{part}: no such part; there are {', '.join(parts)}")


def measure(name: str, function: Callable[..., dict], arguments: tuple, out: Path, packages: tuple[str, ...]) -> None:
    """Write a part's figures, and where they come from, to NAME.json in `out`."""
    print(f"{name} ...", flush=True)
    began = time.monotonic()
    figures = function(*arguments)
    about = provenance.made_by(*packages) | {"hardware": provenance.hardware()}
    about["minutes"] = (time.monotonic() - began) / 60
    write_json(out / f"{name}.json", {"about": about, "figures": figures})


def measured(out: Path, parts: Iterable[str]) -> dict[str, dict]:
    """Return what the JSON files in `out` hold, by part, of those parts that were ever measured."""
    return {name: read_json(out / f"{name}.json") for name in parts if (out / f"{name}.json").is_file()}


def write_page(out: Path, template: str, found: dict[str, dict], **more) -> str:
    """Write README.md from the parts' files, and return it. The template sees them as `parts`, and `more`."""
    page = render(template, parts=found, **more)
    write_text(out / "README.md", page)
    return page
