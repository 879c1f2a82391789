"""The SAC update in plain torch without autograd: for machines on which nothing can be compiled.

All critics run stacked, as one batched product a layer; each group of parameters is one flat array, so Adam and the
target average are one call each. The gradients are written out by hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robotrl import config
from robotrl.agents import draws, dropout, nets
from robotrl.agents.base import Mirror, Rows, discounts, seen_rows
from robotrl.agents.fused.learned import Learned, finite
from robotrl.agents.sac import tanh_gaussian


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

    def __init__(self, copies: int, sizes: tuple[int, ...], learns: bool, layer_norm: bool = False) -> None:
        """With `learns`, also a gradient and Adam's moments of the same layout."""
        self.copies, self.sizes, self.layer_norm = copies, sizes, layer_norm
        count = sum(copies * (i + 1) * o for i, o in pairwise(sizes)) + layer_norm * 2 * copies * sum(sizes[1:-1])
        self.flat = torch.zeros(count)
        self.layers = self.cut(self.flat)
        if learns:
            self.gradient, self.m, self.v = (torch.zeros(count) for _ in range(3))
            self.gradients = self.cut(self.gradient)

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
        layers = self.layers if which is None else [{part: p[which] for part, p in layer.items()} for layer in self.layers]
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

    def adam(self, lr: float, step: int) -> None:
        """One Adam step (Kingma and Ba 2015) with the gradient at hand."""
        self.m.lerp_(self.gradient, 0.1)
        self.v.mul_(0.999).addcmul_(self.gradient, self.gradient, value=0.001)
        root = self.v.sqrt().div_(math.sqrt(1 - 0.999**step)).add_(1e-8)
        self.flat.addcdiv_(self.m, root, value=-lr / (1 - 0.9**step))


