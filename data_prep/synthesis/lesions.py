"""The lesions of the synthetic set: a radiologist's description of each, and its look on a view.

Pathology is drawn first, then descriptors given the pathology, then a picture from the descriptors, so that the two
classes overlap as they do in life: some benign masses are ill-defined or even spiculated, some cancers circumscribed.
Lengths are in millimetres, positions (x, y) in a view of breast_phantom.py.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from data_prep.synthesis.breast_phantom import GRID, View, smooth_noise

MARGINS = ("CIRCUMSCRIBED", "OBSCURED", "MICROLOBULATED", "ILL_DEFINED", "SPICULATED")
SHAPE_AND_MARGINS = {
    "MALIGNANT": {
        "ROUND": (2, 1, 2, 14, 14),
        "OVAL": (6, 10, 15, 16, 24),
        "LOBULATED": (16, 10, 31, 22, 7),
        "IRREGULAR": (0, 4, 9, 83, 151),
        "ARCHITECTURAL_DISTORTION": (0, 0, 0, 12, 25),
    },
    "BENIGN": {
        "ROUND": (28, 25, 4, 3, 0),
        "OVAL": (79, 70, 15, 24, 0),
        "LOBULATED": (79, 59, 13, 15, 0),
        "IRREGULAR": (0, 10, 0, 35, 3),
        "ARCHITECTURAL_DISTORTION": (0, 0, 0, 6, 6),
    },
}
"""How often each shape (row) and margin (column, as in MARGINS) goes with a pathology: the counts of the single
descriptors in CBIS-DDSM's published list of mass training cases. Sizes and subtleties are as usual there too."""

IRREGULAR = ("IRREGULAR", "ARCHITECTURAL_DISTORTION")

SIZE = {"MALIGNANT": (16.0, 0.36), "BENIGN": (14.5, 0.32)}
"""Median diameter and the deviation of its logarithm."""

CONTRAST = {1: 0.15, 2: 0.21, 3: 0.28, 4: 0.36, 5: 0.46}
"""Attenuation that a mass adds, by SUBTLETY (5 is obvious), where fat of full thickness has 1."""

SOFTNESS = {"CIRCUMSCRIBED": 0.35, "OBSCURED": 0.6, "MICROLOBULATED": 0.5, "ILL_DEFINED": 1.6, "SPICULATED": 1.0}
"""Width over which a mass fades at its edge."""


@dataclass(frozen=True)
class Lesion:
    """One abnormality as the .OVERLAY describes it, with what both views share of its look."""

    pathology: str
    assessment: int
    subtlety: int
    diameter: float
    shape: str = ""
    margins: str = ""
    calcification: str = ""  # TYPE and DISTRIBUTION words of a calcification line; may go with a mass
    contrast: float = 0.0  # attenuation that a mass adds
    spicules: float = 0.0  # reach of the longest beyond the body's edge, as a share of its radius

    @property
    def is_mass(self) -> bool:
        """A calcification without a mass has no shape."""
        return bool(self.shape)


def draw_mass(rng: np.random.Generator, malignant: bool) -> Lesion:
    """Draw a mass's pathology, descriptors and measures."""
    group = "MALIGNANT" if malignant else "BENIGN"
    table = SHAPE_AND_MARGINS[group]
    weights = np.array(list(table.values()), float).ravel()
    shape, margins = divmod(rng.choice(weights.size, p=weights / weights.sum()), len(MARGINS))
    shape, margins = list(table)[shape], MARGINS[margins]
    median, spread = SIZE[group]
    diameter = float(np.clip(median * np.exp(spread * rng.standard_normal()), 8, 35))
    subtlety = int(rng.choice([1, 2, 3, 4, 5], p=[0.05, 0.08, 0.18, 0.29, 0.40]))
    pathology = group if malignant or rng.uniform() > 0.15 else "BENIGN_WITHOUT_CALLBACK"
    spicules = {"SPICULATED": rng.uniform(0.6, 1.6), "ILL_DEFINED": max(0.0, rng.uniform(-0.6, 0.6))}.get(margins, 0.0)
    if shape == "ARCHITECTURAL_DISTORTION":
        spicules += 0.5
    calcification = _calcification(rng) if rng.uniform() < (0.2 if malignant else 0.05) else ""
    contrast = CONTRAST[subtlety] * rng.uniform(0.85, 1.15) * (1.08 if malignant else 1.0)
    assessment = _assessment(pathology, margins, rng)
    return Lesion(pathology, assessment, subtlety, diameter, shape, margins, calcification, contrast, spicules)


