"""The engine for a GPU does what the readable page does, from images too. Without a GPU the same code runs on the processor,
its kernels launched one by one; `tests/agents/test_fused.py` has the options without images.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from robotrl import config
from robotrl.agents import dropout
from robotrl.agents.base import Unsupported, make_agent
from robotrl.agents.fused.graph import GraphSac
from robotrl.agents.sac import Sac
from robotrl.replay import Batch, Images
from tests.agents.test_fused import ON_GPU, SLOW, SWITCHED, Memory, N, gap, gpu, one_thread  # noqa: F401

CPU = torch.device("cpu")
CAMERAS = (("left", 36, 44, 1), ("right", 36, 44, 3))
SIZES = (5, 2)
SMALL: dict[str, Any] = {"hidden": (33, 18), "batch": 24, "mirror": False, "shift_px": 3}
everywhere = pytest.mark.parametrize("where", ["cpu", ON_GPU])
switches = pytest.mark.parametrize("switches", [{}, SWITCHED], ids=["plain", "switched"])


class Seen(Memory):
    """Random transitions and what random cameras saw at 50 moments."""

    def __init__(self) -> None:
        super().__init__(*SIZES)
        rng = np.random.default_rng(6)
        self.frames = {name: rng.integers(0, 256, (50, *size), dtype=np.uint8) for name, *size in CAMERAS}

    def images(self, indices: np.ndarray) -> Images:
        return Images(*({name: f[(indices + later) % 50] for name, f in self.frames.items()} for later in (0, 1)))


def seeing(where: str, agent: config.Agent, seed: int = 3, captures: bool = True) -> GraphSac:
    return GraphSac(agent, *SIZES, seed, Seen(), None, CAMERAS, torch.device(where), captures)


def blind(where: str, agent: config.Agent, seed: int = 3, captures: bool = True) -> GraphSac:
    return GraphSac(agent, *SIZES, seed, Memory(*SIZES), None, (), torch.device(where), captures)


def advance(agents: Any, updates: int, seed: int = 0) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    metrics = []
    for _ in range(updates):
        indices = rng.integers(0, N, SMALL["batch"])
        metrics = [agent.update(indices) for agent in agents]
    return metrics


def same(a: Any, b: Any) -> bool:
    one, other = a.state(), b.state()
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@everywhere
@switches
def test_from_images_it_equals_the_reference(where: str, switches: dict[str, Any]) -> None:
    agent = config.Agent(**SMALL | SLOW | switches)
    reference = make_agent(dataclasses.replace(agent, engine="reference"), *SIZES, 3, Seen(), None, CAMERAS)
    other = seeing(where, agent)
    assert isinstance(reference, Sac) and same(reference, other)
    for updates in (1, 9):
        expected, got = advance((reference, other), updates, updates)
        assert gap(reference, other) < 1e-5
        assert got == pytest.approx(expected, rel=1e-4, abs=1e-5)
    moments = {name: (value, other.state()[name]) for name, value in reference.state().items() if name.startswith("adam_m.enc")}
    largest = max(np.abs(value).max() for value, _ in moments.values())
    assert all(np.abs(a - b).max() < 1e-3 * largest for a, b in moments.values())
    assert reference.random_state() == other.random_state()


@gpu
@switches
def test_from_images_it_stays_with_the_reference_for_a_thousand_updates(switches: dict[str, Any]) -> None:
    slow = dict.fromkeys(SLOW, 1e-5)  # at 1e-4 rounding turns a unit on: then they are 0.006 apart on a processor too
    agent = config.Agent(engine="reference", **SMALL | slow | switches)
    reference, other = make_agent(agent, *SIZES, 3, Seen(), None, CAMERAS), seeing("cuda", agent)
    advance((reference, other), 1000)
    assert gap(reference, other) < 1e-4


@pytest.mark.parametrize("choice", [{"dropout": 0.1, "critics": 3, "target_subset": 2}, {"dropout": 0.4, "hidden": (17, 65)}])
def test_without_images_it_equals_the_reference_on_the_processor_too(choice: dict[str, Any]) -> None:
    agent = config.Agent(**SMALL | choice)
    reference, other = Sac(agent, *SIZES, 3, Memory(*SIZES)), blind("cpu", agent)
    advance((reference, other), 10)
    assert gap(reference, other) < 1e-5


@everywhere
@pytest.mark.parametrize("make", [blind, seeing])
@switches
def test_the_same_bits_twice_and_after_a_resume(make: Any, where: str, switches: dict[str, Any]) -> None:
    agent = config.Agent(**SMALL | switches)
    one, other, later = (make(where, agent, seed) for seed in (3, 3, 8))
    advance((one, other), 13)
    assert same(one, other)
    later.load_state(one.state(), one.random_state())
    assert same(one, later)
    assert advance((one,), 6, 1)[0]["critic_loss"] == advance((later,), 6, 1)[0]["critic_loss"]
    assert same(one, later)


@gpu
@pytest.mark.parametrize("make", [blind, seeing])
@switches
def test_a_graph_does_what_its_kernels_do_one_by_one(make: Any, switches: dict[str, Any]) -> None:
    agent = config.Agent(**SMALL | switches)
    captured, launched = make("cuda", agent), make("cuda", agent, captures=False)
    assert advance((captured, launched), 9)[0] == advance((make("cuda", agent),), 9)[0]
    assert same(captured, launched)
    assert captured.engine_note == "" and len(captured._graphs) == 1 + (agent.actor_every > 1)


@gpu
def test_what_cannot_be_captured_is_launched_one_by_one_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = config.Agent(**SMALL)
    captured, launched = seeing("cuda", agent), seeing("cuda", agent)
    advance((captured,), 4)

    def refused(*_: Any, **__: Any) -> None:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refused)
    advance((launched,), 4)
    assert (captured.engine, launched.engine) == ("cuda", "cuda, no graph")
    assert launched.engine_note == "not captured as a CUDA graph: operation not permitted"
    assert same(captured, launched)


@everywhere
def test_who_acts_gets_the_weights_as_they_are_now(where: str) -> None:
    agent = seeing(where, config.Agent(**SMALL))
    for _ in range(2):
        advance((agent,), 2)
        weights, state = agent.weights(), agent.state()
        assert {name.split(".")[0] for name in weights} == {"actor", "encoder"}
        assert all(np.array_equal(value, state[name]) for name, value in weights.items())


@everywhere
def test_masks_are_the_same_bits_as_everywhere(where: str) -> None:
    agent = config.Agent(**SMALL | {"critics": 4, "dropout": 0.3, "hidden": (17, 64)})
    engine, critics = blind(where, agent), [2, 0, 3]
    for key in (0, 1, 0xFFFFFFFF, 0x9E3779B9):
        for stage in (dropout.TARGET, dropout.CRITIC, dropout.ACTOR):
            expected = dropout.masks(0.3, key, stage, critics, agent.batch, agent.hidden)
            found = engine._masks(torch.tensor([key], device=engine.device), stage, engine._every[critics])
            assert all(np.array_equal(a, b.cpu().numpy()) for a, b in zip(expected, found, strict=True))


def test_auto_is_the_gpu_for_images_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = config.Agent(**SMALL)
    monkeypatch.setattr("robotrl.agents.fused.graph.make", lambda *_, **__: "the GPU's")
    assert make_agent(agent, *SIZES, 3, Seen(), None, CAMERAS) == "the GPU's"
    assert make_agent(agent, *SIZES, 3, Memory(*SIZES)).engine != "cuda"
    assert make_agent(dataclasses.replace(agent, engine="cuda"), *SIZES, 3, Memory(*SIZES)) == "the GPU's"


def test_no_gpu_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    agent = config.Agent(**SMALL | {"engine": "cuda"})
    for cameras, memory in ((CAMERAS, Seen()), ((), Memory(*SIZES))):
        with pytest.raises(Unsupported, match=r"^agent.engine = 'cuda': torch \S+ sees no GPU here; use auto or reference$"):
            make_agent(agent, *SIZES, 3, memory, None, cameras)
    assert make_agent(config.Agent(**SMALL), *SIZES, 3, Seen(), None, CAMERAS).engine == "reference"


@everywhere
def test_not_finite_is_said(where: str) -> None:
    agent = seeing(where, config.Agent(**SMALL))
    agent.replay.batch.reward[:] = np.nan  # type: ignore[attr-defined]
    with pytest.raises(FloatingPointError, match="go back"):
        advance((agent,), 1)


def test_a_batch_knows_nothing_of_the_one_before() -> None:
    """One block serves all updates: what is not written anew must not be learned from."""
    agent = config.Agent(**SMALL | {"actor_every": 2})
    one, other = seeing("cpu", agent), seeing("cpu", agent)
    advance((one,), 4, 1)
    other.load_state(one.state(), one.random_state())
    assert advance((one,), 3, 2)[0]["q_mean"] == advance((other,), 3, 2)[0]["q_mean"]
    assert isinstance(one.replay.rows(np.arange(2)), Batch)
