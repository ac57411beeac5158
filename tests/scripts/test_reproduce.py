"""The plan of the paper's experiments: which commands, in which order, and what is not done twice."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.core.errors import InputError
from data_prep.database.split import Fold
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
    longer = CONTENT["budgets"][budget].get("paper_length", [])
    arms = [step for step in steps_of(budget=budget) if step.net and not step.title.startswith(tuple(longer))]
    assert len({step.images for step in arms}) == 1


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


# ---- cross-validation


def test_a_cross_validation_trains_every_arm_on_every_fold_from_the_folds_own_databases():
    steps = steps_of(budget="folds")
    assert trained(steps) == [f"{arm}_fold{fold}_seed1" for fold in range(1, 6) for arm in CONTENT["arms"]]
    built = {step.command[-1]: step.command for step in steps if step.title.startswith("database")}
    assert len(built) == 15
    for step in steps:
        if step.net:
            data = step.command[step.command.index("--data") + 1]
            fold = step.title.partition("_fold")[2][0]
            assert built[data][built[data].index("--fold") + 1] == Fold(int(fold), 5)
            assert "--split" not in built[data]


def test_in_a_cross_validation_the_no_aug_arms_take_the_papers_epochs_and_the_others_equally_many_images():
    for step in steps_of(budget="folds"):
        if step.net:
            assert ("--epochs" in step.command) == ("noaug" in step.title) != ("--iterations" in step.command)
            assert step.images == (0 if "noaug" in step.title else 40064)


def test_the_saliency_of_a_cross_validation_is_counted_on_what_each_fold_tests():
    maps = [step for step in steps_of(budget="folds") if "saliency" in step.command[0] or "gallery" in step.command[0]]
    assert len(maps) == 15
    assert all(step.command[0].endswith("saliency_share.py") and "test" in step.command for step in maps)


@pytest.mark.parametrize("change", ["folds = 1", 'folds = "x"', 'folds = 3\npaper_length = ["nothing"]'])
def test_a_cross_validation_that_makes_no_sense_is_refused(change):
    Path("odd.toml").write_text(EXPERIMENTS.replace("[budgets.folds]\nfolds = 2", f"[budgets.folds]\n{change}"))
    with pytest.raises(InputError, match=r"odd\.toml: cannot be read as experiments"):
        matrix.read_experiments(Path("odd.toml"))


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
[budgets.folds]
folds = 2
images = 16
paper_length = ["baseline_noaug"]
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


@pytest.mark.slow
def test_a_cross_validation_judges_every_mass_by_the_net_that_never_saw_its_patient(place):
    typed = ("--data", "synthetic:films", "--budget", "folds", "--experiments", "tiny.toml")
    text = run(place, "scripts/reproduce.py", *typed)
    assert text.count("$ python scripts/train.py") == 4
    assert "$ python scripts" not in run(place, "scripts/reproduce.py", *typed), "nothing is done twice"
    databases = sorted((place / "data/reproduce/films").glob("fold*of2/*"))
    assert "is tested in one of 2 folds\n" in run(place, "data_prep/audit.py", *map(str, databases))

    masses = {row["mass_id"]: row for row in rows_of(databases[0] / "manifest.csv") if not row["reason"]}
    runs, out = place / "runs/reproduce/films/folds", place / "results/films/folds"
    for arm in ("baseline", "baseline_noaug"):
        pooled = rows_of(out / f"{arm}_seed1/predictions.csv")
        assert sorted(row["mass_id"] for row in pooled) == sorted(masses)
        for fold in ("1", "2"):
            own = rows_of(runs / f"{arm}_fold{fold}_seed1/eval_test/predictions.csv")
            assert [row | {"fold": fold} for row in own] == [row for row in pooled if row["fold"] == fold]
            settings = json.loads((runs / f"{arm}_fold{fold}_seed1/run.json").read_text())
            tested = {row["patient"] for row in own}
            split = {row["patient"]: row["split"] for row in rows_of(place / settings["data"] / "split.csv")}
            assert {name for name, part in split.items() if part == "test"} == tested
            assert not list((runs / f"{arm}_fold{fold}_seed1").glob("*.solverstate")), "only the weights are kept"
    scores = json.loads((out / "baseline_seed1/metrics.json").read_text())
    assert (scores["n"], len(scores["folds"])) == (len(masses), 2)

    rows = rows_of(out / "claims.csv")
    assert [row["Split"] for row in rows] == ["out-of-fold", "fold 1", "fold 2"]
    assert all(row["Verdict"] in ("supported", "open", "contradicted") for row in rows)
    assert sum(int(row["Masses"]) for row in rows_of(out / "folds.csv")[:2]) == len(masses)
    zones = rows_of(out / "saliency.csv")
    assert [row["Zone"] for row in zones] == ["mass", "margin", "context", "margin, fold 1", "margin, fold 2"]
    counted = [rows_of(runs / f"baseline_fold{i}_seed1/saliency_share_test/saliency_share.csv") for i in (1, 2)]
    shares = [float(row["trained_margin"]) for rows in counted for row in rows]
    assert float(zones[1]["Trained net"]) == pytest.approx(sum(shares) / len(shares))
    page = (out / "report.html").read_text()
    assert "2-fold cross-validation by patient" in page and 'id="gallery"' not in page


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
