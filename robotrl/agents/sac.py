"""Soft actor-critic with automatic temperature: Haarnoja et al. 2018, arXiv 1812.05905, in its symbols.

This page is the reference: plain torch and autograd, fp32. Faster engines must agree with it, so the order of
an update is fixed: targets, critics, actor (with the updated critics), temperature (with this update's log
pi), target networks. Alpha is one value during an update, the one it began with. With actor_every > 1, actor and
temperature have their turn only in each actor_every-th update, after its critics, as in REDQ's algorithm 1.

From images (`image`): s is what the robot feels and f_xi(o), what an encoder makes of the shifted images. xi is learned with the
critics by J_Q alone; the actor takes f_xi(o) without a gradient (Yarats et al. 2019, SAC-AE, section 4; 2021, DrQ-v2).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from robotrl import config
from robotrl.agents import draws, dropout, encoder, nets
from robotrl.agents.base import Mirror, Rows, discounts, seen_rows

LOG_2, HALF_LOG_2PI = math.log(2.0), 0.5 * math.log(2.0 * math.pi)


def mlp(parameters: dict[str, Tensor], prefix: str, x: Tensor, masks: Sequence[Tensor] = ()) -> Tensor:
    """Linear layers with ReLU between: x (batch, in) -> (batch, out).

    Before its ReLU a hidden layer with a mask (batch, width) is dropped out, then one with a norm_gain is normalised:
    Hiraoka et al. 2022, arXiv 2110.02034, section 3.
    """
    layer = 0
    while (weight := parameters.get(f"{prefix}.{layer}.weight")) is not None:
        x = F.linear(F.relu(x) if layer else x, weight, parameters[f"{prefix}.{layer}.bias"])
        if layer < len(masks):
            x = x * masks[layer]
        if (gain := parameters.get(f"{prefix}.{layer}.norm_gain")) is not None:
            x = F.layer_norm(x, gain.shape, gain, parameters[f"{prefix}.{layer}.norm_bias"], nets.NORM_EPSILON)
        layer += 1
    return x


def tanh_gaussian(mean_and_log_std: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor]:
    """a = tanh(u), u = mean + sigma * epsilon, and log pi(a|s); appendix C, enforcing action bounds.

    Shapes (batch, 2 action), (batch, action) -> (batch, action), (batch,). log sigma is clamped (no gradient
    outside). log(1 - tanh(u)^2) is written 2 (log 2 - u - softplus(-2u)), finite where tanh(u) = 1.
    """
    mean, log_std = mean_and_log_std.chunk(2, dim=-1)
    log_std = log_std.clamp(nets.LOG_STD_MIN, nets.LOG_STD_MAX)
    u = mean + log_std.exp() * epsilon
    log_normal = -0.5 * epsilon.square() - log_std - HALF_LOG_2PI
    log_det = 2.0 * (LOG_2 - u - F.softplus(-2.0 * u))
    return torch.tanh(u), (log_normal - log_det).sum(-1)


class Sac:
    """Soft actor-critic on the rows of a replay. Names, shapes and first values of the parameters: `nets`."""

    engine = "reference"

    def __init__(
        self, agent: config.Agent, observation_size: int, action_size: int, seed: int, replay: Rows, mirror: Mirror | None = None,
        image: tuple[int, int, int] | None = None,
    ) -> None:  # fmt: skip
        """Everything random comes from `seed`: the first parameters, the noise of each update, the shifts of images.

        image: height, width, channels of what all cameras saw together; None learns from numbers alone.
        """
        if mirror is not None:
            mirror.check(observation_size, action_size)
        self.engine_note = ""
        self.config, self.replay, self.mirror, self.image, self.step = agent, replay, mirror, image, 0
        self.observation_size, self.action_size = observation_size, action_size
        self.target_entropy = -float(action_size) if math.isnan(agent.target_entropy) else agent.target_entropy
        start, self.rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
        size = observation_size + (encoder.FEATURES if image else 0)
        shapes = nets.shapes(size, action_size, agent.hidden, agent.critics, agent.layer_norm)
        shapes |= encoder.shapes(image) if image else {}
        first = nets.initial(shapes, agent.initial_temperature, start)
        self.parameters = {name: torch.from_numpy(value) for name, value in first.items()}
        self.log_alpha = self.parameters["log_alpha"]
        self.phi = self._learned("actor.")
        self.theta = self._learned("critic.")
        self.theta_bar = [p for name, p in self.parameters.items() if name.startswith("target.")]
        self.xi = self._learned("encoder.")
        self.adam_actor = torch.optim.Adam(self.phi, agent.actor_lr, fused=True)
        self.adam_critic = torch.optim.Adam(self.theta + self.xi, agent.critic_lr, fused=True)
        self.adam_alpha = torch.optim.Adam(self._learned("log_alpha"), agent.temperature_lr, fused=True)
        self.actor_metrics = {"actor_loss": 0.0, "entropy": 0.0}  # of the actor's last turn

    def _learned(self, prefix: str) -> list[Tensor]:
        return [p.requires_grad_() for name, p in self.parameters.items() if name.startswith(prefix)]

    def pi(self, s: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor]:
        """a ~ pi_phi(.|s) by the noise epsilon (eq. 8), and log pi_phi(a|s)."""
        return tanh_gaussian(mlp(self.parameters, "actor", s), epsilon)

    def q(self, kind: str, s: Tensor, a: Tensor, which: Iterable[int] | None = None, masks: Sequence[Tensor] = ()) -> Tensor:
        """Values of the critics (kind "critic") or targets ("target"), all or `which`: (as many, batch).

        masks: those of `dropout.masks`, none for networks in which nothing is dropped.
        """
        sa = torch.cat([s, a], dim=-1)
        which = range(self.config.critics) if which is None else which
        return torch.cat([mlp(self.parameters, f"{kind}.{i}", sa, [m[k] for m in masks]) for k, i in enumerate(which)], -1).T

    def f(self, o: dict[str, encoder.Image]) -> Tensor:
        """f_xi of images, the cameras' channels side by side, shifted at random: (n, FEATURES)."""
        shifted = encoder.random_shift(np.concatenate(list(o.values()), axis=-1), self.config.shift_px, self.rng)
        return encoder.encode(self.parameters, torch.from_numpy(shifted))

    def _masks(self, key: int, stage: int, rows: int, which: Iterable[int]) -> list[Tensor]:
        return [torch.from_numpy(m) for m in dropout.masks(self.config.dropout, key, stage, which, rows, self.config.hidden)]

    def update(self, indices: NDArray[np.int64], noise: NDArray[np.float32] | None = None) -> dict[str, float]:
        """One update on the rows `indices` (batch,), row ~i in the mirror for i < 0; the order is the module's.

        noise (2, batch, action) float32, standard normal: [0] for a' of the targets, [1] for a of the actor.
        None draws it from the agent's own generator: so engines with one seed agree. Returns critic_loss,
        actor_loss, entropy (-mean log pi), temperature (after the update), q_mean (all critics, before it). Of an
        update without the actor's turn, actor_loss and entropy are its last turn's, 0 before the first.
        ValueError for a wrong shape or type; FloatingPointError when a metric is not finite.
        """
        n, batch = len(indices), seen_rows(self.replay, indices, self.mirror)
        drawn = draws.draw(self.rng, self.config, self.step + 1, (n, self.action_size), noise)
        _check("observation", batch.observation, (n, self.observation_size))
        _check("next_observation", batch.next_observation, (n, self.observation_size))
        _check("action", batch.action, (n, self.action_size))
        _check("reward", batch.reward, (n,))
        s, a, r, s_next = map(torch.from_numpy, (batch.observation, batch.action, batch.reward, batch.next_observation))
        gamma = torch.from_numpy(discounts(batch, self.config.discount))
        if self.image:
            o, o_next = self.replay.images(indices)
            s = torch.cat([s, self.f(o)], -1)
            with torch.no_grad():
                s_next = torch.cat([s_next, self.f(o_next)], -1)
        return _finite(self._descend_all(s, a, r, s_next, gamma, drawn))

    def _descend_all(
        self, s: Tensor, a: Tensor, r: Tensor, s_next: Tensor, gamma: Tensor, drawn: draws.Draws
    ) -> dict[str, float]:
        """Algorithm 1, one gradient step. Shapes (n, .) and (n,); gamma of `discounts`."""
        self.step += 1
        alpha, epsilon = self.log_alpha.detach().exp(), torch.from_numpy(drawn.noise)

        # The target of the soft Bellman residual, with V of eq. 3; the smallest of a subset: Chen et al. 2021, algorithm 1
        with torch.no_grad():
            a_next, log_pi_next = self.pi(s_next, epsilon[0])
            masks = self._masks(drawn.key, dropout.TARGET, len(s), drawn.targets)
            v_next = self.q("target", s_next, a_next, drawn.targets, masks).min(0).values - alpha * log_pi_next
            y = r + gamma * v_next

        # J_Q, eq. 5: half the squared residual, mean over the batch, summed over the critics
        q = self.q("critic", s, a, masks=self._masks(drawn.key, dropout.CRITIC, len(s), range(self.config.critics)))
        critic_loss = (0.5 * (q - y).square()).mean(1).sum()
        self._descend(self.adam_critic, critic_loss, self.theta + self.xi)

        if draws.has_turn(self.config, self.step):
            self._descend_actor(s.detach(), epsilon[1], drawn.key, alpha)

        with torch.no_grad():  # the targets follow the critics as an exponential moving average
            for theta_bar, theta in zip(self.theta_bar, self.theta, strict=True):
                theta_bar.lerp_(theta, self.config.polyak)
        return {
            "critic_loss": critic_loss.item(),
            **self.actor_metrics,
            "temperature": self.log_alpha.exp().item(),
            "q_mean": q.mean().item(),
        }

    def _descend_actor(self, s: Tensor, epsilon: Tensor, key: int, alpha: Tensor) -> None:
        """The turn of actor and temperature in an update; s (n, observation), epsilon (n, action)."""
        # J_pi, eq. 9, with the smallest of the updated critics or their mean
        a, log_pi = self.pi(s, epsilon)
        q = self.q("critic", s, a, masks=self._masks(key, dropout.ACTOR, len(s), range(self.config.critics)))
        actor_loss = (alpha * log_pi - (q.mean(0) if self.config.actor_value == "mean" else q.min(0).values)).mean()
        self._descend(self.adam_actor, actor_loss, self.phi)

        # J(alpha), eq. 18, written in alpha and descended in log alpha, which keeps alpha positive
        alpha_loss = -(self.log_alpha.exp() * (log_pi.detach() + self.target_entropy)).mean()
        self._descend(self.adam_alpha, alpha_loss, [self.log_alpha])
        self.actor_metrics = {"actor_loss": actor_loss.item(), "entropy": -log_pi.mean().item()}

    @staticmethod
    def _descend(adam: torch.optim.Adam, loss: Tensor, parameters: list[Tensor]) -> None:
        """One Adam step on `loss` for `parameters` alone; nothing else gathers a gradient."""
        for p, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            p.grad = gradient
        adam.step()

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """A copy of what acts (`actor.*`, `encoder.*`), what `actor.Actor` takes."""
        return {n: _numpy(p) for n, p in self.parameters.items() if n.startswith(("actor.", "encoder."))}

    def state(self) -> dict[str, NDArray[Any]]:
        """A copy of all that is learned: parameters, Adam's `adam_m.<name>` and `adam_v.<name>`, `step`."""
        out: dict[str, NDArray[Any]] = {name: _numpy(p) for name, p in self.parameters.items()}
        for name, p in self.parameters.items():
            if p.requires_grad:
                moments = self._adam(name).state[p]
                zero = torch.zeros_like(p)
                out[f"adam_m.{name}"] = _numpy(moments.get("exp_avg", zero))
                out[f"adam_v.{name}"] = _numpy(moments.get("exp_avg_sq", zero))
        return out | {"step": np.array(self.step, np.int64)}

    def random_state(self) -> dict[str, Any]:
        """The noise generator's state, ready for JSON."""
        return dict(self.rng.bit_generator.state)

    def load_state(self, state: dict[str, NDArray[Any]], random_state: dict[str, Any]) -> None:
        """Take over what the two above gave, bit for bit; ValueError names what does not fit."""
        mine = self.state()
        if odd := sorted(mine.keys() ^ state.keys()):
            raise ValueError(f"agent state: {odd[0]!r} is on one side only; it was saved by a different agent")
        for name, value in mine.items():
            if (value.shape, value.dtype) != (state[name].shape, state[name].dtype) or not np.isfinite(state[name]).all():
                raise ValueError(
                    f"agent state: {name} must be finite {value.dtype} {value.shape}, is {state[name].dtype} {state[name].shape}"
                )
        self.rng.bit_generator.state = random_state
        self.step = int(state["step"])
        with torch.no_grad():
            for name, p in self.parameters.items():
                p.copy_(torch.from_numpy(state[name]))
                if p.requires_grad:
                    turns = self.step if name.startswith(("critic.", "encoder.")) else draws.actor_turns(self.config, self.step)
                    self._adam(name).state[p] = {
                        "step": torch.tensor(float(turns)),
                        "exp_avg": torch.from_numpy(state[f"adam_m.{name}"].copy()),
                        "exp_avg_sq": torch.from_numpy(state[f"adam_v.{name}"].copy()),
                    }

    def _adam(self, name: str) -> torch.optim.Adam:
        kinds = {"actor": self.adam_actor, "critic": self.adam_critic, "encoder": self.adam_critic}
        return kinds.get(name.split(".")[0], self.adam_alpha)


def _numpy(p: Tensor) -> NDArray[np.float32]:
    return p.detach().numpy().copy()


def _check(name: str, value: NDArray[Any], shape: tuple[int, ...]) -> None:
    if value.shape != shape or value.dtype != np.float32:
        raise ValueError(f"sac.update: {name} must be float32 {shape}, is {value.dtype} {value.shape}")


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"sac.update: {name} is {value}; the last good state is the one to go back to")
    return metrics
