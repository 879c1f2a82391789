"""What every agent can do, and the one place that picks an engine for it.

agent = make_agent(config.agent, 112, 8, seed, replay)
rng = np.random.default_rng(seed)
metrics = agent.update(replay.sample(rng, config.agent.batch, replay.count))
save_file(agent.weights(), "actor.safetensors")
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robotrl import config
from robotrl.complaint import Complaint
from robotrl.observe import Mirror
from robotrl.replay import Batch, Cameras, Images


class Unsupported(Complaint):
    """An engine cannot do what is asked here; the text is the reason, one line."""


class Rows(Protocol):
    """Where an agent gets its transitions: a `replay.Replay`, or anything that answers alike."""

    def rows(self, indices: NDArray[np.int64]) -> Batch:
        """The transitions at `indices`, in that order."""
        ...

    def images(self, indices: NDArray[np.int64], /) -> Images:
        """What the cameras saw at their observations and next observations; asked only of one that has cameras."""
        ...


def seen_rows(replay: Rows, indices: NDArray[np.int64], mirror: Mirror | None) -> Batch:
    """The rows at `indices`; for i < 0 row ~i seen in the mirror, an IndexError without one."""
    behind = indices < 0
    if not behind.any():
        return replay.rows(indices)
    if mirror is None:
        raise IndexError(f"sac.update: row {indices.min()} would be seen in a mirror, and the agent has none")
    batch = replay.rows(np.where(behind, ~indices, indices))

    def flip(x: NDArray[np.float32], order: NDArray[np.int64], sign: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(behind[:, None], sign * x[:, order], x)

    return batch._replace(
        observation=flip(batch.observation, mirror.observation, mirror.observation_sign),
        action=flip(batch.action, mirror.action, mirror.action_sign),
        next_observation=flip(batch.next_observation, mirror.observation, mirror.observation_sign),
    )


def discounts(batch: Batch, gamma: float) -> NDArray[np.float32]:
    """What the value of each row's next observation counts: gamma^steps, nothing after a termination; (n,).

    Only termination ends the future: a truncated episode's next observation still has a value.
    """
    return np.where(batch.terminated, 0.0, gamma**batch.steps).astype(np.float32)


class Agent(Protocol):
    """An agent learns from rows of the replay; it knows no environment, clock, bus or log."""

    @property
    def engine(self) -> str:
        """Which implementation runs: "reference", "torch", "cuda" or "fused", with what belongs to it."""
        ...

    @property
    def engine_note(self) -> str:
        """Why the engine is not the fastest one; empty when it is."""
        ...

    @property
    def step(self) -> int:
        """Updates done so far."""
        ...

    def update(self, indices: NDArray[np.int64], noise: NDArray[np.float32] | None = None) -> dict[str, float]:
        """One gradient update on these rows, row ~i in the mirror for i < 0; `noise` (2, batch, action), drawn when None."""
        ...

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """A copy of the actor's parameters, what `actor.Actor` takes."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """A copy of all that is learned, flat and ready for safetensors: parameters, Adam's moments, step."""
        ...

    def random_state(self) -> dict[str, Any]:
        """The state of the agent's own random generator, ready for JSON."""
        ...

    def load_state(self, state: dict[str, NDArray[Any]], random_state: dict[str, Any]) -> None:
        """Go on exactly where `state` and `random_state` were taken; ValueError names what does not fit."""
        ...


def make_agent(
    agent: config.Agent, observation_size: int, action_size: int, seed: int, replay: Rows, mirror: Mirror | None = None,
    cameras: Cameras = (),
) -> Agent:  # fmt: skip
    """The agent a run asks for. `engine = "auto"` takes the fastest that can do it, else the reference page.

    Raises Unsupported when the engine was named and cannot do it, or none gets the memory; ValueError for an unknown name.
    """
    try:
        if cameras:
            return _seeing(agent, observation_size, action_size, seed, replay, mirror, cameras)
        return _made(agent, observation_size, action_size, seed, replay, mirror)
    except (MemoryError, RuntimeError) as error:  # numpy's, and torch's, which has no type of its own
        if isinstance(error, RuntimeError) and not any(said in str(error) for said in ("allocate memory", "out of memory")):
            raise
        raise Unsupported(
            f"no memory for {agent.critics} critics of {agent.hidden} on {agent.batch} rows;"
            " make agent.hidden, agent.critics or agent.batch smaller"
        ) from None


def _made(agent: config.Agent, observation_size: int, action_size: int, seed: int, replay: Rows, mirror: Mirror | None) -> Agent:
    """`make_agent` where there is memory enough."""
    if agent.name != "sac":
        raise ValueError(f'agent.name = {agent.name!r} is not known; write agent.name = "sac"')
    if agent.engine not in ("auto", "fused", "torch", "cuda", "reference"):
        raise ValueError(f"agent.engine = {agent.engine!r} is not known; use auto, fused, torch, cuda or reference")
    note = ""
    if agent.engine != "reference":
        try:
            engine = importlib.import_module(f"robotrl.agents.fused.{'graph' if agent.engine == 'cuda' else 'engine'}")
            made: Agent = engine.make(agent, observation_size, action_size, seed, replay, mirror)
            return made
        except (ImportError, Unsupported) as reason:
            if agent.engine != "auto":
                raise Unsupported(f"agent.engine = {agent.engine!r}: {reason}; use auto or reference") from None
            note = str(reason)
    from robotrl.agents.sac import Sac  # late: torch

    sac = Sac(agent, observation_size, action_size, seed, replay, mirror)
    sac.engine_note = note
    return sac


def _seeing(
    agent: config.Agent, observation_size: int, action_size: int, seed: int, replay: Rows, mirror: Mirror | None, cameras: Cameras
) -> Agent:
    """The GPU's engine where there is a GPU, else the reference page: the encoder is what takes the time."""
    if agent.engine in ("fused", "torch"):
        raise Unsupported(f"agent.engine = {agent.engine!r}: does not learn from images; use auto or reference")
    if mirror is not None:
        raise Unsupported("agent.mirror: images are not mirrored; set it to false")
    if agent.engine != "reference":
        graph = importlib.import_module("robotrl.agents.fused.graph")  # late: torch
        try:
            made: Agent = graph.make(agent, observation_size, action_size, seed, replay, cameras=cameras)
            return made
        except Unsupported as reason:
            if agent.engine == "cuda":
                raise Unsupported(f"agent.engine = 'cuda': {reason}; use auto or reference") from None
    from robotrl.agents.sac import Sac

    _, height, width, _ = cameras[0]
    return Sac(agent, observation_size, action_size, seed, replay, image=(height, width, sum(c[3] for c in cameras)))
