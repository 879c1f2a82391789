"""Rows several steps at a time and rows of demonstrations: against a walk by hand, a chain of known value, and every engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robotrl import config
from robotrl.agents.base import discounts, make_agent
from robotrl.agents.experience import NStep, experience, open_demonstrations
from robotrl.agents.fused.engine import ISA, Fused
from robotrl.agents.fused.fallback import TorchSac
from robotrl.agents.sac import Sac
from robotrl.replay import Batch, Replay, ReplayError
from tests.agents.test_fused import WIDEST, gap, native, one_thread  # noqa: F401
from tests.agents.test_mirror import MIRROR

SIZES = 5, 3


def wandering(path: Path, seed: int, rows: int = 300, capacity: int = 400) -> Replay:
    """A walk of random numbers with every way to break off: ends, lost rows, lost cycles, a killed policy.

    Where it goes on, and only there, a row's observation is the next observation of the row before. Numbers that go on
    where the walk does not are in it too: no pilot writes them, and nothing but one column then tells the two apart.
    """
    rng, replay = np.random.default_rng(seed), Replay.create(path, *SIZES, capacity)
    episode = step = tick = 0
    observation = rng.standard_normal(SIZES[0])
    for _ in range(rows):
        new, end = rng.standard_normal(SIZES[0]), rng.choice(["", "terminated", "truncated"], p=[0.8, 0.1, 0.1])
        replay.add(
            observation, rng.uniform(-1, 1, SIZES[1]), rng.standard_normal(), new, terminated=end == "terminated",
            truncated=end == "truncated", episode=episode, step=step, tick=tick, policy_version=0,
        )  # fmt: skip
        happens = rng.random()
        step, tick = step + 1, tick + 1
        observation = new if not end and happens > 0.2 else rng.standard_normal(SIZES[0])
        if end and happens > 0.3:
            episode, step, tick = episode + 1, 0, tick + 200
        elif not end and happens < 0.05:  # the policy was killed
            episode = episode + 1
        elif not end and happens < 0.1:  # a servo cycle was lost: the pilot's count of steps does not tell
            tick += 1
        elif not end and happens < 0.15:  # a reward never came
            step, tick = step + 1, tick + 1
        elif not end and happens < 0.2:
            step += 1
    return replay


def by_hand(replay: Replay, i: int, n: int, gamma: float, count: int) -> tuple[float, int, float]:
    """Sum of rewards, last row, and factor of its next observation's value, from the observations alone."""
    c, total, power = replay.columns, 0.0, 1.0
    while True:
        total, power, n = total + power * float(c["reward"][i]), power * gamma, n - 1
        over = n == 0 or i + 1 == count or c["terminated"][i] or c["truncated"][i]
        if over or not np.array_equal(c["observation"][i + 1], c["next_observation"][i]):
            return total, i, 0.0 if c["terminated"][i] else power
        i += 1


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_against_a_walk_by_hand(tmp_path, n):
    lengths: set[int] = set()
    for seed in range(3):
        replay = wandering(tmp_path / str(seed), seed)
        for count in (1, 2, 137, 299, 300):
            rows, all_of_them = NStep(replay, n, 0.9), np.random.default_rng(seed).permutation(count)
            drawn = rows.sample(np.random.default_rng(0), 64, count)
            assert np.array_equal(drawn, replay.sample(np.random.default_rng(0), 64, count))
            batch = rows.rows(all_of_them)
            factor = discounts(batch, 0.9)
            assert (batch.reward.dtype, batch.terminated.dtype, factor.dtype) == (np.float32, np.uint8, np.float32)
            for at, i in enumerate(all_of_them):
                total, last, power = by_hand(replay, i, n, 0.9, count)
                assert batch.steps[at] == last - i + 1
                assert batch.reward[at] == pytest.approx(total, rel=1e-6, abs=1e-6)
                assert factor[at] == pytest.approx(power, rel=1e-6)
                for name, row in (("observation", i), ("action", i), ("next_observation", last), ("terminated", last)):
                    assert np.array_equal(getattr(batch, name)[at], replay.columns[name][row]), name
                assert batch.truncated[at] == replay.columns["truncated"][last]
            lengths |= set(batch.steps.tolist())
            with pytest.raises(IndexError, match=f"{count} count"):
                rows.rows(np.array([0, count]))
            with pytest.raises(IndexError):
                rows.rows(np.array([-1]))
        replay.close()
    assert lengths == set(range(1, n + 1))


CHAIN, DISCOUNT = 6, 0.7


