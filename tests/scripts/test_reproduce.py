"""The plan of the paper's experiments: which commands, in which order, and what is not done twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.core.errors import InputError
from scripts import reproduce
from scripts.evaluation import paper_results
from scripts.experiments import matrix, plan
from scripts.nets import definitions

ROOT = Path(__file__).resolve().parents[2]
CONTENT = matrix.read_experiments()
DATA = plan.Data("boxes", Path("sets/films/masses.csv"), "films")
SCALED = CONTENT["budgets"]["scaled"]
MANIFEST = {"source": "boxes", "context": "large", "rotations": 5, "crops": 5, "seed": 1}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Plans look for what is done in the working directory: here nothing is."""
    monkeypatch.chdir(tmp_path)


def steps_of(tables=None, figures=None, budget="scaled"):
    chosen = reproduce.chosen(CONTENT, tables, figures)
    return plan.make(chosen, DATA, budget, CONTENT["budgets"][budget], None, CONTENT["tables"]["3"])


def trained(steps) -> list[str]:
    return [step.title.removesuffix(": train") for step in steps if step.net]


# ---- the experiments themselves


def test_the_arms_of_tables_1_and_2_are_the_papers_rows():
    for table in (1, 2):
        rows = [(row.net, row.augmented, row.context) for row in paper_results.VALIDATION if row.table == table]
        shown = [CONTENT["arms"][name] for name in CONTENT["tables"][str(table)]]
        assert [(arm.net, arm.augmented, arm.context) for arm in shown] == rows


def test_table_3_is_the_three_nets_as_the_paper_trained_them():
    shown = [CONTENT["arms"][name] for name in CONTENT["tables"]["3"]]
    assert [arm.net for arm in shown] == list(paper_results.TEST)
    assert all(arm.augmented and arm.context == "large" for arm in shown)
    assert [arm.start for arm in shown] == ["random", "pretrained", "pretrained"]


def test_the_paper_budget_is_the_papers():
    for step in steps_of(budget="paper"):
        if step.net:
            assert step.command[step.command.index("--epochs") + 1] == paper_results.TEST[step.net].epochs
            assert "--batch" not in step.command


def test_every_arm_that_is_named_exists_and_every_arm_is_shown():
    named = [name for names in [*CONTENT["tables"].values(), *CONTENT["figures"].values()] for name in names]
    pairs = [name for claim in CONTENT["claims"].values() for pair in claim for name in pair]
    assert set(named) | set(pairs) <= set(CONTENT["arms"])
    assert set(named) == set(CONTENT["arms"])


@pytest.mark.parametrize("budget", [name for name, content in CONTENT["budgets"].items() if "images" in content])
def test_under_a_scaled_budget_every_arm_sees_as_many_images(budget):
    assert len({step.images for step in steps_of(budget=budget) if step.net}) == 1


# ---- the plan


def test_a_table_is_made_from_its_own_arms_alone():
    assert trained(steps_of(tables=[2])) == ["alexnet_noaug_small_seed1", "alexnet_noaug_large_seed1"]
    assert trained(steps_of(figures=[1])) == []


def test_without_a_choice_every_arm_is_run():
    names = {name.rpartition("_seed")[0] for name in trained(steps_of())}
    assert names == set(CONTENT["arms"])


def test_all_databases_have_one_split():
    commands = [step.command for step in steps_of() if step.title.startswith("database")]
    assert len(commands) == 3
    first = Path(commands[0][-1])
    assert "--split" not in commands[0]
    for command in commands[1:]:
        assert command[command.index("--split") + 1] == first / "split.csv"


def test_a_database_that_is_there_gives_its_split_to_the_others():
    there = DATA.folder("small_noaug")
    there.mkdir(parents=True)
    (there / "manifest.json").write_text(json.dumps(MANIFEST | {"digest": "d"}))
    databases = [step for step in steps_of() if step.title.startswith("database")]
    assert [step.done for step in databases] == [True, False, False]
    assert all(there / "split.csv" in step.command for step in databases[1:])


def test_imagenet_weights_are_used_where_they_are_then_the_users_distilled_ones_then_those_of_results():
    def started() -> dict[str, Path]:
        commands = {step.net: step.command for step in steps_of(tables=[3]) if "--weights" in step.command}
        return {net: command[command.index("--weights") + 1] for net, command in commands.items()}

    kept = {net: ROOT / "results" / "starts" / f"distilled_{net}.caffemodel" for net in ("alexnet", "googlenet")}
    assert started() == kept
    assert all(path.is_file() for path in kept.values())
    Path("weights").mkdir()
    for name in ("distilled_alexnet", "distilled_googlenet", "bvlc_googlenet"):
        Path(f"weights/{name}.caffemodel").touch()
    assert started() == {
        "alexnet": Path("weights/distilled_alexnet.caffemodel"),
        "googlenet": Path("weights/bvlc_googlenet.caffemodel"),
    }


