"""The page (scripts/report.py): what it says is what the runs' files hold, and it needs nothing but itself."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_prep.core.errors import InputError, run
from scripts import report
from scripts.reporting import finished_run, report_page, summary_text
from tests.helpers import finished_runs


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder as a user's, with two finished runs on films of another source than the synthetic one."""
    folder = tmp_path_factory.mktemp("workplace")
    finished_runs.make(folder, "cbis", {"one": 0, "two": 3})
    return folder


@pytest.fixture
def there(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    return workplace


@pytest.fixture
def two(there) -> list[finished_run.FinishedRun]:
    return [finished_run.read(Path("runs") / name) for name in ("one", "two")]


def page_of(folder: Path) -> str:
    return (folder / "report.html").read_text()


def test_the_command_writes_a_page_that_asks_for_nothing(there, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["report.py", "runs/one", "runs/two", "--out", "results", "--title", "Two < three"]
    )
    assert run(report.main) == 0
    assert "results/report.html" in capsys.readouterr().out
    page = page_of(there / "results")
    assert "<h1>Two &lt; three</h1>" in page
    assert all(
        link.startswith(("data:image/webp;base64,", "#")) for link in re.findall(r'(?:src|href)="([^"]*)"', page)
    )
    assert all(
        link.startswith("data:image/webp;base64,") for link in re.findall(r"url\(([^)]*)\)", page) if link[0] != "#"
    )
    text = re.sub(r"base64,[\w+/=]+", "", page)  # in which any four letters may stand
    assert "http" not in text and "<link" not in text and "@import" not in text
    for name in ("run.json", "log.csv", "metrics.json", "predictions.csv", "roc.png", "saliency.png", "curves.png"):
        assert (there / "results" / "one" / name).is_file()


def test_columns_that_say_nothing_and_tables_without_rows_are_left_out(two, tmp_path):
    table = SimpleNamespace(title="Of this", header=("Model", "Seeds", "Spread", "AUC"), notes=())
    table.rows = [("one", "1", "", "0.7"), ("two", "1", "", "")]
    empty = SimpleNamespace(title="Of nothing", header=("Model",), notes=(), rows=[])
    report_page.write_page(tmp_path, two, "Title", [table, empty])
    page, readme = page_of(tmp_path), (tmp_path / "README.md").read_text()
    assert "| Model | AUC |" in readme and "| one | 0.7 |" in readme and "Spread" not in readme
    assert "Of this" in page and ">Seeds<" not in page and "Of nothing" not in page + readme


def test_a_page_with_a_guide_says_first_what_is_told_apart(two, tmp_path):
    picture = two[0].folder / "saliency_val" / "saliency.png"
    report_page.write_page(tmp_path, two, "Title", guide=picture)
    page = page_of(tmp_path)
    assert page.index('id="guide"') < page.index('id="results"')
    report_page.write_page(tmp_path, two, "Title")
    assert 'id="guide"' not in page_of(tmp_path)


def test_a_sets_own_name_and_credit_stand_in_the_page(there, tmp_path):
    shutil.copytree(there, tmp_path / "copy", symlinks=True)
    path = tmp_path / "copy" / "data" / "lmdb" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": "Our Set", "credit": "Ours, 2026"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "copy")
        report_page.write_page(tmp_path, [finished_run.read(Path("runs") / "one")], "Title")
    for text in (page_of(tmp_path), (tmp_path / "README.md").read_text()):
        assert "Here, on Our Set, 24 test masses" in text and "Ours, 2026" in text


def test_every_link_of_the_readme_is_there(two, tmp_path):
    report_page.write_page(tmp_path, two, "Title", figures=[report_page.examples(tmp_path, two[0])])
    links = re.findall(r"\]\(([^)]+)\)", (tmp_path / "README.md").read_text())
    assert len(links) > 10
    assert all((tmp_path / link).exists() for link in links)


def test_rows_hold_the_runs_own_figures_and_the_papers_beside(two, tmp_path):
    report_page.write_page(tmp_path, two, "Title")
    readme = (tmp_path / "README.md").read_text()
    for each in two:
        (row,) = (line for line in readme.splitlines() if line.startswith(f"| [{each.name}]"))
        for name in ("accuracy", "recall", "auc"):
            value = each.scores["metrics"][name]["value"]
            assert f" {value:.3f} (" in row
            assert f">{value:.3f}<svg" in page_of(tmp_path)
    assert (
        "| the paper | GoogLeNet | 182 | 0.929 (0.882-0.958) | 0.924 (0.851-0.963) | 0.934 (0.864-0.969) | |" in readme
    )


def test_gallery_has_a_card_a_mass_and_run_sorted_by_error(two, tmp_path):
    report_page.write_page(tmp_path, two, "Title")
    panels = re.split(r'<div class="cards" data-run="', page_of(tmp_path))[1:]
    assert len(panels) == 2
    for each, panel in zip(two, panels, strict=True):
        cards = re.findall(r'data-outcome="(..)".*?Saliency map of ([^,]+), .*?P = ([\d.]+)', panel)
        with (each.folder / "eval_test" / "predictions.csv").open(newline="") as file:
            rows = {row["mass_id"]: row for row in csv.DictReader(file)}
        assert {mass for _, mass, _ in cards} == rows.keys() and len(cards) == len(rows)
        errors = [abs(int(rows[mass]["label"]) - float(rows[mass]["probability"])) for _, mass, _ in cards]
        assert errors == sorted(errors, reverse=True)
        for outcome, mass, probability in cards:
            right = rows[mass]["label"] == rows[mass]["predicted"]
            assert outcome == ("T" if right else "F") + ("P" if rows[mass]["predicted"] == "1" else "N")
            assert float(probability) == pytest.approx(float(rows[mass]["probability"]), abs=0.006)


def test_crops_that_runs_share_are_in_the_page_once(two, tmp_path):
    report_page.write_page(tmp_path, two, "Title")
    assert len(re.findall(r"\.sheet\d+ { background-image", page_of(tmp_path))) == 3  # the crops, and two runs' maps


def test_more_tables_figures_and_a_discussion_come_in_escaped(two, tmp_path):
    table = SimpleNamespace(
        title="Table 1: <transfer>",
        header=("Model", "Accuracy"),
        rows=[["AlexNet", "0.638 (0.512-0.711)"]],
        notes=("A & B.",),
    )
    shutil.copy(two[0].folder / "eval_test" / "roc.png", tmp_path / "fig2.png")
    text = "It `works` & is <b>fine</b>.\n\n- one\n- **two**\n"
    report_page.write_page(
        tmp_path, two, "T", tables=[table], figures=[("Fig 2: curves", tmp_path / "fig2.png")], text=text
    )
    page, readme = page_of(tmp_path), (tmp_path / "README.md").read_text()
    assert (
        "Table 1: &lt;transfer&gt;" in page
        and "<td>0.638<small>0.512-0.711</small></td>" in page
        and "A &amp; B." in page
    )
    assert "<p>It <code>works</code> &amp; is &lt;b&gt;fine&lt;/b&gt;.</p>" in page
    assert "<ul>\n<li>one</li>\n<li><strong>two</strong></li>\n</ul>" in page
    assert 'alt="Fig 2: curves"' in page and "![Fig 2: curves](fig2.png)" in readme
    assert "| AlexNet | 0.638 (0.512-0.711) |" in readme and text.strip() in readme


def test_the_answer_compares_with_the_paper_only_where_that_means_something(two):
    said = " ".join(summary_text.answer(two))
    accuracy = two[0].scores["metrics"]["accuracy"]
    assert f"{accuracy['value']:.3f} ({accuracy['low']:.3f}-{accuracy['high']:.3f}) for Baseline" in said
    assert "The paper's accuracy of the same net lies" in said
    for run_ in two:
        run_.scores["source"] = "synthetic"
    assert "The paper's accuracy" not in " ".join(summary_text.answer(two))


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.5, 0.7, 0), (0.3, 0.6, 1), (0.61, 0.8, -1), (None, None, None)]
)
def test_side_says_where_the_papers_accuracy_lies(two, low, high, expected):
    two[0].scores["metrics"]["accuracy"] |= {"low": low, "high": high}  # the paper's baseline: 0.604
    assert summary_text.side(two[0]) == expected


