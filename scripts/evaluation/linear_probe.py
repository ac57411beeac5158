"""A linear probe: how well features that no mass had a part in tell malignant masses from benign ones.

The features are a net's last feature map, averaged over its places. Standardised, they go into a logistic regression
that is fitted on four fifths of the patients and judged on the rest, five times; the AUC is of all masses together.
REPEATS divisions into fifths are averaged, as one alone moves the AUC by some 0.005.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data_prep.core.errors import InputError
from data_prep.database import lmdb_io, manifest
from scripts.evaluation import metrics
from scripts.evaluation.metrics import Estimate
from scripts.nets import caffemodel, definitions, inference, random_init

BATCH = 16
FOLDS, REPEATS = 5, 5
FEW, C_OF_FEW, C_OF_MANY = 256, 0.1, 0.01  # features, and the inverse of the regression's penalty


class Masses(NamedTuple):
    """Upright crops of masses: uint8 images (n, 227, 227), labels and patients (n,)."""

    images: np.ndarray
    labels: np.ndarray
    patients: np.ndarray


def read_masses(data: Path, splits: list[str]) -> Masses:
    """Return the masses of these splits of a database, which must be one without augmentation (InputError)."""
    if manifest.is_augmented(manifest.read_json(data)):
        raise InputError(f"{data}: its training crops are augmented; build the database with --no-aug")
    rows = manifest.read_csv(data)
    records = [record for split in splits for record in lmdb_io.records(data / split)]
    patients = [rows[lmdb_io.mass_id_of(record.key)]["patient"] for record in records]
    labels = [record.label for record in records]
    return Masses(np.stack([record.image for record in records]), np.array(labels), np.array(patients))


def net_of_start(weights: Path) -> str:
    """Return the net whose convolutions a caffemodel fills: "alexnet" or "googlenet"."""
    stored = {layer.name for layer in caffemodel.stored_layers(caffemodel.read_weights(weights))}
    for net in ("alexnet", "googlenet"):
        if _convolutions(net) <= stored:
            return net
    raise InputError(f"{weights}: holds the convolutions of neither AlexNet nor GoogLeNet")


def load_start(net: str, weights: Path | None, seed: int):
    """Return a caffe.Net with a caffemodel's convolutions, or random ones as training from scratch begins with."""
    if weights is None:
        return random_init.load_untrained(net, seed, batches=())
    caffe = definitions.import_caffe()
    caffe_net = caffe.Net(str(definitions.prototxt(net, "deploy")), caffe.TEST)
    param = caffemodel.read_weights(weights)
    caffemodel.check_fit(weights, param, caffemodel.shapes_of(caffe_net), needed=_convolutions(net))
    caffe_net.copy_from(str(weights))
    return caffe_net


def features(net: str, caffe_net, images: np.ndarray, data: Path) -> Iterator[np.ndarray]:
    """Yield the last feature map, averaged over its places, of uint8 images (n, 227, 227): (channels,) each."""
    last = definitions.last_feature_layer(definitions.read_net(net, "deploy"))
    for start in range(0, len(images), BATCH):
        inputs = inference.preprocess(net, images[start : start + BATCH], data)
        caffe_net.blobs["data"].reshape(*inputs.shape)
        caffe_net.blobs["data"].data[...] = inputs
        caffe_net.forward(end=last)
        yield from caffe_net.blobs[last].data.mean(axis=(2, 3))


def probe(found: np.ndarray, masses: Masses) -> Estimate:
    """Return the AUC of features (n, channels), with an interval that resamples patients."""
    regression = LogisticRegression(C=C_OF_FEW if found.shape[1] <= FEW else C_OF_MANY, max_iter=1000)
    repeats = [
        cross_val_predict(
            make_pipeline(StandardScaler(), regression),
            found,
            masses.labels,
            groups=masses.patients,
            cv=StratifiedGroupKFold(FOLDS, shuffle=True, random_state=repeat),
            method="predict_proba",
        )[:, 1]
        for repeat in range(REPEATS)
    ]
    aucs = [roc_auc_score(masses.labels, each) for each in repeats]
    drawn = [
        metrics.resample(masses.labels, each, masses.patients, metrics.DRAWS, metrics.SEED)["auc"] for each in repeats
    ]
    return metrics.estimate(float(np.mean(aucs)), np.mean(drawn, axis=0), masses.patients)


def _convolutions(net: str) -> set[str]:
    deploy = definitions.read_net(net, "deploy")
    return {layer.name for layer in deploy.layer if layer.type == "Convolution"}
