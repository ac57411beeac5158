"""The synthetic set as DDSM ships its cases: .ics, .OVERLAY and .LJPEG files."""

import json
import os
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data_prep.core.errors import InputError
from data_prep.core.files import atomic_folder, pasted, walk
from data_prep.core.json_files import read_json
from data_prep.core.process_pool import worker_pool
from data_prep.formats import ljpeg
from data_prep.sources import cbis_ddsm, ddsm
from data_prep.synthesis import breast_phantom
from data_prep.synthesis import lesions as lesion_shapes
from data_prep.synthesis.lesions import Lesion

DEFAULTS = {"patients": 120, "seed": 1, "resolution": 100.0, "masses": 1}
EXAMPLE = 2**31  # a seed beyond those that can be typed
DRAWING = 1
"""Number of the drawing: raise it when the pictures change, so that a set of the old ones is not taken for the new."""
RECORD = "synthetic.json"
FILM_TYPE = "SYNTHETIC"  # where DDSM's case files say REGULAR
OUTLINE_STEP_MM = 0.2  # DDSM's outlines were drawn on reduced films: their chain codes come in runs
PREDICTOR = 7  # one that only the PVRG codec decodes rightly (see ljpeg.py), so that the set proves the reader


@dataclass(frozen=True)
class Scanner:
    """A digitizer at a hospital: case letter, DIGITIZER line, bits, noise (in optical density).

    `grey` gives grey levels from optical density, the inverse of the calibration in optical_density.py.
    """

    letter: str
    digitizer: str
    bits: int
    noise: float
    grey: Callable[[np.ndarray], np.ndarray]


SCANNERS = (
    Scanner("A", "DBA 21", 16, 0.004, lambda density: 10 ** (4.80662 - 1.07553 * density)),
    Scanner("A", "HOWTEK 43.5", 12, 0.006, lambda density: (3.789 - density) / 0.00094568),
    Scanner("B", "LUMISYS LASER", 12, 0.003, lambda density: 4096.99 - 1009.01 * density),
    Scanner("C", "LUMISYS LASER", 12, 0.003, lambda density: 4096.99 - 1009.01 * density),
    Scanner("D", "HOWTEK 43.5", 12, 0.006, lambda density: (3.96604095240593 - density) / 0.00099055807612),
)


def ensure(
    folder: Path,
    patients: int | None = None,
    seed: int | None = None,
    resolution: float | None = None,
    workers: int | None = None,
    masses: int | None = None,
) -> bool:
    """Make a synthetic set with these parameters unless `folder` holds it; return whether it had to be made.

    A parameter left out is whatever the set there has, or its default when there is none yet. `resolution` is in
    microns per pixel, `masses` is how many a patient nearly always has. InputError when the folder holds something else
    or a parameter makes no sense.
    """
    wanted = {"patients": patients, "seed": seed, "resolution": resolution, "masses": masses, "drawing": DRAWING}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if folder.exists():
        there = DEFAULTS | read_record(folder)
        if any(there.get(name) != value for name, value in wanted.items()):
            raise InputError(
                f"{folder}: holds the set {_words(there)}, not {_words(wanted)}; "
                f"remove it (rm -r {pasted(folder)}) or choose another folder"
            )
        return False
    wanted = DEFAULTS | wanted
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    if not (
        1 <= wanted["patients"] <= 4999
        and wanted["seed"] >= 0
        and 40 <= wanted["resolution"] <= 400
        and 1 <= wanted["masses"] <= 4
        and workers > 0
    ):
        raise InputError(
            f"cannot make a set of {_words(wanted)} with {workers} workers: patients 1 to 4999, seed 0 or more, "
            f"resolution 40 to 400, masses 1 to 4, workers 1 or more"
        )
    _make(folder, wanted, workers)
    return True


def is_synthetic(root: Path) -> bool:
    """Whether any case file, or CSV of CBIS-DDSM's kind, in or below `root` is of a synthetic set.

    It says so itself, wherever it was moved or linked to.
    """
    paths = [folder / name for folder, names in walk(root) for name in names] if root.is_dir() else []
    return any(
        _film_type(path) == FILM_TYPE
        if path.suffix.lower() == ".ics"
        else path.match(cbis_ddsm.CSV_NAMES) and FILM_TYPE in path.read_text("latin-1")
        for path in paths
    )


def _film_type(path: Path) -> str:
    try:
        return ddsm.read_ics(path).values.get("FILM_TYPE", "")
    except InputError:
        return ""  # the reader will list the case with what is wrong in it


