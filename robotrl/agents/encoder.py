"""From images to a few numbers: a small convolutional encoder, and the random shift that keeps it from learning them by heart.

The layout is that of DrQ-v2 (Yarats et al. 2021, arXiv 2107.09645): 3 x 3 convolutions with ReLU, then a linear layer, layer
normalisation and tanh down to FEATURES. Theirs (32 filters four times, strides 2, 1, 1, 1) costs 226 ms a batch of 128 grey
64 x 64 images, forwards and backwards, on one core of a Xeon without a GPU; this one, strides 4, 2 and a kernel of 5 first, 6 ms
(RGB: 256 and 9 ms; 256 rows: twice). The rest of the encoder that one update runs is one more pass forwards, 2 to 3 ms.

    parameters |= nets.initial(encoder.shapes((64, 64, 3)), 1.0, rng)     numpy arrays, by name; torch.from_numpy each
    images = encoder.random_shift(images, 4, rng)                       (n, 64, 64, 3) uint8, as the replay gives them
    features = encoder.encode(parameters, torch.from_numpy(images))     (n, FEATURES) float32
    features = encoder.seen(parameters, image)                          (FEATURES,) of one image, in numpy alone

A convolution's weights are stored as (filters, channels * kernel * kernel): a matrix like every other layer's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from robotrl.agents import nets

if TYPE_CHECKING:
    from torch import Tensor

Image = NDArray[np.uint8]
LAYERS = ((16, 5, 4), (32, 3, 2))  # filters, kernel, stride; chosen for two cores, see above
FEATURES = 50  # DrQ-v2's and SAC-AE's (Yarats et al. 2019, arXiv 1910.01741)
MIN_SIZE, MAX_SIZE = 32, 128  # of square images, as `task.pixels.size` allows
TRUNK = ("weight", "bias", "norm_gain", "norm_bias")  # of the linear layer


def shapes(image: tuple[int, int, int], prefix: str = "encoder") -> nets.Shapes:
    """Name -> shape of all parameters for images (height, width, channels), ready for `nets.initial`.

    ValueError when an image is too small for the layers.
    """
    height, width, channels = image
    out: nets.Shapes = {}
    for i, (filters, kernel, stride) in enumerate(LAYERS):
        if min(height, width) < kernel:
            raise ValueError(f"encoder: images of {image[:2]} are too small for layer {i}; render them at 64 x 64")
        out[f"{prefix}.{i}.weight"], out[f"{prefix}.{i}.bias"] = (filters, channels * kernel * kernel), (filters,)
        channels, height, width = filters, (height - kernel) // stride + 1, (width - kernel) // stride + 1
    sizes = ((FEATURES, channels * height * width), (FEATURES,), (FEATURES,), (FEATURES,))
    return out | {f"{prefix}.{len(LAYERS)}.{part}": size for part, size in zip(TRUNK, sizes, strict=True)}


def channels_of(parameters: Mapping[str, NDArray[np.float32]], prefix: str = "encoder") -> int:
    """Of the images that these parameters are for; ValueError where they are no encoder's for any square image."""
    kernel = LAYERS[0][1]
    shape = {name: value.shape for name, value in parameters.items()}
    inputs = shape.get(f"{prefix}.0.weight", (0, 0))[-1]
    if inputs and not inputs % kernel**2:
        channels = inputs // kernel**2
        for size in range(MIN_SIZE, MAX_SIZE + 1):
            if shape == shapes((size, size, channels), prefix):
                return channels
    raise ValueError(f"{prefix}: weights of no encoder that is known here: {sorted(shape)}")


def encode(parameters: Mapping[str, Tensor], images: Tensor, prefix: str = "encoder") -> Tensor:
    """images (n, height, width, channels) uint8 -> (n, FEATURES) in (-1, 1), differentiable in the parameters."""
    import torch  # late: a robot acts without it
    import torch.nn.functional as F

    x = images.permute(0, 3, 1, 2).float() / 255.0 - 0.5
    for i, (filters, kernel, stride) in enumerate(LAYERS):
        weight = parameters[f"{prefix}.{i}.weight"].view(filters, -1, kernel, kernel)
        x = F.relu(F.conv2d(x, weight, parameters[f"{prefix}.{i}.bias"], stride))
    weight, bias, gain, offset = (parameters[f"{prefix}.{len(LAYERS)}.{part}"] for part in TRUNK)
    return torch.tanh(F.layer_norm(F.linear(x.flatten(1), weight, bias), gain.shape, gain, offset, nets.NORM_EPSILON))


def seen(parameters: Mapping[str, NDArray[np.float32]], image: Image, prefix: str = "encoder") -> NDArray[np.float32]:
    """One image (height, width, channels) uint8 -> (FEATURES,) float32: the same numbers as `encode`, without torch."""
    x = image.transpose(2, 0, 1).astype(np.float32) / np.float32(255.0) - np.float32(0.5)
    for i, (_, kernel, stride) in enumerate(LAYERS):
        windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
        rows, columns = windows.shape[1:3]
        patches = windows.transpose(0, 3, 4, 1, 2).reshape(-1, rows * columns)  # (channels * kernel * kernel, places)
        x = parameters[f"{prefix}.{i}.weight"] @ patches + parameters[f"{prefix}.{i}.bias"][:, None]
        x = np.maximum(x, 0.0).reshape(-1, rows, columns)
    weight, bias, gain, offset = (parameters[f"{prefix}.{len(LAYERS)}.{part}"] for part in TRUNK)
    y = weight @ x.reshape(-1) + bias
    return np.tanh((y - y.mean()) / np.sqrt(y.var() + np.float32(nets.NORM_EPSILON)) * gain + offset)


def moves(n: int, pad: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How far `random_shift` moves each of n images down and right: (2, n) in 0..2 pad, of which pad is not at all."""
    return rng.integers(0, 2 * pad + 1, (2, n))


def random_shift(images: Image, pad: int, rng: np.random.Generator) -> Image:
    """Each image moved by up to `pad` pixels along both axes, its border repeated: (n, height, width, channels) uint8, a copy.

    Kostrikov et al. 2020 (DrQ), arXiv 2004.13649: pad by repetition, crop at random. Whole pixels, all channels alike; the
    moves of an image are uniform over -pad..pad and independent. ValueError for another shape or type, or a negative pad.
    """
    if images.ndim != 4 or images.dtype != np.uint8 or pad < 0:
        raise ValueError(f"encoder: random_shift wants (n, h, w, c) uint8 and pad >= 0, not {images.dtype} {images.shape}, {pad}")
    n, height, width, channels = images.shape
    down, right = moves(n, pad, rng)
    around = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), "edge").reshape(n, height + 2 * pad, -1)
    windows = np.lib.stride_tricks.sliding_window_view(around, (height, width * channels), axis=(1, 2))  # rows stay whole: memcpy
    return windows[np.arange(n), down, right * channels].reshape(images.shape)
