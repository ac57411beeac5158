"""What the tests of evaluation and saliency are made on: a small database, and nets with random weights."""

from pathlib import Path

import numpy as np

from data_prep.core.records import Box, Film, Mass
from data_prep.database import context_crops, lmdb_io, manifest
from scripts.nets import definitions, inference

SIZE = 227


def database(folder: Path, patients: dict[str, list[str]], source: str = "synthetic") -> Path:
    """Write a finished database: for each split, patients of two masses, malignant and benign in turn."""
    rng = np.random.default_rng(0)
    masses, split, fingerprints = [], {}, {}
    for name, members in patients.items():
        records = []
        for place, patient in enumerate(members):
            split[patient] = name
            pathology = ("MALIGNANT", "BENIGN")[place % 2]
            for view in ("CC", "MLO"):
                film = Film(Path(f"films/{patient}.LEFT_{view}.LJPEG"), 3000, 4000)
                mass = Mass(f"{patient}.LEFT_{view}.1", patient, film, "LEFT", view, 1, pathology, Box(9, 9, 99, 99))
                masses.append(mass)
                key = lmdb_io.key_of(len(records), mass.mass_id)
                records.append(lmdb_io.Record(key, mass.label, film_crop(rng, mass.label)))
        found = lmdb_io.write(folder / name, map(lmdb_io.pack, records), SIZE, max(len(records), 1))
        fingerprints |= {f"{name}/{key}": sha for key, sha in found.items()}
    lmdb_io.write_mean(folder / lmdb_io.MEAN, np.linspace(60, 120, SIZE)[:, None] + np.linspace(0, 30, SIZE))
    manifest.write_csv(folder, masses, split)
    recipe = context_crops.Recipe("large", rotations=0, crops=0, seed=1)._asdict()
    manifest.write_json(folder, {"source": source, **recipe, "digest": lmdb_io.digest(fingerprints)})
    return folder


def film_crop(rng: np.random.Generator, label: int) -> np.ndarray:
    """A noisy grey square with a disc in it, brighter when malignant, that no symmetry maps to itself."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    image = rng.normal(100, 25, (SIZE, SIZE))
    image[(rows - 90) ** 2 + (columns - 130) ** 2 < 45**2] += 30 + 40 * label
    return image.clip(0, 255).astype(np.uint8)


def random_net(net: str, seed: int = 0):
    """A deploy net of Caffe with random weights that keep the signal's size from layer to layer."""
    caffe = definitions.import_caffe()
    caffe.set_mode_cpu()
    caffe_net = caffe.Net(str(definitions.prototxt(net, "deploy")), caffe.TEST)
    rng = np.random.default_rng(seed)
    for name, layer in caffe_net.layer_dict.items():
        blobs = [blob.data for blob in layer.blobs]
        if layer.type in ("Convolution", "InnerProduct"):
            blobs[0][...] = rng.normal(0, np.sqrt(2 / blobs[0][0].size), blobs[0].shape)
            for bias in blobs[1:]:
                bias[...] = rng.normal(0, 0.1, bias.shape)
        elif layer.type == "BatchNorm":
            mean, variance, factor = blobs
            mean[...], variance[...], factor[...] = rng.normal(0, 1, mean.shape), rng.uniform(0.5, 2, mean.shape), 1
        elif layer.type == "Scale":
            blobs[0][...], blobs[1][...] = rng.uniform(0.5, 1.5, blobs[0].shape), rng.normal(0, 0.1, blobs[1].shape)
        elif blobs:
            raise AssertionError(f"{name}: a {layer.type} layer with weights that this helper does not know")
    spread_scores(caffe_net)
    return caffe_net


def spread_scores(caffe_net) -> None:
    """Set the last layer so that film crops get scores of both classes, not far from the threshold."""
    rng = np.random.default_rng(0)
    size = caffe_net.blobs["data"].shape[-1]
    inputs = np.stack([film_crop(rng, i % 2)[:size, :size] for i in range(8)])[:, None] - 110.0
    caffe_net.blobs["data"].reshape(8, 3, size, size)
    caffe_net.forward(data=np.repeat(inputs, 3, axis=1))
    name = inference.score_blob(caffe_net)
    scores = caffe_net.blobs[name].data
    weights, bias = (blob.data for blob in caffe_net.params[name])
    shrink = 2 / (scores[:, 1] - scores[:, 0]).std()
    middle = scores.mean(axis=0) - bias
    weights *= shrink
    bias[...] = -shrink * middle


def snapshot(path: Path, net: str = "baseline", seed: int = 0) -> Path:
    """Write a random net's weights as Caffe's solver would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random_net(net, seed).save(str(path))
    return path
