"""The templates of the pages, and the one way to fill them in."""

import statistics
from pathlib import Path

import jinja2


def spread(values: list[float], digits: int = 2) -> str:
    """Return the median, and in brackets the smallest and the largest value."""
    middle, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).resolve().parent / "templates"),
    autoescape=jinja2.select_autoescape(["html"]),
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {"median": statistics.median, "spread": spread}


def render(template: str, **shown) -> str:
    """Return the text of a template; what is put into HTML is escaped."""
    return _ENVIRONMENT.get_template(template).render(shown)
