"""Reader of the Digital Database for Screening Mammography (DDSM): case folders -> Mass records.

A case folder, as the University of South Florida ships it ("DDSM: Description of the .ics and .OVERLAY files"):

    A-1975-1.ics               the case: hospital, scanner, film sizes, which views carry an outline
    A_1975_1.LEFT_CC.LJPEG     a film, lossless JPEG by Stanford's PVRG codec (see ljpeg.py)
    A_1975_1.LEFT_CC.OVERLAY   the radiologist's lesions in it, outlines as chain codes

Real files are untidy: counts that disagree with what follows, blank lines, several lesion types for one outline; copies
differ in upper and lower case, some files were shipped as .gz, and the JPEG header of some films has rows and columns
exchanged. What can be understood is read; a lesion that cannot be used is yielded all the same, with the reason.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data_prep.core.errors import InputError
from data_prep.core.files import walk
from data_prep.core.memory_limit import limited
from data_prep.core.records import Box, Film, Mass, pathology_of, unproven
from data_prep.formats import ljpeg, optical_density

# Column and row steps of the chain codes: 0 is up, then clockwise in steps of 45 degrees.
STEPS = np.array([(0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1)], np.int32)
SMALLEST_BOX = 10  # pixels, half a millimetre: what is smaller is a slip of the pen, not a mass
SHARE_ON_FILM = 0.5  # an outline may leave the film a little; with less than this on it, it belongs elsewhere
LARGEST_TEXT = 1 << 22  # bytes: real .ics and .OVERLAY files have at most 100,000
FARTHEST = 1 << 16  # columns or rows: no film is larger, so no outline starts beyond


@dataclass(frozen=True)
class View:
    """One film of a case, from its line in the .ics file.

    lines, pixels_per_line: its size in pixels. bits: of a grey level; resolution: microns per pixel; both 0 where not
    given. overlay: whether the film has an .OVERLAY.
    """

    lines: int
    pixels_per_line: int
    bits: int
    resolution: float
    overlay: bool


@dataclass(frozen=True)
class Case:
    """What a case's .ics file says: name ("A-1975-1"), films by "LEFT_CC", the other lines by their first word."""

    name: str
    views: dict[str, View]
    values: dict[str, str]

    @property
    def digitizer(self) -> str:
        """Make of the scanner: "DBA", "HOWTEK" or "LUMISYS"."""
        return self.values["DIGITIZER"].split()[0].upper()

    @property
    def patient(self) -> str:
        """The case name without its study number, so that two studies of a patient stay together."""
        return "_".join(self.name.split("-")[:2])

    @property
    def scanner(self) -> str | None:
        """The calibration in optical_density.py, or None where hospital letter and digitizer do not go together."""
        return optical_density.SCANNER.get((self.name[:1], self.digitizer))


@dataclass
class Abnormality:
    """One ABNORMALITY of an .OVERLAY: its lesion types, other values and outlines, in file order.

    An outline is (kind, points): kind "BOUNDARY", the lesion itself, or "CORE", the dense centre that some radiologists
    drew within it. `problem` says why the lesion cannot be used, "" where it can.
    """

    number: int
    lesion_types: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    outlines: list[tuple[str, np.ndarray]] = field(default_factory=list)
    problem: str = ""

    @property
    def boundary(self) -> np.ndarray | None:
        """The first BOUNDARY, (n, 2) int32 (column, row)."""
        return next((points for kind, points in self.outlines if kind == "BOUNDARY"), None)

    def descriptor(self, word: str) -> str:
        """Return the value after SHAPE or MARGINS in the MASS line, "" where there is none."""
        for lesion_type in self.lesion_types:
            if lesion_type.startswith("MASS"):
                found = re.search(rf"\b{word} (\S+)", lesion_type)
                return found[1] if found else ""
        return ""


