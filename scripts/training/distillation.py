"""The net that is distilled, derived from the hand-written one: it learns the teacher's answers, place by place.

The layers are the hand-written ones up to the last feature map, with a batch norm after each convolution. In place of
the classifier comes a convolution of 1 x 1 that says at each place what the teacher says there. Answers are
standardised by a batch norm, so that each channel counts alike and the loss is the share of their variance that is not
explained: 1 for a net that knows nothing, 0 for one that gives the answers themselves. GoogLeNet gives them at three
places on the way as well, where BVLC's has its auxiliary classifiers and before: so a deep net learns sooner.

After training, `recalibrate` scales the outputs, which leaves what the net computes as it is, but for LRN. Batch norm
makes every layer's output as large as 1, from data in the hundreds: folded in, the first weights would be so small that
one step at the paper's rate overturned them. So outputs go from FIRST to LAST over the depth of the net. GoogLeNet's
fall, which brings the weights to the size that SGD's rates are made for, BVLC's. AlexNet's grow: Adam's steps are as
large whatever a weight's size, and harm a large one less (results/starts). Mean and variance are then estimated again.
"""

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from google.protobuf import text_format

from data_prep.core import provenance
from data_prep.core.errors import InputError
from data_prep.core.files import atomic_write, scratch_folder
from data_prep.core.json_files import write_json
from data_prep.database import lmdb_io
from scripts.evaluation import run_files
from scripts.nets import batch_norm, definitions, teacher
from scripts.nets.caffemodel import read_weights, stored_layers
from scripts.training import distillation_set, run_folder, snapshots
from scripts.training.distillation_set import GRID
from scripts.training.settings import Settings

BATCH, BATCHES = 32, 100  # of views
FIRST, LAST = 32, {"alexnet": 100, "googlenet": 1}  # standard deviation of a block's output before its ReLU, about
SIZE = teacher.CHANNELS * GRID**2  # of an answer
ON_THE_WAY = {"alexnet": (), "googlenet": ("pool3/3x3_s2", "inception_4a/output", "inception_4d/output")}
WINDOWS = (3, 2), (6, 4)  # kernel and stride that average 7 x 7 places to GRID x GRID, and 14 x 14
WEIGHT = 0.3  # of a loss on the way, as of GoogLeNet's auxiliary classifiers


def derive(net: str, data: Path, batch: int, val_batch: int):
    """Return the train_val NetParameter in which the convolutions of `net` learn the answers of the set at `data`."""
    param = definitions.read_net(net)
    features = definitions.last_feature_layer(param)
    while param.layer[-1].name != features:
        del param.layer[-1]
    for layer in param.layer:
        if layer.type == "Convolution":
            filler = layer.convolution_param.weight_filler
            filler.Clear()
            filler.type = "msra"  # under batch norm a weight's size sets how fast it learns: alike in both nets
    batch_norm.insert(param)
    for phase, split, size in (("TRAIN", "train", batch), ("TEST", "val", val_batch)):
        images = definitions.data_layer(param, phase)
        del images.top[1:]  # views have no labels
        for name in ("crop_size", "mirror"):
            images.transform_param.ClearField(name)
        answers = param.layer.add(name="answers", type="Data", top=["answers"], include=images.include)
        answers.data_param.CopyFrom(images.data_param)
        answers.data_param.source, answers.data_param.batch_size = f"{data}/{split}_answers", size
    norm = param.layer.add(name="standard", type="BatchNorm", bottom=["answers"], top=["standard"])
    norm.batch_norm_param.moving_average_fraction = batch_norm.MOVING_AVERAGE
    large = distillation_set.read_content(data)["side"] == teacher.SIDE
    add_loss(param, features, "", WINDOWS[0] if large else None, 1)
    for blob in ON_THE_WAY[net]:
        add_loss(param, blob, "_" + blob.replace("/", "_"), WINDOWS[large], WEIGHT)
    return param


def add_loss(param, features: str, name: str, window: tuple[int, int] | None, weight: float) -> None:
    """Add to a NetParameter what says the answers from a blob (averaged to GRID x GRID places), and its loss."""
    if window:
        pool = param.layer.add(name="pool" + name, type="Pooling", bottom=[features], top=["pool" + name])
        pool.pooling_param.pool = pool.pooling_param.AVE
        pool.pooling_param.kernel_size, pool.pooling_param.stride = window
        features = pool.name
    own = param.layer.add(name="own" + name, type="Convolution", bottom=[features], top=["own" + name])
    own.convolution_param.num_output = teacher.CHANNELS
    own.convolution_param.kernel_size.append(1)
    own.convolution_param.weight_filler.type = "xavier"
    squares = param.layer.add(name="squares" + name, type="EuclideanLoss", bottom=[own.name, "standard"])
    squares.top.append(squares.name)
    squares.loss_weight.append(0)
    loss = param.layer.add(name="loss" + name, type="Power", bottom=[squares.name], top=["loss" + name])
    loss.power_param.scale = 2 / SIZE  # Caffe halves the sum of squares
    loss.loss_weight.append(weight)