@pytest.mark.parametrize(
    ("changed", "scores", "title"),
    [
        ({}, {}, "Baseline"),
        ({"net": "alexnet"}, {"augmented_training": False}, "AlexNet from random weights, no augmentation"),
        (
            {"net": "alexnet", "weights": "weights/bvlc_alexnet.caffemodel"},
            {"context": "small"},
            "AlexNet from ImageNet, small context",
        ),
    ],
)
def test_titles_tell_arms_of_one_net_apart(two, changed, scores, title):
    two[0].settings.update(changed)
    two[0].scores.update(scores)
    assert two[0].title == title


def test_a_gallery_of_other_weights_than_those_evaluated_is_refused(there, tmp_path):
    shutil.copytree(there / "runs" / "one", tmp_path / "one")
    shutil.rmtree(tmp_path / "one" / "gallery_test")
    shutil.copytree(there / "runs" / "two" / "gallery_test", tmp_path / "one" / "gallery_test")
    with pytest.raises(InputError, match=r"other weights.*gallery\.py --run"):
        finished_run.read(tmp_path / "one")


def test_a_run_without_its_gallery_is_refused_with_the_command_to_type(there, tmp_path):
    shutil.copytree(there / "runs" / "one", tmp_path / "one")
    (tmp_path / "one" / "gallery_test" / "maps.webp").unlink()
    with pytest.raises(InputError, match=r"maps\.webp: missing; make it with python scripts/gallery\.py --run"):
        finished_run.read(tmp_path / "one")


def test_synthetic_films_are_said_before_any_figure(two, tmp_path):
    two[0].scores["source"] = "synthetic"
    report_page.write_page(tmp_path, two, "Title")
    for text in (page_of(tmp_path), (tmp_path / "README.md").read_text()):
        assert "Synthetic films: these figures" in re.split(r"<table|\| ---|\d\.\d{3}", text)[0]


@pytest.mark.parametrize("words", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_lists_read_as_one_says_them(words):
    assert summary_text.listed(words) == {1: "a", 2: "a and b", 3: "a, b and c"}[len(words)]
