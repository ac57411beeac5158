"""The readers by the name of their source, and where each source's files lie by default."""

from pathlib import Path

from data_prep.sources import cbis_ddsm, csv_boxes, ddsm

READERS = {
    "ddsm": ddsm,
    "cbis": cbis_ddsm,
    "boxes": csv_boxes,
    "synthetic": ddsm,
}  # a synthetic set is DDSM case folders
DEFAULT_ROOT = {"ddsm": Path("data/ddsm"), "cbis": Path("data/cbis"), "synthetic": Path("data/synthetic")}