class TorchSac(Learned):
    """Soft actor-critic, gradients by hand; names, noise and order of `robotrl.agents.sac.Sac`."""

    engine = "torch"

    def __init__(
        self, agent: config.Agent, observation_size: int, action_size: int, seed: int, replay: Rows, mirror: Mirror | None = None
    ) -> None:
        """As `Sac`."""
        super().__init__(agent, observation_size, action_size, seed, replay, mirror)
        value = (observation_size + action_size, *agent.hidden, 1)
        self.actor = Stack(1, (observation_size, *agent.hidden, 2 * action_size), True)
        self.critics = Stack(agent.critics, value, True, agent.layer_norm)
        self.targets = Stack(agent.critics, value, False, agent.layer_norm)
        self.log_alpha = np.zeros(3, np.float32)  # value, m, v
        self._step = 0
        self._actor_metrics = 0.0, 0.0  # loss and entropy of the actor's last turn
        self._views = self._parameters()
        self.begin()

    @property
    def step(self) -> int:
        """Updates done so far."""
        return self._step

    def _resume(self, step: int) -> None:
        self._step = step

    def _parameters(self) -> dict[str, NDArray[np.float32]]:
        stacks = {"actor": self.actor, "critic": self.critics, "target": self.targets}
        values: dict[str, NDArray[np.float32]] = {}
        moments: dict[str, NDArray[np.float32]] = {}
        for name, shape in self.shapes.items():
            *net, layer, part = ("log_alpha", "", "0", "") if name == "log_alpha" else name.split(".")
            if name == "log_alpha":
                views = [self.log_alpha[i : i + 1] for i in range(3)]
            else:
                stack, copy = stacks[net[0]], int(net[1]) if len(net) > 1 else 0
                flats = [stack.flat] if stack is self.targets else [stack.flat, stack.m, stack.v]
                views = [stack.cut(f)[int(layer)][part][copy].numpy().reshape(shape) for f in flats]
            values[name] = views[0]
            if len(views) == 3:
                moments[f"adam_m.{name}"], moments[f"adam_v.{name}"] = views[1:]
        return values | moments

    @torch.no_grad()
    def update(self, indices: NDArray[np.int64], noise: NDArray[np.float32] | None = None) -> dict[str, float]:
        """One update on the rows `indices` (batch,); arguments, results and errors as `Sac.update`."""
        drawn = self.draws(indices, noise)
        epsilon = torch.from_numpy(drawn.noise)
        batch = seen_rows(self.replay, indices, self.mirror)
        self.check_rows(batch._asdict(), len(indices))
        s, a, r, s_next = map(torch.from_numpy, (batch.observation, batch.action, batch.reward, batch.next_observation))
        discount = torch.from_numpy(discounts(batch, self.config.discount))
        alpha = math.exp(self.log_alpha[0])
        self._step += 1

        a_next, log_pi = tanh_gaussian(self.actor.forward(s_next).output[0], epsilon[0])
        which = torch.from_numpy(drawn.targets) if self.config.target_subset else None  # all: without a copy
        masks = self._masks(drawn.key, dropout.TARGET, drawn.targets)
        v_next = self.targets.forward(torch.cat([s_next, a_next], -1), which, masks).output.amin(0)[:, 0] - alpha * log_pi
        residual = self._criticise(s, a, r + discount * v_next, drawn.key)
        if draws.has_turn(self.config, self._step):
            actor_loss, mean_log_pi = self._improve(s, epsilon[1], drawn.key, alpha)
            self._temper(alpha, mean_log_pi)
            self._actor_metrics = actor_loss, -mean_log_pi
        self.targets.flat.lerp_(self.critics.flat, self.config.polyak)
        return finite([residual[0], *self._actor_metrics, math.exp(self.log_alpha[0]), residual[1]])

    def _masks(self, key: int, stage: int, critics: Iterable[int]) -> list[Tensor]:
        c = self.config
        return [torch.from_numpy(m) for m in dropout.masks(c.dropout, key, stage, critics, c.batch, c.hidden)]

    def _criticise(self, s: Tensor, a: Tensor, y: Tensor, key: int) -> tuple[float, float]:
        """The critics' step; their loss and mean value before it."""
        masks = self._masks(key, dropout.CRITIC, range(self.config.critics))
        seen = self.critics.forward(torch.cat([s, a], -1), masks=masks)
        residual = seen.output - y[:, None]
        self.critics.backward(seen, residual / len(y), learn=True, to_input=False)
        self.critics.adam(self.config.critic_lr, self._step)
        loss = 0.5 * residual.square().sum() / len(y)
        return loss.item(), seen.output.mean().item()

    def _improve(self, s: Tensor, epsilon: Tensor, key: int, alpha: float) -> tuple[float, float]:
        """The actor's step; its loss and mean log pi before it."""
        policy = self.actor.forward(s)
        mean_and_log_std = policy.output[0]
        action, log_pi = tanh_gaussian(mean_and_log_std, epsilon)
        masks = self._masks(key, dropout.ACTOR, range(self.config.critics))
        seen = self.critics.forward(torch.cat([s, action], -1), masks=masks)
        if self.config.actor_value == "mean":
            value, share = seen.output.mean(0), torch.full_like(seen.output, 1.0 / len(seen.output))
        else:
            value, which = seen.output.min(0)
            share = torch.zeros_like(seen.output).scatter_(0, which[None], 1.0)
        d_sa = self.critics.backward(seen, share / -len(s), learn=False, to_input=True).sum(0)
        scale = alpha / len(s)
        d_u = 2.0 * scale * action + d_sa[:, s.shape[1] :] * (1.0 - action.square())
        raw = mean_and_log_std[:, action.shape[1] :]
        log_std = raw.clamp(nets.LOG_STD_MIN, nets.LOG_STD_MAX)
        d_log_std = (d_u * log_std.exp() * epsilon - scale) * (raw == log_std)
        self.actor.backward(policy, torch.cat([d_u, d_log_std], -1)[None], learn=True, to_input=False)
        self.actor.adam(self.config.actor_lr, draws.actor_turns(self.config, self._step))
        mean_log_pi = log_pi.mean().item()
        return alpha * mean_log_pi - value.mean().item(), mean_log_pi

    def _temper(self, alpha: float, log_pi: float) -> None:
        """The temperature's Adam step on log alpha."""
        g, t = -alpha * (log_pi + self.target_entropy), draws.actor_turns(self.config, self._step)
        value, m, v = self.log_alpha.tolist()
        m, v = m + 0.1 * (g - m), 0.999 * v + 0.001 * g * g
        root = math.sqrt(v) / math.sqrt(1 - 0.999**t) + 1e-8
        step = self.config.temperature_lr / (1 - 0.9**t)
        self.log_alpha[:] = value - step * m / root, m, v