def masses(root: Path, each: Callable = map) -> list[Mass]:
    """Find every case below `root` and return every lesion in it, usable or not, in order of mass_id.

    `each` is `map`, or the ordered map of a pool of processes. Raises InputError when `root` is missing, holds no case,
    or has a folder in it that cannot be read.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; name the folder that holds the DDSM case folders")
    folders = case_folders(root)
    found = each(_case_masses, folders)
    bar = tqdm(found, total=len(folders), desc="cases", unit="case", delay=1, disable=None)
    found = [mass for of_case in bar for mass in of_case]
    if not found:
        raise InputError(f"{root}: no .ics and .OVERLAY files below it; name the folder that holds DDSM case folders")
    return sorted(found, key=lambda mass: mass.mass_id)


def load_film(film: Film) -> np.ndarray:
    """Decode one film to uint8 (rows, columns), calibrated to optical density, dense tissue bright."""
    grey = ljpeg.decode(film.path)
    if grey.shape == (film.width, film.height):  # the header of some films has its two sizes exchanged, and no more
        grey = grey.reshape(film.height, film.width)
    if grey.shape != (film.height, film.width):
        size = f"{grey.shape[0]} x {grey.shape[1]}"
        raise InputError(f"{film.path}: film is {size} but its .ics says {film.height} x {film.width}")
    return optical_density.grey_to_8bit(grey, film.scanner)


def grey_levels(used: Iterable[Mass]) -> str:
    """Return what the 8 bits of these masses' films are, for the manifest."""
    return f"optical density {optical_density.OD_MAX} to {optical_density.OD_MIN}, by each scanner's calibration"


def read_ics(path: Path) -> Case:
    """Parse an .ics file; InputError when it names no view or no digitizer, or contradicts itself."""
    views: dict[str, View] = {}
    values: dict[str, str] = {}
    for line in filter(str.strip, _lines(path)):
        key, _, value = line.strip().partition(" ")
        if re.fullmatch(r"(LEFT|RIGHT)_(CC|MLO)", key):
            view = _view(path, key, value.split())
            if views.setdefault(key, view) != view:
                raise InputError(f"{path}: two {key} lines that differ; correct one of them")
        elif values.setdefault(key, value.strip()) != value.strip():
            raise InputError(f"{path}: two {key} lines that differ; correct one of them")
    if not views or not values.get("DIGITIZER"):
        missing = "view" if not views else "DIGITIZER"
        raise InputError(f"{path}: no {missing} line; not a DDSM case file, or damaged")
    return Case(path.stem.upper(), views, values)


def _view(path: Path, name: str, words: list[str]) -> View:
    """Parse what follows a view's name: pairs of key and value, then OVERLAY or NON_OVERLAY."""
    values = dict(zip(words[:-1:2], words[1::2], strict=False))
    try:
        lines, pixels_per_line = int(values["LINES"]), int(values["PIXELS_PER_LINE"])
        bits, resolution = int(values.get("BITS_PER_PIXEL", 0)), float(values.get("RESOLUTION", 0))
    except (KeyError, ValueError):
        raise InputError(f"{path}: the {name} line does not give LINES and PIXELS_PER_LINE as numbers") from None
    return View(lines, pixels_per_line, bits, resolution, words[-1] == "OVERLAY")


def read_overlay(path: Path) -> list[Abnormality]:
    """Parse an .OVERLAY file to its abnormalities; InputError when it holds none.

    Where fewer are there than TOTAL_ABNORMALITIES says, one more, with that problem, stands for those lost.
    """
    found: list[Abnormality] = []
    announced, outline_kind = "", ""
    for line in _lines(path):
        key, _, value = line.strip().partition(" ")
        value = " ".join(value.split())
        if key == "ABNORMALITY":
            found.append(Abnormality(int(value) if re.fullmatch(r"\d{1,9}", value) else len(found) + 1))
        elif key == "TOTAL_ABNORMALITIES":
            announced = value
        elif found and key in ("BOUNDARY", "CORE"):
            outline_kind = key
        elif found and key:
            _take(found[-1], key, value, outline_kind)
            outline_kind = ""
    if not found:
        raise InputError(f"{path}: no ABNORMALITY in it; damaged, or not a DDSM outline file")
    if re.fullmatch(r"\d{1,9}", announced) and int(announced) > len(found):
        problem = f"lost from its file: TOTAL_ABNORMALITIES is {announced}, but {len(found)} follow"
        found.append(Abnormality(len(found) + 1, problem=problem))
    return found