def read_record(folder: Path) -> dict:
    """Return the parameters of the set in a folder; InputError where it holds no whole one."""
    try:
        return read_json(folder / RECORD)
    except InputError:
        raise InputError(
            f"{folder}: exists but holds no whole synthetic set (no sound {RECORD}); remove it or choose another folder"
        ) from None


def _words(parameters: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in parameters.items())


def _make(folder: Path, parameters: dict, workers: int) -> None:
    """Write the whole set; nothing appears under `folder` before it is whole."""
    ljpeg.codec()  # say at once if it is not there
    with atomic_folder(folder) as working, worker_pool(workers) as pool:
        jobs = [
            pool.submit(write_case, working, index, *(parameters[name] for name in ("seed", "resolution", "masses")))
            for index in range(parameters["patients"])
        ]
        for job in tqdm(as_completed(jobs), total=len(jobs), desc=folder.name, unit="patient", disable=None):
            job.result()
        (working / "README.txt").write_text(README)
        (working / RECORD).write_text(json.dumps(parameters, indent=1) + "\n")


def write_case(root: Path, index: int, seed: int, resolution: float, masses: int = 1) -> None:
    """Draw patient `index` of the set and write the case folder; it depends on these arguments alone.

    Pathologies and scanners go round in turn, so that even a small set has every kind.
    """
    rng = np.random.default_rng([seed, index])
    (film_rng,) = rng.spawn(1)  # for what depends on the film's size, so that the patient is the same at any resolution
    scanner = SCANNERS[index % len(SCANNERS)]
    side = str(rng.choice(["LEFT", "RIGHT"]))
    anatomy = breast_phantom.draw_anatomy(rng)
    lesions = draw_lesions(bool(index % 2), masses, rng)
    name = f"{scanner.letter}-{5001 + index}-1"
    folder = root / "cases" / f"case{index + 1:04d}"
    folder.mkdir(parents=True)
    seen_in = rng.choice(["both", "CC", "MLO"], p=[0.75, 0.125, 0.125])
    depths: list[float | None] = [None] * len(lesions)
    views = []
    for projection in ("CC", "MLO"):
        stem = f"{name.replace('-', '_')}.{side}_{projection}"
        view = breast_phantom.draw_view(anatomy, projection, rng)
        outlines = _draw_lesions(view, lesions, depths, rng) if seen_in in ("both", projection) else []
        film = breast_phantom.develop(view, anatomy, side, resolution / 1000, film_rng)
        ljpeg.encode(digitize(film, scanner, film_rng), folder / f"{stem}.LJPEG", scanner.bits, PREDICTOR)
        if outlines:
            pixels = [_on_film(outline, side, film.shape, resolution / 1000) for outline in outlines]
            step = max(1, round(OUTLINE_STEP_MM / resolution * 1000))
            chains = [chain_code(outline, film.shape, step) for outline in pixels]
            (folder / f"{stem}.OVERLAY").write_text(overlay(lesions, chains))
        views.append((f"{side}_{projection}", film.shape, bool(outlines)))
    _write_ics(folder / f"{name}.ics", scanner, anatomy.density, views, resolution, rng)


def draw_example(root: Path) -> Path:
    """Draw the case folder of a patient who is in no set; return the .OVERLAY of a film of it that shows a mass."""
    index, found = 0, []
    while not found:
        index += 1  # the first is malignant
        write_case(root, index, EXAMPLE, DEFAULTS["resolution"])
        found = [path for path in sorted(root.rglob("*.OVERLAY")) if "LESION_TYPE MASS" in path.read_text()]
    return found[0]


def draw_lesions(malignant: bool, masses: int, rng: np.random.Generator) -> list[Lesion]:
    """A patient's abnormalities: nearly always one mass, sometimes a second, an unproven one, or calcifications.

    More `masses` than one are benign and malignant in turn, independently drawn: a set of many masses on few films.
    """
    lesions = [lesion_shapes.draw_mass(rng, malignant)]
    if rng.uniform() < 0.04:
        lesions[0] = lesion_shapes.unproven(lesions[0])
    if rng.uniform() < 0.08:
        lesions.append(lesion_shapes.draw_mass(rng, bool(rng.uniform() < (0.8 if malignant else 0.1))))
    if rng.uniform() < 0.06:
        lesions.append(lesion_shapes.draw_calcification(rng))
    if rng.uniform() < 0.03:
        lesions[0] = lesion_shapes.draw_calcification(rng)
    lesions += [lesion_shapes.draw_mass(rng, malignant != bool(number % 2)) for number in range(1, masses)]
    return lesions


