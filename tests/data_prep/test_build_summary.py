"""The printed summary: counts by set, and the way from the paper's numbers to the ones used, in rows that add up."""

import re
from pathlib import Path

from data_prep.core.records import Box, Film, Mass
from data_prep.database import build_summary


def lesion(patient: str, view: str, reason: str = "", number: int = 1) -> Mass:
    film = Film(Path(f"{patient}.{view}"), 100, 200)
    return Mass(
        f"{patient}.{view}.{number}", patient, film, "LEFT", view, number, "BENIGN", Box(1, 1, 9, 9), reason=reason
    )


LESIONS = [
    lesion("A", "CC"),
    lesion("A", "MLO", "no outline"),  # its patient is used all the same
    lesion("B", "CC", "not a mass: CALCIFICATION"),
    lesion("B", "MLO", "not a mass: CALCIFICATION"),
    lesion("C", "CC", "not a mass: CALCIFICATION"),
    lesion("C", "CC", "pathology unproven or unknown: UNPROVEN", 2),
    lesion("D", "CC"),
    lesion("D", "CC", "no outline", 2),  # and so is its image
]


def test_every_column_of_the_account_adds_up():
    account = build_summary.account(LESIONS)
    for unit in build_summary.UNITS:
        found, *left_out, used = (row[unit] for row in account.values())
        assert found == sum(left_out) + used
    assert account["found"] == {"lesions": 8, "images": 6, "patients": 4}
    assert account["used"] == {"lesions": 2, "images": 2, "patients": 2}


def test_an_image_left_out_is_counted_under_its_lesions_reason_or_under_several():
    account = build_summary.account(LESIONS)
    assert account["not a mass"] == {"lesions": 3, "images": 2, "patients": 1}
    assert account["no outline"] == {"lesions": 2, "images": 1, "patients": 0}
    assert account["pathology unproven or unknown"] == {"lesions": 1, "images": 0, "patients": 0}
    assert account[build_summary.SEVERAL] == {"lesions": 0, "images": 1, "patients": 1}


def test_the_printed_rows_add_up_from_the_papers_numbers_to_those_used():
    split = {"A": "train", "D": "test"}
    used = [mass for mass in LESIONS if not mass.reason]
    text = build_summary.render(
        build_summary.counts(used, split, dict.fromkeys(("train", "val", "test"), 1)), build_summary.account(LESIONS)
    )
    rows = re.findall(r"^(the paper|difference from the paper|[-=] \D+?) {2,}\S+ +(\S+) +(\S+)$", text, re.MULTILINE)
    for column, paper in ((1, 1820), (2, 997)):
        numbers = {row[0]: int(row[column].replace(",", "")) for row in rows}
        assert numbers["the paper"] == paper
        assert numbers["the paper"] + numbers["difference from the paper"] == numbers["= found"]
        left_out = sum(number for head, number in numbers.items() if head.startswith("- "))
        assert numbers["= found"] - left_out == numbers["= used"]
    assert len(rows) == 8
