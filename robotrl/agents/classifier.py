"""Does a frame show a success? An encoder and one logistic unit, taught by what people said of frames.

Frames of success are rare, so a batch is half of them and half of the others. That makes every frame look likelier than it is:
the odds are put right by the share of each that it was taught from (King and Zeng 2001, prior correction), in `offset`.

    teacher = Teacher((64, 64, 6), seed)
    teacher.teach(images, success, updates=300)          uint8 (n, 64, 64, 6), bool (n,)
    Classifier(teacher.weights()).probability(image)     where it is used: numpy alone
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robotrl.agents import encoder, nets
from robotrl.agents.encoder import FEATURES, Image
from robotrl.agents.weights import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

BATCH, RATE, SHIFT = 64, 1e-3, 3  # rows; Adam's step; pixels of the random shift: 1 in 20 of the picture, as DrQ's; chosen
DECAY = 1e-3  # of the weights, decoupled (Loshchilov and Hutter 2019): there are few frames; chosen
SCORED = 256  # images at a time
Weights = Mapping[str, NDArray[np.float32]]


def shapes(image: tuple[int, int, int]) -> nets.Shapes:
    """Name -> shape of all parameters for images (height, width, channels). ValueError as `encoder.shapes`."""
    return {**encoder.shapes(image), "head.weight": (1, FEATURES), "head.bias": (1,), "offset": (1,)}


class Classifier:
    """As it is used: numpy alone, one image at a time."""

    def __init__(self, weights: Weights, image: tuple[int, int, int]) -> None:
        """WeightsError unless these are the weights for images of this shape and every one is a number."""
        wanted = shapes(image)
        if {name: value.shape for name, value in weights.items()} != wanted:
            raise WeightsError(f"no classifier's weights for images {image}; train it anew")
        for name, value in weights.items():
            if value.dtype != np.float32 or not np.isfinite(value).all():
                raise WeightsError(f"{name} must be finite float32, is {value.dtype}; train it anew")
        self.image, self._weights = image, dict(weights)

    def probability(self, image: Image) -> float:
        """That an image (height, width, channels) uint8 shows a success. ValueError for another shape."""
        if image.shape != self.image or image.dtype != np.uint8:
            raise ValueError(f"classifier: an image must be uint8 {self.image}, is {image.dtype} {image.shape}")
        w = self._weights
        logit = float((w["head.weight"] @ encoder.seen(w, image))[0] + w["head.bias"][0] + w["offset"][0])
        return 1.0 / (1.0 + math.exp(-logit)) if logit > -700 else 0.0


class Teacher:
    """As it learns: torch. Same seed and frames, same weights."""

    def __init__(self, image: tuple[int, int, int], seed: Sequence[int], weights: Weights | None = None) -> None:
        """From the beginning, or on from `weights`."""
        import torch

        self.image, self.rng = image, np.random.default_rng([*seed, 5])
        first = nets.initial(_drawn(image), 1.0, self.rng) | {"offset": np.zeros(1, np.float32)}
        self._parameters = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in (weights or first).items()}
        self._taught = [value.requires_grad_() for name, value in self._parameters.items() if name != "offset"]
        self._adam = torch.optim.AdamW(self._taught, RATE, weight_decay=DECAY)

    def teach(self, images: Image, success: NDArray[np.bool_], updates: int) -> float:
        """So many steps of Adam on the log loss; the mean loss of the last tenth. Both kinds of frames must be there."""
        import torch
        import torch.nn.functional as F

        yes, no = np.flatnonzero(success), np.flatnonzero(~success)
        assert len(yes) and len(no) and images.shape[1:] == self.image, (len(yes), len(no), images.shape)
        target = torch.from_numpy(np.repeat(np.array((1.0, 0.0), np.float32), BATCH // 2))
        losses = []
        for _ in range(updates):
            rows = np.concatenate((self.rng.choice(yes, BATCH // 2), self.rng.choice(no, BATCH // 2)))
            batch = encoder.random_shift(images[rows], SHIFT, self.rng)
            loss = F.binary_cross_entropy_with_logits(self._logits(torch.from_numpy(batch)), target)
            self._adam.zero_grad()
            loss.backward()
            self._adam.step()
            losses.append(float(loss.detach()))
        with torch.no_grad():
            self._parameters["offset"].fill_(math.log(len(yes) / len(no)))
        return float(np.mean(losses[-max(1, updates // 10) :])) if losses else math.nan

    def probabilities(self, images: Image) -> NDArray[np.float32]:
        """(n,) of images (n, height, width, channels) uint8, as `Classifier` gives them."""
        import torch

        out = np.empty(len(images), np.float32)
        with torch.no_grad():
            for at in range(0, len(images), SCORED):
                logits = self._logits(torch.from_numpy(np.ascontiguousarray(images[at : at + SCORED])))
                out[at : at + SCORED] = torch.sigmoid(logits + self._parameters["offset"]).numpy()
        return out

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """A copy."""
        return {name: value.detach().numpy().copy() for name, value in self._parameters.items()}

    def _logits(self, images: Tensor) -> Tensor:
        features = encoder.encode(self._parameters, images)
        return features @ self._parameters["head.weight"][0] + self._parameters["head.bias"]


def _drawn(image: tuple[int, int, int]) -> dict[str, Any]:
    return {name: shape for name, shape in shapes(image).items() if name != "offset"}
