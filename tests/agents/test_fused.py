"""The fused engines do what the readable page does: same parameters from the same weights, rows and noise."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
import torch

from robotrl import config
from robotrl import native as libraries
from robotrl.agents.base import Unsupported, make_agent
from robotrl.agents.fused import engine
from robotrl.agents.fused.engine import ISA, Fused
from robotrl.agents.fused.fallback import TorchSac
from robotrl.agents.sac import Sac
from robotrl.replay import Batch, Replay

try:
    WIDEST = engine.LIBRARY.load().robotrl_widest()
except libraries.NoLibrary:
    WIDEST = -1
native = pytest.mark.skipif(WIDEST < 0, reason="no C++ compiler on this machine")
N = 2000


@pytest.fixture(autouse=True)
def one_thread():
    """Small products on several threads spend their time waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Memory:
    """Random transitions, a tenth of them terminated."""

    def __init__(self, observation: int, action: int) -> None:
        rng = np.random.default_rng(5)
        self.batch = Batch(
            observation=rng.standard_normal((N, observation), np.float32),
            action=np.tanh(rng.standard_normal((N, action), np.float32)),
            reward=rng.standard_normal(N, np.float32),
            terminated=(rng.random(N) < 0.1).astype(np.uint8),
            truncated=np.zeros(N, np.uint8),
            next_observation=rng.standard_normal((N, observation), np.float32),
            steps=np.ones(N, np.int64),
        )

    def rows(self, indices: np.ndarray) -> Batch:
        return Batch(*(column[indices] for column in self.batch))


def pair(observation, action, agent, **options):
    memory = Memory(observation, action)
    return Sac(agent, observation, action, 3, memory), Fused(agent, observation, action, 3, memory, **options)


def gap(a, b):
    """Largest relative error of any parameter array, by norm."""
    a, b = a.state(), b.state()
    assert a.keys() == b.keys()
    return max(np.linalg.norm(a[n] - b[n]) / (np.linalg.norm(a[n]) + 1e-12) for n in a if not n.startswith("adam"))


def advance(agents, updates, batch, seed=0):
    rng = np.random.default_rng(seed)
    metrics = []
    for _ in range(updates):
        indices = rng.integers(0, N, batch)
        metrics = [agent.update(indices) for agent in agents]
    return metrics


SIZES = [
    (3, 1, config.Agent(hidden=(64, 64), batch=64, critics=1)),
    (112, 8, config.Agent(critics=2)),
    (17, 6, config.Agent(hidden=(96, 80, 33), batch=100, critics=3)),
    (5, 2, config.Agent(hidden=(30,), batch=70, critics=10)),
    (28, 8, config.Agent(hidden=(64, 512), batch=1024, threads=2, actor_lr=1e-3, polyak=0.02)),
    (1, 3, config.Agent(hidden=(2, 7), batch=1, initial_temperature=1.0, target_entropy=-1.0)),
]  # fmt: skip


@native
@pytest.mark.parametrize("isa", range(len(ISA)))
@pytest.mark.parametrize(("observation", "action", "agent"), SIZES)
def test_equals_the_reference(observation, action, agent, isa):
    if isa > WIDEST:
        pytest.skip(f"this processor has no {ISA[isa]}")
    reference, fused = pair(observation, action, agent, isa=isa)
    assert gap(reference, fused) == 0
    advance((reference, fused), 1, agent.batch)
    assert gap(reference, fused) < 1e-5
    expected, got = advance((reference, fused), 9, agent.batch, seed=1)
    assert gap(reference, fused) < 1e-4
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize(("observation", "action", "agent"), SIZES)
def test_torch_equals_the_reference(observation, action, agent):
    memory = Memory(observation, action)
    reference = Sac(agent, observation, action, 3, memory)
    by_hand = TorchSac(agent, observation, action, 3, memory)
    advance((reference, by_hand), 1, agent.batch)
    assert gap(reference, by_hand) < 1e-5
    expected, got = advance((reference, by_hand), 9, agent.batch, seed=1)
    assert gap(reference, by_hand) < 1e-4
    assert got == pytest.approx(expected, rel=1e-4, abs=1e-5)
    by_hand.load_state(reference.state(), reference.random_state())
    advance((reference, by_hand), 1, agent.batch, seed=2)
    assert gap(reference, by_hand) < 1e-5


@native
def test_stays_with_the_reference_for_a_thousand_updates():
    agent = config.Agent(hidden=(16, 16), batch=16)
    reference, fused = pair(6, 2, agent)
    advance((reference, fused), 1000, agent.batch)
    assert gap(reference, fused) < 0.05  # rounding grows along the way; the runs stay one run


