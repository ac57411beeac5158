"""The readers by the name of their source, and where each source's files lie by default."""

from pathlib import Path

from data_prep.sources import cbis_ddsm, csv_boxes, ddsm

READERS = {"ddsm": ddsm, "cbis": cbis_ddsm, "boxes": csv_boxes, "synthetic": ddsm}  # synthetic: DDSM case folders
DEFAULT_ROOT = {"ddsm": Path("data/ddsm"), "cbis": Path("data/cbis"), "synthetic": Path("data/synthetic")}


def default_source() -> str:
    """Return the real set whose folder is there, else the synthetic one."""
    return next((name for name in ("ddsm", "cbis") if DEFAULT_ROOT[name].is_dir()), "synthetic")
