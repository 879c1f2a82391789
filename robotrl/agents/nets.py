"""The networks as named arrays: which parameters there are, in which order, and how they begin.

Every engine of the agent (the readable page and the fused ones) uses these names, this order and these first
values, so that a state can be carried from one engine to another. A linear layer is y = W x + b, W (out, in).

    actor.<layer>.{weight,bias}             observation -> hidden ... -> (mean, log_std), 2 * action_size rows
    critic.<i>.<layer>.{weight,bias}        concat(observation, action) -> hidden ... -> Q_i, 1 row
    critic.<i>.<layer>.{norm_gain,norm_bias}  of hidden layers, with layer normalisation: gain * (y - mean) / std + bias
    target.<i>.<layer>...                   the critics' slowly following copies
    log_alpha                               (1,) logarithm of the temperature
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Shapes = dict[str, tuple[int, ...]]

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0  # clamp of log sigma; a common choice (CleanRL), not from the paper
NORM_EPSILON = 1e-5  # added to a layer's variance; torch.nn.LayerNorm's


def shapes(observation_size: int, action_size: int, hidden: tuple[int, ...], critics: int, layer_norm: bool = False) -> Shapes:
    """Name -> shape of all parameters, in the order in which they are drawn, stored and flattened."""
    out = _layers("actor", (observation_size, *hidden, 2 * action_size))
    for kind in ("critic", "target"):
        for i in range(critics):
            out |= _layers(f"{kind}.{i}", (observation_size + action_size, *hidden, 1), layer_norm)
    return out | {"log_alpha": (1,)}


def initial(shapes: Shapes, temperature: float, rng: np.random.Generator) -> dict[str, Array]:
    """First values: weights, biases uniform in +-1/sqrt(fan_in), as torch.nn.Linear; targets = critics.

    Drawn from `rng` in the order of `shapes`, so that they depend on the seed alone. A normalisation begins with
    gain 1 and bias 0, which draw nothing.
    """
    out: dict[str, Array] = {}
    bound = 0.0
    for name, shape in shapes.items():
        if name == "log_alpha":
            out[name] = np.full(shape, math.log(temperature), np.float32)
        elif name.startswith("target."):
            out[name] = out[name.replace("target.", "critic.", 1)].copy()
        elif ".norm_" in name:
            out[name] = np.full(shape, name.endswith("gain"), np.float32)
        else:
            if len(shape) == 2:
                bound = 1.0 / math.sqrt(shape[1])  # the bias that follows its weight has the same fan_in
            out[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
    return out


def _layers(prefix: str, sizes: tuple[int, ...], layer_norm: bool = False) -> Shapes:
    out: Shapes = {}
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        out[f"{prefix}.{layer}.weight"] = (fan_out, fan_in)
        out[f"{prefix}.{layer}.bias"] = (fan_out,)
        if layer_norm and layer < len(sizes) - 2:
            out |= {f"{prefix}.{layer}.{part}": (fan_out,) for part in ("norm_gain", "norm_bias")}
    return out
