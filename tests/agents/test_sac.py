"""Soft actor-critic's parts against numpy, and its state; what it learns is judged by test_theory.py."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from robotrl import config
from robotrl.agents.base import Unsupported, make_agent
from robotrl.agents.sac import Sac, tanh_gaussian
from robotrl.replay import Batch


class Memory:
    """Transitions in plain arrays; answers like a replay."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def rows(self, indices: NDArray[np.int64]) -> Batch:
        return Batch._make(column[indices] for column in self.batch)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small nets; and results that do not depend on the machine's number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_memory(rows: int, observation: int, action: int) -> Memory:
    rng = np.random.default_rng(5)

    def draw(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape, dtype=np.float32)

    ends = (rng.random((2, rows)) < 0.3).astype(np.uint8)
    a = np.tanh(draw(rows, action))
    return Memory(
        Batch(draw(rows, observation), a, draw(rows), ends[0], ends[1], draw(rows, observation), np.ones(rows, np.int64))
    )


def small(seed: int = 0, **changes: object) -> Sac:
    paper = dict(discount=0.99, polyak=0.005, initial_temperature=0.1, target_entropy=math.nan)
    paper |= dict.fromkeys(("actor_lr", "critic_lr", "temperature_lr"), 3e-4)
    agent = config.Agent(engine="reference", hidden=(16, 16), batch=32, **(paper | changes))  # type: ignore[arg-type]
    return Sac(agent, 5, 3, seed, random_memory(200, 5, 3))


def train(sac: Sac, updates: int, seed: int = 0) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    for _ in range(updates):
        metrics = sac.update(rng.integers(0, 200, 32))
    return metrics


