"""A trained net to give away: its weights, what they need to run away from their database, and a model card."""

import shutil
from pathlib import Path

from data_prep.core.errors import InputError
from data_prep.core.files import atomic_folder, pasted, write_text
from data_prep.core.json_files import read_json, write_json
from data_prep.core.provenance import public
from data_prep.database import lmdb_io, manifest
from scripts.evaluation import comparisons, evaluation_table, paper_results, run_files
from scripts.evaluation.predictions import Predictions
from scripts.nets import definitions
from scripts.nets.caffemodel import SHA256, read_snapshot, sha256_of
from scripts.reporting.finished_run import METRICS, FinishedRun
from scripts.reporting.page_templates import render
from scripts.reporting.report_page import copy_without_names, number_names

SPLITS = {"val": "validation", "test": "test"}


def publish(run: FinishedRun, out: Path, about: str) -> None:
    """Write the new folder `out` of a run that is trained and evaluated on both splits.

    NET.caffemodel and NET.json with its SHA-256; run.json, manifest.json and where the net wants it mean.binaryproto;
    eval_val and eval_test with the predictions, patients and masses by numbers; README.md, the model card. `about` says
    what the data is and under which licence.
    """
    settings = run.settings
    if not settings or settings.get("iteration") != settings["iterations"]:
        raise InputError(f"{run.folder}: no finished training; go on with python scripts/train.py --resume")
    weights = run.folder / f"snapshot_iter_{settings['iterations']}.caffemodel"
    read_snapshot(weights)
    scores = {split: scores_of(run, split, weights) for split in SPLITS}
    content = manifest.read_json(run.data, whole=True)
    if content["digest"] != settings.get("data_digest", content["digest"]):
        raise InputError(f"{run.data}: was rebuilt since this training; build it as it was")
    with atomic_folder(out) as folder:
        shutil.copyfile(weights, folder / f"{run.net}.caffemodel")
        write_json(folder / f"{run.net}.json", {SHA256: sha256_of(weights)})
        paths = {name: public(settings[name]) for name in ("data", "weights") if settings[name]}
        write_json(folder / run_files.JSON, settings | paths)
        manifest.write_json(folder, content)
        if definitions.data_layer(definitions.read_net(run.net), "TEST").transform_param.HasField("mean_file"):
            shutil.copyfile(run.data / lmdb_io.MEAN, folder / lmdb_io.MEAN)
        found = {split: run.predictions(split) for split in SPLITS}
        called = number_names(list(found.values()))
        for split in SPLITS:
            (folder / f"eval_{split}").mkdir()
            name = f"eval_{split}/predictions.csv"
            copy_without_names(run.folder / name, folder / name, called)
            told = {"doubts": [], "weights": f"{run.net}.caffemodel"}  # doubts name patients
            write_json(folder / f"eval_{split}" / "metrics.json", scores[split] | told)
        shown = {"run": run, "about": about, "content": content, "scores": scores, "points": points(found)}
        shown |= {"source": evaluation_table.films(content), "splits": SPLITS, "folder": public(out)}
        shown |= {"cell": evaluation_table.interval, "ends": evaluation_table.ends}
        write_text(folder / "README.md", render("model_card.md", **shown))


def scores_of(run: FinishedRun, split: str, weights: Path) -> dict:
    """Return metrics.json of a split; InputError unless it is of these weights."""
    path = run.folder / f"eval_{split}" / "metrics.json"
    scores = read_json(path, METRICS) if path.is_file() else {}
    if scores.get("weights_sha256") != sha256_of(weights):
        made = f"python scripts/eval.py --weights {pasted(weights)} --split {split}"
        raise InputError(f"{path}: missing, or of other weights; make it with {made}")
    return scores


def points(found: dict[str, Predictions]) -> list[tuple[float, comparisons.OperatingPoint]]:
    """Return for each recall of the radiologists the test set's figures at the threshold that validation gives."""
    arrays = {split: (each.labels, each.probabilities, each.patients) for split, each in found.items()}
    return [
        (recall, comparisons.at_threshold(comparisons.at_recall(recall, *arrays["val"]).threshold, *arrays["test"]))
        for recall in paper_results.RADIOLOGISTS_RECALL
    ]
