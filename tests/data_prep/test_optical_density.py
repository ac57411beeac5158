"""Grey level -> optical density -> 8 bit, for the four scanners of DDSM."""

import numpy as np
import pytest

from data_prep.formats import optical_density


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
    assert optical_density.optical_density(np.array([grey]), scanner)[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("scanner", optical_density.CALIBRATION)
def test_density_is_finite_clipped_and_falls_with_grey_level_over_all_16_bits(scanner):
    densities = optical_density.optical_density(np.arange(1 << 16), scanner)
    assert densities.min() == optical_density.OD_MIN
    assert densities.max() == optical_density.OD_MAX
    assert (np.diff(densities) <= 0).all()


def test_dense_tissue_is_bright():
    assert optical_density.to_8bit(np.array([optical_density.OD_MIN, optical_density.OD_MAX])).tolist() == [255, 0]


@pytest.mark.parametrize("scanner", optical_density.CALIBRATION)
def test_table_equals_the_formula_at_the_ends_of_the_grey_range(scanner):
    grey = np.array([[0, 1, 2048], [4095, 65534, 65535]], np.uint16)
    expected = optical_density.to_8bit(optical_density.optical_density(grey, scanner))
    assert np.array_equal(optical_density.grey_to_8bit(grey, scanner), expected)


@pytest.mark.parametrize("number", ["u1", "<u2", ">u2", "i2", "i4", "f4", "f8"])
def test_a_stretched_film_runs_from_0_to_255_whatever_its_number_type(number):
    stretched = optical_density.stretch_to_8bit(np.array([[20, 22], [71, 122]], number))
    assert stretched.dtype == np.uint8
    assert stretched.tolist() == [[0, 5], [128, 255]]


def test_a_film_of_one_value_or_none_is_stretched_to_black():
    for value in (0, 4095, np.nan, np.inf):
        assert not optical_density.stretch_to_8bit(np.full((2, 3), value, np.float32)).any()


def test_values_that_are_no_numbers_do_not_spoil_a_stretched_film():
    film = np.array([[np.nan, 10, 20, 30, np.inf, -np.inf]], np.float32)
    assert optical_density.stretch_to_8bit(film).tolist() == [[0, 0, 128, 255, 255, 0]]
