"""Rows seen in the mirror: an update on row ~i is an update on a mirrored copy of row i, in every engine."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest

from robotrl import config
from robotrl.agents.base import make_agent
from robotrl.agents.fused.engine import Fused
from robotrl.agents.fused.fallback import TorchSac
from robotrl.agents.sac import Sac
from robotrl.observe import Mirror
from robotrl.replay import Replay
from tests.agents.test_fused import Memory, N, native, one_thread  # noqa: F401

AGENT = config.Agent(hidden=(33, 20), batch=64)
MIRROR = Mirror(
    observation=np.array([1, 0, 2, 4, 3]),
    observation_sign=np.array([1, 1, -1, -1, -1], np.float32),
    action=np.array([0, 2, 1]),
    action_sign=np.array([-1, 1, 1], np.float32),
)
ENGINES = [Sac, TorchSac, pytest.param(Fused, marks=native)]


def by_hand(memory: Memory) -> Memory:
    """Rows N .. 2 N - 1 are rows 0 .. N - 1 in the mirror, value by value."""
    both, batch = Memory(5, 3), memory.batch
    o, a, next_o = (x.copy() for x in (batch.observation, batch.action, batch.next_observation))
    for x, of in ((o, batch.observation), (next_o, batch.next_observation)):
        x[:, 0], x[:, 1], x[:, 2], x[:, 3], x[:, 4] = of[:, 1], of[:, 0], -of[:, 2], -of[:, 4], -of[:, 3]
    a[:, 0], a[:, 1], a[:, 2] = -batch.action[:, 0], batch.action[:, 2], batch.action[:, 1]
    mirrored = batch._replace(observation=o, action=a, next_observation=next_o)
    both.batch = type(batch)(*(np.concatenate(pair) for pair in zip(batch, mirrored, strict=True)))
    return both


def indices(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-N, N, AGENT.batch)


def same(one, other) -> bool:
    a, b = one.state(), other.state()
    return all(np.array_equal(a[n], b[n]) for n in a | b)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layer_norm", [False, True])
def test_equals_mirrored_copies(engine, layer_norm):
    agent, memory = dataclasses.replace(AGENT, layer_norm=layer_norm), Memory(5, 3)
    mirrored, copied = engine(agent, 5, 3, 3, memory, MIRROR), engine(agent, 5, 3, 3, by_hand(memory))
    for seed in range(5):
        rows = indices(seed)
        assert mirrored.update(rows) == copied.update(np.where(rows < 0, N + ~rows, rows))
    assert same(mirrored, copied)
    copied.update(np.abs(indices(6)))
    mirrored.update(indices(6))
    assert not same(mirrored, copied)


def filled(path, count: int) -> Replay:
    replay, memory = Replay.create(path, 5, 3, capacity=100), Memory(5, 3).batch
    for i in range(count):
        replay.add(
            memory.observation[i], memory.action[i], memory.reward[i], memory.next_observation[i],
            terminated=bool(memory.terminated[i]), truncated=False, episode=i, step=0, tick=i, policy_version=0,
        )  # fmt: skip
    return replay


@native
@pytest.mark.parametrize("threads", [1, 2])
def test_the_replay_in_place(tmp_path, threads):
    agent = dataclasses.replace(AGENT, threads=threads)
    with contextlib.closing(filled(tmp_path / "replay", 80)) as replay:
        copied, fused = Fused(agent, 5, 3, 3, by_hand(Memory(5, 3))), Fused(agent, 5, 3, 3, replay, MIRROR)
        rows = np.random.default_rng(1).integers(-80, 80, 64)
        rows[:4] = 79, -80, 0, -1  # the ends of both halves
        assert fused.update(rows) == copied.update(np.where(rows < 0, N + ~rows, rows))
        assert same(fused, copied)
        for outside in (80, -81):
            rows[5] = outside
            with pytest.raises(IndexError, match="not all in the replay"):
                fused.update(rows)


@pytest.mark.parametrize("engine", ["reference", "torch", pytest.param("fused", marks=native)])
@pytest.mark.parametrize("in_place", [False, True])
def test_without_a_mirror_there_is_no_such_row(tmp_path, engine, in_place):
    agent = dataclasses.replace(AGENT, engine=engine)
    with contextlib.closing(filled(tmp_path / "replay", 80)) as replay:
        rows = np.arange(64)
        source = replay if in_place else Memory(5, 3)
        plain, mirrored = (make_agent(agent, 5, 3, 0, source, m) for m in (None, MIRROR))
        assert plain.update(rows) == mirrored.update(rows)
        rows[7] = -1
        with pytest.raises(IndexError, match=r"mirror|replay"):
            plain.update(rows)
        mirrored.update(rows)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"observation": np.arange(6)}, "observation must be 5"),
        ({"action": np.array([0.0, 1.0, 2.0])}, "action must be 3"),
        ({"action_sign": np.ones(3)}, "float32 signs"),
        ({"observation": np.array([1, 0, 2, 3, 5])}, "once"),
        ({"action_sign": np.array([0, 1, 1], np.float32)}, "signs 1 or -1"),
        ({"action": np.array([1, 2, 0])}, "twice"),
        ({"action_sign": np.array([1, 1, -1], np.float32)}, "twice"),
    ],
)
def test_what_is_no_mirror_is_refused(engine, change, says):
    with pytest.raises(ValueError, match=says):
        engine(AGENT, 5, 3, 0, Memory(5, 3), dataclasses.replace(MIRROR, **change))
