"""Saliency maps: the gradient of the unnormalised class score with respect to the image (paper, section 5.3)."""

import numpy as np

from data_prep.core.records import CLASSES
from scripts.evaluation.metrics import THRESHOLD, called_malignant
from scripts.nets import inference


def explain(net, inputs: np.ndarray, of_class: str, threshold: float = THRESHOLD) -> dict[str, np.ndarray]:
    """Return scores and probabilities (n, 2), classes (n,), gradients (n, 3, s, s), maps (n, s, s) of inputs.

    `of_class` is a class, or "predicted": the one that the threshold calls.
    """
    scores, probabilities = forward(net, inputs)
    if of_class == "predicted":
        classes = called_malignant(probabilities[:, 1], threshold).astype(int)
    else:
        classes = np.full(len(inputs), CLASSES.index(of_class))
    gradients = backward(net, classes)
    maps = np.abs(gradients).max(axis=1)
    return {"scores": scores, "probabilities": probabilities, "classes": classes, "gradients": gradients, "maps": maps}


def forward(net, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return unnormalised class scores (n, 2) and probabilities (n, 2) of inputs (n, 3, s, s)."""
    net.blobs[net.inputs[0]].reshape(*inputs.shape)
    probabilities = net.forward(**{net.inputs[0]: inputs})[net.outputs[0]].copy()
    return net.blobs[inference.score_blob(net)].data.copy(), probabilities


def gradient(net, inputs: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the gradient of input i's score for class classes[i] with respect to that input: (n, 3, s, s) float32.

    The net needs `force_backward: true`, or Caffe would stop at the first layer. Backward starts at the layer that
    makes the scores, so the softmax has no part in it. Scores of different inputs do not meet in any layer (batch
    norm uses its stored statistics), so one backward pass serves the whole batch.
    """
    forward(net, inputs)
    return backward(net, classes)


def backward(net, classes: np.ndarray) -> np.ndarray:
    """Return the gradient of the inputs that went through the net last; as `gradient`."""
    scores = inference.score_blob(net)
    one_hot = net.blobs[scores].diff
    one_hot[...] = 0
    one_hot[np.arange(len(classes)), classes] = 1
    maker = [layer for layer, tops in net.top_names.items() if scores in tops][-1]
    return net.backward(start=maker)[net.inputs[0]].copy()
