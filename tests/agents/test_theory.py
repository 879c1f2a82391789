"""What soft actor-critic learns against what theory says it must learn, and wrong variants that must not pass.

The fast engine learns from rows in memory, by `update` alone. From there the readable page goes on, and stays where it
is; each wrong variant of the page goes on too, and must leave by a margin: `CONTROLS` says which check it breaks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from robotrl import config
from robotrl.agents import nets
from robotrl.agents.base import Agent, make_agent
from robotrl.agents.sac import HALF_LOG_2PI, Sac, mlp
from tests.agents.soft_problems import Array, Memory, Parameters, PointInBox, Policy, SoftLqr, SoftValues, critics, pure_noise
from tests.agents.test_sac import one_thread  # noqa: F401

pytestmark = pytest.mark.learns
SEED = 0
LQR, BOX = SoftLqr(), PointInBox()
Make = Callable[[config.Agent, int, int, int, Memory], Agent]  # what `make_agent` and `Sac` are
Figures = dict[str, Any]  # name -> float or array


class EntropySign(Sac):
    """The target pays for entropy instead of being paid; there, and only there, no gradient is asked for."""

    def pi(self, s: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor]:
        a, log_pi = super().pi(s, epsilon)
        return a, log_pi if torch.is_grad_enabled() else -log_pi


class NoTanhCorrection(Sac):
    """log pi is the Gaussian's before the tanh."""

    def pi(self, s: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor]:
        log_std = mlp(self.parameters, "actor", s).chunk(2, -1)[1].clamp(nets.LOG_STD_MIN, nets.LOG_STD_MAX)
        return super().pi(s, epsilon)[0], (-0.5 * epsilon.square() - log_std - HALF_LOG_2PI).sum(-1)


class BufferAction(Sac):
    """The target's next action is what the behaviour did, not what the policy would do."""

    def update(self, indices: NDArray[np.int64], noise: NDArray[np.float32] | None = None) -> dict[str, float]:
        self.next_action = torch.from_numpy(self.replay.next_action[indices])  # type: ignore[attr-defined]
        return super().update(indices, noise)

    def q(self, kind: str, s: Tensor, a: Tensor, *rest: Any, **named: Any) -> Tensor:
        return super().q(kind, s, self.next_action if kind == "target" else a, *rest, **named)


class TruncationEnds(Sac):
    """A row that was cut off counts as the end of the future."""

    def __init__(self, agent: config.Agent, observation_size: int, action_size: int, seed: int, replay: Memory) -> None:
        super().__init__(agent, observation_size, action_size, seed, replay.ended())


class LargestOfTwo(Sac):
    """The target takes the largest of the critics where the smallest is due."""

    def q(self, kind: str, s: Tensor, a: Tensor, *rest: Any, **named: Any) -> Tensor:
        q = super().q(kind, s, a, *rest, **named)
        return q.max(0, keepdim=True).values if kind == "target" else q


FIXED, TUNED = (0.5, None), (None, -0.6)  # temperature, or the entropy of a that it is tuned to
# Which checks a variant breaks; the page itself breaks none. The bounds of LQR are too wide for the tanh to matter there,
# and its entropy is the same in every state, so that a wrong sign of it shows in V(0) alone.
LQR_CONTROLS: list[tuple[tuple[float | None, float | None], Make, set[str]]] = [
    (FIXED, Sac, set()),
    (FIXED, EntropySign, {"v0"}),
    (FIXED, BufferAction, {"gain", "v0"}),
    (FIXED, TruncationEnds, {"gain", "std", "v0"}),
    (TUNED, Sac, set()),
    (TUNED, TruncationEnds, {"gain", "alpha", "v0"}),
]
BOX_CONTROLS: list[tuple[Make, set[str]]] = [
    (Sac, set()),
    (EntropySign, {"q"}),
    (BufferAction, {"mean", "entropy", "q"}),
    (TruncationEnds, {"entropy"}),
    (NoTanhCorrection, {"mean", "entropy", "q"}),
]
TWIN_CONTROLS: list[tuple[Make, set[str]]] = [(Sac, set()), (LargestOfTwo, {"twin"})]