def _assessment(pathology: str, margins: str, rng: np.random.Generator) -> int:
    """Draw the BI-RADS category that a radiologist gave before the biopsy."""
    if pathology == "BENIGN_WITHOUT_CALLBACK":
        return int(rng.choice([2, 3]))
    if pathology == "BENIGN":
        return int(rng.choice([0, 3, 4], p=[0.2, 0.3, 0.5]))
    highly_suspicious = {"SPICULATED": 0.85, "ILL_DEFINED": 0.45}.get(margins, 0.1)
    return 5 if rng.uniform() < highly_suspicious else 4


def draw_calcification(rng: np.random.Generator) -> Lesion:
    """Draw a cluster of calcifications without a mass."""
    pathology = str(rng.choice(["MALIGNANT", "BENIGN"]))
    subtlety = int(rng.integers(2, 6))
    return Lesion(pathology, 4, subtlety, rng.uniform(8, 20), calcification=_calcification(rng))


def _calcification(rng: np.random.Generator) -> str:
    return f"TYPE {rng.choice(['PLEOMORPHIC', 'AMORPHOUS', 'PUNCTATE'])} DISTRIBUTION CLUSTERED"


def unproven(lesion: Lesion) -> Lesion:
    """The same lesion without a biopsy."""
    return replace(lesion, pathology="UNPROVEN", assessment=3)


