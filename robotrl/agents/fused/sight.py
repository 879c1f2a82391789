"""The encoder of `robotrl.agents.encoder` on flat parameters and on any device, the random shift with it.

Its gradients are torch's own: convolutions are what autograd was made for, and they are all that an update needs it for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from robotrl.agents import encoder
from robotrl.agents.fused.stack import CPU, Flat


class Sight:
    """f_xi, its parameters in the order of `encoder.shapes`."""

    def __init__(self, image: tuple[int, int, int], pad: int, device: torch.device = CPU) -> None:
        """image: height, width, channels of what all cameras saw together; pad: pixels, as of `encoder.random_shift`."""
        self.shapes, self.pad = encoder.shapes(image), pad
        self.flat = Flat(sum(map(math.prod, self.shapes.values())), True, device)
        self.leaves = {name: p.requires_grad_() for name, p in self.cut(self.flat.value).items()}

    def cut(self, flat: Tensor) -> dict[str, Tensor]:
        """The parameters by name, as views into `flat`."""
        out, at = {}, 0
        for name, shape in self.shapes.items():
            out[name] = flat[at : at + math.prod(shape)].view(shape)
            at += math.prod(shape)
        return out

    def shifted(self, cameras: Sequence[Tensor], moves: Tensor) -> Tensor:
        """Images (n, height, width, .) uint8, their channels side by side, moved by `moves` (2, n) of `encoder.moves`."""
        n, height, width, _ = cameras[0].shape
        down, right = moves - self.pad
        row = (torch.arange(height, device=moves.device) + down[:, None]).clamp_(0, height - 1)
        column = (torch.arange(width, device=moves.device) + right[:, None]).clamp_(0, width - 1)
        at = (row[:, :, None] * width + column[:, None, :]).view(n, -1)
        return torch.cat([self._taken(image, at) for image in cameras], 1).permute(0, 2, 3, 1)

    @staticmethod
    def _taken(image: Tensor, at: Tensor) -> Tensor:
        """The pixels `at` (n, height * width) of images (n, height, width, channels): (n, channels, height, width)."""
        n, height, width, channels = image.shape
        pixels = image.reshape(n, -1, channels)
        planes = [pixels[:, :, c].gather(1, at).view(n, 1, height, width) for c in range(channels)]
        return torch.cat(planes, 1)

    def forward(self, images: Tensor, learn: bool) -> Tensor:
        """(n, height, width, channels) uint8 -> (n, FEATURES); with `learn`, what `backward` needs is kept."""
        with torch.set_grad_enabled(learn):
            return encoder.encode(self.leaves, images)

    def backward(self, features: Tensor, d_features: Tensor) -> None:
        """The parameters' gradient from that of `forward`'s features."""
        found = torch.autograd.grad(features, list(self.leaves.values()), d_features)
        gradient = torch.cat([g.reshape(-1) for g in found])
        self.flat.gradient[: len(gradient)] = gradient
