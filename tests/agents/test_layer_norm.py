"""Critics with layer normalisation: the page against numpy, the fused engines against the page."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from robotrl import config
from robotrl.agents import nets
from robotrl.agents.fused.engine import ISA, Fused
from robotrl.agents.fused.fallback import TorchSac
from robotrl.agents.sac import Sac
from tests.agents.test_fused import SIZES, WIDEST, Memory, advance, gap, native, one_thread  # noqa: F401


def normalised(**fields) -> config.Agent:
    return config.Agent(layer_norm=True, **fields)


NORMAL = [(*sizes, dataclasses.replace(agent, layer_norm=True)) for *sizes, agent in SIZES] + [
    (7, 2, normalised(hidden=(65, 130, 17), batch=50, critics=5)),
    (9, 3, normalised(hidden=(40, 65), batch=131, critics=1, threads=2)),
]  # fmt: skip
BY_HAND = [pytest.param(None, id="torch")] + [
    pytest.param(i, id=name, marks=[native, pytest.mark.skipif(i > WIDEST, reason=f"this processor has no {name}")])
    for i, name in enumerate(ISA)
]


def engine(isa: int | None, agent: config.Agent, observation: int, action: int, seed: int = 3):
    memory = Memory(observation, action)
    return TorchSac(agent, observation, action, seed, memory) if isa is None else Fused(
        agent, observation, action, seed, memory, isa=isa
    )  # fmt: skip


def gradient_gap(a, b):
    """Largest error of any first moment, against the largest of its network: after one update a tenth of the gradient."""
    a, b = a.state(), b.state()
    size = {net: max(np.abs(v).max() for n, v in a.items() if n.startswith(f"adam_m.{net}")) for net in ("actor", "critic")}
    return {n: np.abs(a[n] - b[n]).max() / size[net] for net in size for n in a if n.startswith(f"adam_m.{net}")}


def stir(agent: Sac, seed: int = 7) -> None:
    """Gains and biases that no longer are 1 and 0, different in the targets."""
    rng, state = np.random.default_rng(seed), agent.state()
    for name in state:
        if ".norm_" in name and not name.startswith("adam"):
            state[name] += 0.3 * rng.standard_normal(state[name].shape, np.float32)
    agent.load_state(state, agent.random_state())


@pytest.mark.parametrize("isa", BY_HAND)
@pytest.mark.parametrize(("observation", "action", "agent"), NORMAL)
def test_equals_the_reference(observation, action, agent, isa):
    reference = Sac(agent, observation, action, 3, Memory(observation, action))
    other = engine(isa, agent, observation, action)
    assert gap(reference, other) == 0
    stir(reference)
    other.load_state(reference.state(), reference.random_state())
    advance((reference, other), 1, agent.batch)
    assert gap(reference, other) < 1e-5
    for name, error in gradient_gap(reference, other).items():  # the actor's passes critics that Adam has moved meanwhile
        assert error < (1e-5 if "critic" in name else 1e-4), name
    expected, got = advance((reference, other), 9, agent.batch, seed=1)
    assert gap(reference, other) < 1e-4
    assert max(gradient_gap(reference, other).values()) < 1e-3  # a unit near zero may be on in one and off in the other
    assert got == pytest.approx(expected, rel=1e-4, abs=1e-5)


@native
def test_stays_with_the_reference_for_a_thousand_updates():
    agent = normalised(hidden=(16, 17), batch=16)
    reference, fused = Sac(agent, 6, 2, 3, Memory(6, 2)), engine(WIDEST, agent, 6, 2)
    advance((reference, fused), 1000, agent.batch)
    assert gap(reference, fused) < 0.05


@native
def test_same_bits_for_any_number_of_threads():
    states = []
    for threads in (1, 2, 3):
        fused = engine(WIDEST, normalised(hidden=(96, 65), batch=199, threads=threads), 11, 3)
        advance((fused,), 10, 199)
        states.append(fused.state())
    for other in states[1:]:
        assert all(np.array_equal(states[0][n], other[n]) for n in other)


@pytest.mark.parametrize("isa", BY_HAND)
def test_state_is_carried_over_and_back(isa):
    agent = normalised(hidden=(48, 33), batch=64)
    reference, other = Sac(agent, 6, 2, 3, Memory(6, 2)), engine(isa, agent, 6, 2, seed=4)
    advance((reference,), 5, 64)
    other.load_state(reference.state(), reference.random_state())
    assert all(np.array_equal(value, other.state()[name]) for name, value in reference.state().items())
    advance((reference, other), 1, 64, seed=9)
    assert gap(reference, other) < 1e-5
    back = Sac(agent, 6, 2, 0, Memory(6, 2))
    back.load_state(other.state(), other.random_state())
    assert gap(back, other) == 0


@native
def test_the_padding_of_odd_widths_stays_empty():
    """Another update's sums must not see what lies behind a row's end: mean and variance are over the width alone."""
    wide = engine(WIDEST, normalised(hidden=(17, 17), batch=64), 6, 2)
    reference = Sac(wide.config, 6, 2, 3, wide.replay)
    advance((reference, wide), 200, 64)
    assert gap(reference, wide) < 1e-3


def test_the_switch_leaves_the_other_first_values():
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


def test_the_page_is_the_paper_s_layer():
    sac = Sac(normalised(hidden=(12, 9), batch=16), 6, 2, 3, Memory(6, 2))
    stir(sac)
    rng, state = np.random.default_rng(0), sac.state()
    s, a = rng.standard_normal((16, 6), np.float32), rng.standard_normal((16, 2), np.float32)
    for kind in ("critic", "target"):
        with torch.no_grad():
            got = sac.q(kind, torch.from_numpy(s), torch.from_numpy(a)).numpy()
        for i in (0, 1):
            want = value(state, f"{kind}.{i}", np.hstack([s, a]).astype(float))
            np.testing.assert_allclose(got[i], want, rtol=1e-5, atol=1e-6)
