"""The learner's switches: what each changes on the page, and that every engine keeps to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from robotrl import config
from robotrl.agents import draws, nets
from robotrl.agents.sac import Sac
from tests.agents.test_fused import BY_HAND, Memory, advance, by_hand, one_thread, stir  # noqa: F401

EVERY = [pytest.param("page", id="page"), *BY_HAND]


def make(which: str | int | None, agent: config.Agent, seed: int = 3):
    return Sac(agent, 6, 2, seed, Memory(6, 2)) if which == "page" else by_hand(which, agent, 6, 2, seed)  # type: ignore[arg-type]


def changed(before: dict[str, NDArray[np.float32]], after: dict[str, NDArray[np.float32]]) -> set[str]:
    """First words of the names of all that is not as it was."""
    return {n.split(".")[0] for n in before if not n.startswith("adam") and not np.array_equal(before[n], after[n])}


@pytest.mark.parametrize("which", EVERY)
def test_actor_every(which) -> None:
    """The actor's turn is decided by the number of the update alone; without one its metrics stay as they were."""
    agent = make(which, config.Agent(hidden=(16, 9), batch=32, actor_every=3))
    told = []
    for update in range(1, 8):
        before = agent.state()
        told += advance((agent,), 1, 32, seed=update)
        learnt = {"critic", "target", "step"} | ({"actor", "log_alpha"} if update % 3 == 0 else set())
        assert changed(before, agent.state()) == learnt
    assert [m["entropy"] for m in told[:2]] == [0, 0]
    for name in ("actor_loss", "entropy", "temperature"):
        values = [m[name] for m in told]
        assert values[1] != values[2] == values[3] == values[4] != values[5] == values[6]
    resumed = make(which, agent.config, seed=8)
    resumed.load_state(agent.state(), agent.random_state())
    advance((agent, resumed), 4, 32, seed=9)
    assert changed(agent.state(), resumed.state()) == set()
    assert agent.random_state() == resumed.random_state()


def test_the_subset_of_targets_is_drawn_anew() -> None:
    rng, agent = np.random.default_rng(0), config.Agent(critics=10, target_subset=2)
    drawn = [draws.draw(rng, agent, update, (1, 1), None).targets.tolist() for update in range(1000)]
    assert all(len(set(two)) == 2 for two in drawn)
    often = np.bincount(np.ravel(drawn), minlength=10)
    assert often.shape == (10,) and (abs(often - 200) < 4 * np.sqrt(1000 * 0.2 * 0.8)).all()
    assert draws.draw(rng, config.Agent(critics=3), 1, (1, 1), None).targets.tolist() == [0, 1, 2]


@pytest.mark.parametrize("which", EVERY)
def test_the_smallest_of_the_subset_is_the_target(which) -> None:
    """Each critic is moved to a value of its own; from the loss follows whose target was taken."""
    critics, taken = 5, set()
    agent = make(which, config.Agent(hidden=(8, 9), batch=4, critics=critics, target_subset=2, discount=1.0))
    agent.replay.batch.terminated[:] = 0
    agent.replay.batch.reward[:] = 0
    state, random_state = agent.state(), agent.random_state()
    for name in state:
        if name.startswith(("critic", "target")):
            state[name][:] = 10.0 ** int(name.split(".")[1]) if name.endswith("2.bias") and name[0] == "t" else 0
    state["log_alpha"][:] = -80  # no entropy
    for _ in range(60):
        agent.load_state(state, random_state)
        y = np.sqrt(2 * advance((agent,), 1, 4)[0]["critic_loss"] / critics)
        taken.add(round(np.log10(y), 3))
        random_state = agent.random_state()
    assert taken == {0.0, 1.0, 2.0, 3.0}  # never the largest


@pytest.mark.parametrize("which", EVERY)
@pytest.mark.parametrize("actor_value", ["min", "mean"])
def test_actor_value(which, actor_value) -> None:
    """Critics that are all bias: the actor's loss is theirs and the entropy's."""
    agent = make(which, config.Agent(hidden=(8, 9), batch=4, critics=3, actor_value=actor_value, critic_lr=0.0))
    state = agent.state()
    for name in state:
        if name.startswith("critic"):
            state[name][:] = [5.0, 1.0, 9.0][int(name.split(".")[1])] if name.endswith("2.bias") else 0
    agent.load_state(state, agent.random_state())
    metrics = advance((agent,), 1, 4)[0]
    value = {"min": 1.0, "mean": 5.0}[actor_value]
    assert metrics["actor_loss"] == pytest.approx(-0.02 * metrics["entropy"] - value, rel=1e-5)


@pytest.mark.parametrize("which", EVERY)
def test_a_temperature_that_does_not_learn_stays(which) -> None:
    agent = make(which, config.Agent(hidden=(16, 9), batch=32, temperature_lr=0.0, initial_temperature=0.3))
    first = agent.state()["log_alpha"]
    metrics = advance((agent,), 20, 32)
    assert first.tobytes() == agent.state()["log_alpha"].tobytes() == np.float32([np.log(0.3)]).tobytes()
    assert metrics[0]["temperature"] == pytest.approx(0.3, rel=1e-6)


def test_layer_norm_leaves_the_other_first_values():
    off, on = (Sac(config.Agent(hidden=(8, 9), batch=4, layer_norm=x), 6, 2, 3, Memory(6, 2)).state() for x in (False, True))
    more = {n for n in on if ".norm_" in n and not n.startswith("adam")}
    assert more == {
        f"{k}.{i}.{l}.norm_{p}" for k in ("critic", "target") for i in (0, 1) for l in (0, 1) for p in ("gain", "bias")
    }
    assert all((on[n] == n.endswith("gain")).all() for n in more)
    assert all(np.array_equal(off[n], on[n]) for n in off)
    assert nets.shapes(6, 2, (8, 9), 2, True)["critic.1.1.norm_gain"] == (9,)
    with pytest.raises(ValueError, match="norm"):
        Sac(config.Agent(hidden=(8, 9), batch=4), 6, 2, 3, Memory(6, 2)).load_state(
            on, np.random.default_rng(0).bit_generator.state
        )


def value(parameters: dict[str, NDArray[np.float32]], prefix: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """A critic in numpy and float64: linear, normalised over its outputs, gain and bias, ReLU; a linear head."""
    p = {n.removeprefix(prefix + "."): v.astype(float) for n, v in parameters.items() if n.startswith(prefix + ".")}
    for layer in range(2):
        y = x @ p[f"{layer}.weight"].T + p[f"{layer}.bias"]
        y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-5)
        x = np.maximum(y * p[f"{layer}.norm_gain"] + p[f"{layer}.norm_bias"], 0)
    return (x @ p["2.weight"].T + p["2.bias"])[:, 0]


def test_layer_norm_is_the_paper_s_layer():
    sac = Sac(config.Agent(hidden=(12, 9), batch=16, layer_norm=True), 6, 2, 3, Memory(6, 2))
    stir(sac)
    rng, state = np.random.default_rng(0), sac.state()
    s, a = rng.standard_normal((16, 6), np.float32), rng.standard_normal((16, 2), np.float32)
    for kind in ("critic", "target"):
        with torch.no_grad():
            got = sac.q(kind, torch.from_numpy(s), torch.from_numpy(a)).numpy()
        for i in (0, 1):
            want = value(state, f"{kind}.{i}", np.hstack([s, a]).astype(float))
            np.testing.assert_allclose(got[i], want, rtol=1e-5, atol=1e-6)
