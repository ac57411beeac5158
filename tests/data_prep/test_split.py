"""Patients into training, validation and test set."""

from collections import Counter
from pathlib import Path

import pytest

from data_prep.core.errors import InputError
from data_prep.core.records import Box, Film, Mass
from data_prep.database.split import Fold, fold_patients, parse_fold, read_split, split_patients, write_split


def make_mass(patient: str, number: int, pathology: str) -> Mass:
    film = Film(Path(f"{patient}.png"), 100, 100)
    return Mass(f"{patient}.{number}", patient, film, "LEFT", "CC", number, pathology, Box(10, 10, 50, 50))


@pytest.fixture
def masses() -> list[Mass]:
    """997 patients with 1,820 masses, as many as the paper has images: 1 to 3 each, some of both classes."""
    found = []
    for index in range(997):
        for number in range(1 + (index % 6 != 0) - (index % 13 == 0) + (index % 90 == 1)):
            malignant = (index + (number if index % 50 == 0 else 0)) % 2
            found.append(make_mass(f"P{index:04}", number, "MALIGNANT" if malignant else "BENIGN"))
    return found


def counts(masses, split):
    return {name: Counter(m.label for m in masses if split[m.patient] == name) for name in ("train", "val", "test")}


@pytest.mark.parametrize("seed", range(10))
def test_validation_and_test_hold_a_tenth_each_exactly_balanced(masses, seed):
    split = split_patients(masses, seed)
    table = counts(masses, split)
    half = round(len(masses) * 0.05)
    assert table["val"] == table["test"] == {0: half, 1: half}
    assert set(split) == {mass.patient for mass in masses}


def test_a_larger_test_set_is_balanced_too_and_leaves_validation_a_tenth(masses):
    table = counts(masses, split_patients(masses, 1, test_share=0.25))
    val, test = (round(len(masses) * share / 2) for share in (0.1, 0.25))
    assert table["val"] == {0: val, 1: val} and table["test"] == {0: test, 1: test}


def test_same_seed_gives_the_same_split_whatever_the_order(masses):
    assert split_patients(masses, 3) == split_patients(masses[::-1], 3)
    assert split_patients(masses, 3) != split_patients(masses, 4)


def test_each_patient_is_in_one_set(masses):
    split = split_patients(masses, 1)
    sets = [{m.patient for m in masses if split[m.patient] == name} for name in ("train", "val", "test")]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])


@pytest.mark.parametrize("number", [0, 1, 9, 11])
def test_too_few_patients_is_a_clear_error(masses, number):
    with pytest.raises(InputError, match="too few patients"):
        split_patients(masses[:number], 1)


def test_one_class_only_is_a_clear_error():
    with pytest.raises(InputError, match="both classes"):
        split_patients([make_mass(f"P{i}", 1, "BENIGN") for i in range(100)], 1)


def test_split_survives_a_file(masses, tmp_path):
    split = split_patients(masses, 1)
    write_split(tmp_path / "split.csv", split)
    assert read_split(tmp_path / "split.csv", masses) == split


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,set\nA,train\n", "columns must be patient,split"),
        ("patient,split\nP0000,training\n", "use train, val, test"),
        ("patient,split\nP0000,train\nP0000,test\n", "in two sets"),
        ("patient,split\nP0000,train\n", "are not in it"),
    ],
)
def test_a_wrong_split_file_is_refused(masses, tmp_path, text, message):
    path = tmp_path / "split.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_split(path, masses)


# ---- folds


def test_folds_hold_every_patient_once_and_are_alike(masses):
    folds = [fold_patients(masses, 1, Fold(number, 5)) for number in range(1, 6)]
    assert sorted(name for fold in folds for name in fold) == sorted({mass.patient for mass in masses})
    for label in (0, 1):
        sizes = [sum(mass.label == label for mass in masses if mass.patient in fold) for fold in map(set, folds)]
        assert max(sizes) - min(sizes) <= 6, sizes


def test_same_seed_gives_the_same_folds_whatever_the_order_of_the_masses(masses):
    fold = Fold(2, 5)
    assert fold_patients(masses, 3, fold) == fold_patients(masses[::-1], 3, fold) != fold_patients(masses, 4, fold)


def test_the_validation_set_of_a_fold_is_balanced_and_of_the_other_patients(masses):
    fold = fold_patients(masses, 1, Fold(5, 5))
    split = split_patients(masses, 1, fold)
    assert {name for name, part in split.items() if part == "test"} == set(fold)
    half = round(len(masses) * 0.05)
    assert counts(masses, split)["val"] == {0: half, 1: half}


def test_fewer_patients_than_folds_is_a_clear_error(masses):
    with pytest.raises(InputError, match="too few patients: fold 3/3 lacks a class"):
        fold_patients(masses[:4], 1, Fold(3, 3))


@pytest.mark.parametrize("text", ["", "1", "0/5", "6/5", "1/1", "a/5", "1/5/5", "-1/5"])
def test_what_is_no_fold_is_refused(text):
    with pytest.raises((ValueError, TypeError)):
        parse_fold(text)
    assert parse_fold("5/5") == Fold(5, 5)