def _draw_lesions(
    view: breast_phantom.View, lesions: list[Lesion], depths: list[float | None], rng: np.random.Generator
) -> list[np.ndarray]:
    """Place and draw the lesions in a view, noting their distance from the nipple for the other; their outlines."""
    taken, outlines = [], []
    for number, each in enumerate(lesions):
        centre = lesion_shapes.place(view, each, depths[number], taken, rng)
        depths[number] = float(np.hypot(centre[0] - view.nipple[0], centre[1] - view.nipple[1]))
        taken.append((*centre, each.diameter / 2))
        outlines.append(lesion_shapes.draw(view, each, centre, rng))
    return outlines


def digitize(density: np.ndarray, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Read a film, float32 optical density, as the scanner's grey levels: uint16 of its bits, with its noise."""
    noise = np.float32(scanner.noise) * rng.standard_normal(density.shape, np.float32)
    grey = scanner.grey(np.maximum(density + noise, 0))
    return np.rint(np.clip(grey, 1, 2**scanner.bits - 1)).astype(np.uint16)


def _on_film(outline: np.ndarray, side: str, shape: tuple[int, int], resolution: float) -> np.ndarray:
    """Outline points as column and row of a film; they are given in mm of a view with its chest wall on the left."""
    points = outline / resolution
    return points if side == "LEFT" else [shape[1] - 1, 0] + points * [-1, 1]


def overlay(lesions: list[Lesion], chains: list[str]) -> str:
    """Text of a film's .OVERLAY, an outline for each lesion."""
    lines = [f"TOTAL_ABNORMALITIES {len(lesions)}"]
    for number, (each, chain) in enumerate(zip(lesions, chains, strict=True), start=1):
        lines.append(f"ABNORMALITY {number} ")
        if each.calcification:
            lines.append(f"LESION_TYPE CALCIFICATION {each.calcification}")
        if each.is_mass:
            lines.append(f"LESION_TYPE MASS SHAPE {each.shape} MARGINS {each.margins}")
        lines += [f"ASSESSMENT {each.assessment} ", f"SUBTLETY {each.subtlety} ", f"PATHOLOGY {each.pathology}"]
        lines += ["TOTAL_OUTLINES 1 ", "BOUNDARY", chain]
    return "\n".join(lines) + "\n"


def chain_code(points: np.ndarray, shape: tuple[int, int], step: int) -> str:
    """A closed outline, (n, 2) column and row, as DDSM's chain code "column row  code code ... #".

    The outline is cut at the film's edge and drawn on a film reduced `step` times: each code then comes `step` times.
    """
    mask = np.zeros([n // step for n in shape], np.uint8)
    cv2.fillPoly(mask, [np.rint(points / step).astype(np.int32)], 1)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = max(contours, key=len)[:, 0]
    moves = np.roll(contour, -1, axis=0) - contour
    codes = (moves[:, None] == ddsm.STEPS).all(axis=2).argmax(axis=1)
    column, row = contour[0] * step
    return f"{column} {row}  " + " ".join(map(str, np.repeat(codes, step))) + " #"


def _write_ics(
    path: Path,
    scanner: Scanner,
    density: int,
    views: list[tuple[str, tuple[int, int], bool]],
    resolution: float,
    rng: np.random.Generator,
) -> None:
    day, month, year = rng.integers(1, 29), rng.integers(1, 13), rng.integers(1990, 1998)
    lines = [
        "ics_version 1.0",
        f"filename {path.stem}",
        f"DATE_OF_STUDY {day} {month} {year}",
        f"PATIENT_AGE {int(np.clip(rng.normal(58, 12), 32, 88))}",
        "FILM",
        f"FILM_TYPE {FILM_TYPE}",
        f"DENSITY {density}",
        f"DATE_DIGITIZED {day} {month} {year + 3}",
        f"DIGITIZER {scanner.digitizer}",
        "SEQUENCE",
    ]
    for view, (rows, columns), outlined in views:
        lines.append(
            f"{view} LINES {rows} PIXELS_PER_LINE {columns} BITS_PER_PIXEL {scanner.bits} "
            f"RESOLUTION {resolution:g} {'OVERLAY' if outlined else 'NON_OVERLAY'}"
        )
    path.write_text("\n".join(lines) + "\n")


README = """\
SYNTHETIC mammograms, drawn from random numbers: no patient's data, no medical meaning.

Case folders in the format of the Digital Database for Screening Mammography, made by data_prep/synthetic.py with the
parameters in synthetic.json. Differences from DDSM: FILM_TYPE says SYNTHETIC; a case has the two films of one breast,
where DDSM has both breasts; films are coarser (RESOLUTION, in microns) unless asked otherwise.
"""
