"""Two soft control problems whose optimum is known without learning, rows to learn them from, and figures of what was learned.

Numpy alone, sharing nothing with the agents but the names of their parameters. Entropies are those of a density over
the actions a in (-1, 1), not taken against a prior, as in Haarnoja et al. 2018, arXiv 1812.05905.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robotrl.replay import Batch

Array = NDArray[np.float64]
Parameters = dict[str, NDArray[Any]]
NODES = 24  # of a Gauss-Hermite rule, an action dimension


class Memory:
    """Transitions in plain arrays; answers like a replay. `next_action` is what the behaviour did in the next state."""

    def __init__(self, s: Array, a: Array, r: Array, s_next: Array, next_action: Array, truncated: NDArray[np.bool_]) -> None:
        """(n, .) and (n,); no episode terminates, the truncated ones are only cut off."""
        s, a, r, s_next, self.next_action = (np.asarray(x, np.float32) for x in (s, a, r, s_next, next_action))
        self.batch = Batch(s, a, r, np.zeros(len(r), np.uint8), truncated.astype(np.uint8), s_next, np.ones(len(r), np.int64))

    def __len__(self) -> int:
        return len(self.batch.reward)

    @property
    def sizes(self) -> tuple[int, int]:
        """Of an observation and of an action."""
        return self.batch.observation.shape[1], self.batch.action.shape[1]

    def ended(self) -> Memory:
        """The same rows, with truncation taken for termination."""
        out = copy.copy(self)
        out.batch = self.batch._replace(terminated=self.batch.truncated)
        return out

    def rows(self, indices: NDArray[np.int64]) -> Batch:
        return Batch._make(column[indices] for column in self.batch)


def forward(parameters: Parameters, net: str, x: Array) -> Array:
    """The network `net`, x (n, in) -> (n, out)."""
    layer = 0
    while (weight := parameters.get(f"{net}.{layer}.weight")) is not None:
        x = (np.maximum(x, 0) if layer else x) @ weight.T.astype(float) + parameters[f"{net}.{layer}.bias"]
        layer += 1
    return x


def gauss_hermite(size: int) -> tuple[Array, Array]:
    """A rule for expectations over `size` standard normals: nodes (k, size), weights (k,)."""
    node, weight = np.polynomial.hermite_e.hermegauss(NODES)
    nodes, weights = (np.stack(np.meshgrid(*[x] * size), -1).reshape(-1, size) for x in (node, weight / weight.sum()))
    return nodes, weights.prod(1)


class Policy(NamedTuple):
    """pi(.|s) in n states as k weighted actions, so that an expectation is a weighted sum."""

    a: Array  # (n, k, action)
    log_pi: Array  # (n, k)
    weight: Array  # (k,)

    @classmethod
    def read(cls, parameters: Parameters, s: Array, epsilon: Array | None = None) -> Policy:
        """The learned policy in the states s (n, observation); `epsilon` (k, action), standard normal, replaces the rule."""
        mean, log_std = np.split(forward(parameters, "actor", s), 2, axis=1)
        log_std = np.clip(log_std, -5.0, 2.0)[:, None]
        epsilon, weight = gauss_hermite(mean.shape[1]) if epsilon is None else (epsilon, np.full(len(epsilon), 1 / len(epsilon)))
        u = mean[:, None] + np.exp(log_std) * epsilon
        log_normal = -0.5 * epsilon**2 - log_std - 0.5 * math.log(2 * math.pi)
        log_slope = 2 * math.log(2) - 2 * np.logaddexp(u, -u)  # 1 - tanh^2 = 1 / cosh^2
        return cls(np.tanh(u), (log_normal - log_slope).sum(-1), weight)

    @property
    def mean(self) -> Array:
        """(n, action)"""
        return np.einsum("nkd,k->nd", self.a, self.weight)

    @property
    def std(self) -> Array:
        """(n, action)"""
        return np.sqrt(np.einsum("nkd,k->nd", (self.a - self.mean[:, None]) ** 2, self.weight))

    @property
    def entropy(self) -> Array:
        """(n,)"""
        return -self.log_pi @ self.weight


def critics(parameters: Parameters, s: Array, a: Array) -> Array:
    """All critics' values, s (..., observation) and a (..., action) -> (critics, ...)."""
    sa = np.concatenate([s, a], -1)
    count = sum(name.startswith("critic.") and name.endswith(".0.weight") for name in parameters)
    values = [forward(parameters, f"critic.{i}", sa.reshape(-1, sa.shape[-1])) for i in range(count)]
    return np.stack(values).reshape(count, *sa.shape[:-1])


