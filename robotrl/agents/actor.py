"""The policy as the robot runs it: numpy alone, one observation at a time, no array made but the answer.

actor = Actor.load(Path("actor.safetensors"))
action = actor.act(observation, rng.standard_normal(actor.action_size, dtype=np.float32))
action = actor.act(observation, noise, image)  # one that sees by cameras, their channels side by side
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from robotrl.agents import encoder
from robotrl.agents.nets import LOG_STD_MAX, LOG_STD_MIN
from robotrl.agents.weights import WeightsError, metadata

# What safetensors raises for a file that is none, or holds a type that numpy has not (TypeError, KeyError, AttributeError).
UNREADABLE = (OSError, safetensors.SafetensorError, TypeError, KeyError, AttributeError, ValueError)


class Actor:
    """A tanh-Gaussian policy from `actor.<layer>.{weight,bias}` as `nets` names them, and the encoder's weights; keeps a copy.

    `channels` of its images; 0 where it sees nothing.
    """

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Raises WeightsError unless names, shapes and types fit each other and every value is finite."""
        self._layers = _checked({n: w for n, w in weights.items() if not n.startswith("encoder.")})
        self._encoder, self.channels = _eye({n: w for n, w in weights.items() if n.startswith("encoder.")})
        self.observation_size = self._layers[0][0].shape[1] - (encoder.FEATURES if self.channels else 0)
        self.action_size = self._layers[-1][0].shape[0] // 2
        self._x = np.zeros(self._layers[0][0].shape[1], np.float32)
        self._out = [np.zeros(len(b), np.float32) for _, b in self._layers]
        self._mean, self._log_std = np.split(self._out[-1], 2)  # views of the last layer's output

    @classmethod
    def load(cls, path: Path) -> Actor:
        """From a safetensors file; WeightsError names the file."""
        try:
            data = path.read_bytes()
            actor = cls(safetensors.numpy.load(data))
            metadata(data)
            return actor
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from None
        except UNREADABLE as error:
            raise WeightsError(
                f"{path}: no safetensors file: {' '.join(str(error).split())}; publish the weights again"
            ) from None

    def act(
        self, observation: NDArray[Any], noise: NDArray[Any] | None = None, image: NDArray[np.uint8] | None = None
    ) -> NDArray[np.float32]:
        """observation (n,) -> action (a,) float32 in [-1, 1]; noise (a,) standard normal or None; image (h, w, channels).

        None acts by the mean. A non-finite observation gives a non-finite action, which the gate refuses.
        ValueError for a wrong shape.
        """
        self.head(observation, image)
        if noise is None:
            return np.tanh(self._mean)
        if noise.shape != self._mean.shape:
            raise ValueError(f"actor: noise must be {self._mean.shape}, is {noise.shape}")
        sigma = np.maximum(self._log_std, LOG_STD_MIN)
        np.minimum(sigma, LOG_STD_MAX, out=sigma)
        np.exp(sigma, out=sigma)
        sigma *= noise
        sigma += self._mean
        return np.tanh(sigma, out=sigma)

    def head(self, observation: NDArray[Any], image: NDArray[np.uint8] | None = None) -> NDArray[np.float32]:
        """observation (n,), image -> mean and log sigma (2a,) as the last layer gives them; overwritten by the next call."""
        if observation.shape != (self.observation_size,):
            raise ValueError(f"actor: observation must be {(self.observation_size,)}, is {observation.shape}")
        x = self._x
        x[: self.observation_size] = observation
        if self.channels:
            if image is None or image.shape[2:] != (self.channels,):
                shape = None if image is None else image.shape
                raise ValueError(f"actor: image must be (height, width, {self.channels}) uint8, is {shape}")
            x[self.observation_size :] = encoder.seen(self._encoder, image)
        last = self._out[-1]
        for (weight, bias), out in zip(self._layers, self._out, strict=True):
            np.dot(weight, x, out=out)
            np.add(out, bias, out=out)
            if out is not last:
                np.maximum(out, 0.0, out=out)
            x = out
        return last


def _eye(weights: Mapping[str, NDArray[Any]]) -> tuple[dict[str, NDArray[np.float32]], int]:
    """A copy of the encoder's weights, and the channels of its images; nothing and 0 where there is none."""
    if not weights:
        return {}, 0
    for name, value in weights.items():
        if value.dtype != np.float32 or not np.isfinite(value).all():
            raise WeightsError(f"{name} must be finite float32, is {value.dtype}; publish the weights again")
    try:
        channels = encoder.channels_of(weights)
    except ValueError as error:
        raise WeightsError(f"{error}; publish the weights again") from None
    return {name: value.copy(order="C") for name, value in weights.items()}, channels


def _checked(weights: Mapping[str, NDArray[Any]]) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Weight and bias of each layer, in order, each a fresh contiguous float32 copy."""
    names = [f"actor.{i}.{kind}" for i in range(len(weights) // 2) for kind in ("weight", "bias")]
    if not weights or sorted(names) != sorted(weights):
        raise WeightsError(f"not an actor's weights: {sorted(weights)}, wanted {names}; publish them again")
    layers, width = [], None
    for weight_name, bias_name in zip(names[::2], names[1::2], strict=True):
        weight, bias = weights[weight_name], weights[bias_name]
        for name, value in ((weight_name, weight), (bias_name, bias)):
            if value.dtype != np.float32 or not np.isfinite(value).all():
                raise WeightsError(f"{name} must be finite float32, is {value.dtype}; publish the weights again")
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or width not in (None, weight.shape[1]):
            raise WeightsError(f"{weight_name} {weight.shape} does not fit bias {bias.shape} or input {width}; publish again")
        layers.append((weight.copy(order="C"), bias.copy()))
        width = len(bias)
    if not width or width % 2:
        raise WeightsError(f"{names[-1]} must hold a mean and a log_std for each action, has {width} rows")
    return layers
