"""Fractals: attractors of iterated function systems, drawn by the chaos game.

After Kataoka et al., "Pre-training without Natural Images" (ACCV 2020, arXiv 2101.08515). A system is (n, 2, 3)
float32: n affine maps that shrink the plane, each taking (x, y) to map[:, :2] @ (x, y) + map[:, 2]. A point sent
through maps taken at random ends on the system's attractor and visits all of it. The article's pictures are binary;
these are as bright as points are dense, so that there is texture beside the edges.
"""

import cv2
import numpy as np

SIZE, MARGIN = 128, 4  # pixels
MAPS = range(2, 9)  # of a system, as in the article
JITTER = 0.8, 1.2  # least and greatest factor of a parameter, as in the article
LARGEST_NORM = 0.99  # of a map's matrix after the jitter
FILLING = 0.2  # of the frame's pixels must hold a point: a threshold of the article's
WALKERS, STEPS = 4096, 45  # of the chaos game
FIRST = 15  # step from which on points count: earlier ones are on their way to the attractor
SOFTNESS = 0.6  # pixels: standard deviation of the Gaussian that a point is drawn as
BRIGHTEST = 160, 255  # range of a picture's brightest grey level


def draw_system(rng: np.random.Generator) -> np.ndarray:
    """Return a random system whose picture fills enough of the frame."""
    while True:
        system = random_maps(rng)
        if filling(histogram(play(system, rng))) >= FILLING:
            return system


def random_maps(rng: np.random.Generator) -> np.ndarray:
    """Return a system with all parameters uniform in -1..1, as in the article, and every map contractive."""
    maps = []
    number = rng.choice(MAPS)
    while len(maps) < number:
        candidate = rng.uniform(-1, 1, (2, 3)).astype(np.float32)
        if np.linalg.norm(candidate[:, :2], 2) < 1:
            maps.append(candidate)
    return np.array(maps)


def jitter(system: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the system with each of the six parameters multiplied by a factor of its own, one for all maps.

    A map that no longer contracts is shrunk until it does.
    """
    jittered = system * rng.uniform(*JITTER, (2, 3)).astype(np.float32)
    norms = np.linalg.norm(jittered[:, :, :2], 2, axis=(1, 2))
    jittered[:, :, :2] /= np.maximum(norms / LARGEST_NORM, 1)[:, None, None]
    return jittered


def play(system: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return points (2, n) float32 of the system's attractor by the chaos game, many walkers at once.

    A map is taken as often as its determinant's share of all (as in the article), so that its part of the attractor is
    about as dense as the others'.
    """
    shares = np.abs(np.linalg.det(system[:, :, :2])) + 1e-3  # a flat map counts a little as well
    lots = np.searchsorted(np.cumsum(shares / shares.sum())[:-1], (np.arange(256) + 0.5) / 256)  # drawn as bytes: fast
    chosen = rng.integers(0, 256, (STEPS, WALKERS), np.uint8)
    parameters = system.reshape(-1, 6).T.copy()
    x, y = np.zeros((2, WALKERS), np.float32)
    points = np.empty((2, STEPS, WALKERS), np.float32)
    for step, which in enumerate(chosen):
        a, b, e, c, d, f = parameters.take(lots[which], axis=1)
        x, y = points[:, step] = a * x + b * y + e, c * x + d * y + f
    return points[:, FIRST:].reshape(2, -1)


def histogram(points: np.ndarray) -> np.ndarray:
    """Return how many of the points (2, n) fall on each pixel, (SIZE, SIZE) int64, the frame fitted to them."""
    low, high = points.min(axis=1, keepdims=True), points.max(axis=1, keepdims=True)
    scale = (SIZE - 2 * MARGIN - 1) / max(float((high - low).max()), 1e-6)
    columns, rows = np.rint((points - (low + high) / 2) * np.float32(scale) + np.float32((SIZE - 1) / 2))
    return np.bincount((rows * SIZE + columns).astype(np.intp), minlength=SIZE * SIZE).reshape(SIZE, SIZE)


def filling(counts: np.ndarray) -> float:
    """Return the share of pixels that hold a point."""
    return np.count_nonzero(counts) / counts.size


def draw_picture(system: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a picture of a system, (SIZE, SIZE) uint8: jittered, turned, mirrored, its brightness varied."""
    points = play(jitter(system, rng), rng)
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    turn[0] *= rng.choice([-1, 1])
    counts = cv2.GaussianBlur(histogram(turn @ points).astype(np.float32), (0, 0), SOFTNESS)
    density = np.log1p(counts)
    return np.minimum(density / density.max() * rng.uniform(*BRIGHTEST), 255).astype(np.uint8)