@native
def test_a_changed_input_is_seen():
    agent = config.Agent(hidden=(64, 64), batch=64)
    reference, fused = pair(6, 2, agent)
    indices = np.arange(64)
    noise = np.zeros((2, 64, 2), np.float32)
    expected = reference.update(indices, noise)["critic_loss"]
    noise[0, :, 0] = 0.5
    assert abs(fused.update(indices, noise)["critic_loss"] / expected - 1) > 1e-5


@native
def test_same_bits_for_any_number_of_threads_and_twice():
    states = []
    for threads in (1, 2, 2):
        agent = config.Agent(hidden=(96, 64), batch=200, threads=threads)
        fused = Fused(agent, 11, 3, 3, Memory(11, 3))
        advance((fused,), 20, 200)
        states.append(fused.state())
    for other in states[1:]:
        assert all(np.array_equal(states[0][n], other[n]) for n in other)


@native
def test_engines_swap_on_resume():
    agent = config.Agent(hidden=(48, 48), batch=64)
    reference, fused = pair(6, 2, agent)
    advance((reference, fused), 5, 64)
    fused.load_state(reference.state(), reference.random_state())
    assert gap(reference, fused) == 0
    assert fused.step == reference.step == 5
    advance((reference, fused), 1, 64, seed=9)
    assert gap(reference, fused) < 1e-5
    back = Sac(agent, 6, 2, 0, Memory(6, 2))
    back.load_state(fused.state(), fused.random_state())
    assert gap(back, fused) == 0


@native
def test_a_foreign_state_is_refused():
    _, fused = pair(6, 2, config.Agent(hidden=(48, 48), batch=64))
    _, wider = pair(6, 2, config.Agent(hidden=(48, 49), batch=64))
    with pytest.raises(ValueError, match="shape"):
        fused.load_state(wider.state(), wider.random_state())
    state = fused.state()
    state["actor.0.weight"][0, 0] = math.nan
    with pytest.raises(ValueError, match="finite"):
        fused.load_state(state, fused.random_state())


@native
def test_not_finite_is_said():
    agent = config.Agent(hidden=(48, 48), batch=64)
    memory = Memory(6, 2)
    memory.batch.observation[7] = np.nan
    fused = Fused(agent, 6, 2, 3, memory)
    with pytest.raises(FloatingPointError, match="go back"):
        fused.update(np.arange(64))


@native
def test_reads_the_replay_in_place(tmp_path):
    memory = Memory(6, 2).batch
    with contextlib.closing(Replay.create(tmp_path / "replay", 6, 2, capacity=100)) as replay:
        for i in range(80):
            replay.add(
                memory.observation[i], memory.action[i], memory.reward[i], memory.next_observation[i],
                terminated=bool(memory.terminated[i]), truncated=False,
                episode=i, step=0, tick=i, policy_version=0,
            )  # fmt: skip
        agent = config.Agent(hidden=(48, 48), batch=64)
        reference, fused = Sac(agent, 6, 2, 3, replay), Fused(agent, 6, 2, 3, replay)
        indices = np.arange(79, 15, -1)
        for each in (reference, fused):
            each.update(indices)
        assert gap(reference, fused) < 1e-5
        with pytest.raises(IndexError, match="not all in the replay"):
            fused.update(indices + 1)


@native
def test_wrong_shapes_are_refused():
    _, fused = pair(6, 2, config.Agent(hidden=(48, 48), batch=64))
    with pytest.raises(ValueError, match="indices"):
        fused.update(np.arange(63))
    with pytest.raises(ValueError, match="noise"):
        fused.update(np.arange(64), np.zeros((2, 64, 3), np.float32))


def test_what_it_cannot_do_falls_to_the_reference():
    memory = Memory(6, 2)
    deep = config.Agent(hidden=(8,) * 5, batch=64)
    agent = make_agent(deep, 6, 2, 0, memory)
    assert agent.engine == "reference"
    assert "hidden layers" in agent.engine_note
    with pytest.raises(Unsupported, match="hidden layers"):
        make_agent(config.Agent(engine="fused", hidden=(8,) * 5), 6, 2, 0, memory)


def test_no_compiler_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setattr(libraries, "cache", lambda: tmp_path)
    monkeypatch.setattr(libraries.Library, "fingerprint", lambda self: "none")
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    agent = make_agent(config.Agent(hidden=(8, 8), batch=64), 6, 2, 0, Memory(6, 2))
    assert agent.engine == "torch"
    assert "compiler" in agent.engine_note
    agent.update(np.arange(64))
