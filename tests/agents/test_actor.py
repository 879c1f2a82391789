"""The numpy actor: equal to the torch one, no torch behind it, and choosy about its weights."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file

from robotrl.agents import nets
from robotrl.agents.actor import Actor, WeightsError
from robotrl.agents.sac import mlp, tanh_gaussian


def make(seed: int, observation: int, action: int, hidden: tuple[int, ...]) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    parameters = nets.initial(nets.shapes(observation, action, hidden, 2), 0.1, rng)
    return {name: 3 * value for name, value in parameters.items() if name.startswith("actor.")}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 99),
    observation=st.integers(1, 40),
    action=st.integers(1, 9),
    hidden=st.lists(st.integers(1, 48), min_size=1, max_size=3).map(tuple),
    scale=st.sampled_from([0.1, 1.0, 10.0]),
)
def test_equal_to_torch(seed: int, observation: int, action: int, hidden: tuple[int, ...], scale: float) -> None:
    weights, rng = make(seed, observation, action, hidden), np.random.default_rng(seed)
    actor = Actor(weights)
    s = scale * rng.standard_normal(observation, dtype=np.float32)
    noise = rng.standard_normal(action, dtype=np.float32)
    out = mlp({name: torch.from_numpy(v) for name, v in weights.items()}, "actor", torch.from_numpy(s)[None])
    for epsilon, given_noise in ((torch.from_numpy(noise), noise), (torch.zeros(action), None)):
        want = tanh_gaussian(out, epsilon[None])[0][0].numpy()
        have = actor.act(s, given_noise)
        assert have.dtype == np.float32 and np.abs(have).max() <= 1.0
        np.testing.assert_allclose(have, want, atol=1e-6 * max(1.0, scale))


def test_answers_do_not_share_memory() -> None:
    weights = make(0, 4, 2, (8,))
    actor = Actor(weights)
    first = actor.act(np.ones(4))
    kept = first.copy()
    for value in weights.values():
        value[:] = 0
    assert not np.array_equal(actor.act(-np.ones(4)), kept)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(actor.act(np.ones(4)), kept)


def test_load_and_its_complaints(tmp_path: Path) -> None:
    weights, file = make(0, 4, 2, (8, 8)), tmp_path / "actor.safetensors"
    save_file(weights, file)
    np.testing.assert_array_equal(Actor.load(file).act(np.ones(4)), Actor(weights).act(np.ones(4)))
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(WeightsError, match=str(file)):
        Actor.load(file)
    with pytest.raises(WeightsError, match="none"):
        Actor.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("actor.0.weight", np.zeros((8, 3, 1), np.float32)),
        ("actor.0.bias", np.zeros(7, np.float32)),
        ("actor.1.weight", np.zeros((8, 9), np.float32)),
        ("actor.1.weight", np.full((8, 8), np.nan, np.float32)),
        ("actor.1.bias", np.zeros(8, np.float64)),
        ("actor.2.bias", None),
        ("critic.0.0.weight", np.zeros((8, 6), np.float32)),
    ],
)
def test_weights_that_do_not_fit(name: str, value: NDArray[np.float32] | None) -> None:
    weights = make(0, 4, 2, (8, 8))
    if value is None:
        del weights[name]
    else:
        weights[name] = value
    with pytest.raises(WeightsError) as caught:
        Actor(weights)
    assert "\n" not in str(caught.value)


def test_an_odd_head_is_refused() -> None:
    with pytest.raises(WeightsError, match="mean and a log_std"):
        Actor({"actor.0.weight": np.zeros((3, 2), np.float32), "actor.0.bias": np.zeros(3, np.float32)})


def test_wrong_shapes_are_named() -> None:
    actor = Actor(make(0, 4, 2, (8,)))
    with pytest.raises(ValueError, match="observation must be"):
        actor.act(np.zeros(1))
    with pytest.raises(ValueError, match="noise must be"):
        actor.act(np.zeros(4), np.zeros(1))


@pytest.mark.parametrize("explores", [False, True])
def test_no_array_is_made_but_the_answer(explores: bool) -> None:
    actor = Actor(make(0, 2000, 2000, (2000,)))
    observation, noise = np.ones(2000), np.ones(2000, np.float32) if explores else None
    actor.act(observation, noise)
    tracemalloc.start(1)
    actor.act(observation, noise)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    answer = actor.act(observation, noise)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.nbytes == 8000 <= after - before and peak - before < 9000


def test_no_torch_is_needed() -> None:
    code = "import sys, robotrl.agents.actor; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_type_that_numpy_has_not_is_one_line(tmp_path: Path) -> None:
    header = json.dumps({"actor.0.weight": {"dtype": "BF16", "shape": [2, 1], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "policy.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(WeightsError, match=r"policy\.safetensors: no safetensors file: .*publish"):
        Actor.load(path)
