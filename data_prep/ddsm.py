"""Reader of the Digital Database for Screening Mammography (DDSM): case folders -> Mass records.

A case folder, as the University of South Florida ships it ("DDSM: Description of the .ics and .OVERLAY files"):

    A-1975-1.ics               the case: hospital, scanner, film sizes, which views carry an outline
    A_1975_1.LEFT_CC.LJPEG     a film, lossless JPEG by Stanford's PVRG codec (see ljpeg.py)
    A_1975_1.LEFT_CC.OVERLAY   the radiologist's lesions in it, outlines as chain codes

Real files are untidy: counts that disagree with what follows, blank lines, several lesion types for one outline. What
can be understood is read; a lesion that cannot be used is yielded all the same, with the reason.
"""

import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_prep import density, ljpeg
from data_prep.mass import LABELS, Box, Film, InputError, Mass

# Column and row steps of the chain codes: 0 is up, then clockwise in steps of 45 degrees.
STEPS = np.array([(0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1)], np.int32)
SMALLEST_BOX = 10  # pixels, half a millimetre: what is smaller is a slip of the pen, not a mass
SHARE_ON_FILM = 0.5  # an outline may leave the film a little; with less than this on it, it belongs elsewhere


@dataclass(frozen=True)
class View:
    """One film of a case, from its line in the .ics file: size in pixels, and whether it has an .OVERLAY."""

    lines: int
    pixels_per_line: int
    overlay: bool


@dataclass(frozen=True)
class Case:
    """What a case's .ics file says: name ("A-1975-1"), make of the digitizer ("HOWTEK"), films by "LEFT_CC"."""

    name: str
    digitizer: str
    views: dict[str, View]

    @property
    def patient(self) -> str:
        """The case name without its study number, so that two studies of a patient stay together."""
        return "_".join(self.name.split("-")[:2])

    @property
    def scanner(self) -> str | None:
        """The calibration in density.py, or None where hospital letter and digitizer do not go together."""
        return density.SCANNER.get((self.name[:1].upper(), self.digitizer))


@dataclass
class Abnormality:
    """One ABNORMALITY of an .OVERLAY: its lesion types in file order, its other values, its BOUNDARY."""

    number: int
    lesion_types: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    outline: np.ndarray | None = None
    problem: str = ""

    def descriptor(self, word: str) -> str:
        """Return the value after SHAPE or MARGINS in the MASS line, "" where there is none."""
        for lesion_type in self.lesion_types:
            if lesion_type.startswith("MASS"):
                found = re.search(rf"\b{word} (\S+)", lesion_type)
                return found[1] if found else ""
        return ""


