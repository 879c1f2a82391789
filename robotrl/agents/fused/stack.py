"""Networks of one shape as one flat array, forwards and, written out by hand, backwards; Adam on all of it at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from robotrl.agents import nets

CPU = torch.device("cpu")
LANES = 16  # floats in the widest vector


class Flat:
    """Numbers that are learned together: rows of values, Adam's m and v, and gradient; values alone where nothing learns.

    `host` has the first three where numpy reads and writes them: the same memory on the processor, a copy beside a device.
    """

    def __init__(self, count: int, learns: bool, device: torch.device = CPU) -> None:
        """All zero; rows begin where vector loads like it, so that a few numbers at their ends may be nobody's."""
        count = -(-count // LANES) * LANES
        self.rows = torch.zeros(4 if learns else 1, count, device=device)
        self.host = self.rows[:3] if device == CPU else torch.zeros(min(3, len(self.rows)), count)
        self.value = self.rows[0]
        if learns:
            self.m, self.v, self.gradient = self.rows[1:]

    def fetch(self) -> None:
        """The device's numbers to `host`."""
        if self.rows.device != CPU:
            self.host.copy_(self.rows[:3])

    def send(self) -> None:
        """The numbers of `host` to the device."""
        if self.rows.device != CPU:
            self.rows[:3].copy_(self.host)

    def adam(self, rates: Tensor) -> None:
        """One Adam step (Kingma and Ba 2015) with the gradient at hand; `rates` (2,) of `adam_rates`."""
        self.m.lerp_(self.gradient, 0.1)
        self.v.mul_(0.999).addcmul_(self.gradient, self.gradient, value=0.001)
        root = self.v.sqrt().div_(rates[0]).add_(1e-8).div_(rates[1])  # a rate of 0 makes it infinite: nothing moves
        self.value.addcdiv_(self.m, root)


def adam_rates(lr: float, step: int) -> tuple[float, float]:
    """What Adam's step `step`, counted from 1, divides sqrt(v) by, and what it multiplies m with."""
    return math.sqrt(1 - 0.999**step), -lr / (1 - 0.9**step)


class Pass(NamedTuple):
    """What a forward pass leaves for the backward pass."""

    inputs: list[Tensor]  # of every layer and, last, the output (copies, batch, out)
    normal: list[tuple[Tensor, Tensor]]  # of every normalised layer: (y - mean) / std, and 1 / std
    masks: Sequence[Tensor]  # of every layer with dropout

    @property
    def output(self) -> Tensor:
        """(copies, batch, out)."""
        return self.inputs[-1]


class Stack:
    """`copies` equal networks in one flat array: layer l has weight (copies, out, in) and bias (copies, 1, out)."""

    def __init__(
        self, copies: int, sizes: tuple[int, ...], learns: bool, layer_norm: bool = False, device: torch.device = CPU
    ) -> None:
        """With `learns`, also a gradient and Adam's moments of the same layout."""
        self.copies, self.sizes, self.layer_norm = copies, sizes, layer_norm
        count = sum(copies * (i + 1) * o for i, o in pairwise(sizes))
        self.flat = Flat(count + layer_norm * 2 * copies * sum(sizes[1:-1]), learns, device)
        self.layers = self.cut(self.flat.value)
        if learns:
            self.gradients = self.cut(self.flat.gradient)

    def cut(self, flat: Tensor) -> list[dict[str, Tensor]]:
        """The parts of each layer, by the last word of their names, as views into `flat`."""
        out, at = [], 0
        for layer, (fan_in, fan_out) in enumerate(pairwise(self.sizes)):
            shapes = {"weight": (self.copies, fan_out, fan_in), "bias": (self.copies, 1, fan_out)}
            if self.layer_norm and layer < len(self.sizes) - 2:
                shapes |= dict.fromkeys(("norm_gain", "norm_bias"), shapes["bias"])
            parts = {}
            for part, shape in shapes.items():
                parts[part] = flat[at : at + math.prod(shape)].view(shape)
                at += math.prod(shape)
            out.append(parts)
        return out

    def forward(self, x: Tensor, which: Tensor | None = None, masks: Sequence[Tensor] = ()) -> Pass:
        """x (batch, in) through all copies or through `which`; masks as of `dropout.masks`."""
        layers = self.layers
        if which is not None:
            layers = [{part: p.index_select(0, which) for part, p in layer.items()} for layer in layers]
        inputs, normal = [x.expand(len(layers[0]["bias"]), *x.shape)], []
        for layer in layers:
            z = torch.baddbmm(layer["bias"], inputs[-1], layer["weight"].mT)
            if len(inputs) <= len(masks):
                z *= masks[len(inputs) - 1]
            if "norm_gain" in layer:
                z, _, scale = torch.native_layer_norm(z, z.shape[-1:], None, None, nets.NORM_EPSILON)
                normal.append((z, scale))
                z = torch.addcmul(layer["norm_bias"], z, layer["norm_gain"])
            inputs.append(z if layer is layers[-1] else z.relu_())
        return Pass(inputs, normal, masks)

    def backward(self, seen: Pass, dz: Tensor, learn: bool, to_input: bool) -> Tensor:
        """From the output's gradient dz (copies, batch, out): parameter gradients, and the input's if asked for."""
        for l in reversed(range(len(self.layers))):
            if l < len(seen.normal):
                dz = self._through_norm(l, *seen.normal[l], dz, learn)
            if l < len(seen.masks):
                dz = dz * seen.masks[l]
            if learn:
                torch.bmm(dz.mT, seen.inputs[l], out=self.gradients[l]["weight"])
                torch.sum(dz, 1, keepdim=True, out=self.gradients[l]["bias"])
            if l or to_input:
                dz = torch.bmm(dz, self.layers[l]["weight"])
            if l:
                dz.mul_(seen.inputs[l] > 0)
        return dz

    def _through_norm(self, l: int, normal: Tensor, scale: Tensor, d: Tensor, learn: bool) -> Tensor:
        """From the gradient behind layer l's normalisation to the one before it: it loses mean and share of `normal`."""
        if learn:
            torch.sum(d * normal, 1, keepdim=True, out=self.gradients[l]["norm_gain"])
            torch.sum(d, 1, keepdim=True, out=self.gradients[l]["norm_bias"])
        d = d * self.layers[l]["norm_gain"]
        share = (d * normal).mean(-1, keepdim=True)
        return (d - d.mean(-1, keepdim=True) - normal * share).mul_(scale)
