"""What one update draws from its agent's generator, the same for every engine, and when the actor's turn is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robotrl import config


class Draws(NamedTuple):
    """The chance in one update, in the order in which it is drawn."""

    noise: NDArray[np.float32]  # standard normal: [0] for a' of the targets and, where the actor has its turn, [1] for its a
    targets: NDArray[np.int32]  # of the critics' targets, those whose smallest value counts
    key: int  # of the masks of dropout


def actor_turns(agent: config.Agent, step: int) -> int:
    """How many of the first `step` updates had a turn of actor and temperature: each actor_every-th has one."""
    return step // agent.actor_every


def has_turn(agent: config.Agent, step: int) -> bool:
    """Whether update `step`, counted from 1, has a turn of actor and temperature."""
    return step % agent.actor_every == 0


def draw(
    rng: np.random.Generator, agent: config.Agent, step: int, shape: tuple[int, int], noise: NDArray[np.float32] | None
) -> Draws:
    """The draws of update `step`, counted from 1, on a batch of `shape` (rows, action size).

    A given `noise`, (2, *shape) float32, is taken instead of a drawn one; ValueError when it is of another shape or type.
    """
    if noise is None:
        noise = rng.standard_normal((1 + has_turn(agent, step), *shape), dtype=np.float32)
    elif noise.shape != (2, *shape) or noise.dtype != np.float32:
        raise ValueError(f"sac.update: noise must be float32 {(2, *shape)}, is {noise.dtype} {noise.shape}")
    targets = rng.permutation(agent.critics)[: agent.target_subset] if agent.target_subset else np.arange(agent.critics)
    key = int(rng.integers(1 << 32)) if agent.dropout else 0
    return Draws(np.ascontiguousarray(noise), targets.astype(np.int32), key)