def _take(abnormality: Abnormality, key: str, value: str, outline_kind: str) -> None:
    """Add one line to its abnormality; `outline_kind` is "BOUNDARY" or "CORE" in the line after that word."""
    if outline_kind:
        try:
            abnormality.outlines.append((outline_kind, decode_chain(f"{key} {value}")))
        except ValueError as error:
            abnormality.problem = f"unreadable outline: {error}"
    elif key == "LESION_TYPE":
        abnormality.lesion_types.append(value)
    elif abnormality.values.setdefault(key, value) != value:
        abnormality.problem = f"contradictory: {key} is {abnormality.values[key]} and {value}"


def _lines(path: Path) -> list[str]:
    """Return a text file's lines; InputError when it cannot be read or is far too long to be one of DDSM's."""
    try:
        if not path.is_file():
            raise InputError(f"{path}: missing")
        if path.suffix.lower() == ".gz":
            raise InputError(f"{path}: compressed; gunzip it")
        if path.stat().st_size > LARGEST_TEXT:
            raise InputError(f"{path}: far too long for a DDSM text file")
        return path.read_text("latin-1").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def decode_chain(line: str) -> np.ndarray:
    """Return the (n, 2) int32 (column, row) points of "column row code code ... #"; ValueError when malformed."""
    words = line.replace("#", " # ").split()
    if "#" not in words:
        raise ValueError("no # at the end of the chain code: cut off")
    words = words[: words.index("#")]
    if len(words) < 3:
        raise ValueError("no chain code after the start point")
    try:
        start, codes = np.array(words[:2], np.int64), np.array(words[2:], np.int64)
    except (ValueError, OverflowError):
        raise ValueError("something other than numbers in the chain code") from None
    if codes.min() < 0 or codes.max() > 7:
        raise ValueError("a chain code outside 0 to 7")
    if start.min() < -FARTHEST or start.max() > FARTHEST:
        raise ValueError("a chain code that starts far from any film")
    return np.cumsum(np.vstack([start, STEPS[codes]]), axis=0, dtype=np.int32)


