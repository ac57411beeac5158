"""The breast and the film of the synthetic set: mammogram-like pictures drawn from random numbers.

No patient's data and no trained model enter. A view is drawn as an X-ray attenuation map on a fixed grid, in
millimetres, chest wall on the left: compressed thickness x (fat + fibroglandular tissue + strands + masses), with the
pectoral muscle in an MLO view. Tissue has the power-law texture that real mammograms have (Burgess, Jacobson and Judy,
Medical Physics 28, 2001: power falling as about the cube of spatial frequency). A film's characteristic curve then
turns attenuation into optical density, and grain is added at the resolution of the digitizer.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import fft

GRID = 0.16
"""Millimetres a grid point: finer than anything but grain, and a tenth of the work of a film at full resolution."""

PARENCHYMA = {1: (0.6, -0.5, 14), 2: (0.8, -0.2, 11), 3: (1.0, 0.1, 8), 4: (1.2, 0.5, 6)}
"""By density category: spread of the glandular tissue, its level, and the fat under the skin in mm."""


@dataclass(frozen=True)
class Anatomy:
    """The anatomy that both views share. Lengths in mm; `density` is the BI-RADS category, 1 (fatty) to 4."""

    density: int
    depth: float  # chest wall to nipple
    width: float  # of the breast along the chest wall
    strands: float  # how much the septa and ducts stand out
    grain: float  # film noise, in optical density


@dataclass
class View:
    """A breast's attenuation map on the grid and where things are in it; arrays are float32 (rows, columns)."""

    projection: str
    attenuation: np.ndarray
    thickness: np.ndarray  # compressed thickness as a share of the full one, 0 outside the breast
    skin: np.ndarray  # mm from the skin, 0 outside the breast
    gland: np.ndarray  # share of fibroglandular tissue
    muscle: np.ndarray  # share of pectoral muscle
    nipple: tuple[float, float]  # x, y in mm


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw a woman's breast; the density categories occur about as often as in DDSM."""
    return Anatomy(
        density=int(rng.choice([1, 2, 3, 4], p=[0.18, 0.42, 0.28, 0.12])),
        depth=rng.uniform(62, 110),
        width=rng.uniform(125, 185),
        strands=rng.uniform(0.7, 1.3),
        grain=rng.uniform(0.010, 0.022),
    )


def draw_view(anatomy: Anatomy, projection: str, rng: np.random.Generator) -> View:
    """Draw the breast without lesions, "CC" or "MLO", on a film just large enough for it."""
    depth = anatomy.depth * rng.uniform(0.95, 1.05)
    height = rng.uniform(205, 240)
    shape = round(height / GRID), round((depth + rng.uniform(18, 50)) / GRID)
    y, x = np.indices(shape, np.float32) * GRID
    outline = _cc_outline if projection == "CC" else _mlo_outline
    edge, nipple = outline(y[:, 0], depth, anatomy.width, height, rng)
    skin = _distance_inside(x < edge[:, None])
    roll = rng.uniform(14, 24)  # the compressed breast is flat, and round only this near its skin
    ratio = np.clip(skin / roll, 0, 1)
    thickness = np.sqrt(ratio * (2 - ratio))
    gland, strands = _parenchyma(anatomy, x, y, skin, nipple, rng)
    tissue = 1 + 0.52 * gland + anatomy.strands * strands
    tissue += 0.05 * power_law(shape, 3.0, rng)
    attenuation = thickness * tissue
    attenuation += 0.10 * np.exp(-np.square((skin - 0.7) / 0.6)) * (skin > 0)
    muscle = _muscle(x, y, rng) if projection == "MLO" else np.zeros(shape, np.float32)
    fibres = 0.04 * power_law(shape, 2.5, rng)
    attenuation += thickness * muscle * (rng.uniform(0.45, 0.8) * (1 - 0.25 * y / height) + fibres)
    attenuation += 0.06 * power_law(shape, 4.0, rng) * np.clip(skin / 3, 0, 1)
    return View(projection, attenuation.astype(np.float32), thickness, skin, gland, muscle, nipple)