def test_every_control_breaks_a_check_and_every_check_has_a_control() -> None:
    broken = [row[-1] for row in (*LQR_CONTROLS, *BOX_CONTROLS, *TWIN_CONTROLS) if row[-2] is not Sac]
    assert all(broken) and set().union(*broken) == {"gain", "std", "alpha", "v0", "mean", "entropy", "q", "twin"}


def assert_within(errors: dict[str, float]) -> None:
    """All within their tolerances."""
    assert max(errors.values()) < 1, errors


def assert_verdict(errors: dict[str, float], broken: set[str]) -> None:
    """What a control breaks it breaks by twice the tolerance; without any, all must be within."""
    assert all(errors[name] > 2 for name in broken), errors
    if not broken:
        assert_within(errors)


def learn(agent: Agent, rows: int, updates: int) -> list[Parameters]:
    """States along the last half of so many updates. Adam's steps do not end, so figures are means over them."""
    rng, states = np.random.default_rng(SEED), []
    for i in range(1, updates + 1):
        agent.update(rng.integers(0, rows, agent.config.batch))  # type: ignore[attr-defined]
        if 2 * i > updates and i % 20 == 0:
            states.append(agent.state())
    return states


def go_on(make: Make, agent: config.Agent, before: Agent, updates: int) -> tuple[Agent, list[Parameters]]:
    """Another agent, perhaps with other settings, from where `before` is."""
    memory: Memory = before.replay  # type: ignore[attr-defined]
    after = make(agent, *memory.sizes, SEED, memory)
    after.load_state(before.state(), before.random_state())
    return after, learn(after, len(memory), updates)


def learn_twice(memory: Memory, far: config.Agent, near: config.Agent, updates: int, more: int) -> tuple[Agent, list[Parameters]]:
    """With the large steps of `far`, then the small ones of `near`."""
    first = make_agent(far, *memory.sizes, SEED, memory)
    learn(first, len(memory), updates)
    return go_on(make_agent, near, first, more)


def mean_of(figures: Callable[[Parameters], Figures], states: Sequence[Parameters]) -> Figures:
    of_each = [figures(state) for state in states]
    return {name: np.mean([f[name] for f in of_each], axis=0) for name in of_each[0]}


def settings(discount: float, lr: float, **more: Any) -> config.Agent:
    return config.Agent(
        discount=discount, polyak=0.05, batch=128, actor_lr=lr, critic_lr=lr, **({"temperature_lr": 0.0} | more)
    )  # fmt: skip


# ---- the soft linear-quadratic problem


def lqr_settings(alpha: float | None, entropy: float | None, lr: float) -> config.Agent:
    """A fixed temperature, or one tuned to an entropy."""
    more = {"temperature_lr": lr, "target_entropy": entropy} if alpha is None else {"initial_temperature": alpha}
    return settings(LQR.discount, lr, hidden=(128, 128), **({"initial_temperature": 0.35} | more))


@functools.cache
def lqr_learned(alpha: float | None, entropy: float | None) -> tuple[Agent, list[Parameters]]:
    memory = LQR.memory(SEED)
    return learn_twice(memory, lqr_settings(alpha, entropy, 2e-3), lqr_settings(alpha, entropy, 3e-4), 2000, 3000)


def lqr_errors(states: Sequence[Parameters], alpha: float | None, entropy: float | None) -> dict[str, float]:
    """In tolerances: gain 2 %, standard deviation 5 %, temperature 10 %, V(0) by what 0.03 more of reward would be worth."""
    have = mean_of(LQR.figures, states)
    alpha = LQR.alpha(entropy) if alpha is None else alpha
    return {
        "gain": abs(have["gain"] / LQR.gain - 1) / 0.02,
        "std": abs(have["std"] / LQR.std(alpha) - 1) / 0.05,
        "alpha": abs(have["alpha"] / alpha - 1) / 0.10,
        "v0": abs(have["v0"] - LQR.v0(alpha)) * (1 - LQR.discount) / 0.03,
    }