@dataclass(frozen=True)
class SoftLqr:
    """s' = s + u + w, r = -s^2 - u^2, u = `bound` a: the optimum is N(-gain s, std^2) as long as u keeps far from its bounds.

    With V(s) = -p s^2 + v0 the exponent of the optimal policy is -(m u^2 + 2 discount p s u) / alpha, m = 1 + discount p.
    """

    discount: float = 0.9
    noise: float = 0.1  # standard deviation of w
    bound: float = 2.5
    reach: float = 1.3  # rows lie in [-reach, reach], and so do their next states but for the noise

    @property
    def p(self) -> float:
        """The scalar Riccati equation, iterated."""
        p = 0.0
        for _ in range(1000):
            p = 1 + self.discount * p / (1 + self.discount * p)
        return p

    @property
    def m(self) -> float:
        return 1 + self.discount * self.p

    @property
    def gain(self) -> float:
        return self.discount * self.p / self.m

    def std(self, alpha: float) -> float:
        """Of u."""
        return math.sqrt(alpha / (2 * self.m))

    def entropy(self, alpha: float) -> float:
        """Of a: a Gaussian's, less the logarithm of how much wider u is."""
        return 0.5 * math.log(2 * math.pi * math.e * self.std(alpha) ** 2) - math.log(self.bound)

    def alpha(self, entropy: float) -> float:
        """Where the temperature settles that is tuned to this entropy of a."""
        return self.m * self.bound**2 * math.exp(2 * entropy - 1) / math.pi

    def v0(self, alpha: float) -> float:
        """V(0): what a step costs on average at s = 0 beside s^2, as often as the discount lets it happen."""
        log_integral = 0.5 * math.log(math.pi * alpha / self.m) - math.log(self.bound)
        return (alpha * log_integral - self.discount * self.p * self.noise**2) / (1 - self.discount)

    def q(self, s: Array, u: Array, alpha: float) -> Array:
        return -(s**2) - u**2 + self.discount * (self.v0(alpha) - self.p * ((s + u) ** 2 + self.noise**2))

    def behave(self, rng: np.random.Generator, s: Array) -> Array:
        """An action that makes the next state anything in reach, wherever s is."""
        u = rng.uniform(-self.reach, self.reach, s.shape) - s
        return np.clip(u / self.bound, -1, 1)

    def memory(self, seed: int, rows: int = 20_000, cut: float = 0.5) -> Memory:
        """A share `cut` of the rows is truncated. Every (s, a) is there with w and with -w: by chance alone the mean of w
        would lean with s in 20,000 rows, and that is a gain wrong by half a per cent."""
        rng = np.random.default_rng(seed)
        s = rng.uniform(-self.reach, self.reach, (rows // 2, 1))
        a, w = self.behave(rng, s), self.noise * rng.standard_normal(s.shape)
        s, a, w = np.tile(s, (2, 1)), np.tile(a, (2, 1)), np.concatenate([w, -w])
        s_next = s + self.bound * a + w
        reward = -(s**2) - (self.bound * a) ** 2
        return Memory(s, a, reward[:, 0], s_next, self.behave(rng, s_next), rng.random(rows) < cut)

    def figures(self, parameters: Parameters) -> dict[str, float]:
        """gain, std, alpha and v0 of what was learned; gain and std of u itself, so the tanh is no error in them."""
        s = np.linspace(-1, 1, 21)[:, None]
        policy, middle = Policy.read(parameters, s), len(s) // 2
        alpha = math.exp(parameters["log_alpha"][0])
        q = critics(parameters, np.zeros_like(policy.a[middle]), policy.a[middle]).min(0)
        return {
            "gain": -self.bound * float((s * policy.mean).sum() / (s * s).sum()),
            "std": self.bound * float(policy.std.mean()),
            "alpha": alpha,
            "v0": float((q - alpha * policy.log_pi[middle]) @ policy.weight),
        }


@dataclass(frozen=True)
class PointInBox:
    """A point pushed about in the box [-1, 1]^2, s' = s + push a inside it; it wants to a goal, not over a hill.

    r = -2 |s - goal|^2 - exp(-|s - top|^2 / (2 0.3^2)) - 0.3 |a|^2. The hill couples the axes.
    """

    alpha: float = 0.4
    discount: float = 0.8
    push: float = 0.5

    def reward(self, s: Array, a: Array) -> Array:
        """(..., 2), (..., 2) -> (...)"""
        goal, top = np.array([0.5, 0.3]), np.array([-0.1, 0.4])
        hill = np.exp(-((s - top) ** 2).sum(-1) / (2 * 0.3**2))
        return -2 * ((s - goal) ** 2).sum(-1) - hill - 0.3 * (a**2).sum(-1)

    def step(self, s: Array, a: Array) -> Array:
        return np.clip(s + self.push * a, -1, 1)

    def behave(self, rng: np.random.Generator, s: Array) -> Array:
        return rng.uniform(-1, 1, s.shape)

    def memory(self, seed: int, rows: int = 20_000, cut: float = 0.3) -> Memory:
        """States and actions anywhere; a share `cut` of the rows is truncated."""
        rng = np.random.default_rng(seed)
        s = rng.uniform(-1, 1, (rows, 2))
        a = self.behave(rng, s)
        s_next = self.step(s, a)
        return Memory(s, a, self.reward(s, a), s_next, self.behave(rng, s_next), rng.random(rows) < cut)


class SoftValues:
    """Soft value iteration for a PointInBox: V on a grid of states, bilinear between, the integral over a by a midpoint rule."""

    def __init__(self, box: PointInBox, states: int = 33, actions: int = 21) -> None:
        self.box = box
        edges = np.linspace(-1, 1, states)
        middles = (np.arange(actions) + 0.5) * 2 / actions - 1
        s = np.stack(np.meshgrid(edges, edges, indexing="ij"), -1).reshape(-1, 1, 2)
        self.a = np.stack(np.meshgrid(middles, middles, indexing="ij"), -1).reshape(1, -1, 2)
        self.cell = (2 / actions) ** 2
        self.v = np.zeros((states, states))
        reward, corners, share = box.reward(s, self.a), *self._corners(box.step(s, self.a))
        change = math.inf
        while change > 1e-6:
            q = reward + box.discount * (self.v.ravel()[corners] * share).sum(0)
            v = self.soft_maximum(q).reshape(states, states)
            change, self.v = np.abs(v - self.v).max(), v

    def _corners(self, s: Array) -> tuple[NDArray[np.int64], Array]:
        """The four grid points about each s (..., 2), as flat indices (4, ...), and their shares in its value."""
        n = len(self.v)
        x = (s + 1) / 2 * (n - 1)
        low = np.minimum(x.astype(np.int64), n - 2)
        f = x - low
        fx, fy, flat = f[..., 0], f[..., 1], low[..., 0] * n + low[..., 1]
        return np.stack([flat, flat + 1, flat + n, flat + n + 1]), np.stack(
            [(1 - fx) * (1 - fy), (1 - fx) * fy, fx * (1 - fy), fx * fy]
        )  # fmt: skip

    def soft_maximum(self, q: Array) -> Array:
        """alpha log of the integral of exp(q / alpha) over the actions of the grid, (..., actions) -> (...)."""
        top = q.max(-1, keepdims=True)
        return top[..., 0] + self.box.alpha * np.log(self.cell * np.exp((q - top) / self.box.alpha).sum(-1))

    def q(self, s: Array, a: Array) -> Array:
        """(..., 2), (..., 2) -> (...)"""
        corners, share = self._corners(self.box.step(s, a))
        return self.box.reward(s, a) + self.box.discount * (self.v.ravel()[corners] * share).sum(0)

    def mean_and_entropy(self, s: Array) -> tuple[Array, Array]:
        """Of the soft-optimal policy in the states s (n, 2): (n, 2) and (n,)."""
        q = self.q(s[:, None], self.a)
        log_pi = (q - self.soft_maximum(q)[:, None]) / self.box.alpha
        share = self.cell * np.exp(log_pi)
        return np.einsum("nk,kd->nd", share, self.a[0]), -(share * log_pi).sum(-1)


def pure_noise(seed: int, rows: int = 3000, size: int = 8) -> Memory:
    """Rewards that depend on nothing, mean 0, and states drawn anew each step: no action of the `size` is better than another."""
    rng = np.random.default_rng(seed)
    s, s_next = rng.uniform(-1, 1, (2, rows, 1))
    a, next_action = rng.uniform(-1, 1, (2, rows, size))
    r = rng.standard_normal(rows)
    return Memory(s, a, r - r.mean(), s_next, next_action, np.zeros(rows, bool))
