"""Make a set of fractals to pre-train nets on, for a machine that cannot have ImageNet weights.

    python data_prep/fractals.py                             # data/fractals: 100 categories, 20,000 + 1,000 images
    python data_prep/fractals.py --out data/few --categories 10 --images 500 --seed 2

After Kataoka et al., "Pre-training without Natural Images" (ACCV 2020, arXiv 2101.08515): a category is an iterated
function system, a few random affine maps that shrink the plane; its images show the system's attractor with the maps'
parameters jittered, turned and mirrored. Theirs are binary; these are as bright as points are dense, so that there is
texture beside the edges. The folder holds the LMDBs train/ and val/ (128 x 128, labelled with the category), examples
in sheet.png, and manifest.json. The same arguments give the same digest, whatever the number of workers. A folder that
holds the very set asked for is left as it is.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data_prep import lmdb_io, manifest, provenance
from data_prep.mass import InputError, run
from data_prep.new_folder import new_folder
from data_prep.workers import worker_pool

DEFAULT = Path("data/fractals")
DEFAULTS = {"categories": 100, "images": 20_000, "seed": 1}
VAL_SHARE = 20  # a validation image to so many training images, of each category

SIZE, MARGIN = 128, 4  # pixels
MAPS = range(2, 9)  # of a system, as in the article
JITTER = 0.8, 1.2  # factors of a map's parameters, as in the article
FILLING = 0.2  # of the frame's pixels, at least, hold a point: the article's threshold
WALKERS, STEPS, FIRST = (
    4096,
    45,
    15,
)  # of the chaos game; points count from step FIRST on, when they are on the attractor
SHEET = 12, 8  # categories and images of each on sheet.png
SHEET_NAME = "sheet.png"
SOURCE = "fractals"
CHUNK = 100  # images a job


def main() -> None:
    args = parse_args()
    made = ensure(args.out, args.categories, args.images, args.seed, args.workers)
    print(
        f"{args.out}: {args.images:,} images, {'finished' if made else 'already there'}; "
        f"next: python scripts/pretrain.py --net alexnet --data {args.out}"
    )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DEFAULT, help=f"folder (default: {DEFAULT})")
    for name, default in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: cores)")
    return parser.parse_args()


def ensure(
    folder: Path,
    categories: int | None = None,
    images: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
) -> bool:
    """See to it that `folder` holds a whole set with these parameters; True when it had to be made.

    A parameter left out is whatever the set there has, or its default when there is none yet. `images` are those for
    training, shared out evenly over the categories (a remainder is dropped). InputError when the folder holds
    something else or a parameter makes no sense.
    """
    wanted = {"categories": categories, "images": images, "seed": seed}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if folder.exists():
        there = manifest.read_json(folder)
        if there.get("source") != SOURCE or any(there[name] != value for name, value in wanted.items()):
            raise InputError(
                f"{folder}: holds another set ({manifest.JSON}); remove it (rm -r {folder}) or name another"
            )
        return False
    wanted = DEFAULTS | wanted
    if not (2 <= wanted["categories"] <= wanted["images"] and wanted["seed"] >= 0):
        raise InputError("a set of fractals has 2 categories or more, an image of each or more, and a seed from 0 on")
    with new_folder(folder) as working, worker_pool(workers or len(os.sched_getaffinity(0))) as pool:
        _make(working, **wanted, pool=pool)
    return True


def _make(folder: Path, categories: int, images: int, seed: int, pool: Executor) -> None:
    """Fill `folder`; manifest.json comes last."""
    drawn = pool.map(draw_category, [seed] * categories, range(categories))
    systems = list(tqdm(drawn, total=categories, desc="systems", disable=None))
    each = {"train": images // categories, "val": max(images // categories // VAL_SHARE, 1)}
    fingerprints = {
        f"{split}/{key}": sha
        for split, number in each.items()
        for key, sha in write(folder / split, systems, number, seed, pool).items()
    }
    cv2.imwrite(str(folder / SHEET_NAME), sheet(systems, seed, each["train"]))
    content = {
        "source": SOURCE,
        **{"categories": categories, "images": images, "seed": seed},
        "counts": {split: number * categories for split, number in each.items()},
        "commit": provenance.commit(),
        "versions": provenance.versions("numpy", "opencv-python-headless", "lmdb"),
        "digest": lmdb_io.digest(fingerprints),
    }
    manifest.write_json(folder, content)


def draw_category(seed: int, category: int) -> np.ndarray:
    """Return a category's system: the first of its random ones whose picture fills enough of the frame.

    A system is (n, 2, 3) float32: each map takes (x, y) to map[:, :2] @ (x, y) + map[:, 2].
    """
    rng = np.random.default_rng([seed, category])
    while True:
        system = draw_system(rng)
        if filling(histogram(play(system, rng))) >= FILLING:
            return system


def draw_system(rng: np.random.Generator) -> np.ndarray:
    """Return random affine maps, all parameters uniform in -1..1 (as in the article), each of them contractive."""
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
    jittered[:, :, :2] /= np.maximum(norms / 0.99, 1)[:, None, None]
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


def draw_image(system: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one picture of a category, (SIZE, SIZE) uint8: jittered, turned, mirrored, its brightness varied."""
    points = play(jitter(system, rng), rng)
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    turn[0] *= rng.choice([-1, 1])
    counts = cv2.GaussianBlur(histogram(turn @ points).astype(np.float32), (0, 0), 0.6)
    density = np.log1p(counts)
    return np.minimum(density / density.max() * rng.uniform(160, 255), 255).astype(np.uint8)


def image_of(seed: int, split: str, category: int, instance: int, system: np.ndarray) -> np.ndarray:
    """Return an image of the set; it depends on these arguments alone."""
    return draw_image(system, np.random.default_rng([seed, split == "val", category, instance]))


def write(folder: Path, systems: list[np.ndarray], each: int, seed: int, pool: Executor) -> dict[str, bytes]:
    """Write the LMDB `folder`, named train or val: `each` images of every system, shuffled; return fingerprints."""
    total = len(systems) * each
    order = np.random.default_rng([seed, folder.name == "val"]).permutation(total)
    jobs = [
        [(index, category, instance, systems[category]) for index, category, instance in chunk]
        for chunk in _chunks([(index, *divmod(int(place), each)) for index, place in enumerate(order)])
    ]

    def packed() -> Iterator[lmdb_io.Packed]:
        with tqdm(total=total, desc=folder.name, unit="image", disable=None) as bar:
            for records in pool.map(draw_records, [seed] * len(jobs), [folder.name] * len(jobs), jobs):
                yield from records
                bar.update(len(records))

    return lmdb_io.write(folder, packed(), SIZE, total)


def draw_records(seed: int, split: str, jobs: list[tuple[int, int, int, np.ndarray]]) -> list[lmdb_io.Packed]:
    """Draw and pack images, each given by its place in the set, category, instance and system."""
    return [
        lmdb_io.pack(
            lmdb_io.Record(
                lmdb_io.key_of(index, f"c{category}i{instance}"),
                category,
                image_of(seed, split, category, instance, system),
            )
        )
        for index, category, instance, system in jobs
    ]


def _chunks(items: list) -> Iterator[list]:
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


def sheet(systems: list[np.ndarray], seed: int, each: int) -> np.ndarray:
    """Return training images of the first categories, a category a row."""
    rows, columns = SHEET[0], min(SHEET[1], each)
    return np.vstack(
        [
            np.hstack([image_of(seed, "train", category, instance, system) for instance in range(columns)])
            for category, system in enumerate(systems[:rows])
        ]
    )


if __name__ == "__main__":
    sys.exit(run(main))