def chain(path: Path) -> Replay:
    """States 0 .. CHAIN - 1 in a row, each step worth 1, then the end; every other walk is cut off before it."""
    rng, replay, eye, tick = np.random.default_rng(0), Replay.create(path, CHAIN, 1, 1000), np.eye(CHAIN), 0
    for episode in range(60):
        begin = int(rng.integers(CHAIN))
        until = CHAIN if episode % 2 else int(rng.integers(begin, CHAIN)) + 1
        for state in range(begin, until):
            tick, last = tick + 1, state == CHAIN - 1
            replay.add(
                eye[state], rng.uniform(-1, 1, 1), 1.0, eye[min(state + 1, CHAIN - 1)], terminated=last,
                truncated=state == until - 1 and not last, episode=episode, step=state - begin, tick=tick, policy_version=0,
            )  # fmt: skip
    return replay


@pytest.mark.parametrize("n", [1, 3, 10])
def test_a_chain_is_worth_what_is_left_of_it(tmp_path, n):
    """Of state s, without entropy: 1 + gamma + ... + gamma^(CHAIN - s - 1), for every n."""
    agent = config.Agent(
        hidden=(32,), batch=64, n_step=n, discount=DISCOUNT, actor_lr=0.0, critic_lr=1e-2, temperature_lr=0.0,
        initial_temperature=1e-9, polyak=0.1, critics=1, engine="reference",
    )  # fmt: skip
    replay, rng = chain(tmp_path / "replay"), np.random.default_rng(1)
    rows = experience(agent, replay, None)
    sac = Sac(agent, CHAIN, 1, 0, rows)
    for _ in range(600):
        sac.update(rows.sample(rng, 64, replay.count))
    with torch.no_grad():
        value = sac.q("critic", torch.eye(CHAIN).repeat(20, 1), torch.rand(20 * CHAIN, 1) * 2 - 1).view(20, CHAIN).mean(0)
    left = CHAIN - np.arange(CHAIN)
    assert value.numpy() == pytest.approx((1 - DISCOUNT**left) / (1 - DISCOUNT), rel=0.03)
    replay.close()


def both(tmp_path: Path, agent: config.Agent):
    """A replay, demonstrations, and what an agent learns from."""
    own, given = wandering(tmp_path / "own", 0), wandering(tmp_path / "given", 1, rows=90)
    return own, given, experience(agent, own, given)


@pytest.mark.parametrize("n", [1, 3])
def test_rows_of_both_in_the_order_asked_for(tmp_path, n):
    own, given, rows = both(tmp_path, config.Agent(n_step=n, discount=0.9))
    indices = np.array([400, 3, 489, 299, 400, 0, 401])
    batch = rows.rows(indices)
    for at, i in enumerate(indices):
        replay, row = (given, i - 400) if i >= 400 else (own, i)
        total, last, _ = by_hand(replay, row, n, 0.9, replay.count)
        assert np.array_equal(batch.observation[at], replay.columns["observation"][row])
        assert np.array_equal(batch.next_observation[at], replay.columns["next_observation"][last])
        assert batch.reward[at] == pytest.approx(total, rel=1e-6, abs=1e-6)
    for outside in (300, 490, -1):
        with pytest.raises(IndexError):
            rows.rows(np.array([5, outside, 405]))


@pytest.mark.parametrize("batch", [1, 64, 65])
def test_half_is_from_the_demonstrations_by_default(tmp_path, batch):
    own, given, rows = both(tmp_path, config.Agent())
    for episode in range(1000, 1010):  # rows that come later are not drawn from
        given.add(np.zeros(5), np.zeros(3), 0.0, np.zeros(5), terminated=True, truncated=False, episode=episode, step=0,
                  tick=0, policy_version=0)  # fmt: skip
    rng, seen = np.random.default_rng(0), []
    for _ in range(100):
        drawn = rows.sample(rng, batch, 50)
        assert (drawn >= own.capacity).sum() == batch // 2 and len(drawn) == batch
        seen.append(drawn)
    assert batch == 1 or set(np.concatenate(seen)) == set(range(50)) | set(range(400, 490))
    a, b = (rows.sample(np.random.default_rng(7), batch, 50) for _ in range(2))
    assert np.array_equal(a, b)


@pytest.mark.parametrize(("share", "theirs"), [(0.0, 0), (0.1, 10), (0.29, 29), (0.3, 30), (0.5, 50), (0.999, 99), (1.0, 100)])
def test_the_share_of_demonstrations_is_exact_in_every_batch(tmp_path, share, theirs):
    agent = config.Agent(demonstrations_share=share, n_step=3, discount=0.9)
    own, _, rows = both(tmp_path, agent)
    rng = np.random.default_rng(0)
    for _ in range(50):
        drawn = rows.sample(rng, 100, 50)
        assert (drawn >= own.capacity).sum() == theirs and len(drawn) == 100
        assert np.isfinite(rows.rows(drawn).reward).all()


