"""The demo end to end in a small form, and the page that it ends with."""

import html.parser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NETS = ("baseline", "alexnet", "googlenet")


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    """Return the folder that holds a small demo's work and page, and what it printed."""
    work = tmp_path_factory.mktemp("demo")
    (work / "results").mkdir()
    (work / "results" / "own.txt").write_text("the user's own")
    command = [sys.executable, "scripts/demo.py", "--patients", "24", "--iterations", "2"]
    command += ["--work", str(work), "--out", str(work / "results")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return work, result.stdout


@pytest.mark.slow
def test_the_demo_says_last_where_its_page_is(demo):
    work, printed = demo
    assert f"open {work / 'results' / 'report.html'}" in printed.splitlines()[-1]


@pytest.mark.slow
def test_the_page_holds_its_pictures_and_needs_nothing_else(demo):
    page = (demo[0] / "results" / "report.html").read_text()
    sources = re.findall(r'<img src="([^"]{0,40})', page)
    assert len(sources) == 2 + len(NETS)  # the guide's, examples, and of each net its saliency figure
    sheets = re.findall(r"background-image: url\((.{0,40})", page)
    assert len(sheets) == 1 + len(NETS)  # the masses, which the nets share, and of each net its maps
    assert all(source.startswith("data:image/webp;base64,UklGR") for source in sources + sheets)
    assert "http" not in re.sub(r"<code>.*?</code>", "", page)
    html.parser.HTMLParser().feed(page)


@pytest.mark.slow
def test_the_gallery_shows_every_test_mass_of_every_net(demo):
    page = (demo[0] / "results" / "report.html").read_text()
    counts = [json.loads((demo[0] / "results" / net / "metrics.json").read_text())["n"] for net in NETS]
    assert page.count('<figure class="card"') == sum(counts)


@pytest.mark.slow
def test_what_else_is_in_the_pages_folder_stays(demo):
    assert (demo[0] / "results" / "own.txt").read_text() == "the user's own"


@pytest.mark.slow
def test_page_and_summary_say_synthetic_and_from_which_commit(demo):
    commit = json.loads((demo[0] / "runs" / "demo" / "baseline" / "run.json").read_text())["commit"]
    for name in ("report.html", "README.md"):
        text = (demo[0] / "results" / name).read_text()
        assert "Synthetic films" in text
        assert commit in text


@pytest.mark.slow
@pytest.mark.parametrize("net", NETS)
def test_each_number_of_the_summary_is_the_runs_own(demo, net):
    results = demo[0] / "results"
    scores = json.loads((results / net / "metrics.json").read_text())
    (row,) = (line for line in (results / "README.md").read_text().splitlines() if line.startswith(f"| [{net}]"))
    assert f"| {scores['metrics']['accuracy']['value']:.3f} (" in row
    assert f"| {scores['n']} |" in row
    counts = scores["counts"]
    assert scores["metrics"]["accuracy"]["value"] == pytest.approx((counts["tp"] + counts["tn"]) / scores["n"])


def test_a_run_that_was_not_evaluated_is_refused_with_the_command_to_type(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(
        '{"net": "baseline", "data": "data/lmdb", "weights": null, "iterations": 1, "batch": 1}'
    )
    (tmp_path / "run" / "log.csv").write_text("")
    command = [sys.executable, "scripts/report.py", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "metrics.json: missing; make it with python scripts/eval.py" in result.stderr
    assert not (tmp_path / "out").exists()
