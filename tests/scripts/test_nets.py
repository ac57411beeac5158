"""The hand-written nets and solvers, and what the drivers share about them, judged by Caffe itself."""

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep.core.errors import InputError
from data_prep.database import lmdb_io
from scripts.evaluation import paper_results
from scripts.nets import caffemodel, definitions, device, inference
from tests.helpers import databases

PAPER_TRAINING_IMAGES = 36_400  # 1,456 masses x 25 crops
GOOGLENET_WIDTHS = {  # 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection (Szegedy et al., Table 1)
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
ALEXNET_SHAPES = {
    "conv1": [(96, 3, 11, 11), (96,)],
    "conv2": [(256, 48, 5, 5), (256,)],
    "conv3": [(384, 256, 3, 3), (384,)],
    "conv4": [(384, 192, 3, 3), (384,)],
    "conv5": [(256, 192, 3, 3), (256,)],
    "fc6_mass": [(4096, 9216), (4096,)],
    "fc7_mass": [(4096, 4096), (4096,)],
    "fc8_mass": [(2, 4096), (2,)],
}
BASELINE_SHAPES = {
    **{f"conv{i}": [shape] for i, shape in ((1, (32, 3, 3, 3)), (2, (32, 32, 3, 3)), (3, (64, 32, 3, 3)))},
    **{f"bn{i}": [(n,), (n,), (1,)] for i, n in ((1, 32), (2, 32), (3, 64))},
    **{f"scale{i}": [(n,), (n,)] for i, n in ((1, 32), (2, 32), (3, 64))},
    "fc1": [(128, 64 * 28 * 28), (128,)],
    "fc2": [(64, 128), (64,)],
    "score": [(2, 64), (2,)],
}
PARAMETERS = {"baseline": 6_460_069, "alexnet": 56_876_418, "googlenet": 5_975_602}
LAST = {"baseline": "score", "alexnet": "fc8_mass", "googlenet": "loss3/classifier_mass"}

caffe = definitions.import_caffe()
pb = caffe.proto.caffe_pb2
every_net = pytest.mark.parametrize("net", definitions.NETS)


def train_val(net):
    return definitions.read_prototxt(definitions.prototxt(net, "train_val"))


def solver(net):
    return definitions.read_prototxt(definitions.solver_prototxt(net), "SolverParameter")


def layers(net):
    return {layer.name: layer for layer in train_val(net).layer if layer.type != "Data"}


def googlenet_shapes():
    shapes = {"conv1/7x7_s2": (64, 3, 7, 7), "conv2/3x3_reduce": (64, 64, 1, 1), "conv2/3x3": (192, 64, 3, 3)}
    depth = 192
    for tag, (n1, r3, n3, r5, n5, pool) in GOOGLENET_WIDTHS.items():
        for part, shape in {
            "1x1": (n1, depth, 1, 1),
            "3x3_reduce": (r3, depth, 1, 1),
            "3x3": (n3, r3, 3, 3),
            "5x5_reduce": (r5, depth, 1, 1),
            "5x5": (n5, r5, 5, 5),
            "pool_proj": (pool, depth, 1, 1),
        }.items():
            shapes[f"inception_{tag}/{part}"] = shape
        depth = n1 + n3 + n5 + pool
    shapes["loss3/classifier_mass"] = (2, 1024)
    return {name: [shape, shape[:1]] for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return databases.write_counts(tmp_path_factory.mktemp("data") / "lmdb", train=10, val=7)


@pytest.fixture(scope="module")
def root(tmp_path_factory, database):
    """A folder laid out like the repository's root: the real prototxts, with small batches, and a small database."""
    folder = tmp_path_factory.mktemp("root")
    for name in ("prototxt", "solvers"):
        shutil.copytree(definitions.ROOT / name, folder / name)
    for path in folder.rglob("train_val.prototxt"):
        path.write_text(re.sub(r"batch_size: \d+", "batch_size: 2", path.read_text()))
    (folder / "data").mkdir()
    (folder / "runs").mkdir()
    (folder / "data" / "lmdb").symlink_to(database)
    return folder


@pytest.fixture(scope="module")
def random_weights(root, tmp_path_factory):
    """A file of random weights for each net, saved by Caffe as a snapshot is."""
    folder = tmp_path_factory.mktemp("random")
    files = {}
    for net in definitions.NETS:
        caffe.set_random_seed(1)
        files[net] = folder / f"{net}.caffemodel"
        caffe_net = in_root(root, net, caffe.TRAIN)
        caffe_net.forward()  # gives batch norm its running statistics
        caffe_net.save(str(files[net]))
    return files


def in_root(root, net, phase):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        return caffe.Net(f"prototxt/{net}/train_val.prototxt", phase)


# ---- the files


@every_net
@pytest.mark.parametrize("kind", ["train_val", "deploy"])
def test_net_is_named_after_its_folder(net, kind):
    assert definitions.read_prototxt(definitions.prototxt(net, kind)).name == net


@pytest.mark.parametrize(
    ("net", "shapes"),
    [("baseline", BASELINE_SHAPES), ("alexnet", ALEXNET_SHAPES), ("googlenet", googlenet_shapes())],
)
def test_parameters_have_the_published_shapes(net, shapes):
    caffe_net = caffe.Net(str(definitions.prototxt(net, "deploy")), caffe.TEST)
    found = {name: blobs for name, blobs in caffemodel.shapes_of(caffe_net).items() if blobs}
    assert found == shapes
    assert sum(math.prod(shape) for blobs in found.values() for shape in blobs) == PARAMETERS[net]


@every_net
def test_training_net_has_the_deploy_nets_shapes(net, root):
    deploy = caffemodel.shapes_of(caffe.Net(str(definitions.prototxt(net, "deploy")), caffe.TEST))
    training = caffemodel.shapes_of(in_root(root, net, caffe.TRAIN))
    assert {name: shape for name, shape in training.items() if shape} == {k: v for k, v in deploy.items() if v}


def test_activations_shrink_as_published():
    def sizes(net, *names):
        caffe_net = caffe.Net(str(definitions.prototxt(net, "deploy")), caffe.TEST)
        return [tuple(caffe_net.blobs[name].shape)[1:] for name in names]

    assert sizes("baseline", "pool1", "pool2", "pool3") == [(32, 112, 112), (32, 56, 56), (64, 28, 28)]
    assert sizes("alexnet", "conv1", "pool1", "pool2", "pool5") == [
        (96, 55, 55),
        (96, 27, 27),
        (256, 13, 13),
        (256, 6, 6),
    ]
    assert sizes(
        "googlenet", "pool2/3x3_s2", "pool3/3x3_s2", "pool4/3x3_s2", "inception_5b/output", "pool5/7x7_s1"
    ) == [
        (192, 28, 28),
        (480, 14, 14),
        (832, 7, 7),
        (1024, 7, 7),
        (1024, 1, 1),
    ]


@every_net
def test_deploy_agrees_with_train_val_layer_by_layer(net):
    def essence(layer):
        bare = pb.LayerParameter()
        bare.CopyFrom(layer)
        bare.ClearField("param")
        for name in ("convolution_param", "inner_product_param"):
            if bare.HasField(name):
                getattr(bare, name).ClearField("weight_filler")
                getattr(bare, name).ClearField("bias_filler")
        return bare

    deploy = definitions.read_prototxt(definitions.prototxt(net, "deploy"))
    first, *middle, last = deploy.layer
    assert [essence(layer) for layer in middle] == [
        essence(layer) for name, layer in layers(net).items() if name not in ("loss", "accuracy")
    ]
    assert (first.name, first.type, last.name, last.type) == ("data", "Input", "prob", "Softmax")
    assert list(last.bottom) == list(layers(net)["loss"].bottom)[:1] == [LAST[net]]
    size = definitions.data_layer(train_val(net), "TEST").transform_param.crop_size
    assert list(first.input_param.shape[0].dim) == [1, 3, size, size]
    assert deploy.force_backward


@every_net
def test_deploy_scores_as_the_validation_net_does(net, root, random_weights):
    validation = in_root(root, net, caffe.TEST)
    validation.copy_from(str(random_weights[net]))
    validation.forward()
    deploy = inference.load_deploy(net, random_weights[net], batch=2)
    inference.predict(deploy, validation.blobs["data"].data)
    expected = validation.blobs[LAST[net]].data
    np.testing.assert_allclose(deploy.blobs[inference.score_blob(deploy)].data, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(expected).max() > 0


@every_net
def test_data_layers_show_grey_as_colour_and_mirror_in_training_only(net):
    for phase, split in (("TRAIN", "train"), ("TEST", "val")):
        layer = definitions.data_layer(train_val(net), phase)
        assert layer.data_param.source == f"data/lmdb/{split}"
        assert layer.data_param.backend == pb.DataParameter.LMDB
        transform = layer.transform_param
        assert transform.force_color
        assert transform.mirror == (phase == "TRAIN")
        assert transform.crop_size == (227 if net == "alexnet" else 224)
        if net == "baseline":
            assert transform.mean_file == "data/lmdb/mean.binaryproto"
        else:
            assert list(transform.mean_value) == [104, 117, 123]


def test_baseline_is_three_blocks_of_the_papers_kind():
    types = [layer.type for layer in layers("baseline").values()]
    block = ["Convolution", "BatchNorm", "Scale", "ReLU", "Pooling"]
    fully_connected = ["InnerProduct", "ReLU", "InnerProduct", "ReLU", "InnerProduct"]
    assert types == 3 * block + fully_connected + ["SoftmaxWithLoss", "Accuracy"]
    for layer in layers("baseline").values():
        if layer.type in ("Convolution", "InnerProduct"):
            kind = layer.convolution_param if layer.type == "Convolution" else layer.inner_product_param
            assert kind.weight_filler.type == "xavier"
        if layer.type == "Scale":
            assert layer.scale_param.bias_term
        if layer.type == "BatchNorm":
            assert not layer.batch_norm_param.HasField("use_global_stats")


def rates(layer):
    return tuple((round(param.lr_mult, 6), param.decay_mult) for param in layer.param)


def test_alexnet_rates_and_renamed_layers():
    found = {name: rates(layer) for name, layer in layers("alexnet").items() if layer.param}
    slow, new = ((0.1, 1), (0.2, 0)), ((1, 1), (2, 0))
    expected = {f"conv{i}": slow for i in range(1, 6)} | {f"fc{i}_mass": new for i in (6, 7, 8)}
    assert found == expected
    assert not {"fc6", "fc7", "fc8"} & set(layers("alexnet"))
    assert [layers("alexnet")[name].dropout_param.dropout_ratio for name in ("drop6", "drop7")] == [0.5, 0.5]


def test_alexnet_fillers_are_bvlcs():
    fillers = {}
    for name in ALEXNET_SHAPES:
        layer = layers("alexnet")[name]
        kind = layer.convolution_param if layer.type == "Convolution" else layer.inner_product_param
        assert (kind.weight_filler.type, kind.bias_filler.type) == ("gaussian", "constant")
        fillers[name] = (round(kind.weight_filler.std, 6), round(kind.bias_filler.value, 6))
    assert fillers == {
        "conv1": (0.01, 0),
        "conv2": (0.01, 0.1),
        "conv3": (0.01, 0),
        "conv4": (0.01, 0.1),
        "conv5": (0.01, 0.1),
        "fc6_mass": (0.005, 0.1),
        "fc7_mass": (0.005, 0.1),
        "fc8_mass": (0.01, 0),
    }


def test_googlenet_rates_follow_the_paper():
    for name, layer in layers("googlenet").items():
        if layer.param:
            new = name.startswith(("inception_5a", "inception_5b"))
            last = name == "loss3/classifier_mass"
            factor = 10 if last else 1 if new else 0.1
            assert rates(layer) == ((factor, 1), (2 * factor, 0)), name
    assert definitions.slow_layers(train_val("googlenet")) == {
        name for name in googlenet_shapes() if not name.startswith(("inception_5", "loss3"))
    }


def test_googlenet_has_no_auxiliary_head_and_the_papers_dropout():
    names = set(layers("googlenet"))
    assert not [name for name in names if name.startswith(("loss1", "loss2"))]
    assert [layer.type for layer in layers("googlenet").values()].count("SoftmaxWithLoss") == 1
    assert "loss3/classifier" not in names
    assert layers("googlenet")["pool5/drop_7x7_s1"].dropout_param.dropout_ratio == pytest.approx(0.2)


@every_net
def test_accuracy_is_measured_in_both_phases(net):
    assert not layers(net)["accuracy"].include
    assert list(layers(net)["accuracy"].bottom) == [LAST[net], "label"]


@pytest.mark.parametrize(
    ("net", "kind", "rate", "momentum", "batch"),
    [("baseline", "Adam", 1e-3, 0.9, 64), ("alexnet", "Adam", 1e-3, 0.9, 256), ("googlenet", "SGD", 1e-2, 0, 32)],
)
def test_solver_is_the_papers(net, kind, rate, momentum, batch):
    found = solver(net)
    assert (found.type, round(found.base_lr, 9), found.lr_policy) == (kind, rate, "fixed")
    assert found.momentum == pytest.approx(momentum)
    assert found.momentum2 == pytest.approx(0.999)
    assert definitions.data_layer(train_val(net), "TRAIN").data_param.batch_size == batch
    assert found.max_iter == math.ceil(paper_results.TEST[net].epochs * PAPER_TRAINING_IMAGES / batch)
    assert found.test_interval == found.snapshot == round(PAPER_TRAINING_IMAGES / batch)
    val_batch = definitions.data_layer(train_val(net), "TEST").data_param.batch_size
    assert found.test_iter[0] * val_batch == paper_results.TEST_MALIGNANT + paper_results.TEST_BENIGN
    assert found.random_seed >= 0
    assert not found.HasField("solver_mode")  # so that `caffe train` alone decides: CPU, or GPU with -gpu


@every_net
def test_every_path_follows_the_one_rule(net):
    assert (definitions.ROOT / solver(net).net).samefile(definitions.prototxt(net, "train_val"))
    assert solver(net).snapshot_prefix == f"runs/{net}"
    for phase in ("TRAIN", "TEST"):
        layer = definitions.data_layer(train_val(net), phase)
        for path in filter(None, (layer.data_param.source, layer.transform_param.mean_file)):
            assert Path(path).parent == Path("data/lmdb")


def test_no_other_file_sets_paths():
    """What the tests above read is all there is: a net more, or a solver more, must be tested too."""
    assert sorted(path.name for path in (definitions.ROOT / "prototxt").iterdir()) == sorted(definitions.NETS)
    solvers = {path.stem: path.read_text() for path in (definitions.ROOT / "solvers").iterdir()}
    # pretrain.py fills in what the others say themselves
    assert not re.search(r"^(net|snapshot_prefix):", solvers.pop("distillation"), re.MULTILINE)
    assert sorted(solvers) == sorted(definitions.NETS)


@pytest.mark.slow
@every_net
def test_caffe_train_works_as_typed(net, root):
    path = root / "solvers" / f"{net}.prototxt"
    short = re.sub(r"(max_iter|test_iter): \d+", r"\1: 1", path.read_text())
    path.write_text(short)
    caffe_binary = Path(sys.executable).with_name("caffe")
    command = [caffe_binary, "train", "-solver", f"solvers/{net}.prototxt"]
    loud = os.environ | {"GLOG_minloglevel": "0"}
    done = subprocess.run(command, cwd=root, env=loud, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Use CPU." in done.stderr
    snapshot = root / "runs" / f"{net}_iter_1.caffemodel"
    assert caffemodel.read_snapshot(snapshot).name == net
    for file in (root / "runs").iterdir():
        file.unlink()


# ---- running them


@every_net
def test_preprocess_gives_what_the_data_layer_feeds(net, root, database):
    caffe_net = in_root(root, net, caffe.TEST)
    fed = []
    for _ in range(3):
        caffe_net.forward(end="data")
        fed.append(caffe_net.blobs["data"].data.copy())
    images = np.stack([record.image for record in lmdb_io.records(database / "val")][:6])
    found = inference.preprocess(net, images, database)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.concatenate(fed))


def test_prediction_does_not_depend_on_the_batch(random_weights):
    inputs = np.random.default_rng(0).normal(0, 50, (5, 3, 224, 224)).astype(np.float32)
    one = inference.predict(inference.load_deploy("googlenet", random_weights["googlenet"], batch=1), inputs)
    many = inference.predict(inference.load_deploy("googlenet", random_weights["googlenet"], batch=4), inputs)
    np.testing.assert_allclose(one, many, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(one.sum(axis=1), 1, rtol=1e-5)
    assert len(np.unique(one[:, 0])) == 5


def test_gradient_of_a_score_reaches_the_image(random_weights):
    net = inference.load_deploy("googlenet", random_weights["googlenet"])
    inference.predict(net, np.random.default_rng(0).normal(0, 50, (1, 3, 224, 224)).astype(np.float32))
    score = net.blobs[inference.score_blob(net)]
    score.diff[...] = [[0, 1]]
    net.backward(start=LAST["googlenet"])
    assert np.abs(net.blobs["data"].diff).max() > 0


# ---- weights


def test_snapshot_tells_its_net(random_weights):
    assert {net: caffemodel.read_snapshot(path).name for net, path in random_weights.items()} == {
        net: net for net in definitions.NETS
    }


def test_weights_of_another_net_are_refused(random_weights):
    with pytest.raises(InputError, match=r"lacks layers|other shapes|none of its layers"):
        inference.load_deploy("baseline", random_weights["googlenet"])


def test_unknown_net_name_is_refused(tmp_path):
    path = tmp_path / "other.caffemodel"
    path.write_bytes(pb.NetParameter(name="LeNet", layer=[pb.LayerParameter(name="ip")]).SerializeToString())
    with pytest.raises(InputError, match="LeNet"):
        caffemodel.read_snapshot(path)


@pytest.mark.parametrize("missing", ["file", "folder", "content"])
def test_unreadable_weights_are_an_input_error(missing, tmp_path):
    path = tmp_path / "x.caffemodel"
    if missing == "folder":
        path.mkdir()
    if missing == "content":
        path.touch()
    with pytest.raises(InputError, match=r"x\.caffemodel"):
        caffemodel.read_weights(path)


def test_newest_whole_snapshot_is_found_past_damaged_ones(random_weights, tmp_path, capsys):
    whole = random_weights["baseline"].read_bytes()
    param = pb.NetParameter.FromString(whole)
    del param.layer[-6:]
    for order, (name, content) in enumerate(
        {"old": whole, "whole": whole, "cut": whole[:-1000], "cut_between_layers": param.SerializeToString()}.items()
    ):
        path = tmp_path / "runs" / name / "snapshot_iter_5.caffemodel"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        os.utime(path, (order, order))
    assert caffemodel.newest_snapshot(tmp_path / "runs") == tmp_path / "runs" / "whole" / "snapshot_iter_5.caffemodel"
    assert capsys.readouterr().err.count("skipped:") == 2


def test_no_snapshot_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"train\.py"):
        caffemodel.newest_snapshot(tmp_path)


def old_style(param, rename=None):
    """The same weights as a file of Caffe's first years: V1 `layers`, four sizes a blob."""
    old = pb.NetParameter(name="CaffeNet")
    for layer in param.layer:
        if layer.blobs:
            name = (rename or {}).get(layer.name, layer.name)
            kind = "CONVOLUTION" if layer.type == "Convolution" else "INNER_PRODUCT"
            stored = old.layers.add(name=name, type=pb.V1LayerParameter.LayerType.Value(kind))
            for blob in layer.blobs:
                num, channels, height, width = (1,) * (4 - len(blob.shape.dim)) + tuple(blob.shape.dim)
                stored.blobs.add(num=num, channels=channels, height=height, width=width, data=blob.data)
    return old


@pytest.fixture(scope="module")
def bvlc_like(random_weights, tmp_path_factory):
    """GoogLeNet weights as BVLC's file holds them: V1 layers, a 1000-class classifier under BVLC's name."""
    param = caffemodel.read_weights(random_weights["googlenet"])
    classifier = next(layer for layer in param.layer if layer.name == "loss3/classifier_mass")
    classifier.blobs[0].shape.dim[:] = [1000, 1024]
    classifier.blobs[0].data[:] = np.zeros(1000 * 1024)
    classifier.blobs[1].shape.dim[:] = [1000]
    classifier.blobs[1].data[:] = np.zeros(1000)
    path = tmp_path_factory.mktemp("bvlc") / "bvlc_googlenet.caffemodel"
    path.write_bytes(old_style(param, {"loss3/classifier_mass": "loss3/classifier"}).SerializeToString())
    return path


def test_old_style_weights_fit_as_caffe_copies_them(bvlc_like, random_weights):
    net = caffe.Net(str(definitions.prototxt("googlenet", "deploy")), caffe.TEST)
    fit = caffemodel.check_fit(bvlc_like, caffemodel.read_weights(bvlc_like), caffemodel.shapes_of(net), needed=set())
    net.copy_from(str(bvlc_like))
    filled = [name for name, blobs in net.params.items() if np.abs(blobs[0].data).max() > 0]
    assert fit.copied == filled
    assert fit.random == ["loss3/classifier_mass"]
    expected = {layer.name: layer for layer in caffemodel.read_weights(random_weights["googlenet"]).layer}
    for name in fit.copied:
        np.testing.assert_array_equal(net.params[name][0].data.ravel(), expected[name].blobs[0].data)


def test_old_style_fully_connected_layers_fit(random_weights, tmp_path):
    param = caffemodel.read_weights(random_weights["baseline"])
    kept = [layer for layer in param.layer if layer.type == "InnerProduct"]
    path = tmp_path / "old.caffemodel"
    path.write_bytes(old_style(pb.NetParameter(layer=kept)).SerializeToString())
    net = caffe.Net(str(definitions.prototxt("baseline", "deploy")), caffe.TEST)
    fit = caffemodel.check_fit(path, caffemodel.read_weights(path), caffemodel.shapes_of(net), needed=set())
    assert fit.copied == ["fc1", "fc2", "score"]
    net.copy_from(str(path))
    np.testing.assert_array_equal(net.params["fc2"][0].data.ravel(), kept[1].blobs[0].data)


def aborts(net, path):
    """Whether Caffe itself ends the process over these weights."""
    code = f"import caffe; caffe.Net({str(definitions.prototxt(net, 'deploy'))!r}, caffe.TEST).copy_from({str(path)!r})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode < 0


@pytest.mark.parametrize("fault", ["shape", "blobs", "old_shape"])
def test_misfits_that_make_caffe_abort_are_input_errors(fault, random_weights, tmp_path):
    param = caffemodel.read_weights(random_weights["baseline"])
    score = next(layer for layer in param.layer if layer.name == "score")
    if fault == "shape":
        score.blobs[0].shape.dim[:] = [4, 32]
    elif fault == "blobs":
        del score.blobs[1:]
    else:
        score.blobs[0].ClearField("shape")
        score.blobs[0].num, score.blobs[0].channels, score.blobs[0].height, score.blobs[0].width = 2, 64, 1, 1
    path = tmp_path / "misfit.caffemodel"
    path.write_bytes(param.SerializeToString())
    with pytest.raises(InputError, match="score"):
        inference.load_deploy("baseline", path)
    assert aborts("baseline", path)


def test_layers_that_must_be_pretrained_may_not_be_missing(bvlc_like):
    param = caffemodel.read_weights(bvlc_like)
    shapes = caffemodel.shapes_of(caffe.Net(str(definitions.prototxt("googlenet", "deploy")), caffe.TEST))
    slow = definitions.slow_layers(train_val("googlenet"))
    assert caffemodel.check_fit(bvlc_like, param, shapes, needed=slow).random == ["loss3/classifier_mass"]
    kept = [layer for layer in param.layers if layer.name != "inception_3a/3x3"]
    with pytest.raises(InputError, match="inception_3a/3x3"):
        caffemodel.check_fit(bvlc_like, pb.NetParameter(layers=kept), shapes, needed=slow)


def test_weights_that_fill_nothing_are_refused(bvlc_like):
    shapes = caffemodel.shapes_of(caffe.Net(str(definitions.prototxt("baseline", "deploy")), caffe.TEST))
    with pytest.raises(InputError, match="none of its layers"):
        caffemodel.check_fit(bvlc_like, caffemodel.read_weights(bvlc_like), shapes, needed=set())


# ---- what can be wrong around Caffe


def test_missing_caffe_says_how_to_get_it():
    code = "import sys; sys.modules['caffe'] = None; from scripts.nets import definitions; definitions.import_caffe()"
    done = subprocess.run([sys.executable, "-c", code], cwd=definitions.ROOT, capture_output=True, text=True)
    assert "InputError: Caffe cannot be imported" in done.stderr
    assert "make setup" in done.stderr


@pytest.mark.parametrize("gpu", ["0,1", "all", "-1", "99"])
def test_gpu_that_is_not_there_is_an_input_error(gpu):
    with pytest.raises(InputError, match=f"--gpu {gpu}"):
        device.set_mode(gpu)


def test_damaged_prototxt_names_the_line(tmp_path):
    path = tmp_path / "train_val.prototxt"
    path.write_text('name: "x"\nlayer { nme: "conv1" }\n')
    with pytest.raises(InputError, match=r"train_val\.prototxt: 2:9"):
        definitions.read_prototxt(path)
