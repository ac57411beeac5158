"""Benchmarks of building a database: worker processes, the straightforward way beside ours, memory. Synthetic films.

Each function takes the working folder and a Scale, and returns figures for JSON; times are wall-clock seconds.
"""

import math
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, groupby
from pathlib import Path

import cv2
import numpy as np
import psutil
from skimage.io import imread, imsave
from skimage.transform import resize, rotate

from data_prep.core.errors import InputError
from data_prep.core.records import Box, Film, Mass
from data_prep.database import context_crops, lmdb_io, manifest
from data_prep.database.context_crops import SIZE, Window
from data_prep.formats import ljpeg, optical_density
from data_prep.sources import ddsm
from data_prep.synthesis import ddsm_set
from scripts.benchmarks import database_build
from scripts.nets.definitions import ROOT

SAMPLING = 0.2  # seconds between two looks at the memory: a film takes half a second
SAME = 0.98  # correlation: two ways of interpolating differ by less, a crop that lost its tissue by more
BUILD = "data_prep/build_lmdb.py"


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    resolution: of the films, in microns a pixel. patients: how many are drawn. masses: in the sets whose memory is
    measured, which repeat the films of those patients. films_a_pass: cut by each pipeline. records, batches: for an
    encoding. pairs: by net, its batch and the pairs of iterations; the batches are the solvers'.
    """

    resolution: float = 43.5
    patients: int = 40
    repeats: int = 3
    masses: tuple[int, ...] = (200, 2000)
    films_a_pass: int = 12
    records: int = 1024
    batches: int = 40
    pairs: dict[str, tuple[int, int]] = field(
        default_factory=lambda: {"baseline": (64, 16), "alexnet": (256, 6), "googlenet": (32, 12)}
    )


TOY = Scale(
    resolution=250,
    patients=20,
    repeats=1,
    masses=(40, 80),
    films_a_pass=2,
    records=64,
    batches=2,
    pairs={"baseline": (4, 2), "alexnet": (4, 2), "googlenet": (2, 2)},
)


def films(work: Path, scale: Scale) -> Path:
    """Return a folder of synthetic DDSM cases, drawn unless it is there already."""
    folder = work / f"films_{scale.resolution:g}"
    ddsm_set.ensure(folder, scale.patients, resolution=scale.resolution)
    return folder


def database(work: Path, scale: Scale) -> Path:
    """Return a database built from the films, unless it is there already."""
    folder = work / f"lmdb_{scale.resolution:g}"
    if not folder.exists():
        build(films(work, scale), folder)
    return folder


def build(root: Path, out: Path, workers: int = 2) -> float:
    """Build a database by the command that a user types; return the time it took."""
    began = time.perf_counter()
    done = subprocess.run(build_command(root, out, workers), cwd=ROOT, stdout=subprocess.DEVNULL)
    check(done.returncode)
    return time.perf_counter() - began


def check(returncode: int) -> None:
    """Raise InputError when a build has failed."""
    if returncode:
        raise InputError(f"{BUILD}: failed, as it says above")


def build_command(root: Path, out: Path, workers: int) -> list[str]:
    options = {"--source": "ddsm", "--root": root.resolve(), "--out": out.resolve(), "--workers": workers}
    return [sys.executable, BUILD, *(str(word) for option in options.items() for word in option)]


def usable(root: Path) -> list[Mass]:
    """Return the masses of a set that can be used."""
    return [mass for mass in ddsm.masses(root) if not mass.reason]


def workers(work: Path, scale: Scale) -> dict:
    """Build the same database with one worker and with two, in turn."""
    root = films(work, scale)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    digests = set()
    for _ in range(scale.repeats):
        for number, times in seconds.items():
            with tempfile.TemporaryDirectory(dir=work) as folder:
                times.append(build(root, Path(folder, "lmdb"), number))
                counts = totals(Path(folder, "lmdb"))
                digests.add(manifest.read_json(Path(folder, "lmdb"))["digest"])
    (digest,) = digests  # the number of workers changes nothing
    return {
        "megapixels": megapixels(root),
        **counts,
        "digest": digest,
        "seconds": seconds,
        "ratios": ratios(seconds[1], seconds[2]),
    }


def totals(folder: Path) -> dict[str, int]:
    """Return how many films, masses and records a database has."""
    counts = manifest.read_json(folder)["counts"].values()
    return {row: sum(split[row] for split in counts) for row in ("images", "masses", "records")}


def megapixels(root: Path) -> list[float]:
    """Return the smallest, median and largest film of a set."""
    sizes = [mass.film.width * mass.film.height / 1e6 for mass in usable(root)]
    return np.quantile(sizes, [0, 0.5, 1]).tolist()


def straightforward(work: Path, scale: Scale) -> dict:
    """Cut the same 26 crops a mass our way and with scikit-image, in one process, in turn; then of other films."""
    cv2.setNumThreads(1)
    root = films(work, scale)
    of_film: dict[Film, list[Mass]] = defaultdict(list)
    for mass in usable(root):
        of_film[mass.film].append(mass)
    spread = np.linspace(0, len(of_film) - 1, scale.repeats * scale.films_a_pass).round().astype(int)
    chosen = [list(of_film.values())[place] for place in spread]
    stages: Counter[str] = Counter()
    ways = {
        "ours": partial(ours, stages=stages),
        "film enlarged": partial(with_scikit_image, enlarge=True),
        "frame kept": partial(with_scikit_image, enlarge=False),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    wrong = dict.fromkeys(list(ways)[1:], 0)
    for repeat in range(scale.repeats):
        with tempfile.TemporaryDirectory(dir=work) as folder:
            for way, cut in ways.items():
                Path(folder, way).mkdir()
                began = time.perf_counter()
                cut(chosen[repeat :: scale.repeats], Path(folder, way))
                seconds[way].append(time.perf_counter() - began)
            for way in wrong:
                wrong[way] += differing(Path(folder, "ours"), Path(folder, way))
    return {
        "megapixels": megapixels(root),
        "films": len(chosen),
        "crops": sum(len(windows(mass)) for mass in chain.from_iterable(chosen)),
        "seconds": seconds,
        "ratios": {way: ratios(times, seconds["ours"]) for way, times in seconds.items()},
        "differing": wrong,
        "stages": stages,
    }


def ratios(longer: list[float], shorter: list[float]) -> list[float]:
    """Return how many times as long the one took in each repeat."""
    return [one / other for one, other in zip(longer, shorter, strict=True)]


def differing(ours: Path, theirs: Path) -> int:
    """Return how many PNG files do not show what our record of that name does."""
    pairs = ((record.image, imread(theirs / f"{record.key}.png")) for record in lmdb_io.records(ours / "lmdb"))
    return sum(bool(np.corrcoef(our.ravel(), their.ravel())[0, 1] < SAME) for our, their in pairs)


def windows(mass: Mass) -> list[context_crops.Window]:
    """Return the 26 windows of a mass: its context, and the 25 of the training set."""
    return [
        context_crops.context_window(mass.box, "large"),
        *context_crops.augmented_windows(mass.box, "large", mass.mass_id, 1),
    ]


def ours(films: list[list[Mass]], folder: Path, stages: Counter[str]) -> None:
    """Do what a worker and the writer do with films, given by their masses (cut.cut_film, lmdb_io.write), timed."""
    packed = []
    for masses in films:
        film = masses[0].film
        with timed(stages, "decode"):
            grey = ljpeg.decode(film.path)
        with timed(stages, "calibrate"):
            image = optical_density.grey_to_8bit(grey, film.scanner)
        for mass in masses:
            for window in windows(mass):
                with timed(stages, "warp"):
                    crop = context_crops.warp(image, film, window)
                with timed(stages, "encode"):
                    packed.append(lmdb_io.pack(lmdb_io.Record(f"{mass.mass_id}_{window.name}", mass.label, crop)))
    with timed(stages, "write"):
        lmdb_io.write(folder / "lmdb", packed, context_crops.SIZE, len(packed))


def with_scikit_image(films: list[list[Mass]], folder: Path, enlarge: bool) -> None:
    """Cut the crops the straightforward way, mass by mass, into PNG files; `enlarge`: see naive_crops.cut."""
    for mass in chain.from_iterable(films):
        grey = ljpeg.decode(mass.film.path)
        image = optical_density.to_8bit(optical_density.optical_density(grey, mass.film.scanner))
        for window, crop in zip(
            windows(mass), database_build.cut(image, mass.box, windows(mass), enlarge), strict=True
        ):
            imsave(folder / f"{mass.mass_id}_{window.name}.png", crop, check_contrast=False)


@contextmanager
def timed(seconds: Counter[str], stage: str) -> Iterator[None]:
    """Add the time that the block takes."""
    began = time.perf_counter()
    yield
    seconds[stage] += time.perf_counter() - began


def memory(work: Path, scale: Scale) -> dict:
    """Build sets of very different length; return the peak memory of all processes together, in MB."""
    root = films(work, scale)
    film = 2 * max(mass.film.height * mass.film.width for mass in usable(root)) / 1e6  # 16 bits a pixel
    runs = []
    for wanted in scale.masses:
        with tempfile.TemporaryDirectory(dir=work) as folder:
            repeat_cases(root, Path(folder, "films"), wanted)
            began = time.perf_counter()
            peaks = peak_memory(build_command(Path(folder, "films"), Path(folder, "lmdb"), 2))
            runs.append(totals(Path(folder, "lmdb")) | {"seconds": time.perf_counter() - began} | peaks)
    crops_of_mass = 26 * context_crops.SIZE**2 / 1e6
    return {
        "megapixels": megapixels(root),
        "bound": 2 * (film + crops_of_mass) + 300,
        "film": film,
        "crops": crops_of_mass,
        "runs": runs,
    }


def repeat_cases(root: Path, out: Path, masses: int) -> None:
    """Link the cases of `root` into `out` over and over, each time as other patients, for about so many masses."""
    of_patient = Counter(mass.patient for mass in usable(root))
    total = sum(of_patient.values())
    for number in range(1, math.ceil(masses / total) + 1):
        for case in sorted(root.glob("cases/*")):
            if masses <= 0:
                return
            folder = out / f"copy{number}" / case.name
            folder.mkdir(parents=True)
            for path in case.iterdir():
                # A-5001-1.ics and A_5001_1.LEFT_CC.LJPEG: the second word is the patient
                name = re.sub(r"(?<=^\w[-_])\d+", rf"{number}\g<0>", path.name)
                (folder / name).symlink_to(path.resolve())
            masses -= of_patient["_".join(next(case.glob("*.ics")).stem.split("-")[:2])]


def peak_memory(command: list[str]) -> dict:
    """Run a command; return the peaks, in MB, of its main process and of it with all its children.

    PSS, so that a page which several processes share is counted once.
    """
    peaks: Counter[str] = Counter()
    with psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as main:
        while main.poll() is None:
            sizes = [pss(process) for process in [main, *main.children(recursive=True)]]
            peaks |= Counter(all=sum(sizes), main=sizes[0], largest_child=max(sizes[1:], default=0))
            time.sleep(SAMPLING)
    check(main.returncode)
    return {name: size / 1e6 for name, size in peaks.items()}


def pss(process: psutil.Process) -> int:
    """Return a process's share of the memory in bytes; 0 when it has ended."""
    try:
        return process.memory_full_info().pss
    except psutil.Error:
        return 0


