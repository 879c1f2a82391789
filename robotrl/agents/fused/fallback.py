"""The SAC update in plain torch without autograd: for machines on which nothing can be compiled.

All critics run stacked, as one batched product a layer; each group of parameters is one flat array, so Adam and the
target average are one call each. The gradients are written out by hand.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robotrl import config
from robotrl.agents import nets
from robotrl.agents.base import Rows
from robotrl.agents.fused.learned import Learned, finite
from robotrl.agents.sac import tanh_gaussian


class Stack:
    """`copies` equal networks in one flat array: layer l has weight (copies, out, in) and bias (copies, 1, out)."""

    def __init__(self, copies: int, sizes: tuple[int, ...], learns: bool) -> None:
        """With `learns`, also a gradient and Adam's moments of the same layout."""
        self.copies, self.sizes = copies, sizes
        count = sum(copies * (i + 1) * o for i, o in pairwise(sizes))
        self.flat = torch.zeros(count)
        self.layers = self.cut(self.flat)
        if learns:
            self.gradient, self.m, self.v = (torch.zeros(count) for _ in range(3))
            self.gradients = self.cut(self.gradient)

    def cut(self, flat: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(weight, bias) of each layer as views into `flat`."""
        out, at = [], 0
        for fan_in, fan_out in pairwise(self.sizes):
            n, m = self.copies * fan_in * fan_out, self.copies * fan_out
            weight = flat[at : at + n].view(self.copies, fan_out, fan_in)
            out.append((weight, flat[at + n : at + n + m].view(self.copies, 1, fan_out)))
            at += n + m
        return out

    def forward(self, x: Tensor) -> list[Tensor]:
        """x (batch, in) -> the input of every layer and, last, the output (copies, batch, out)."""
        inputs = [x.expand(self.copies, *x.shape)]
        for weight, bias in self.layers:
            z = torch.baddbmm(bias, inputs[-1], weight.mT)
            inputs.append(z if weight is self.layers[-1][0] else z.relu_())
        return inputs

    def backward(self, inputs: list[Tensor], dz: Tensor, learn: bool, to_input: bool) -> Tensor:
        """From the output's gradient dz (copies, batch, out): parameter gradients, and the input's if asked for."""
        for l in reversed(range(len(self.layers))):
            weight, _ = self.layers[l]
            if learn:
                torch.bmm(dz.mT, inputs[l], out=self.gradients[l][0])
                torch.sum(dz, 1, keepdim=True, out=self.gradients[l][1])
            if l or to_input:
                dz = torch.bmm(dz, weight)
            if l:
                dz.mul_(inputs[l] > 0)
        return dz

    def adam(self, lr: float, step: int) -> None:
        """One Adam step (Kingma and Ba 2015) with the gradient at hand."""
        self.m.lerp_(self.gradient, 0.1)
        self.v.mul_(0.999).addcmul_(self.gradient, self.gradient, value=0.001)
        root = self.v.sqrt().div_(math.sqrt(1 - 0.999**step)).add_(1e-8)
        self.flat.addcdiv_(self.m, root, value=-lr / (1 - 0.9**step))


class TorchSac(Learned):
    """Soft actor-critic, gradients by hand; names, noise and order of `robotrl.agents.sac.Sac`."""

    engine = "torch"

    def __init__(self, agent: config.Agent, observation_size: int, action_size: int, seed: int, replay: Rows) -> None:
        """As `Sac`."""
        super().__init__(agent, observation_size, action_size, seed, replay)
        value = (observation_size + action_size, *agent.hidden, 1)
        self.actor = Stack(1, (observation_size, *agent.hidden, 2 * action_size), True)
        self.critics, self.targets = Stack(agent.critics, value, True), Stack(agent.critics, value, False)
        self.log_alpha = np.zeros(3, np.float32)  # value, m, v
        self._step = 0
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
                views = [stack.cut(f)[int(layer)][part == "bias"][copy].numpy().reshape(shape) for f in flats]
            values[name] = views[0]
            if len(views) == 3:
                moments[f"adam_m.{name}"], moments[f"adam_v.{name}"] = views[1:]
        return values | moments

    @torch.no_grad()
    def update(self, indices: NDArray[np.int64], noise: NDArray[np.float32] | None = None) -> dict[str, float]:
        """One update on the rows `indices` (batch,); arguments, results and errors as `Sac.update`."""
        epsilon_next, epsilon = torch.from_numpy(self.noise(indices, noise))
        batch = self.replay.rows(indices)
        self.check_rows(batch._asdict(), len(indices))
        s, a, r, s_next = map(torch.from_numpy, (batch.observation, batch.action, batch.reward, batch.next_observation))
        goes_on = 1.0 - torch.from_numpy(batch.terminated).float()
        alpha = math.exp(self.log_alpha[0])
        self._step += 1

        a_next, log_pi = tanh_gaussian(self.actor.forward(s_next)[-1][0], epsilon_next)
        v_next = self.targets.forward(torch.cat([s_next, a_next], -1))[-1].amin(0)[:, 0] - alpha * log_pi
        residual = self._criticise(s, a, r + self.config.discount * goes_on * v_next)
        actor_loss, mean_log_pi = self._improve(s, epsilon, alpha)
        self._temper(alpha, mean_log_pi)
        self.targets.flat.lerp_(self.critics.flat, self.config.polyak)
        return finite([residual[0], actor_loss, -mean_log_pi, math.exp(self.log_alpha[0]), residual[1]])

    def _criticise(self, s: Tensor, a: Tensor, y: Tensor) -> tuple[float, float]:
        """The critics' step; their loss and mean value before it."""
        inputs = self.critics.forward(torch.cat([s, a], -1))
        residual = inputs[-1] - y[:, None]
        self.critics.backward(inputs, residual / len(y), learn=True, to_input=False)
        self.critics.adam(self.config.critic_lr, self._step)
        loss = 0.5 * residual.square().sum() / len(y)
        return loss.item(), inputs[-1].mean().item()

    def _improve(self, s: Tensor, epsilon: Tensor, alpha: float) -> tuple[float, float]:
        """The actor's step; its loss and mean log pi before it."""
        layers = self.actor.forward(s)
        mean_and_log_std = layers[-1][0]
        action, log_pi = tanh_gaussian(mean_and_log_std, epsilon)
        inputs = self.critics.forward(torch.cat([s, action], -1))
        least, which = inputs[-1].min(0, keepdim=True)
        chosen = torch.zeros_like(inputs[-1]).scatter_(0, which, -1.0 / len(s))
        d_sa = self.critics.backward(inputs, chosen, learn=False, to_input=True).sum(0)
        scale = alpha / len(s)
        d_u = 2.0 * scale * action + d_sa[:, s.shape[1] :] * (1.0 - action.square())
        raw = mean_and_log_std[:, action.shape[1] :]
        log_std = raw.clamp(nets.LOG_STD_MIN, nets.LOG_STD_MAX)
        d_log_std = (d_u * log_std.exp() * epsilon - scale) * (raw == log_std)
        self.actor.backward(layers, torch.cat([d_u, d_log_std], -1)[None], learn=True, to_input=False)
        self.actor.adam(self.config.actor_lr, self._step)
        mean_log_pi = log_pi.mean().item()
        return alpha * mean_log_pi - least.mean().item(), mean_log_pi

    def _temper(self, alpha: float, log_pi: float) -> None:
        """The temperature's Adam step on log alpha."""
        g = -alpha * (log_pi + self.target_entropy)
        value, m, v = self.log_alpha.tolist()
        m, v = m + 0.1 * (g - m), 0.999 * v + 0.001 * g * g
        root = math.sqrt(v) / math.sqrt(1 - 0.999**self._step) + 1e-8
        step = self.config.temperature_lr / (1 - 0.9**self._step)
        self.log_alpha[:] = value - step * m / root, m, v
