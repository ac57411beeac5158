"""A Caffe net as a PyTorch module, written as PyTorch's users write one, and its solver as a PyTorch optimizer.

Both come from Caffe's messages as plain dicts (solver.plain), so that a process that runs PyTorch need not load
Caffe as well. Needs torch (requirements-benchmark.txt).
"""

from collections import defaultdict
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from data_prep.core.errors import InputError

OUTSIDE = ("Data", "DummyData", "Accuracy", "SoftmaxWithLoss")  # the module begins with images and ends with scores


class TorchNet(nn.Module):
    """The layers of a train_val NetParameter, in their order and under their names, from the data to the scores.

    Takes images (n, 3, side, side), returns unnormalised class scores (n, 2). A BatchNorm and the Scale layer after it
    are one nn.BatchNorm2d, under the first one's name. Raises InputError for a layer that the three nets do not have.
    """

    def __init__(self, train_val: dict, side: int) -> None:
        super().__init__()
        layers = [layer for layer in train_val["layer"] if layer["type"] not in OUTSIDE]
        self.scales = {one["name"]: two["name"] for one, two in pairwise(layers) if one["type"] == "BatchNorm"}
        self.layers = [layer for layer in layers if layer["type"] != "Scale"]
        self.last_use = {name: number for number, layer in enumerate(self.layers) for name in layer["bottom"]}
        self.parts = nn.ModuleDict({layer["name"]: part(layer) for layer in self.layers})
        with torch.no_grad():
            self.eval()(torch.zeros(1, 3, side, side))  # gives the lazy modules their input sizes
        self.train()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        blobs = {"data": images}
        for number, layer in enumerate(self.layers):
            top = self.parts[layer["name"]](*(blobs[name] for name in layer["bottom"]))
            for name in layer["bottom"]:
                if self.last_use[name] == number:
                    del blobs[name]  # as a local variable ends: the memory may be used again
            blobs[layer["top"][0]] = top
        return top

    def caffe_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by the Caffe layer that holds them, in the order of its blobs."""
        found = {self.scales.get(name, name): list(part.parameters()) for name, part in self.parts.items()}
        return {name: parameters for name, parameters in found.items() if parameters}

    def copy_weights(self, weights: dict[str, list[np.ndarray]]) -> None:
        """Take over the blobs of Caffe's layers, by name; those of a BatchNorm are its running statistics."""
        with torch.no_grad():
            for name, parameters in self.caffe_parameters().items():
                for parameter, blob in zip(parameters, weights[name], strict=True):
                    parameter.copy_(torch.from_numpy(blob))
            for name in self.scales:
                mean, variance, factor = (torch.from_numpy(blob) for blob in weights[name])
                self.parts[name].running_mean.copy_(mean / factor)
                self.parts[name].running_var.copy_(variance / factor)


class Concat(nn.Module):
    """Joins its inputs along their channels."""

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat(inputs, 1)


def part(layer: dict) -> nn.Module:
    """Return the PyTorch module that does what a Caffe layer does."""
    match layer["type"]:
        case "Convolution":
            own = layer["convolution_param"]
            (size,) = own["kernel_size"]
            stride, pad = own["stride"] or [1], own["pad"] or [0]
            return nn.LazyConv2d(own["num_output"], size, stride[0], pad[0], 1, own["group"], own["bias_term"])
        case "InnerProduct":
            return nn.Sequential(nn.Flatten(), nn.LazyLinear(layer["inner_product_param"]["num_output"]))
        case "Pooling":
            own = layer["pooling_param"]
            kind = {"MAX": nn.MaxPool2d, "AVE": nn.AvgPool2d}[own["pool"]]
            return kind(own["kernel_size"], own["stride"], own["pad"], ceil_mode=True)
        case "LRN":
            own = layer["lrn_param"]
            return nn.LocalResponseNorm(own["local_size"], own["alpha"], own["beta"], own["k"])
        case "BatchNorm":
            return nn.LazyBatchNorm2d(eps=1e-5, momentum=1e-3)  # Caffe's defaults: eps, moving_average_fraction 0.999
        case "ReLU":
            return nn.ReLU(inplace=True)
        case "Dropout":
            return nn.Dropout(layer["dropout_param"]["dropout_ratio"])
        case "Concat":
            return Concat()
    raise InputError(f"layer {layer['name']}: PyTorch's nets here have no layer of type {layer['type']}; add it")


def optimizer(net: TorchNet, train_val: dict, solver: dict, base_lr: float) -> torch.optim.Optimizer:
    """Return the optimizer that does what a Caffe solver does, at another base_lr.

    Each pair of lr_mult and decay_mult is a group of parameters. The solver is Adam, or SGD without momentum.
    """
    written = {layer["name"]: layer["param"] for layer in train_val["layer"]}
    groups = defaultdict(list)
    for name, parameters in net.caffe_parameters().items():
        pairs = [(own["lr_mult"], own["decay_mult"]) for own in written[name]] or [(1, 1)] * len(parameters)
        for parameter, pair in zip(parameters, pairs, strict=True):
            groups[pair].append(parameter)
    decay = solver["weight_decay"]
    options = [
        {"params": parameters, "lr": base_lr * lr_mult, "weight_decay": decay * decay_mult}
        for (lr_mult, decay_mult), parameters in groups.items()
    ]
    if solver["type"] == "Adam":
        return torch.optim.Adam(options, betas=(solver["momentum"], solver["momentum2"]), fused=True)
    if solver["type"] == "SGD" and not solver["momentum"]:
        return torch.optim.SGD(options, fused=True)
    raise InputError(f"solver type {solver['type']}, momentum {solver['momentum']}: not written for PyTorch; add it")