def power_law(shape: tuple[int, int], exponent: float, rng: np.random.Generator, longest: float = 60.0) -> np.ndarray:
    """Gaussian field of power 1 / frequency ** exponent, mean 0, deviation 1, float32; flat beyond `longest` mm."""
    padded = tuple(fft.next_fast_len(n, real=True) for n in shape)
    spectrum = fft.rfft2(rng.standard_normal(padded, dtype=np.float32))
    fy, fx = np.fft.fftfreq(padded[0], GRID), np.fft.rfftfreq(padded[1], GRID)
    frequency = np.sqrt(np.square(fy)[:, None] + np.square(fx)).astype(np.float32)
    spectrum *= np.maximum(frequency, 1 / longest) ** np.float32(-exponent / 2)
    field = fft.irfft2(spectrum, padded)[: shape[0], : shape[1]]
    return (field - field.mean()) / field.std()


def smooth_noise(shape: tuple[int, int], wavelength: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth Gaussian field with structure of about `wavelength` mm; deviation 1, float32."""
    step = wavelength / 4 / GRID
    coarse = rng.standard_normal([int(n / step) + 6 for n in shape], dtype=np.float32)
    coarse = cv2.GaussianBlur(coarse, (0, 0), 1.0)
    coarse /= coarse.std()
    matrix = np.float32([[1 / step, 0, 2], [0, 1 / step, 2]])
    return cv2.warpAffine(coarse, matrix, shape[::-1], flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)


def _distance_inside(mask: np.ndarray) -> np.ndarray:
    """Millimetres from the skin; the breast goes on beyond the film's edges."""
    pad = 200
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), pad, pad, pad, 0, cv2.BORDER_REPLICATE)
    return cv2.distanceTransform(padded, cv2.DIST_L2, 5)[pad:-pad, pad:] * np.float32(GRID)