@pytest.mark.parametrize("discount", [LQR.discount, 0.99])
def test_lqr_closed_form(discount: float) -> None:
    """It solves the soft Bellman equation by quadrature; mean, std and entropy are those of the density exp((Q - V) / alpha)."""
    lqr, alpha, u, s = SoftLqr(discount), 0.2, np.linspace(-8, 8, 20_001), np.linspace(-1, 1, 5)[:, None]
    q = lqr.q(s, u, alpha)
    v = alpha * np.log(np.trapezoid(np.exp(q / alpha), u / lqr.bound))
    np.testing.assert_allclose(v, lqr.v0(alpha) - lqr.p * s[:, 0] ** 2, atol=1e-9)
    density = np.exp((q - v[:, None]) / alpha) / lqr.bound  # of u
    np.testing.assert_allclose(np.trapezoid(density * u, u), -lqr.gain * s[:, 0], atol=1e-9)
    np.testing.assert_allclose(np.trapezoid(density * (u + lqr.gain * s) ** 2, u), lqr.std(alpha) ** 2, atol=1e-9)
    entropy = -np.trapezoid(density * np.log(density * lqr.bound + 1e-300), u)
    np.testing.assert_allclose(entropy, lqr.entropy(alpha), atol=1e-9)
    assert lqr.alpha(lqr.entropy(alpha)) == pytest.approx(alpha)


def test_lqr_figures_worked_out_elsewhere() -> None:
    """Discount 0.99, alpha 0.2, entropy of u itself."""
    lqr = SoftLqr(discount=0.99, bound=1.0)
    have = [lqr.p, lqr.gain, lqr.m, lqr.std(0.2), lqr.entropy(0.2)]
    np.testing.assert_allclose(have, [1.6152512456630, 0.6152512456630, 2.5990987332, 0.1961501, -0.2099364], atol=1e-7)


@pytest.mark.parametrize(("alpha", "entropy"), [FIXED, (0.2, None), TUNED, (None, -1.1)])
def test_lqr(alpha: float | None, entropy: float | None) -> None:
    assert_within(lqr_errors(lqr_learned(alpha, entropy)[1], alpha, entropy))


@pytest.mark.parametrize(("case", "make", "broken"), LQR_CONTROLS)
def test_lqr_controls(case: tuple[float | None, float | None], make: Make, broken: set[str]) -> None:
    _, states = go_on(make, lqr_settings(*case, 1e-3), lqr_learned(*case)[0], 400)
    assert_verdict(lqr_errors(states, *case), broken)


# ---- the point in a box


def box_settings(lr: float) -> config.Agent:
    return settings(BOX.discount, lr, hidden=(64, 64), initial_temperature=BOX.alpha)


@functools.cache
def box_learned(engine: str) -> tuple[Agent, list[Parameters]]:
    memory = BOX.memory(SEED)
    return learn_twice(memory, replace(box_settings(2e-3), engine=engine), replace(box_settings(5e-4), engine=engine), 2000, 1000)


@functools.cache
def box_exact() -> Figures:
    values, (s, on_slice) = SoftValues(BOX), box_places()
    mean, entropy = values.mean_and_entropy(s)
    return {"mean": mean, "entropy": entropy, "q": values.q(*on_slice)}


def box_places() -> tuple[Array, tuple[Array, Array]]:
    """49 states; and 21 pushes along x in each of three states, before the hill, above it and behind the goal."""
    x = np.linspace(-0.75, 0.75, 7)
    s = np.stack(np.meshgrid(x, x), -1).reshape(-1, 2)
    along = np.stack([np.linspace(-1, 1, 21), np.zeros(21)], 1)
    start = np.array([[0.0, 0.0], [-0.6, 0.6], [0.6, -0.6]])
    return s, (np.repeat(start, 21, 0), np.tile(along, (3, 1)))


