"""Transitions on their way from the pilot to the log and the replay: arrays into a message, a message into a payload or a row."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from robotrl.messages import Transition
from robotrl.replay import Replay, ReplayError

FLOAT = np.dtype("<f4")
_DECODE = msgspec.msgpack.Decoder(Transition).decode


def make(
    observation: NDArray[Any], action: NDArray[Any], reward: float, next_observation: NDArray[Any], *,
    terminated: bool, truncated: bool, episode: int, step: int, tick: int, policy_version: int,
) -> Transition:  # fmt: skip
    """The message, not numbered yet."""
    o, a, n = (np.asarray(array, FLOAT).tobytes() for array in (observation, action, next_observation))
    return Transition(
        number=0, observation=o, action=a, reward=float(reward), next_observation=n, terminated=bool(terminated),
        truncated=bool(truncated), episode=episode, step=step, tick=tick, policy_version=policy_version,
    )  # fmt: skip


def add(replay: Replay, t: Transition) -> int:
    """Append it to a replay; its row. ReplayError as `Replay.add`."""
    o, a, n = (np.frombuffer(data, FLOAT) for data in (t.observation, t.action, t.next_observation))
    return replay.add(
        o, a, t.reward, n, terminated=t.terminated, truncated=t.truncated, episode=t.episode, step=t.step, tick=t.tick,
        policy_version=t.policy_version,
    )  # fmt: skip


def encoded(t: Transition) -> bytes:
    """A record's payload."""
    return msgspec.msgpack.encode(t)


def fits(replay: Replay, t: Transition) -> str:
    """What keeps it out of a replay for good, "" when nothing does."""
    sizes = (len(t.observation) // 4, len(t.action) // 4)
    if sizes != (replay.observation_size, replay.action_size) or len(t.observation) != len(t.next_observation):
        return f"(observation, action) is {sizes}"
    numbers = np.frombuffer(t.observation + t.action + t.next_observation, FLOAT)
    return "" if np.isfinite(numbers).all() and np.isfinite(t.reward) else "it is not finite"


def decoded(payload: bytes) -> Transition:
    """From a record's payload; ReplayError when it is none."""
    try:
        return _DECODE(payload)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ReplayError(f"a record of the log is no transition: {error}; see who wrote it") from None
