"""The SAC update in plain torch without autograd: for machines on which nothing can be compiled.

All critics run stacked, as one batched product a layer; each group of parameters is one flat array, so Adam and the
target average are one call each. The gradients are written out by hand. What an update computes, from its numbers to its
metrics, is tensors alone and on any device: `robotrl.agents.fused.graph` captures it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robotrl import config
from robotrl.agents import draws, dropout, encoder, nets
from robotrl.agents.base import Mirror, Rows, discounts, seen_rows
from robotrl.agents.fused.learned import Learned, finite
from robotrl.agents.fused.sight import Sight
from robotrl.agents.fused.stack import CPU, Flat, Stack, adam_rates
from robotrl.agents.sac import tanh_gaussian

CRITIC, ACTOR, TEMPERATURE = range(3)  # rows of "rates"
Numbers = Mapping[str, Tensor]  # what an update learns from, by the names of `TorchSac.numbers`


class TorchSac(Learned):
    """Soft actor-critic, gradients by hand; names, noise and order of `robotrl.agents.sac.Sac`."""

    engine = "torch"

    def __init__(
        self, agent: config.Agent, observation_size: int, action_size: int, seed: int, replay: Rows, mirror: Mirror | None = None,
        image: tuple[int, int, int] | None = None, device: torch.device = CPU,
    ) -> None:  # fmt: skip
        """As `Sac`, on `device`."""
        super().__init__(agent, observation_size, action_size, seed, replay, mirror, image)
        self.sight = Sight(image, agent.shift_px, device) if image else None
        size = observation_size + (encoder.FEATURES if image else 0)
        value = (size + action_size, *agent.hidden, 1)
        self.actor = Stack(1, (size, *agent.hidden, 2 * action_size), True, device=device)
        self.critics = Stack(agent.critics, value, True, agent.layer_norm, device)
        self.targets = Stack(agent.critics, value, False, agent.layer_norm, device)
        self.log_alpha = Flat(1, True, device)
        self.flats = [self.actor.flat, self.critics.flat, self.targets.flat, self.log_alpha]
        if self.sight:
            self.flats.append(self.sight.flat)
        self._every = torch.arange(agent.critics, device=device)
        self._actor_metrics = torch.zeros(2, device=device)  # loss and entropy of the actor's last turn
        self._step = 0
        self._views = self._parameters()
        self.begin()

    @property
    def step(self) -> int:
        """Updates done so far."""
        return self._step

    def _resume(self, step: int) -> None:
        self._step = step
        for flat in self.flats:
            flat.send()

    def _fetch(self) -> None:
        for flat in self.flats:
            flat.fetch()

    def _parameters(self) -> dict[str, NDArray[np.float32]]:
        values: dict[str, NDArray[np.float32]] = {}
        moments: dict[str, NDArray[np.float32]] = {}
        for name, shape in self.shapes.items():
            views = [view.detach().numpy().reshape(shape) for view in self._rows_of(name)]
            values[name] = views[0]
            if len(views) == 3:
                moments[f"adam_m.{name}"], moments[f"adam_v.{name}"] = views[1:]
        return values | moments

    def _rows_of(self, name: str) -> list[Tensor]:
        """Value and, where it learns, m and v of a parameter on the host."""
        if name == "log_alpha":
            return list(self.log_alpha.host[:, :1])
        if self.sight and name in self.sight.shapes:
            return [self.sight.cut(row)[name] for row in self.sight.flat.host]
        *net, layer, part = name.split(".")
        stack = {"actor": self.actor, "critic": self.critics, "target": self.targets}[net[0]]
        return [stack.cut(row)[int(layer)][part][int(net[1]) if len(net) > 1 else 0] for row in stack.flat.host]

    def update(self, indices: NDArray[np.int64], noise: NDArray[np.float32] | None = None) -> dict[str, float]:
        """One update on the rows `indices` (batch,); arguments, results and errors as `Sac.update`."""
        numbers = self.numbers(indices, self.draws(indices, noise))
        self._step += 1
        return finite(self._run(numbers, draws.has_turn(self.config, self._step)))

    def numbers(self, indices: NDArray[np.int64], drawn: draws.Draws) -> dict[str, NDArray[Any]]:
        """All that the next update learns from: rows, chance, Adam's rates; with cameras their images and moves too."""
        batch, c, step = seen_rows(self.replay, indices, self.mirror), self.config, self._step + 1
        self.check_rows(batch._asdict(), len(indices))
        turn = max(1, draws.actor_turns(c, step))  # none yet: what is not used then
        rates = [adam_rates(c.critic_lr, step), adam_rates(c.actor_lr, turn), adam_rates(c.temperature_lr, turn)]
        found: dict[str, NDArray[Any]] = {
            "s": batch.observation, "a": batch.action, "r": batch.reward, "s_next": batch.next_observation,
            "discount": discounts(batch, c.discount), "noise": drawn.noise, "targets": drawn.targets.astype(np.int64),
            "key": np.array([drawn.key]), "rates": np.array(rates, np.float32),
        }  # fmt: skip
        if self.sight:
            for when, seen in zip(("o", "o_next"), self.replay.images(indices), strict=True):
                found |= {f"{when}.{k}": image for k, image in enumerate(seen.values())}
                found[f"{when} moves"] = encoder.moves(len(indices), c.shift_px, self.rng)
        return found

    def _run(self, numbers: Mapping[str, NDArray[Any]], turn: bool) -> list[float]:
        """METRICS of `learn`."""
        return self.learn({name: torch.from_numpy(value) for name, value in numbers.items()}, turn).tolist()

    @torch.no_grad()
    def learn(self, x: Numbers, turn: bool) -> Tensor:
        """The update, actor and temperature only where it is their turn; METRICS, (5,)."""
        alpha = self.log_alpha.value[:1].exp()
        features, s, s_next = None, x["s"], x["s_next"]
        if self.sight:
            features = self.sight.forward(self._image(x, "o"), learn=True)
            s = torch.cat([s, features.detach()], -1)
            s_next = torch.cat([s_next, self.sight.forward(self._image(x, "o_next"), learn=False)], -1)
        a_next, log_pi = tanh_gaussian(self.actor.forward(s_next).output[0], x["noise"][0])
        which = x["targets"] if self.config.target_subset else None  # all: without a copy
        masks = self._masks(x["key"], dropout.TARGET, x["targets"])
        v_next = self.targets.forward(torch.cat([s_next, a_next], -1), which, masks).output.amin(0)[:, 0] - alpha * log_pi
        residual = self._criticise(s, x, x["r"] + x["discount"] * v_next, features)
        if turn:
            mean_log_pi = self._improve(s, x, alpha)
            torch.mul(-alpha, mean_log_pi + self.target_entropy, out=self.log_alpha.gradient[:1])
            self.log_alpha.adam(x["rates"][TEMPERATURE])
        self.targets.flat.value.lerp_(self.critics.flat.value, self.config.polyak)
        return torch.cat([residual[:1], self._actor_metrics, self.log_alpha.value[:1].exp(), residual[1:]])

    def _image(self, x: Numbers, when: str) -> Tensor:
        assert self.sight is not None
        return self.sight.shifted([image for name, image in x.items() if name.startswith(f"{when}.")], x[f"{when} moves"])

    def _masks(self, key: Tensor, stage: int, critics: Tensor) -> list[Tensor]:
        c = self.config
        return [torch.from_numpy(m) for m in dropout.masks(c.dropout, int(key), stage, critics.tolist(), c.batch, c.hidden)]

    def _criticise(self, s: Tensor, x: Numbers, y: Tensor, features: Tensor | None) -> Tensor:
        """The critics' step, and the encoder's; their loss and mean value before it, (2,)."""
        seen = self.critics.forward(torch.cat([s, x["a"]], -1), masks=self._masks(x["key"], dropout.CRITIC, self._every))
        residual = seen.output - y[:, None]
        d_sa = self.critics.backward(seen, residual / len(y), learn=True, to_input=features is not None)
        self.critics.flat.adam(x["rates"][CRITIC])
        if self.sight and features is not None:
            self.sight.backward(features, d_sa.sum(0)[:, self.observation_size : s.shape[1]])
            self.sight.flat.adam(x["rates"][CRITIC])
        return torch.stack([0.5 * residual.square().sum() / len(y), seen.output.mean()])

    def _improve(self, s: Tensor, x: Numbers, alpha: Tensor) -> Tensor:
        """The actor's step; mean log pi before it, (), with the loss kept for the metrics."""
        policy, epsilon = self.actor.forward(s), x["noise"][1]
        mean_and_log_std = policy.output[0]
        action, log_pi = tanh_gaussian(mean_and_log_std, epsilon)
        masks = self._masks(x["key"], dropout.ACTOR, self._every)
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
        self.actor.flat.adam(x["rates"][ACTOR])
        mean_log_pi = log_pi.mean()
        torch.cat([alpha * mean_log_pi - value.mean(), -mean_log_pi[None]], out=self._actor_metrics)
        return mean_log_pi