def check_snapshot(net: str, weights: Path) -> None:
    """Raise InputError unless a file is a snapshot of a distillation of this net."""
    stored = {layer.name for layer in stored_layers(read_weights(weights))}
    layers = [layer.name for layer in definitions.read_net(net).layer if layer.type == "Convolution"]
    if not stored >= {*layers, *(name + batch_norm.NORM for name in layers)}:
        raise InputError(f"{weights}: holds no {net} with batch norms; give a snapshot of weights/distilled_{net}.run")


def recalibrate(train_val, weights: Path, data: Path):
    """Return a distilled net as a NetParameter, its outputs scaled and its statistics taken anew from views.

    `train_val` is the NetParameter it was trained as, `weights` its snapshot, `data` its set.
    """
    caffe = definitions.import_caffe()
    mean = np.array(definitions.data_layer(train_val, "TRAIN").transform_param.mean_value, np.float32)
    with scratch_folder() as folder:
        prototxt, whole = folder / "net.prototxt", folder / "net.caffemodel"
        prototxt.write_text(text_format.MessageToString(without_data(train_val)))
        net = caffe.Net(str(prototxt), str(weights), caffe.TRAIN)
        rescale(net, LAST[train_val.name])
        batch_norm.reestimate_bn_statistics(net, (views - mean[:, None, None] for views in batches(data / "train")))
        net.save(str(whole))
        return read_weights(whole)


def rescale(net, last: float) -> None:
    """Let the outputs of a caffe.Net's blocks go geometrically from FIRST to `last`.

    A block is one of AlexNet's layers, or one of GoogLeNet's inception modules, whose outputs are concatenated and so
    must be alike; its reductions lie halfway from the block before. The next batch norm undoes what the scale does.
    """
    names = [name for name in net.params if name.endswith(batch_norm.SCALE)]
    blocks = list(dict.fromkeys(name.partition("/")[0] for name in names))
    for name in names:
        depth = blocks.index(name.partition("/")[0]) - 0.5 * ("reduce" in name)
        for blob in net.params[name]:
            blob.data[...] *= FIRST * (last / FIRST) ** (depth / (len(blocks) - 1))


def without_data(train_val):
    """Return a train_val NetParameter that takes images from an Input layer, down to its last feature map."""
    net = definitions.import_caffe().proto.caffe_pb2.NetParameter(name=train_val.name)
    image = net.layer.add(name="data", type="Input", top=["data"])
    image.input_param.shape.add(dim=[1, 3, *[distillation_set.SIDES[0]] * 2])
    names = [layer.name for layer in train_val.layer]
    net.layer.extend(layer for layer in train_val.layer[: names.index("answers")] if layer.type != "Data")
    return net


def batches(views: Path) -> Iterator[np.ndarray]:
    """Yield the first BATCHES batches (BATCH, 1, side, side) float32 of an LMDB of views."""
    records = islice(lmdb_io.records(views), BATCH * BATCHES)
    while some := list(islice(records, BATCH)):
        yield np.stack([record.image for record in some]).astype(np.float32)[:, None]


def finish(folder: Path, settings: Settings, out: Path) -> None:
    """Write the folded weights of the finished run in `folder`, and the JSON that says how they were made."""
    weights = snapshots.file_of(folder, settings.iterations, ".caffemodel")
    train_val = definitions.read_prototxt(folder / run_folder.TRAIN_VAL)
    folded = batch_norm.fold(recalibrate(train_val, weights, Path(settings.data)), out.stem).SerializeToString()
    content = run_files.read_run(folder)
    result = {
        "views": distillation_set.read_content(Path(settings.data)),
        "val_loss": run_files.read_log(folder)[-1]["val_loss"],
        "folded_by": provenance.commit(),
        "sha256": hashlib.sha256(folded).hexdigest(),
    }
    write_json(out.with_suffix(".json"), content | result)
    with atomic_write(out) as path:
        path.write_bytes(folded)