def box_figures(parameters: Parameters) -> Figures:
    s, on_slice = box_places()
    policy = Policy.read(parameters, s)
    return {"mean": policy.mean, "entropy": policy.entropy, "q": critics(parameters, *on_slice).min(0)}


def box_errors(states: Sequence[Parameters]) -> dict[str, float]:
    """Root mean squares in tolerances. Over the states the mean action spreads by 0.4 and the entropy by 2.2; Q by 9.

    A tanh-Gaussian is not quite exp(Q / alpha), which alone shifts entropies by 0.03; the smaller of two critics is low.
    """
    have, want = mean_of(box_figures, states), box_exact()
    tolerance = {"mean": 0.06, "entropy": 0.15, "q": 0.9}
    return {name: math.sqrt(np.mean((have[name] - want[name]) ** 2)) / tolerance[name] for name in want}


@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_point_in_a_box(engine: str) -> None:
    assert_within(box_errors(box_learned(engine)[1]))


@pytest.mark.parametrize(("make", "broken"), BOX_CONTROLS)
def test_point_in_a_box_controls(make: Make, broken: set[str]) -> None:
    _, states = go_on(make, box_settings(1e-3), box_learned("auto")[0], 400)
    assert_verdict(box_errors(states), broken)


def test_exact_values() -> None:
    """Worth nothing but its freedom, a step is worth alpha log 4, the area of the actions; and the grid is fine enough."""

    class Nothing(PointInBox):
        def reward(self, s: Array, a: Array) -> Array:
            return np.zeros(np.broadcast_shapes(s.shape, a.shape)[:-1])

    free = SoftValues(Nothing(), 5, 7)
    np.testing.assert_allclose(free.v, BOX.alpha * math.log(4) / (1 - BOX.discount), rtol=1e-5)
    coarse, fine, s = SoftValues(BOX, 25, 15), box_exact(), box_places()[0]
    for name, value in zip(("mean", "entropy"), coarse.mean_and_entropy(s), strict=True):
        np.testing.assert_allclose(value, fine[name], atol=0.02)
    np.testing.assert_allclose(coarse.q(*box_places()[1]), fine["q"], atol=0.05)


# ---- overestimation


def noise_settings(critics: int) -> config.Agent:
    return settings(0.9, 1e-3, hidden=(64, 64), critics=critics, initial_temperature=0.2)


@functools.cache
def noise_learned(critics: int) -> tuple[Agent, list[Parameters]]:
    memory = pure_noise(SEED)
    agent = make_agent(noise_settings(critics), *memory.sizes, SEED, memory)
    return agent, learn(agent, len(memory), 1600)


def overestimate(parameters: Parameters) -> dict[str, float]:
    """Mean Q over all critics, less the Monte-Carlo soft return, in `pure_noise`: its rewards are 0 on average and every
    step's state is a new draw, so the return from a step on is what the entropy of each later step is worth."""
    rng = np.random.default_rng(0)
    s = rng.uniform(-1, 1, (64, 1))
    policy = Policy.read(parameters, s, rng.standard_normal((64, 8)))
    q = critics(parameters, np.broadcast_to(s[:, None], (64, 64, 1)), policy.a).mean()
    agent = noise_settings(1)
    soft_return = agent.discount / (1 - agent.discount) * agent.initial_temperature * policy.entropy.mean()
    return {"bias": float(q - soft_return)}


def test_overestimation() -> None:
    """One critic overestimates, and two do so by less than half of it, judged by their mean and not by the smaller."""
    one = mean_of(overestimate, noise_learned(1)[1])["bias"]
    assert one > 0.2
    assert_within({"twin": mean_of(overestimate, noise_learned(2)[1])["bias"] / (0.5 * one)})


@pytest.mark.parametrize(("make", "broken"), TWIN_CONTROLS)
def test_overestimation_controls(make: Make, broken: set[str]) -> None:
    one = mean_of(overestimate, noise_learned(1)[1])["bias"]
    _, states = go_on(make, noise_settings(2), noise_learned(2)[0], 400)
    assert_verdict({"twin": mean_of(overestimate, states)["bias"] / (0.5 * one)}, broken)
