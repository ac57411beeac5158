"""The linear probe of starts: what it measures, what it refuses, and the command."""

import os
import subprocess
import sys

import numpy as np
import pytest

from data_prep.core.errors import InputError
from scripts.evaluation import linear_probe
from scripts.nets import definitions
from tests.helpers import databases

SCRIPT = definitions.ROOT / "scripts" / "probe.py"


def masses_of(patients: int, each: int) -> linear_probe.Masses:
    """Masses without images, `each` of a patient, of one class a patient."""
    owner = np.repeat(np.arange(patients), each)
    return linear_probe.Masses(np.empty(0), owner % 2, owner.astype(str))


def test_features_that_tell_the_classes_apart_have_auc_1_and_noise_a_half():
    masses, rng = masses_of(60, 2), np.random.default_rng(1)
    noise = rng.normal(size=(120, 5))
    told = noise + 10 * masses.labels[:, None]
    assert linear_probe.probe(told, masses).value == 1
    found = linear_probe.probe(noise, masses)
    assert found.low < 0.5 < found.high and found.low < found.value < found.high


def test_what_only_tells_patients_apart_is_worth_nothing():
    """Each patient's masses lie close together: a probe that saw some of them in training would know the others."""
    masses, rng = masses_of(40, 5), np.random.default_rng(1)
    own = np.repeat(rng.normal(size=(40, 300)), 5, axis=0) + 0.01 * rng.normal(size=(200, 300))
    assert abs(linear_probe.probe(own, masses).value - 0.5) < 0.15


def test_augmented_crops_are_refused(tmp_path):
    data = databases.write_counts(tmp_path / "lmdb", train=2, val=2)
    with pytest.raises(InputError, match="build the database with --no-aug"):
        linear_probe.read_masses(data, ["train"])


@pytest.mark.slow
def test_the_command_puts_starts_on_one_scale(tmp_path):
    data = databases.write_counts(tmp_path / "lmdb", train=20, val=10, rotations=0)
    weights = tmp_path / "start.caffemodel"
    linear_probe.load_start("alexnet", None, seed=1).save(str(weights))

    def probe(*starts):
        command = [sys.executable, SCRIPT, *starts, "--data", data, "--split", "train", "val"]
        environment = os.environ | {"PYTHONPATH": str(definitions.ROOT)}
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)

    done = probe("random_alexnet", weights)
    assert done.returncode == 0, done.stderr
    assert "30 masses of 30 patients (train, val)" in done.stdout
    random, same = (line.split("|")[2:4] for line in done.stdout.splitlines()[-2:])
    assert random == same and random[0].strip() == "256"  # the seed's weights, drawn or read
    assert float(random[1].split()[0]) > 0.8  # the malignant masses' disc is the brighter
    assert "holds the convolutions of neither" in probe(baseline(tmp_path)).stderr


def baseline(tmp_path):
    path = tmp_path / "baseline.caffemodel"
    caffe = definitions.import_caffe()
    caffe.Net(str(definitions.prototxt("baseline", "deploy")), caffe.TEST).save(str(path))
    return path