def place(
    view: View,
    lesion: Lesion,
    depth: float | None,
    taken: list[tuple[float, float, float]],
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Choose a lesion's centre (x, y) in a view: inside the breast, clear of skin, chest wall and other lesions.

    `depth` is its distance from the nipple in the breast's other view, which a second view shows too; glandular
    tissue is preferred, where most lesions arise. `taken` holds (x, y, radius) of the lesions already there.
    """
    radius = lesion.diameter / 2
    rows, columns = view.skin.shape
    x = rng.uniform(radius + 3, columns * GRID - radius - 3, 600)
    y = rng.uniform(radius + 8, rows * GRID - radius - 8, 600)
    at = (y / GRID).astype(int), (x / GRID).astype(int)
    room = view.skin[at] - radius - 4
    for other_x, other_y, other_radius in taken:
        room = np.minimum(room, np.hypot(x - other_x, y - other_y) - radius - other_radius - 6)
    wish = 0.2 * view.gland[at] - view.muscle[at] + 0.5 * rng.uniform(size=600)
    if depth is not None:
        wish -= np.abs(np.hypot(x - view.nipple[0], y - view.nipple[1]) - depth) / 8
    best = np.argmax(np.where(room > 0, wish, room - 1000))
    return float(x[best]), float(y[best])


def draw(view: View, lesion: Lesion, centre: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Draw a lesion into a view's attenuation; return the outline a radiologist would draw, (n, 2) float mm x, y."""
    radius = lesion.diameter / 2 * rng.uniform(0.92, 1.08)
    angles = np.linspace(-np.pi, np.pi, 360, endpoint=False)
    edge = _body(lesion, radius, angles, rng) if lesion.is_mass else radius * _harmonics(angles, 0.15, 5, rng)
    window, x, y = _window(view, centre, radius * (2.2 + lesion.spicules) + 6)
    distance, angle = np.hypot(x, y), np.arctan2(y, x)
    if lesion.is_mass:
        if lesion.spicules > 0.3:
            _pull_in(view, window, distance / radius, 0.25 * min(lesion.spicules, 1.2))
        reach = np.interp(angle, angles, edge, period=2 * np.pi)
        added = _mass(lesion, reach, distance, angle, rng)
        if lesion.spicules:
            added += _spicules(lesion, edge, x, y, rng) * (1 - np.clip(added, 0, 1))
        view.attenuation[window] += lesion.contrast * added * view.thickness[window]
    if lesion.calcification:
        _add_specks(view, centre, 0.7 * radius, rng)
    drawn = edge * rng.uniform(1.03, 1.18) * _harmonics(angles, 0.04, 12, rng) + 0.6
    return np.stack([centre[0] + drawn * np.cos(angles), centre[1] + drawn * np.sin(angles)], axis=1)


def _harmonics(angles: np.ndarray, amount: float, highest: int, rng: np.random.Generator) -> np.ndarray:
    """A closed wavy factor around 1, smoother for few harmonics."""
    return 1 + amount * sum(
        rng.standard_normal() / k**0.8 * np.cos(k * angles + rng.uniform(0, 2 * np.pi)) for k in range(2, highest)
    )


def _body(lesion: Lesion, radius: float, angles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Distance of a mass's edge from its centre at each angle, by its shape and margins."""
    turn = rng.uniform(0, 2 * np.pi)
    aspect = {"ROUND": 0.95, "OVAL": rng.uniform(0.6, 0.8)}.get(lesion.shape, rng.uniform(0.7, 0.95))
    edge = radius / np.hypot(np.cos(angles - turn), np.sin(angles - turn) / aspect)
    uneven = angles + 0.3 * np.sin(angles + turn) + 0.15 * np.sin(2 * angles - turn)
    if lesion.shape == "LOBULATED":
        edge *= 0.85 + rng.uniform(0.15, 0.3) * np.abs(np.cos(rng.integers(2, 5) / 2 * uneven + turn)) ** 0.8
    edge *= _harmonics(angles, 0.11 if lesion.shape in IRREGULAR else 0.025, 9, rng)
    if lesion.margins == "MICROLOBULATED":
        edge *= 0.95 + 0.09 * np.abs(np.cos(rng.integers(9, 14) / 2 * uneven))
    return np.clip(edge, 0.45 * radius, 1.6 * radius)


def _window(view: View, centre: tuple[float, float], half: float) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """(slices of the view around a lesion, x, y): x and y in mm from its centre."""
    rows, columns = view.attenuation.shape
    x0, x1 = (int(np.clip((centre[0] + side * half) / GRID, 0, columns)) for side in (-1, 1))
    y0, y1 = (int(np.clip((centre[1] + side * half) / GRID, 0, rows)) for side in (-1, 1))
    y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32) * GRID
    return (slice(y0, y1), slice(x0, x1)), x - centre[0], y - centre[1]


def _pull_in(view: View, window: tuple[slice, slice], distance: np.ndarray, strength: float) -> None:
    """Draw the tissue round a spiculated mass towards it; `distance` from its centre in radii."""
    row, column = map(np.float32, np.unravel_index(np.argmin(distance), distance.shape))
    scale = 1 + np.float32(strength) * np.exp(-np.square(distance / 1.8)).astype(np.float32)
    y, x = np.indices(distance.shape, np.float32)
    from_x, from_y = column + (x - column) * scale, row + (y - row) * scale
    tissue = view.attenuation[window]
    view.attenuation[window] = cv2.remap(tissue, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _mass(
    lesion: Lesion, reach: np.ndarray, distance: np.ndarray, angle: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The mass's body: a dome within the edge, sharp or soft as its margins say; 1 at a round mass's centre."""
    irregular = lesion.shape in IRREGULAR
    inside = reach - distance
    soft = SOFTNESS[lesion.margins] * rng.uniform(0.8, 1.4)
    if lesion.margins == "OBSCURED":  # by the tissue over a part of its edge
        soft = soft + 3 * np.clip(np.cos(angle - rng.uniform(0, 2 * np.pi)), 0, 1)
    if irregular or lesion.margins == "ILL_DEFINED":
        inside = inside + 0.12 * reach.mean() * smooth_noise(distance.shape, 0.5 * float(reach.mean()), rng)
    dome = np.sqrt(np.clip(1 - np.square(distance / reach), 0, 1))
    body = (0.6 + 0.4 * dome) / (1 + np.exp(-np.clip(inside / soft, -30, 30)))
    if lesion.shape == "ARCHITECTURAL_DISTORTION":
        body *= 0.35
    body *= 1 + (0.16 if irregular else 0.07) * smooth_noise(distance.shape, 3, rng)
    if lesion.margins == "CIRCUMSCRIBED" and rng.uniform() < 0.5:  # the halo of a mass that pushes fat aside
        body -= 0.12 * np.exp(-np.square((inside + 1.2) / 0.7))
    return body.astype(np.float32)


def _spicules(lesion: Lesion, edge: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bent, tapering strands that run from within the body into the tissue around, as a share of its contrast."""
    fine = 2  # drawn this much finer than the grid, for thin tips
    canvas = np.zeros((x.shape[0] * fine, x.shape[1] * fine), np.float32)
    origin = np.array([x[0, 0], y[0, 0]])
    steps = np.linspace(0, 1, 12)
    # Strands come in sheaves, few of them long: an even star is no cancer's picture.
    sheaves = rng.uniform(-np.pi, np.pi, 7)
    number = int(rng.integers(12, 32) * min(1.0, 0.4 + lesion.spicules))
    for angle in rng.choice(sheaves, number) + rng.normal(0, 0.3, number):
        base = np.interp(angle, np.linspace(-np.pi, np.pi, edge.size, endpoint=False), edge, period=2 * np.pi)
        length = base * lesion.spicules * rng.beta(1.5, 1.8)
        along = 0.3 * base + steps * (0.7 * base + length)
        bent = angle + rng.normal(0, 0.12) * steps + rng.normal(0, 0.10) * steps**2
        line = np.stack([along * np.cos(bent), along * np.sin(bent)], axis=1)
        side = np.stack([-np.sin(bent), np.cos(bent)], axis=1) * (rng.uniform(0.25, 0.9) * (1 - 0.8 * steps))[:, None]
        strand = np.concatenate([line + side, (line - side)[::-1]])
        mask = np.zeros(canvas.shape, np.uint8)
        points = np.rint((strand - origin) / GRID * fine * 16).astype(np.int32)
        cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, shift=4)
        canvas = np.maximum(canvas, mask * np.float32(rng.uniform(0.35, 1.0) / 255))
    canvas = cv2.GaussianBlur(canvas, (0, 0), 0.3 / GRID * fine)
    canvas = cv2.resize(canvas, x.shape[::-1], interpolation=cv2.INTER_AREA)
    mean = edge.mean()
    return canvas * np.exp(-np.clip(np.hypot(x, y) - mean, 0, None) / (1.2 * lesion.spicules * mean))


def _add_specks(view: View, centre: tuple[float, float], spread: float, rng: np.random.Generator) -> None:
    """A cluster of calcifications: bright specks of 0.2 to 0.6 mm."""
    for _ in range(rng.integers(6, 20)):
        at = np.array(centre) + rng.normal(0, spread / 2, 2)
        window, x, y = _window(view, tuple(at), 2.0)
        size = rng.uniform(0.10, 0.30)
        view.attenuation[window] += rng.uniform(0.2, 0.6) * np.exp(-(x**2 + (y * rng.uniform(0.6, 1.6)) ** 2) / size**2)
