"""Which square of the film a crop is, and which pixel lands where."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.core.records import Box, Film
from data_prep.database import context_crops
from data_prep.database.context_crops import Window, augmented_windows, context_window, warp

FILM = Film(Path("film"), 1000, 1500)


def to_window(window: Window, x: float, y: float) -> tuple[float, float]:
    """Where a point of the film lies in a window, 0 to 1 in both directions, by plain trigonometry."""
    angle = math.radians(window.angle)
    dx, dy = x - window.x, y - window.y
    u = dx * math.cos(angle) + dy * math.sin(angle)
    v = -dx * math.sin(angle) + dy * math.cos(angle)
    return u / window.side + 0.5, v / window.side + 0.5


def corners(box: Box) -> list[tuple[float, float]]:
    return [(x, y) for x in (box.x0, box.x1) for y in (box.y0, box.y1)]


def test_small_context_is_the_box_and_50_pixels_on_each_side():
    assert context_window(Box(100, 200, 300, 260), "small") == Window(200, 230, 300)


def test_large_context_is_twice_the_longer_side_about_the_same_centre():
    assert context_window(Box(100, 200, 300, 260), "large") == Window(200, 230, 400)


@pytest.mark.parametrize("context", context_crops.CONTEXTS)
@pytest.mark.parametrize("box", [Box(400, 700, 460, 720), Box(100, 100, 700, 650), Box(0, 0, 90, 300)])
def test_rotated_mass_stays_inside_every_crop(context, box):
    for seed in range(20):
        for window in augmented_windows(box, context, "mass", seed):
            places = np.array([to_window(window, *corner) for corner in corners(box)])
            assert places.min() >= -1e-9
            assert places.max() <= 1 + 1e-9


def test_crops_stay_within_the_rotated_context_square():
    box = Box(400, 700, 460, 720)
    region = context_window(box, "large")
    for window in augmented_windows(box, "large", "mass", 1):
        turned = Window(region.x, region.y, region.side, window.angle)
        half = window.side / 2
        angle = math.radians(window.angle)
        for u, v in [(-half, -half), (half, -half), (-half, half), (half, half)]:
            x = window.x + u * math.cos(angle) - v * math.sin(angle)
            y = window.y + u * math.sin(angle) + v * math.cos(angle)
            assert all(-1e-9 <= place <= 1 + 1e-9 for place in to_window(turned, x, y))


def test_augmentation_is_5_rotations_of_5_different_crops_over_the_whole_circle():
    windows = [w for i in range(40) for w in augmented_windows(Box(400, 700, 480, 760), "large", f"mass{i}", 1)]
    assert len(windows) == 40 * 25
    assert len({w.angle for w in windows}) == 40 * 5
    assert len(set(windows)) == len(windows)
    quarters = np.histogram([w.angle for w in windows], bins=4, range=(0, 360))[0]
    assert quarters.min() > 0.15 * len(windows)


def test_crops_differ_even_where_a_turned_mass_needs_more_than_its_context():
    windows = augmented_windows(Box(100, 100, 700, 700), "small", "mass", 1)
    assert len(set(windows)) == len({(window.side, window.angle) for window in windows}) == 25


def test_crops_depend_on_seed_and_mass_alone():
    box = Box(400, 700, 480, 760)
    assert augmented_windows(box, "large", "a", 1) == augmented_windows(box, "large", "a", 1)
    assert augmented_windows(box, "large", "a", 1) != augmented_windows(box, "large", "b", 1)
    assert augmented_windows(box, "large", "a", 1) != augmented_windows(box, "large", "a", 2)


@pytest.mark.parametrize("angle", [0, 30, 90, 200.5])
@pytest.mark.parametrize("side", [150, 227, 600])
def test_a_spot_on_the_film_lands_where_the_geometry_says(angle, side):
    image = np.zeros((1500, 1000), np.uint8)
    spot = (530, 690)
    cv2.circle(image, spot, 6, 255, -1)
    window = Window(510.0, 700.0, side, angle)
    crop = warp(image, FILM, window).astype(float)
    rows, columns = np.indices(crop.shape)
    found = ((columns + 0.5) * crop).sum() / crop.sum(), ((rows + 0.5) * crop).sum() / crop.sum()
    expected = np.array(to_window(window, spot[0] + 0.5, spot[1] + 0.5)) * context_crops.SIZE
    assert found == pytest.approx(expected, abs=0.25)


def test_an_upright_window_of_the_output_size_is_the_films_own_pixels():
    image = np.random.default_rng(0).integers(0, 256, (1500, 1000), np.uint8)
    crop = warp(image, FILM, Window(400 + 113.5, 600 + 113.5, 227))
    assert np.array_equal(crop, image[600:827, 400:627])


def test_shrinking_takes_the_mean_of_the_area():
    """Factor 4 exactly: a fine checkerboard, which point sampling would turn to moire, becomes even grey."""
    image = (np.indices((1500, 1000)).sum(0) % 2 * 255).astype(np.uint8)
    crop = warp(image, FILM, Window(500, 700, 227 * 4))
    assert np.abs(crop.astype(int) - 127.5).max() <= 1
    coarse = np.random.default_rng(0).integers(0, 256, (1500, 1000), np.uint8)
    x0, y0 = 20, 100
    window = Window(x0 + 454, y0 + 454, 908)
    expected = coarse[y0 : y0 + 908, x0 : x0 + 908].reshape(227, 4, 227, 4).mean((1, 3))
    assert np.abs(warp(coarse, FILM, window) - expected).max() <= 1


def test_a_squashed_image_gets_its_films_proportions_back():
    """A disc on a 1000 x 1500 film that was stored as 500 x 500 is a disc again."""
    film = np.zeros((1500, 1000), np.uint8)
    cv2.circle(film, (500, 700), 120, 255, -1)
    stored = cv2.resize(film, (500, 500), interpolation=cv2.INTER_AREA)
    crop = warp(stored, FILM, Window(500.5, 700.5, 480))
    ys, xs = np.nonzero(crop > 127)
    assert np.ptp(xs) == pytest.approx(240 / 480 * 227, abs=2)
    assert np.ptp(ys) == pytest.approx(240 / 480 * 227, abs=2)


def test_outside_the_film_its_own_pixels_are_mirrored():
    image = np.random.default_rng(0).integers(0, 256, (1500, 1000), np.uint8)
    crop = warp(image, FILM, Window(0 + 13.5, 700.5, 227))  # 100 columns hang over the left edge
    assert np.array_equal(crop[:, 99::-1][:, :60], crop[:, 101:161])