def forward(parameters: dict[str, NDArray[np.float32]], prefix: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The network again, in numpy and float64."""
    last = max(int(name.split(".")[-2]) for name in parameters if name.startswith(prefix + "."))
    for layer in range(last + 1):
        w, b = (parameters[f"{prefix}.{layer}.{kind}"].astype(float) for kind in ("weight", "bias"))
        x = x @ w.T + b
        x = np.maximum(x, 0) if layer < last else x
    return x


def act(parameters: dict[str, NDArray[np.float32]], s: NDArray[np.float32], epsilon: NDArray[np.float32]):
    """Action and log pi by the textbook formula, Gaussian density over d tanh(u)/du."""
    mean, log_std = np.split(forward(parameters, "actor", s.astype(float)), 2, axis=1)
    std = np.exp(np.clip(log_std, -5, 2))
    u = mean + std * epsilon
    normal = np.exp(-0.5 * ((u - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    return np.tanh(u), np.log(normal / (1 - np.tanh(u) ** 2)).sum(1)


def smallest_q(parameters: dict[str, NDArray[np.float32]], kind: str, s, a) -> NDArray[np.float64]:
    return np.minimum(*(forward(parameters, f"{kind}.{i}", np.hstack([s, a]))[:, 0] for i in (0, 1)))


def test_one_update_against_numpy() -> None:
    sac = small()
    train(sac, 20)  # targets and critics now differ
    before = sac.state()
    noise = np.random.default_rng(9).standard_normal((2, 32, 3), dtype=np.float32)
    indices = np.arange(32)
    metrics = sac.update(indices, noise)
    after, b = sac.state(), sac.replay.rows(indices)
    alpha = math.exp(before["log_alpha"][0])

    a_next, log_pi_next = act(before, b.next_observation, noise[0])
    v_next = smallest_q(before, "target", b.next_observation, a_next) - alpha * log_pi_next
    assert b.truncated.any()
    y = b.reward + 0.99 * np.where(b.terminated, 0, v_next)
    q = [forward(before, f"critic.{i}", np.hstack([b.observation, b.action]))[:, 0] for i in (0, 1)]
    assert metrics["critic_loss"] == pytest.approx(sum(0.5 * np.mean((qi - y) ** 2) for qi in q), rel=1e-5)
    assert metrics["q_mean"] == pytest.approx(np.mean(q), rel=1e-5)

    a, log_pi = act(before, b.observation, noise[1])
    j_pi = np.mean(alpha * log_pi - smallest_q(after, "critic", b.observation, a))  # the updated critics
    assert metrics["actor_loss"] == pytest.approx(j_pi, rel=1e-5)
    assert metrics["entropy"] == pytest.approx(-np.mean(log_pi), rel=1e-5)

    gradient = -alpha * (np.mean(log_pi) - 3.0)  # d J(alpha) / d log alpha with H = -3, then Adam by its formulas
    m = 0.9 * before["adam_m.log_alpha"][0] + 0.1 * gradient
    v = 0.999 * before["adam_v.log_alpha"][0] + 0.001 * gradient**2
    step = 3e-4 * m / (1 - 0.9**21) / (math.sqrt(v / (1 - 0.999**21)) + 1e-8)
    assert after["log_alpha"][0] == pytest.approx(before["log_alpha"][0] - step, abs=1e-6)
    moved = before["target.1.0.weight"] + 0.005 * (after["critic.1.0.weight"] - before["target.1.0.weight"])
    np.testing.assert_allclose(after["target.1.0.weight"], moved, atol=1e-7)


def test_log_pi_integrates_to_one_and_agrees_with_torch() -> None:
    head = torch.tensor([[0.4, -0.3]], dtype=torch.float64)  # mean, log sigma
    u = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    epsilon = ((u - head[0, 0]) / head[0, 1].exp())[:, None]
    a, log_pi = tanh_gaussian(head.expand(len(u), 2), epsilon)
    assert float(torch.trapezoid(log_pi.exp(), a[:, 0])) == pytest.approx(1.0, abs=1e-6)

    heads = torch.randn(64, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise = torch.randn(64, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    a, log_pi = tanh_gaussian(heads, noise)
    mean, log_std = heads.chunk(2, -1)
    normal = torch.distributions.Normal(mean, log_std.clamp(-5, 2).exp())
    squashed = torch.distributions.TransformedDistribution(normal, torch.distributions.TanhTransform())
    torch.testing.assert_close(log_pi, squashed.log_prob(a).sum(-1), rtol=1e-6, atol=1e-6)


def test_log_pi_stays_finite_where_tanh_saturates() -> None:
    head = torch.tensor([[40.0, -40.0, 3.0, -9.0]], requires_grad=True)  # both log sigma beyond their clamp
    a, log_pi = tanh_gaussian(head, torch.tensor([[1.0, -1.0]]))
    assert a.abs().max() == 1.0
    log_pi.sum().backward()
    assert head.grad is not None and torch.isfinite(log_pi).all() and torch.isfinite(head.grad).all()
    assert head.grad[0, 2:].tolist() == [0.0, 0.0]


def equal(one: dict[str, NDArray[np.float32]], other: dict[str, NDArray[np.float32]]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_seed_alone_decides() -> None:
    first, again, other = small(3), small(3), small(4)
    train(first, 5)
    torch.manual_seed(99)  # global generators must not matter
    np.random.seed(99)
    train(again, 5)
    assert equal(first.state(), again.state())
    assert not equal(first.weights(), other.weights())


@pytest.mark.parametrize("before", [0, 7])
def test_a_loaded_state_goes_on_bit_for_bit(before: int) -> None:
    sac = small()
    if before:
        train(sac, before)
    kept, random_state = copy.deepcopy(sac.state()), json.loads(json.dumps(sac.random_state()))
    train(sac, 5, seed=1)
    resumed = small(seed=8)
    resumed.load_state(kept, random_state)
    train(resumed, 5, seed=1)
    assert resumed.step == before + 5
    assert equal(sac.state(), resumed.state())


def test_a_copy_is_a_copy() -> None:
    sac = small()
    weights, state = sac.weights(), sac.state()
    kept = copy.deepcopy(state)
    train(sac, 2)
    assert equal(state, kept) and weights.keys() == {n for n in state if n.startswith("actor.")}


def test_a_state_that_does_not_fit_is_refused_whole() -> None:
    sac = small()
    kept, random_state = sac.state(), sac.random_state()
    for name, value in (
        ("actor.0.bias", np.zeros(3, np.float32)),
        ("log_alpha", np.full(1, np.nan, np.float32)),
    ):
        with pytest.raises(ValueError, match=name):
            sac.load_state(kept | {name: value}, random_state)
    with pytest.raises(ValueError, match=r"critic\.0"):
        sac.load_state({n: v for n, v in kept.items() if n != "critic.0.0.bias"}, random_state)
    assert equal(sac.state(), kept)


def test_wrong_shapes_and_diverged_losses_are_named() -> None:
    sac = small()
    with pytest.raises(ValueError, match=r"noise must be float32 \(2, 32, 3\)"):
        sac.update(np.arange(32), np.zeros((2, 32, 2), np.float32))
    sac.replay.batch.reward[0] = np.inf  # type: ignore[attr-defined]
    with pytest.raises(FloatingPointError, match="critic_loss"):
        sac.update(np.arange(32))


def test_engines_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = random_memory(50, 5, 3)
    assert make_agent(config.Agent(engine="reference"), 5, 3, 0, memory).engine == "reference"
    with pytest.raises(ValueError, match="quantum"):
        make_agent(config.Agent(engine="quantum"), 5, 3, 0, memory)

    class Fused:
        @staticmethod
        def make(*_: object) -> None:
            raise Unsupported("no compiler here")

    monkeypatch.setattr("importlib.import_module", lambda name: Fused)
    fallen_back = make_agent(config.Agent(engine="auto"), 5, 3, 0, memory)
    assert (fallen_back.engine, fallen_back.engine_note) == ("reference", "no compiler here")
    with pytest.raises(Unsupported, match="no compiler here"):
        make_agent(config.Agent(engine="fused"), 5, 3, 0, memory)
