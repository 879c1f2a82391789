"""The learner's switches: what each changes on the page, and that every engine keeps to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from robotrl import config
from robotrl.agents import draws, dropout, nets
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


def test_noise_is_drawn_for_the_turn_that_needs_it() -> None:
    agent = config.Agent(actor_every=2)
    drawn = [draws.draw(np.random.default_rng(0), agent, update, (5, 3), None).noise for update in (1, 2)]
    assert [noise.shape for noise in drawn] == [(1, 5, 3), (2, 5, 3)] and np.array_equal(drawn[0], drawn[1][:1])


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


def test_masks_drop_at_the_rate_and_know_nothing_of_each_other() -> None:
    rows, hidden = 400, (64, 33)
    for rate in (0.01, 0.25):
        masks = dropout.masks(rate, 11, dropout.CRITIC, [0, 1], rows, hidden)
        assert [m.shape for m in masks] == [(2, rows, width) for width in hidden]
        for mask in masks:
            assert mask.dtype == np.float32 and set(np.unique(mask)) == {0, np.float32(65536 / (65536 - int(rate * 65536)))}
            lost = (mask == 0).mean((0, 1))  # of each unit
            assert abs(lost.mean() - rate) < 4 * np.sqrt(rate / mask.size) and lost.max() < rate + 5 * np.sqrt(rate / 2 / rows)
    assert dropout.masks(0.0, 11, dropout.CRITIC, [0], rows, hidden) == []


def test_each_mask_is_another() -> None:
    """Half of the units of two masks agree at a rate of a half, whatever differs: key, pass, critic, layer, row or unit."""

    def lost(key: int = 5, stage: int = dropout.TARGET, critic: int = 2, layer: int = 0) -> NDArray[np.bool_]:
        return dropout.masks(0.5, key, stage, [critic], 300, (96, 96))[layer][0] == 0

    first = lost()
    others = [lost(key=6), lost(stage=dropout.CRITIC), lost(stage=dropout.ACTOR), lost(critic=3), lost(layer=1)]
    others += [np.roll(first, shift, axis) for axis in (0, 1) for shift in (1, 16, 32)]
    assert all(abs((first == other).mean() - 0.5) < 4 * 0.5 / np.sqrt(first.size) for other in others)
    assert np.array_equal(first, lost())
    together = dropout.masks(0.5, 5, dropout.TARGET, [7, 2], 300, (96, 96))[0]
    assert np.array_equal(first, together[1] == 0)


def test_masks_are_what_they_were() -> None:
    """The definition once more in whole numbers: a run that a later version resumes goes on with the masks it had."""

    def mix(x: int) -> int:
        x = (x ^ x >> 16) * 0x7FEB352D % 2**32
        x = (x ^ x >> 15) * 0x846CA68B % 2**32
        return x ^ x >> 16

    rate, key, stage, critic, layer = 0.3, 2**32 - 9, dropout.ACTOR, 9, 1
    mask = dropout.masks(rate, key, stage, [critic], 20, (8, 70))[layer][0]
    stream = mix((key + 0x9E3779B9 * (stage << 24 | critic << 8 | layer)) % 2**32)
    for row in range(20):
        for unit in range(70):
            bits = mix((mix((stream + row) % 2**32) + unit // 32 * 16 + unit % 16) % 2**32)
            half = bits >> 16 if unit % 32 >= 16 else bits % 65536
            assert mask[row, unit] == (0 if half < 19660 else np.float32(65536 / (65536 - 19660)))


def test_dropout_is_in_every_pass_and_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, masks = [], dropout.masks
    monkeypatch.setattr(dropout, "masks", lambda *a: asked.append((a[1], a[2], len(list(a[3])))) or masks(*a))
    page = make("page", config.Agent(hidden=(8, 9), batch=4, critics=4, target_subset=2, dropout=0.2, actor_every=2))
    advance((page,), 4, 4)
    assert [stage for _, stage, _ in asked] == [0, 1, 0, 1, 2] * 2
    assert [critics for *_, critics in asked] == [2, 4, 2, 4, 4] * 2
    assert len({key for key, *_ in asked}) == 4


def test_without_dropout_nothing_more_is_drawn() -> None:
    off, on = (make("page", config.Agent(hidden=(8, 9), batch=4, dropout=rate)) for rate in (0.0, 0.01))
    advance((off, on), 3, 4)
    off.rng.bit_generator.state, noise = np.random.default_rng(0).bit_generator.state, np.random.default_rng(0)
    advance((off,), 1, 4)
    noise.standard_normal((2, 4, 2), np.float32)
    assert off.random_state() == noise.bit_generator.state != on.random_state()


def value(
    parameters: dict[str, NDArray[np.float32]], prefix: str, x: NDArray[np.float64], masks: list[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """A critic in numpy and float64: linear, dropout, normalised over its outputs, gain and bias, ReLU; a linear head."""
    p = {n.removeprefix(prefix + "."): v.astype(float) for n, v in parameters.items() if n.startswith(prefix + ".")}
    for layer in range(2):
        y = (x @ p[f"{layer}.weight"].T + p[f"{layer}.bias"]) * masks[layer]
        y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-5)
        x = np.maximum(y * p[f"{layer}.norm_gain"] + p[f"{layer}.norm_bias"], 0)
    return (x @ p["2.weight"].T + p["2.bias"])[:, 0]


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_the_hidden_layer_is_the_paper_s(rate) -> None:
    sac = Sac(config.Agent(hidden=(12, 9), batch=16, layer_norm=True, dropout=rate), 6, 2, 3, Memory(6, 2))
    stir(sac)
    rng, state = np.random.default_rng(0), sac.state()
    s, a = rng.standard_normal((16, 6), np.float32), rng.standard_normal((16, 2), np.float32)
    masks = dropout.masks(rate, 1, dropout.TARGET, [0, 1], 16, (12, 9))
    for kind in ("critic", "target"):
        with torch.no_grad():
            got = sac.q(kind, *map(torch.from_numpy, (s, a)), masks=[torch.from_numpy(m) for m in masks]).numpy()
        for i in (0, 1):
            want = value(state, f"{kind}.{i}", np.hstack([s, a]).astype(float), [m[i] for m in masks] or [np.float32(1)] * 2)
            np.testing.assert_allclose(got[i], want, rtol=1e-5, atol=1e-6)
