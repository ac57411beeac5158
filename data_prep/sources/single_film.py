"""One film with masses marked on it, read and prepared exactly as build_lmdb.py does it for a whole set.

A film's kind, the source whose reader is its own, follows from the file: "ddsm" for an .LJPEG, "cbis" for DICOM that
says it is CBIS-DDSM's where the net learnt from that, "boxes" for any other image.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.core.errors import InputError
from data_prep.core.memory_limit import limited
from data_prep.core.records import Box, Film, Mass, unproven
from data_prep.formats import image_files
from data_prep.sources import cbis_ddsm, csv_boxes, ddsm
from data_prep.sources.registry import READERS


class Marked(NamedTuple):
    """A mass on a film: its name, its box, and its outline (n, 2), the box's corners where only that is known."""

    name: str
    box: Box
    outline: np.ndarray


def kind_of(path: Path, source: str) -> str:
    """Return a film's kind for a net that was trained on `source`; InputError when there is no such file."""
    if not path.is_file():
        raise InputError(f"{path}: no such film")
    if path.suffix.lower() == ".ljpeg":
        return "ddsm"
    return "cbis" if source in ("cbis", "synthetic") and cbis_ddsm.holds(path) else "boxes"


@limited()
def load(film: Film, kind: str) -> np.ndarray:
    """Return a film as uint8 (rows, columns), as the databases' crops are cut from it."""
    return READERS[kind].load_film(film)


@limited()
def by_overlay(path: Path, kind: str, overlay: Path) -> tuple[Film, list[Marked], dict[str, str]]:
    """Return a DDSM film, the masses that its .OVERLAY outlines, and by name why other lesions in it are none.

    Whether their pathology is proven makes no difference here. Raises InputError when there is no mass.
    """
    if kind != "ddsm":
        raise InputError(f"{path}: --overlay goes with a film of DDSM's (.LJPEG); mark the mass with --box or --mask")
    lesions = ddsm.film_masses(path, overlay)
    found = [lesion for lesion in lesions if _is_usable(lesion)]
    left_out = {lesion.mass_id: lesion.reason for lesion in lesions if not _is_usable(lesion)}
    if not found:
        raise InputError(f"{overlay}: no mass in it that can be used ({'; '.join(left_out.values())})")
    return ddsm.film_of(path), [_outlined(mass) for mass in found], left_out


@limited()
def by_row(path: Path, kind: str, row: dict[str, str]) -> tuple[Film, list[Marked]]:
    """Return a film and the one mass marked on it by a row of csv_boxes.py (x, y, width, height, or mask).

    Raises InputError when the film, or the mark on it, cannot be used.
    """
    row = {"mask": "", **row, "image": str(path)}
    if kind == "ddsm":
        film = ddsm.film_of(path)
        box, reason = csv_boxes.box_of(Path(), row, (film.width, film.height))
    else:
        image_files.frame_size(path)  # so that what is wrong with the film is said of the film
        film, box, reason = csv_boxes.marked(Path(), row)
    if box is None:
        raise InputError(f"{row['mask'] or path}: {reason}")
    return film, [Marked(path.stem, box, box.corners)]


def _outlined(mass: Mass) -> Marked:
    return Marked(mass.mass_id, mass.box, mass.outline + 0.5)  # a chain code goes from middle to middle of pixels


def _is_usable(lesion: Mass) -> bool:
    return lesion.box is not None and lesion.reason in ("", unproven(lesion.pathology))