def test_demonstrations_show_what_nobody_has_tried(tmp_path):
    """A reward that lies where the run's own actions never were, and are in the demonstrations: only with these it is found.

    One state, one action a; own rows have a < 0 and no reward, demonstrations 1 - |a - 0.7|. What is asked is the mean action.
    """
    rng, one = np.random.default_rng(0), np.zeros(1, np.float32)
    own, given = (Replay.create(tmp_path / name, 1, 1, 400) for name in ("own", "given"))
    for k in range(400):
        for replay, a in ((own, rng.uniform(-1, 0)), (given, rng.uniform(-1, 1))):
            reward = 1 - abs(a - 0.7) if replay is given else 0.0
            replay.add(
                one, np.array([a]), reward, one, terminated=True, truncated=False, episode=k, step=0, tick=k, policy_version=0
            )
    means = {}
    for share in (0.0, 0.5):
        agent = config.Agent(
            hidden=(32,), batch=64, engine="reference", actor_lr=3e-3, critic_lr=3e-3, initial_temperature=0.02,
            temperature_lr=0.0, demonstrations_share=share, target_entropy=-1.0,
        )  # fmt: skip
        rows = experience(agent, own, given)
        sac, draws = Sac(agent, 1, 1, 0, rows), np.random.default_rng(1)
        for _ in range(500):
            sac.update(rows.sample(draws, 64, own.count))
        with torch.no_grad():
            means[share] = float(
                sac.pi(torch.zeros(200, 1), torch.from_numpy(draws.standard_normal((200, 1), np.float32)))[0].mean()
            )
    assert means[0.5] > 0.3 > 0.2 > means[0.0], means


ASKED = [{"n_step": 3}, {"demonstrations": "given"}, {"n_step": 3, "demonstrations": "given"}]
FUSED = [pytest.param(i, marks=[native, pytest.mark.skipif(i > WIDEST, reason=f"no {n} here")]) for i, n in enumerate(ISA)]


@pytest.mark.parametrize("isa", [None, *FUSED])
@pytest.mark.parametrize("fields", ASKED)
def test_engines_equal_the_reference(tmp_path, fields, isa):
    agent = config.Agent(hidden=(33, 20), batch=64, discount=0.8, **fields)
    own, given, _ = both(tmp_path, agent)
    rows = experience(agent, own, given if agent.demonstrations else None)
    reference = Sac(agent, *SIZES, 3, rows, MIRROR)
    made = TorchSac(agent, *SIZES, 3, rows, MIRROR) if isa is None else Fused(agent, *SIZES, 3, rows, MIRROR, isa=isa)
    plain = Sac(agent, *SIZES, 3, own, MIRROR)
    rng = np.random.default_rng(0)
    for bound in (1e-5, *[1e-4] * 9):
        indices = rows.sample(rng, 64, 300)
        indices = np.where(rng.random(64) < 0.5, ~indices, indices)
        expected = reference.update(indices)
        assert made.update(indices) == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert gap(reference, made) < bound
    where = np.where(indices < 0, ~indices, indices) % own.capacity
    assert plain.update(where) != reference.update(indices), "or nothing was tried"


def test_nothing_asked_for_is_the_replay_itself(tmp_path):
    own = wandering(tmp_path / "own", 0)
    assert experience(config.Agent(), own, None) is own, "the fused engine reads its files in place"
    assert open_demonstrations("", *SIZES) is None
    assert make_agent(config.Agent(hidden=(8, 8), batch=4), *SIZES, 0, own).update(np.arange(4))


def test_demonstrations_by_run_directory_or_folder(tmp_path):
    wandering(tmp_path / "run" / "replay", 1, rows=20).close()
    for path in ("run", "run/replay"):
        found = open_demonstrations(str(tmp_path / path), *SIZES)
        assert found is not None and found.count == 20 and not found.replay.writable


def test_demonstrations_that_do_not_do(tmp_path):
    (tmp_path / "bare").mkdir()
    wandering(tmp_path / "empty" / "replay", 0, rows=0).close()
    Replay.create(tmp_path / "other" / "replay", 6, 3, 10).close()
    for name, says in (
        ("rnu", "no such directory"), ("bare", "holds no replay"), ("empty", "holds no transitions"), ("other", r"\(6, 3\)"),
    ):  # fmt: skip
        with pytest.raises(ReplayError, match=says) as raised:
            open_demonstrations(str(tmp_path / name), *SIZES)
        line = str(raised.value)
        assert line.startswith("agent.demonstrations: ") and str(tmp_path / name) in line and "\n" not in line


def test_a_batch_has_the_steps_of_its_rows():
    one = Batch(*(np.zeros(3, np.float32) for _ in range(3)), np.array([0, 1, 0], np.uint8), np.zeros(3, np.uint8),
                np.zeros(3, np.float32), np.array([1, 1, 2]))  # fmt: skip
    assert discounts(one, 0.97).tolist() == [np.float32(0.97), 0.0, np.float32(0.97**2)]