def begin(name: str, **changes) -> Path:
    """Write the run.json of a baseline's run as train.py would have begun it under the scaled budget."""
    folder = plan.runs_folder(DATA, "scaled") / name
    folder.mkdir(parents=True)
    batch = SCALED["batch"]["baseline"]
    content = {"net": "baseline", "data": str(DATA.folder("large_aug")), "weights": None, "seed": 1}
    content |= {"batch": batch, "iterations": -(-SCALED["images"] // batch)}
    (folder / "run.json").write_text(json.dumps(content | changes))
    return folder


def test_a_no_aug_arm_whose_images_were_mirrored_is_not_taken_for_the_papers():
    """Runs begun before No Aug meant without mirroring do not say which they are: they mirrored."""
    folder = plan.runs_folder(DATA, "scaled") / "baseline_noaug_seed1"
    begin("baseline_noaug_seed1", data=str(DATA.folder("large_noaug")))
    with pytest.raises(InputError, match=f"{folder}: was trained with augmented True, not False; rm -r"):
        steps_of()
    (folder / "run.json").write_text(json.dumps(json.loads((folder / "run.json").read_text()) | {"augmented": False}))
    steps_of()


def test_an_interrupted_arm_is_resumed():
    begin("baseline_seed1", iteration=7)
    (train,) = (step for step in steps_of(tables=[1]) if step.title == "baseline_seed1: train")
    assert not train.done
    assert "--resume" in train.command


def test_a_trained_arm_is_not_trained_again_and_an_evaluated_one_not_evaluated():
    iterations = -(-SCALED["images"] // SCALED["batch"]["baseline"])
    folder = begin("baseline_seed1", iteration=iterations)
    (folder / "eval_val").mkdir()
    (folder / "eval_val" / "metrics.json").touch()
    done = {step.title: step.done for step in steps_of(tables=[1])}
    assert done["baseline_seed1: train"]
    assert done["baseline_seed1: eval_val"]
    assert not done["baseline_seed1: eval_test"]


@pytest.mark.parametrize(
    ("change", "says"), [({"iterations": 5}, "iterations 5"), ({"weights": "x.caffemodel"}, "weights x.caffemodel")]
)
def test_an_arm_that_was_trained_otherwise_is_refused_with_what_to_do(change, says):
    begin("baseline_seed1", **change)
    with pytest.raises(InputError, match=rf"baseline_seed1: was trained with {says}.*rm -r"):
        steps_of(tables=[1])


def test_an_arm_on_a_database_built_anew_is_refused():
    begin("baseline_seed1", data_digest="old")
    DATA.folder("large_aug").mkdir(parents=True)
    (DATA.folder("large_aug") / "manifest.json").write_text(json.dumps(MANIFEST | {"digest": "new"}))
    with pytest.raises(InputError, match="data_digest old, not new"):
        steps_of(tables=[1])


@pytest.mark.parametrize(
    ("text", "source", "name"),
    [("synthetic", "synthetic", "synthetic"), ("cbis:a/b", "cbis", "b"), ("sets/films/masses.csv", "boxes", "films")],
)
def test_data_is_named_by_its_source_or_its_place(text, source, name):
    data = plan.parse_data(text)
    assert (data.source, data.name) == (source, name)


@pytest.mark.parametrize("text", ["mias", "boxes", ""])
def test_unknown_data_is_refused(text):
    with pytest.raises(InputError, match="give synthetic, ddsm, cbis"):
        plan.parse_data(text)


def test_every_command_of_the_plan_is_one_of_our_scripts():
    assert {step.command[0] for step in steps_of()} <= {
        f"{folder}/{path.name}" for folder in ("scripts", "data_prep") for path in (ROOT / folder).glob("*.py")
    }
    assert all(step.net in ("", *definitions.NETS) for step in steps_of())


def test_the_saliency_of_the_papers_three_nets_is_counted():
    counted = {step.title.partition("_seed")[0] for step in steps_of() if "saliency_share" in step.command[0]}
    assert counted == set(CONTENT["tables"]["3"])


# ---- all of it, in a small form

EXPERIMENTS = """
[arms.baseline]
net = "baseline"
context = "large"
augmented = true
start = "random"
[arms.baseline_noaug]
net = "baseline"
context = "large"
augmented = false
start = "random"
[tables]
1 = ["baseline"]
2 = ["baseline_noaug"]
3 = ["baseline"]
[figures]
1 = []
2 = ["baseline_noaug", "baseline"]
3 = ["baseline"]
[claims]
augmentation = [["baseline_noaug", "baseline"]]
[budgets.tiny]
images = 16
batch = { baseline = 8 }
seeds = { baseline = [1] }
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder like the repository's root, with synthetic films of few patients and experiments of two arms."""
    folder = tmp_path_factory.mktemp("root")
    for name in ("scripts", "data_prep"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "tiny.toml").write_text(EXPERIMENTS)
    run(folder, "data_prep/synthetic.py", "--patients", "24", "--out", "films")
    return folder


def run(folder: Path, script: str, *options: str) -> str:
    """Run a script as typed in this folder; return what it printed."""
    result = subprocess.run([sys.executable, script, *options], cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def reproduced(folder: Path, *options: str) -> str:
    data = ("--data", "synthetic:films", "--budget", "tiny", "--experiments", "tiny.toml")
    return run(folder, "scripts/reproduce.py", *data, *options)


@pytest.mark.slow
def test_a_table_then_all_of_it_does_nothing_twice(place):
    plan_of_all = reproduced(place, "--dry-run")
    assert "training left: about" in plan_of_all
    assert not (place / "runs").exists()

    first = reproduced(place, "--table", "2")
    assert first.count("$ python scripts/train.py") == 1
    second = reproduced(place)
    assert second.count("$ python scripts/train.py") == 1
    third = reproduced(place)
    assert third.count("$ python scripts/train.py") == third.count("$ python scripts/eval.py") == 0

    out = place / "results" / "films" / "tiny"
    for name in (
        "report.html",
        "README.md",
        "table1.csv",
        "table2.md",
        "table3.csv",
        "saliency.csv",
        "fig1.png",
        "fig2.png",
    ):
        assert (out / name).stat().st_size > 0, name
    assert "ynthetic" in (out / "report.html").read_text()
    assert "iteration" in (place / "runs/reproduce/films/tiny/baseline_seed1.log").read_text()