def cut(image: np.ndarray, box: Box, windows: list[Window], enlarge: bool) -> Iterator[np.ndarray]:
    """Yield the windows of one mass as uint8 (227, 227), in order.

    `image` is the film, uint8 (rows, columns) at the full resolution that `box` and `windows` are measured in; windows
    of one angle must stand together, as crops.augmented_windows returns them. A turned film needs more room; unless
    it is given (`enlarge`), what is carried out of the frame is lost, and crops near the film's edge are wrong.
    """
    for angle, same_angle in groupby(windows, key=lambda window: window.angle):
        turned, origin = image, np.zeros(2)
        if angle:
            middle = np.array(box.centre) - 0.5  # scikit-image's pixel i has its centre at i, ours at i + 0.5
            turned = rotate(image, angle, enlarge, middle, mode="reflect", preserve_range=True)
            if enlarge:
                rows, columns = image.shape
                corners = np.array([(0, 0), (columns - 1, 0), (0, rows - 1), (columns - 1, rows - 1)])
                origin = _turn(corners, middle, angle).min(axis=0)
        for window in same_angle:
            x, y = _turn(np.array([(window.x, window.y)]), np.array(box.centre), angle)[0] - origin
            crop = resize(_square(turned, x, y, window.side), (SIZE, SIZE), anti_aliasing=True, preserve_range=True)
            yield np.rint(crop).astype(np.uint8)


def _turn(points: np.ndarray, middle: np.ndarray, angle: float) -> np.ndarray:
    """Return where points (n, 2) come to lie when the film is turned back by `angle` degrees about its `middle`."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return middle + (points - middle) @ np.array([[cos, -sin], [sin, cos]])


def _square(image: np.ndarray, x: float, y: float, side: float) -> np.ndarray:
    """Return the square about a point, to whole pixels; mirrored where it leaves the image."""
    side = round(side)
    left, top = round(x - side / 2), round(y - side / 2)
    inside = image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    rows, columns = image.shape
    before, after = (max(-top, 0), max(-left, 0)), (max(top + side - rows, 0), max(left + side - columns, 0))
    return np.pad(inside, list(zip(before, after, strict=True)), mode="reflect")