def masses(root: Path) -> list[Mass]:
    """Find every case below `root` and return every lesion in it, usable or not, in order of mass_id.

    Raises InputError when `root` is missing or holds no case.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; name the folder that holds the DDSM case folders")
    found: list[Mass] = []
    for folder, names in _case_folders(root):
        found += _case_masses(folder, names)
    if not found:
        raise InputError(f"{root}: no .ics and .OVERLAY files below it; name the folder that holds DDSM case folders")
    return sorted(found, key=lambda mass: mass.mass_id)


def load_film(film: Film) -> np.ndarray:
    """Decode one film to uint8 (rows, columns), calibrated to optical density, dense tissue bright."""
    grey = ljpeg.decode(film.path)
    if grey.shape != (film.height, film.width):
        size = f"{grey.shape[0]} x {grey.shape[1]}"
        raise InputError(f"{film.path}: film is {size} but its .ics says {film.height} x {film.width}")
    return density.grey_to_8bit(grey, film.scanner)


def read_ics(path: Path) -> Case:
    """Parse an .ics file; InputError when it names no view or no digitizer."""
    digitizer, views = "", {}
    for line in path.read_text("latin-1").splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "DIGITIZER":
            digitizer = words[1].upper()
        elif len(words) > 1 and re.fullmatch(r"(LEFT|RIGHT)_(CC|MLO)", words[0]):
            views[words[0]] = _view(path, words)
    if not views or not digitizer:
        missing = "view" if not views else "DIGITIZER"
        raise InputError(f"{path}: no {missing} line; not a DDSM case file, or damaged")
    return Case(path.stem, digitizer, views)


def _view(path: Path, words: list[str]) -> View:
    values = dict(zip(words[1:-1:2], words[2::2], strict=False))
    try:
        return View(int(values["LINES"]), int(values["PIXELS_PER_LINE"]), words[-1] == "OVERLAY")
    except (KeyError, ValueError):
        raise InputError(f"{path}: the {words[0]} line does not give LINES and PIXELS_PER_LINE") from None


def read_overlay(path: Path) -> list[Abnormality]:
    """Parse an .OVERLAY file to its abnormalities; InputError when it holds none.

    Of an abnormality's outlines the BOUNDARY is kept (the first, should there be several); a CORE is the dense
    centre that some radiologists drew within it.
    """
    found: list[Abnormality] = []
    outline_kind = ""
    for line in path.read_text("latin-1").splitlines():
        key, _, value = line.strip().partition(" ")
        value = " ".join(value.split())
        if key == "ABNORMALITY":
            found.append(Abnormality(int(value) if value.isdecimal() else len(found) + 1))
        elif not found:
            continue  # TOTAL_ABNORMALITIES, which does not always agree with what follows
        elif key in ("BOUNDARY", "CORE"):
            outline_kind = key
        elif key == "LESION_TYPE":
            found[-1].lesion_types.append(value)
        elif outline_kind and re.match(r"-?\d", key):
            if outline_kind == "BOUNDARY" and found[-1].outline is None:
                _take_outline(found[-1], line)
            outline_kind = ""
        elif key:
            found[-1].values[key] = value
    if not found:
        raise InputError(f"{path}: no ABNORMALITY in it; damaged, or not a DDSM outline file")
    return found


def _take_outline(abnormality: Abnormality, line: str) -> None:
    try:
        abnormality.outline = decode_chain(line)
    except ValueError as error:
        abnormality.problem = f"unreadable outline: {error}"


def decode_chain(line: str) -> np.ndarray:
    """Return the (n, 2) int32 (column, row) points of "column row code code ... #"; ValueError when malformed."""
    words = line.replace("#", " # ").split()
    if "#" in words:
        words = words[: words.index("#")]
    if len(words) < 3:
        raise ValueError("no chain code after the start point")
    try:
        start, codes = np.array(words[:2], np.int32), np.array(words[2:], np.int64)
    except (ValueError, OverflowError):
        raise ValueError("something other than numbers in the chain code") from None
    if codes.min() < 0 or codes.max() > 7:
        raise ValueError("a chain code outside 0 to 7")
    return start + np.concatenate([np.zeros((1, 2), np.int32), np.cumsum(STEPS[codes], axis=0, dtype=np.int32)])


def _case_folders(root: Path) -> list[tuple[Path, list[str]]]:
    """Walk once; return the folders that hold case or outline files, with the names of their files."""
    walk = ((Path(folder), names) for folder, _, names in os.walk(root, followlinks=True))
    return [(f, n) for f, n in walk if any(name.endswith((".ics", ".OVERLAY")) for name in n)]


def _case_masses(folder: Path, names: list[str]) -> list[Mass]:
    """Return the lesions of the cases in one folder (DDSM has one case a folder, but copies differ)."""
    cases: dict[str, Case | str] = {}
    for name in sorted(names):
        if name.endswith(".ics"):
            prefix = name[:-4].replace("-", "_")
            try:
                cases[prefix] = read_ics(folder / name)
            except InputError as error:
                cases[prefix] = str(error)
    overlays: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        if name.endswith(".OVERLAY"):
            prefix, _, rest = name.partition(".")
            overlays[prefix].append(rest.removesuffix(".OVERLAY"))
    found: list[Mass] = []
    for prefix in sorted(cases.keys() | overlays.keys()):
        case = cases.get(prefix, f"{folder}: the case has no .ics file")
        if isinstance(case, Case):
            for view, details in case.views.items():
                if details.overlay and view not in overlays[prefix]:
                    overlays[prefix].append(view)
        for view in overlays[prefix]:
            found += _view_masses(folder / f"{prefix}.{view}", case, view)
    return found


def _view_masses(stem: Path, case: Case | str, view: str) -> list[Mass]:
    """Return the lesions of one film; `case` is the reason where the case file itself is of no use."""
    film_path = stem.with_name(stem.name + ".LJPEG")
    film, reason = _film(film_path, case, view)
    patient = case.patient if isinstance(case, Case) else "_".join(stem.name.split("_")[:2])
    side, _, projection = view.partition("_")
    try:
        abnormalities = read_overlay(stem.with_name(stem.name + ".OVERLAY"))
    except (InputError, OSError) as error:
        cause = str(error) if isinstance(error, InputError) else f"{stem.name}.OVERLAY: named in the .ics but missing"
        abnormalities = [Abnormality(0, problem=f"unreadable outlines: {cause}")]
    return [
        _mass(abnormality, film, reason, f"{stem.name}.{index}", patient, side, projection)
        for index, abnormality in enumerate(abnormalities, start=1)
    ]


def _film(path: Path, case: Case | str, view: str) -> tuple[Film, str]:
    """Return a view's film, and the reason why none of its lesions can be used ("" when they can).

    Only the file's head and tail are looked at: decoding thousands of films twice would take an hour.
    """
    film = Film(path, 0, 0)
    if isinstance(case, str):
        return film, f"unreadable case: {case}"
    if view not in case.views:
        return film, f"unreadable case: {case.name}.ics has no {view} line"
    details = case.views[view]
    film = Film(path, details.pixels_per_line, details.lines, case.scanner)
    if case.scanner is None:
        return film, f"no calibration for a {case.digitizer} digitizer at hospital {case.name[:1]}"
    if not path.is_file():
        return film, f"film missing: {path.name}"
    try:
        rows, columns, _ = ljpeg.frame_size(path)
    except InputError as error:
        return film, f"unreadable film: {error}"
    if (rows, columns) != (details.lines, details.pixels_per_line):
        sizes = f"{rows} x {columns}, .ics says {details.lines} x {details.pixels_per_line}"
        return film, f"film of another size: {path.name} is {sizes}"
    return film, ""


def _mass(abnormality: Abnormality, film: Film, reason: str, mass_id: str, patient: str, side: str, view: str) -> Mass:
    pathology = abnormality.values.get("PATHOLOGY", "")
    box, box_reason = _box(abnormality.outline, film)
    return Mass(
        mass_id=mass_id,
        patient=patient,
        film=film,
        side=side,
        view=view,
        abnormality=abnormality.number,
        pathology=pathology,
        box=box,
        outline=abnormality.outline,
        shape=abnormality.descriptor("SHAPE"),
        margins=abnormality.descriptor("MARGINS"),
        assessment=abnormality.values.get("ASSESSMENT", ""),
        subtlety=abnormality.values.get("SUBTLETY", ""),
        reason=abnormality.problem or _not_a_sample(abnormality, pathology) or reason or box_reason,
    )


def _not_a_sample(abnormality: Abnormality, pathology: str) -> str:
    kinds = sorted({lesion_type.split()[0] for lesion_type in abnormality.lesion_types if lesion_type})
    if "MASS" not in kinds:
        return f"not a mass: {', '.join(kinds) or 'no LESION_TYPE'}"
    if pathology not in LABELS:
        return f"pathology unproven or unknown: {pathology or 'none given'}"
    return ""


def _box(outline: np.ndarray | None, film: Film) -> tuple[Box | None, str]:
    """Return the outline's bounding box, clipped to the film, or the reason why there is none."""
    if outline is None:
        return None, "no outline"
    (x0, y0), (x1, y1) = outline.min(axis=0).tolist(), (outline.max(axis=0) + 1).tolist()
    if min(x1 - x0, y1 - y0) < SMALLEST_BOX:
        return None, f"outline too small: {x1 - x0} x {y1 - y0} pixels"
    box = Box(max(x0, 0), max(y0, 0), min(x1, film.width), min(y1, film.height))
    share = max(box.width, 0) * max(box.height, 0) / ((x1 - x0) * (y1 - y0))
    if share < SHARE_ON_FILM:
        return None, f"outline leaves the film: {share:.0%} of its box is on it"
    return box, ""
