"""The records that every reader yields and every later step takes: a Mass, with its Box, on a Film.

Readers (one per data source) turn case files into `Mass` records; split, crops and the LMDB writer know only these.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

CLASSES = ("benign", "malignant")
"""The classes of the labels 0 and 1."""
LABELS = {"MALIGNANT": 1, "BENIGN": 0, "BENIGN_WITHOUT_CALLBACK": 0}
"""Class of each proven pathology, as the Datum stores it; a pathology that is not here is left out and listed."""
SHORT = {"M": "MALIGNANT", "1": "MALIGNANT", "B": "BENIGN", "0": "BENIGN"}
ACCEPTED = ", ".join((*LABELS, *SHORT))


def pathology_of(text: str) -> str:
    """Return a pathology's name in LABELS, whichever usual spelling it has; any other text as it is."""
    word = "_".join(text.replace("_", " ").upper().split())
    word = SHORT.get(word, word)
    return word if word in LABELS else text


def unproven(pathology: str) -> str:
    """Return the reason why a lesion of this pathology is left out, "" when it is proven."""
    if pathology in LABELS:
        return ""
    known = pathology.upper().startswith(("UNPROVEN", "AMBIGUOUS"))
    hint = "" if known else f" (accepted, in any case: {ACCEPTED})"
    return f"pathology unproven or unknown: {pathology or 'none given'}{hint}"


@dataclass(frozen=True)
class Box:
    """A mass's bounding box in film pixels: columns x0 <= x < x1, rows y0 <= y < y1."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        return self.y1 - self.y0

    @property
    def centre(self) -> tuple[float, float]:
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    @property
    def corners(self) -> np.ndarray:
        """(4, 2) float64 (column, row), clockwise from the top left one."""
        return np.array([(self.x0, self.y0), (self.x1, self.y0), (self.x1, self.y1), (self.x0, self.y1)], float)


@dataclass(frozen=True)
class Film:
    """One digitized mammogram.

    `width` and `height` are the film's own size in full-resolution pixels; boxes and contexts are measured in these.
    The stored image may be smaller, even squashed: crops are sampled from it with the film's proportions restored.
    `scanner` names the grey level to optical density calibration
    (optical_density.py); None where the image is 8-bit already.
    """

    path: Path
    width: int
    height: int
    scanner: str | None = None


@dataclass(frozen=True)
class Mass:
    """One lesion of kind mass in one view: one sample (several in a film are several samples).

    `reason` is empty for a mass that can be used; otherwise it says why the lesion is left out, and `box` may be None.
    `outline` holds the radiologist's boundary as (n, 2) int32 (column, row) film pixels where the source has one.
    """

    mass_id: str
    patient: str
    film: Film
    side: str
    view: str
    abnormality: int
    pathology: str
    box: Box | None
    outline: np.ndarray | None = None
    shape: str = ""
    margins: str = ""
    assessment: str = ""
    subtlety: str = ""
    reason: str = ""

    @property
    def label(self) -> int:
        """1 malignant, 0 benign; KeyError for a pathology that is never used."""
        return LABELS[self.pathology]
