"""Grey level -> optical density -> 8 bit, for the four scanners of DDSM."""

import numpy as np
import pytest

from data_prep import density


@pytest.mark.parametrize(
    ("scanner", "grey", "expected"),
    [
        ("DBA MGH", 10_000, 0.74998),  # (log10(10000) - 4.80662) / -1.07553
        ("HOWTEK MGH", 2000, 1.89764),
        ("LUMISYS WFU", 3000, 1.08719),
        ("HOWTEK ISMD", 2000, 1.98492),
    ],
)
def test_calibration_gives_the_published_density(scanner, grey, expected):
    assert density.optical_density(np.array([grey]), scanner)[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("scanner", density.CALIBRATION)
def test_density_is_finite_clipped_and_falls_with_grey_level_over_all_16_bits(scanner):
    densities = density.optical_density(np.arange(1 << 16), scanner)
    assert densities.min() == density.OD_MIN
    assert densities.max() == density.OD_MAX
    assert (np.diff(densities) <= 0).all()


def test_dense_tissue_is_bright():
    assert density.to_8bit(np.array([density.OD_MIN, density.OD_MAX])).tolist() == [255, 0]


@pytest.mark.parametrize("scanner", density.CALIBRATION)
def test_table_equals_the_formula_at_the_ends_of_the_grey_range(scanner):
    grey = np.array([[0, 1, 2048], [4095, 65534, 65535]], np.uint16)
    expected = density.to_8bit(density.optical_density(grey, scanner))
    assert np.array_equal(density.grey_to_8bit(grey, scanner), expected)
