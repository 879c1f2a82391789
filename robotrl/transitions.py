"""Transitions on their way from the pilot to the log and the replay: arrays into a message, a message into a payload or a row."""

from __future__ import annotations

import math
import zlib
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from robotrl.messages import Transition
from robotrl.replay import Cameras, Replay, ReplayError

FLOAT = np.dtype("<f4")
LEVEL = 1  # of the compression of images in the log: what the recorder has time for beside everything else
ORPHAN = -1  # in place of a row
_DECODE = msgspec.msgpack.Decoder(Transition).decode


def make(
    observation: NDArray[Any], action: NDArray[Any], reward: float, next_observation: NDArray[Any], *,
    terminated: bool, truncated: bool, episode: int, step: int, tick: int, policy_version: int,
    joints_t: int = 0, imu_t: int = 0, pose_t: int = 0, applied_t: int = 0, late_us: float = -1.0,
) -> Transition:  # fmt: skip
    """The message, not numbered yet."""
    o, a, n = (np.asarray(array, FLOAT).tobytes() for array in (observation, action, next_observation))
    return Transition(
        number=0, observation=o, action=a, reward=float(reward), next_observation=n, terminated=bool(terminated),
        truncated=bool(truncated), episode=episode, step=step, tick=tick, policy_version=policy_version,
        joints_t=joints_t, imu_t=imu_t, pose_t=pose_t, applied_t=applied_t, late_us=late_us,
    )  # fmt: skip


def framed(t: Transition, cameras: Cameras, images: bytes, next_images: bytes, before: Transition | None) -> Transition:
    """With what the cameras saw; without `images` where it goes on from the transition sent before it."""
    if before is not None and goes_on(before, t):
        images = b""
    return msgspec.structs.replace(t, cameras=cameras, images=images, next_images=next_images)


def goes_on(before: Transition, t: Transition) -> bool:
    """True when the observation of `t` is the next observation of `before`; the rule of `Replay.goes_on`."""
    return after(before) == (t.episode, t.step, t.tick)


def after(t: Transition) -> tuple[int, int, int] | None:
    """Episode, step and tick of the transition that goes on from this one; None for the last of an episode."""
    return None if t.terminated or t.truncated else (t.episode, t.step + 1, t.tick + 1)


def add(replay: Replay, t: Transition) -> int:
    """Append it to a replay; its row. ReplayError as `Replay.add`.

    ORPHAN, and not added, when its frame came with a transition before it that is not the last row: a log lost it.
    """
    if t.cameras and not t.images and not replay.goes_on(t.episode, t.step, t.tick):
        return ORPHAN
    o, a, n = (np.frombuffer(data, FLOAT) for data in (t.observation, t.action, t.next_observation))
    return replay.add(
        o, a, t.reward, n, terminated=t.terminated, truncated=t.truncated, episode=t.episode, step=t.step, tick=t.tick,
        policy_version=t.policy_version, images=t.images, next_images=t.next_images,
    )  # fmt: skip


def encoded(t: Transition) -> bytes:
    """A record's payload; images are compressed in it, without loss."""
    if t.cameras:
        first, second = (zlib.compress(data, LEVEL) if data else b"" for data in (t.images, t.next_images))
        t = msgspec.structs.replace(t, images=first, next_images=second)
    return msgspec.msgpack.encode(t)


def fits(replay: Replay, t: Transition) -> str:
    """What keeps it out of a replay for good, "" when nothing does."""
    sizes = (len(t.observation) // 4, len(t.action) // 4)
    if sizes != (replay.observation_size, replay.action_size) or len(t.observation) != len(t.next_observation):
        return f"(observation, action) is {sizes}"
    if t.cameras != replay.cameras:
        return f"cameras are {t.cameras}, not {replay.cameras}"
    if len(t.next_images) != replay.frame_bytes or len(t.images) not in (0, replay.frame_bytes):
        return f"frames are of {len(t.images)} and {len(t.next_images)} bytes, not {replay.frame_bytes}"
    numbers = np.frombuffer(t.observation + t.action + t.next_observation, FLOAT)
    return "" if np.isfinite(numbers).all() and np.isfinite(t.reward) else "it is not finite"


def decoded(payload: bytes) -> Transition:
    """From a record's payload; ReplayError when it is none."""
    try:
        t = _DECODE(payload)
        if not t.cameras:
            return t
        size = sum(math.prod(shape) for _, *shape in t.cameras)
        first, second = (_inflated(data, size) for data in (t.images, t.next_images))
        return msgspec.structs.replace(t, images=first, next_images=second)
    except (msgspec.MsgspecError, ValueError, zlib.error) as error:
        raise ReplayError(f"a record of the log is no transition: {error}; see who wrote it") from None


def _inflated(data: bytes, size: int) -> bytes:
    """Of `size` bytes, or ValueError: a few bytes may say that they are gigabytes."""
    if not data:
        return b""
    inflater = zlib.decompressobj()
    whole = inflater.decompress(data, size + 1)
    if len(whole) != size or not inflater.eof:
        raise ValueError(f"images are not of {size} bytes")
    return whole