def _wobble(y: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Return a contour's slow deviation from its ideal curve, in mm."""
    return sum(amount / k * np.sin(2 * np.pi * (k * y / 150 + rng.uniform())) for k in (1, 2, 3, 5))


def _nipple_bump(y: np.ndarray, at: float, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.5, 5) * np.exp(-(np.square((y - at) / rng.uniform(3, 5)) ** 2))


def _cc_outline(
    y: np.ndarray, depth: float, width: float, height: float, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[float, float]]:
    """x of the skin for each row of a CC view, and the nipple: half an oval on the chest wall."""
    nipple = height * rng.uniform(0.45, 0.55)
    half = np.where(y < nipple, width / 2 * rng.uniform(0.9, 1.1), width / 2 * rng.uniform(0.9, 1.1))
    along = np.clip(np.abs(y - nipple) / half, 0, 1)
    edge = depth * (1 - along ** rng.uniform(2.0, 2.7)) ** rng.uniform(0.5, 0.7)
    edge = np.where(along < 1, edge + _wobble(y, 1.0, rng) + _nipple_bump(y, nipple, rng), -5)
    return edge.astype(np.float32), (float(depth), float(nipple))


def _mlo_outline(
    y: np.ndarray, depth: float, width: float, height: float, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[float, float]]:
    """x of the skin for each row of an MLO view, and the nipple: from the armpit down to the fold below the breast."""
    nipple = height * rng.uniform(0.52, 0.64)
    fold = min(nipple + width * rng.uniform(0.40, 0.48), height * 0.95)
    top = depth * rng.uniform(0.35, 0.6)
    above = np.clip(y / nipple, 0, 1)
    upper = top + (depth - top) * np.sin(np.pi / 2 * above ** rng.uniform(1.1, 1.6)) ** rng.uniform(1.0, 1.3)
    below = np.clip((y - nipple) / (fold - nipple), 0, 1)
    lower = depth * (1 - below ** rng.uniform(2.0, 2.6)) ** rng.uniform(0.5, 0.7)
    edge = np.where(y < nipple, upper, lower) + _wobble(y, 1.0, rng) + _nipple_bump(y, nipple, rng)
    belly = rng.uniform(0, 6) * np.clip((y - fold + 3) / 15, 0, 1) - 3 * (y > fold)
    return np.where(y < fold, np.maximum(edge, belly), belly).astype(np.float32), (float(depth), float(nipple))


def _parenchyma(
    anatomy: Anatomy,
    x: np.ndarray,
    y: np.ndarray,
    skin: np.ndarray,
    nipple: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """(gland, strands): share of fibroglandular tissue, 0 to 1, and the fine ducts and septa, as attenuation."""
    shape = x.shape
    spread, level, rim = PARENCHYMA[anatomy.density]
    # Tissue runs towards the nipple: sample noise that is drawn out along the radius from a point beyond it.
    apex_x, apex_y = nipple[0] + 12, nipple[1]
    dx, dy = x - apex_x, y - apex_y
    radius = np.sqrt(dx * dx + dy * dy)
    angle = np.arctan2(dy, -dx)
    bend = [3.5 * smooth_noise(shape, 55, rng) + 0.6 * smooth_noise(shape, 8, rng) for _ in range(2)]

    def drawn_out(field: np.ndarray, stretch: float) -> np.ndarray:
        u = (radius + bend[0]) / (stretch * GRID)
        v = (angle * 55 + bend[1]) / GRID + field.shape[0] / 2
        return cv2.remap(field, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)

    centre_x, centre_y = nipple[0] * rng.uniform(0.45, 0.6), nipple[1] + rng.uniform(-12, 6)
    oval = np.hypot((x - centre_x) / (0.50 * nipple[0] * spread), (y - centre_y) / (0.30 * anatomy.width * spread))
    base = 0.75 - oval + 0.30 * drawn_out(power_law(shape, 3.0, rng), 1.8) + 0.15 * power_law(shape, 2.6, rng)
    gland = 1 / (1 + np.exp(-np.clip((base + level) / 0.16, -30, 30)))
    gland *= np.clip((skin - rim / 3) / rim, 0, 1)

    strands = np.zeros(shape, np.float32)
    for wavelength, weight, stretch in ((8, 0.4, 2.2), (4, 0.4, 2.0), (2, 0.35, 1.8)):
        ridge = np.exp(-np.square(drawn_out(smooth_noise(shape, wavelength, rng), stretch) / 0.28))
        strands += weight * (ridge - ridge.mean())
    septa = np.zeros(shape, np.float32)
    for wavelength, weight in ((24, 0.6), (14, 0.5), (8, 0.4)):
        septa += weight * np.exp(-np.square(smooth_noise(shape, wavelength, rng) / 0.13))
    patchy = np.clip(0.7 + 0.4 * smooth_noise(shape, 25, rng), 0.1, 2)
    strands = patchy * (strands * (0.07 + 0.13 * gland) + 0.08 * septa)
    gland *= 0.82 + 0.18 * drawn_out(power_law(shape, 2.6, rng), 1.5)
    return gland.astype(np.float32), strands


def _muscle(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The pectoral muscle, 0 to 1: a wedge from the upper corner, its edge a little bowed."""
    top, foot = rng.uniform(32, 58), rng.uniform(95, 160)
    along = np.clip(y / foot, 0, 1)
    border = top * (1 - along) + rng.uniform(-2, 7) * np.sin(np.pi * along) + _wobble(y, 0.7, rng)
    inside = 1 / (1 + np.exp(-np.clip((border - x) / rng.uniform(0.6, 1.6), -30, 30)))
    return (inside * np.clip((1 - y / foot) * 8, 0, 1)).astype(np.float32)


def develop(view: View, anatomy: Anatomy, side: str, resolution: float, rng: np.random.Generator) -> np.ndarray:
    """Expose and develop a view on film: optical density, float32 (rows, columns) at `resolution` mm per pixel.

    side: "LEFT" has its chest wall on the left, "RIGHT" on the right, as DDSM's films lie.
    """
    rows, columns = (round(n * GRID / resolution) for n in view.attenuation.shape)
    density = _characteristic_curve(view.attenuation, darkest=rng.uniform(2.8, 3.2))
    density = cv2.resize(density, (columns, rows), interpolation=cv2.INTER_CUBIC)
    if side == "RIGHT":
        density = np.ascontiguousarray(density[:, ::-1])
    # Grain counts the less, the larger the spot that the digitizer reads (Selwyn's law); it is given for 0.1 mm.
    grain = cv2.GaussianBlur(rng.standard_normal(density.shape, np.float32), (0, 0), 0.5)
    density += grain * np.float32(1.8 * anatomy.grain * 0.1 / resolution)
    _mark(density, view, side, resolution, rng)
    _dust(density, resolution, rng)
    return density


def _characteristic_curve(attenuation: np.ndarray, darkest: float) -> np.ndarray:
    """Optical density of the film behind tissue of this attenuation, where fat of full thickness has 1.

    An S from `darkest`, behind nothing, down to the film's base; its steep middle lies where fat is.
    """
    base, slope, middle = 0.15, 2.5, 1.02
    fall = (1 + np.exp(-slope * middle)) / (1 + np.exp(slope * (attenuation - middle)))
    return (base + (darkest - base) * fall).astype(np.float32)


def _mark(density: np.ndarray, view: View, side: str, resolution: float, rng: np.random.Generator) -> None:
    """Burn the label ("R MLO") into the dark, clear of the breast, and leave some films a clear edge."""
    text = f"{side[0]}{rng.choice(['', ' '])}{view.projection}"
    scale = rng.uniform(5.5, 7.5) / resolution / 22  # the font is 22 pixels high at scale 1
    font, thick, pad = cv2.FONT_HERSHEY_DUPLEX, max(1, round(0.8 / resolution)), round(2 / resolution)
    (width, height), _ = cv2.getTextSize(text, font, scale, thick)
    patch = np.full((height + 2 * pad, width + 2 * pad), rng.uniform(2.2, 2.8), np.float32)
    cv2.putText(patch, text, (pad, height + pad), font, scale, rng.uniform(0.3, 1.0), thick, cv2.LINE_AA)
    patch = cv2.GaussianBlur(patch, (0, 0), 0.15 / resolution)
    rows, columns = density.shape
    breast = cv2.resize((view.skin > 0).astype(np.uint8), (columns, rows), interpolation=cv2.INTER_NEAREST)
    breast = breast[:, ::-1] if side == "RIGHT" else breast
    gap = round(5 / resolution)
    x = gap if side == "RIGHT" else columns - gap - patch.shape[1]
    for y in (gap, rows - gap - patch.shape[0]):
        spot = slice(y, y + patch.shape[0]), slice(max(x, 0), x + patch.shape[1])
        if x >= 0 and not breast[spot].any():
            density[spot] = np.minimum(density[spot], patch)
            break
    if rng.uniform() < 0.4:
        strip = round(rng.uniform(0.5, 3) / resolution)
        edge = slice(0, strip) if rng.uniform() < 0.5 else slice(rows - strip, rows)
        density[edge] = np.minimum(density[edge], rng.uniform(0.2, 0.5))


def _dust(density: np.ndarray, resolution: float, rng: np.random.Generator) -> None:
    """Dust on the film or in the digitizer: a few pale specks."""
    rows, columns = density.shape
    for _ in range(rng.poisson(6)):
        at = int(rng.integers(columns)), int(rng.integers(rows))
        radius = max(1, round(rng.uniform(0.05, 0.15) / resolution))
        cv2.circle(density, at, radius, float(density[at[1], at[0]]) * rng.uniform(0.5, 0.8), cv2.FILLED)
