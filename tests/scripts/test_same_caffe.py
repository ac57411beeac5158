"""The comparison of our Caffe with stock Caffe sees a difference where there is one, and none where there is none."""

import sys

import numpy as np
import pytest

from data_prep.core.errors import InputError
from scripts import same_caffe
from scripts.benchmarks import compare_nets, engine_process
from scripts.benchmarks.compare_nets import SAME_PASS, in_caffe
from scripts.benchmarks.engine_process import STOCK

NET = "baseline"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with weights of the baseline and a pass of our Caffe, which stands for the other Caffe."""
    folder = tmp_path_factory.mktemp("written")
    in_caffe(None, {}, compare_nets.make_weights, NET, folder)
    in_caffe(None, {}, compare_nets.write_pass, NET, "TRAIN", folder)
    return folder


def off(folder) -> dict[str, set[str]]:
    """The arrays of each kind that are not the same in the written pass and in one in our Caffe."""
    found = in_caffe(None, {}, compare_nets.compare_pass, NET, "TRAIN", folder)
    return {kind: {name for name, each in arrays.items() if each > SAME_PASS} for kind, arrays in found.items()}


def test_a_caffe_is_the_same_as_itself(written):
    assert off(written) == {"outputs": set(), "layers": set(), "gradients": set()}


def test_a_single_number_that_is_off_is_found(written):
    for file, name in (("outputs", "conv2: conv2"), ("gradients", "conv3 0")):
        with np.load(written / f"{file}.npz") as arrays:
            changed = dict(arrays)
        numbers = changed[name].reshape(-1)
        numbers[7] += 2 * SAME_PASS * np.abs(numbers).max()
        np.savez(written / f"{file}.npz", **changed)
    found = off(written)
    assert found["outputs"] == {"conv2: conv2"}
    assert "conv2: conv2" in found["layers"]  # and perhaps bn2, which was given it
    assert found["gradients"] == {"conv3 0"}


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        ([4, -8], [4, -8], 0),
        ([4, -8], [5, -8], 1 / 8),
        ([0, 0], [0, 0], 0),
        ([0, 0], [0, 1], np.inf),
        ([1, 2], [1, np.nan], np.inf),
    ],
)
def test_a_difference_is_relative_to_the_largest_number(one, other, wanted):
    assert compare_nets.difference(np.float32(one), np.float32(other)) == wanted


def test_an_array_that_only_one_caffe_has_is_an_error():
    with pytest.raises(KeyError, match="second"):
        compare_nets.differences({"first": np.ones(2)}, {"first": np.ones(2), "second": np.ones(2)})


@pytest.mark.slow
def test_one_seed_gives_the_same_bytes_and_another_rate_others(tmp_path):
    in_caffe(None, {}, compare_nets.make_weights, "googlenet", tmp_path)  # the smaller of the two with dropout
    digests = []
    for rate in (1e-3, 1e-3, 2e-3):
        in_caffe(None, {}, compare_nets.train, "googlenet", tmp_path, 2, rate, "trained.npz")
        digests.append(compare_nets.digest(tmp_path / "trained.npz"))
    assert digests[0] == digests[1] != digests[2]


def test_the_way_apart_is_relative_to_the_way_from_the_start(tmp_path):
    start = {"fc 0": np.zeros(4, np.float32), "statistics of bn 0": np.zeros(1, np.float32)}
    one = {"fc 0": np.float32([3, 4, 0, 0]), "statistics of bn 0": np.float32([1e6])}
    other = {"fc 0": np.float32([3, 4, 0, 1]), "statistics of bn 0": np.float32([2e6])}
    for name, arrays in ((compare_nets.START, start), ("one.npz", one), ("other.npz", other)):
        np.savez(tmp_path / name, **arrays)
    assert compare_nets.relative_weight_distance(tmp_path, "one.npz", "other.npz") == pytest.approx(1 / 5)


def figures(pass_=0.0, losses=0.0, repeated=("a", "a")) -> dict:
    """A net's figures, as compare() returns them."""
    kinds = {kind: {"largest": pass_, "of": "conv1: conv1", "arrays": 9} for kind in ("outputs", "layers", "gradients")}
    training = {who: {"losses": 0.0, "weights": 0.0} for who in ("ours", "one thread")}
    training["ours"]["losses"] = losses
    training["allowed"] = compare_nets.ALWAYS_ALLOWED
    return {"passes": {"TRAIN": kinds}, "training": {"0.01": training}, "repeated": list(repeated)}


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        (figures(pass_=9e-5), 0),
        (figures(pass_=2e-4), 3),
        (figures(pass_=np.inf), 3),
        (figures(losses=2e-5), 1),
        (figures(losses=np.inf), 1),
        (figures(repeated=("a", "b")), 1),
    ],
)
def test_a_broken_bound_is_a_line_that_names_it(found, lines):
    broken = compare_nets.outside(NET, found)
    assert len(broken) == lines and all(line.startswith(NET) for line in broken)


def test_without_stock_caffe_the_script_says_what_to_type(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_process, "STOCK", tmp_path)
    monkeypatch.setattr(sys, "argv", ["same_caffe.py"])
    with pytest.raises(InputError, match=r"setup\.sh --stock"):
        same_caffe.main()


def test_a_net_that_there_is_not_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["same_caffe.py", "resnet"])
    with pytest.raises(InputError, match="resnet: no such net"):
        same_caffe.parse_args()


@pytest.mark.slow
def test_our_baseline_computes_what_stock_caffes_does(tmp_path):
    if not STOCK.is_dir():
        pytest.skip("stock Caffe is not built: scripts/install/setup.sh --stock")
    in_caffe(STOCK, {}, compare_nets.make_weights, NET, tmp_path)
    for phase in compare_nets.PASSES:
        found = compare_nets.compare_passes(NET, phase, tmp_path)
        assert all(each["largest"] <= SAME_PASS for each in found.values()), (phase, found)