def filled(outline: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the mask of a closed outline, (n, 2) int32 (column, row): uint8 0/1 (height, width), its border included.

    What leaves the film is cut off.
    """
    mask = np.zeros((height, width), np.uint8)
    return cv2.fillPoly(mask, [outline], 1)


def case_folders(root: Path) -> list[tuple[Path, list[str]]]:
    """Return the folders that hold case or outline files, with the names of their files; found by one walk."""
    case_file = re.compile(r"\.(ics|overlay)(\.gz)?$", re.IGNORECASE)
    return [(folder, names) for folder, names in walk(root) if any(map(case_file.search, names))]


@limited()
def _case_masses(job: tuple[Path, list[str]]) -> list[Mass]:
    """Return the lesions of the cases in one folder (DDSM has one case per folder, but copies differ)."""
    folder, names = job
    # of X and X.gz the unpacked one, which comes last here, is taken
    files = {name.upper().removesuffix(".GZ"): folder / name for name in sorted(names, reverse=True)}
    cases: dict[str, Case | str] = {}
    for name, path in files.items():
        if name.endswith(".ICS"):
            prefix = name.removesuffix(".ICS").replace("-", "_")
            try:
                cases[prefix] = read_ics(path)
            except InputError as error:
                cases[prefix] = str(error)
    stems = {name.removesuffix(".OVERLAY") for name in files if name.endswith(".OVERLAY")}
    for prefix, case in cases.items():
        if isinstance(case, Case):
            stems |= {f"{prefix}.{view}" for view, details in case.views.items() if details.overlay}
        elif not any(stem.startswith(f"{prefix}.") for stem in stems):
            stems.add(prefix)  # a case that nothing else tells of
    found: list[Mass] = []
    for stem in sorted(stems):
        case = cases.get(stem.partition(".")[0], f"{folder}: the case has no .ics file")
        overlay, film = (files.get(name, folder / name) for name in (f"{stem}.OVERLAY", f"{stem}.LJPEG"))
        found += _view_masses(stem, case, overlay, film)
    return found


def _view_masses(stem: str, case: Case | str, overlay: Path, film_path: Path) -> list[Mass]:
    """Return the lesions of one film, "A_1975_1.LEFT_CC"; `case` is the reason where the case file is of no use."""
    prefix, _, view = stem.partition(".")
    film, reason = _film(film_path, case, view)
    patient = case.patient if isinstance(case, Case) else "_".join(prefix.split("_")[:2])
    side, _, projection = view.partition("_")
    try:
        abnormalities = read_overlay(overlay)
    except InputError as error:
        abnormalities = [Abnormality(0, problem=reason or f"unreadable outlines: {error}")]
    return [
        _mass(abnormality, film, reason, f"{stem}.{index}", patient, side, projection)
        for index, abnormality in enumerate(abnormalities, start=1)
    ]


def _film(path: Path, case: Case | str, view: str) -> tuple[Film, str]:
    """Return a view's film, and the reason why none of its lesions can be used ("" when they can).

    Only the file's header is looked at: decoding thousands of films twice would take an hour.
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
    if path.suffix.lower() == ".gz":
        return film, f"unreadable film: {path} is compressed; gunzip it"
    try:
        rows, columns, _ = ljpeg.frame_size(path)
    except InputError as error:
        return film, f"unreadable film: {error}"
    if (details.lines, details.pixels_per_line) not in ((rows, columns), (columns, rows)):
        sizes = f"{rows} x {columns}, .ics says {details.lines} x {details.pixels_per_line}"
        return film, f"film of another size: {path.name} is {sizes}"
    return film, ""


def film_of(path: Path) -> Film:
    """Return a film by the .ics of its case, which lies beside it; InputError when one of the two cannot be used."""
    film, reason = _film(path, _case_of(path), _stem(path).partition(".")[2])
    if reason:
        raise InputError(f"{path}: {reason}")
    return film


def film_masses(path: Path, overlay: Path) -> list[Mass]:
    """Return every lesion of one film, usable or not, in file order; its case's .ics lies beside the film.

    Raises InputError when film, case or outlines cannot be used, or the outlines are another film's by their name.
    """
    film_of(path)
    stem = _stem(path)
    if _stem(overlay) != stem:
        raise InputError(f"{overlay}: by its name not the outlines of {path.name}; give {stem}.OVERLAY")
    return _view_masses(stem, _case_of(path), overlay, path)


def _stem(path: Path) -> str:
    """Return a film's or its outlines' name without the ending: "A_1975_1.LEFT_CC"."""
    return path.stem.upper()


def _case_of(path: Path) -> Case:
    """Return the case of a film from the .ics beside it."""
    prefix = _stem(path).partition(".")[0]
    for beside in sorted(path.parent.iterdir()) if path.parent.is_dir() else ():
        if beside.suffix.upper() == ".ICS" and beside.stem.upper().replace("-", "_") == prefix:
            return read_ics(beside)
    raise InputError(f"{path}: no {prefix.replace('_', '-')}.ics beside it, which names film size and scanner")


def _mass(abnormality: Abnormality, film: Film, reason: str, mass_id: str, patient: str, side: str, view: str) -> Mass:
    pathology = pathology_of(abnormality.values.get("PATHOLOGY", ""))
    box, box_reason = _box(abnormality.boundary, film)
    return Mass(
        mass_id=mass_id,
        patient=patient,
        film=film,
        side=side,
        view=view,
        abnormality=abnormality.number,
        pathology=pathology,
        box=box,
        outline=abnormality.boundary,
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
    return unproven(pathology)


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
