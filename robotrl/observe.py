"""From streams to what a task sees: a window of past observations and actions, its mirror image, a speed from stamped poses."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robotrl.messages import Pose


class History:
    """The policy's input: the newest observation, the `length` before it, and the `length` newest applied actions.

    Latency and unseen contacts make a single reading no Markov state (Haarnoja et al. 2019, section IV): with the actions
    still under way in the input it is one again. Size: n (1 + length) + a length.
    """

    def __init__(self, observation_size: int, action_size: int, length: int) -> None:
        self.n, self.a, self.length = observation_size, action_size, length
        self.size = observation_size * (1 + length) + action_size * length
        self._window = np.zeros(self.size, np.float32)  # as `push` returns it
        self._seen = self._window[: observation_size * (1 + length)]
        self._sent = self._window[observation_size * (1 + length) :]

    def reset(self, observation: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Start an episode as if the robot had stood like this, under this action, for as long as the window reaches."""
        self._seen[:] = np.tile(observation, 1 + self.length)
        self._sent[:] = np.tile(action, self.length)
        return self._window.copy()

    def push(self, observation: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Add a reading (n,) and the action (a,) now in force; returns the input (size,), newest first."""
        assert observation.shape == (self.n,) and action.shape == (self.a,), (observation.shape, action.shape)
        self._seen[self.n :] = self._seen[: -self.n]
        self._seen[: self.n] = observation
        self._sent[self.a :] = self._sent[: -self.a]
        self._sent[: self.a] = action
        return self._window.copy()


@dataclass(frozen=True)
class Mirror:
    """A robot's left and right exchanged: the mirrored vector is sign * vector[order]; twice gives the first again."""

    observation: NDArray[np.int64]  # order of the observation's values
    observation_sign: NDArray[np.float32]  # 1 or -1 for each
    action: NDArray[np.int64]
    action_sign: NDArray[np.float32]

    def check(self, observation_size: int, action_size: int) -> None:
        """ValueError unless both are mirrors of vectors of these sizes."""
        for name, order, sign, n in (
            ("observation", self.observation, self.observation_sign, observation_size),
            ("action", self.action, self.action_sign, action_size),
        ):
            if order.shape != (n,) or sign.shape != (n,) or order.dtype.kind != "i" or sign.dtype != np.float32:
                raise ValueError(f"mirror: {name} must be {n} whole numbers with float32 signs, is {order.dtype} {order.shape}")
            if not np.array_equal(np.sort(order), np.arange(n)) or not (np.abs(sign) == 1).all():
                raise ValueError(f"mirror: {name} must hold each of 0..{n - 1} once, with signs 1 or -1")
            if not np.array_equal(order[order], np.arange(n)) or not (sign * sign[order] == 1).all():
                raise ValueError(f"mirror: {name} seen in the mirror twice is another; correct its order or signs")

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Orders as int32 and signs, observation first."""
        return self.observation.astype(np.int32), self.observation_sign, self.action.astype(np.int32), self.action_sign

    def window(self, length: int) -> Mirror:
        """The mirror of a `History`: of its 1 + length observations and length actions."""
        n, a = len(self.observation), len(self.action)
        orders = [self.observation + k * n for k in range(1 + length)]
        orders += [self.action + (1 + length) * n + k * a for k in range(length)]
        signs = [self.observation_sign] * (1 + length) + [self.action_sign] * length
        return Mirror(np.concatenate(orders), np.concatenate(signs), self.action, self.action_sign)


class Track:
    """Displacement along the heading the episode began with, from stamped poses that arrive late and noisy.

    A pose counts at the time its picture was taken. Between poses the path is a straight line; nothing is extrapolated.
    """

    def __init__(self) -> None:
        self._t: list[int] = []
        self._x: list[float] = []
        self._poses: list[Pose] = []
        self.direction = (1.0, 0.0)  # forwards, x and y
        self._seen: int | None = None

    def add(self, pose: Pose) -> None:
        """Take a pose; one that is not newer than the last, or not finite, is refused."""
        if not all(map(math.isfinite, (*pose.position, *pose.rpy))) or (self._t and pose.t <= self._t[-1]):
            return
        self._t.append(pose.t)
        self._poses.append(pose)
        self._seen = self._seen if pose.reckoned else pose.t
        self._x.append(pose.position[0] * self.direction[0] + pose.position[1] * self.direction[1])
        if len(self._t) > 4096:  # over a minute at 60 Hz: longer than an episode
            del self._t[:2048], self._x[:2048], self._poses[:2048]

    def begin(self) -> None:
        """Forward is from now on the heading seen last (mean over the newest poses, against the tracker's yaw noise)."""
        recent = self._poses[-12:]
        if recent:
            yaw = math.atan2(sum(math.sin(p.rpy[2]) for p in recent), sum(math.cos(p.rpy[2]) for p in recent))
            self.direction = (math.cos(yaw), math.sin(yaw))
        self._x = [p.position[0] * self.direction[0] + p.position[1] * self.direction[1] for p in self._poses]

    def newest(self) -> int | None:
        """Capture time of the newest pose, ns."""
        return self._t[-1] if self._t else None

    def seen(self) -> int | None:
        """Capture time of the newest pose that was seen and not reckoned, ns."""
        return self._seen

    def at(self, t: int) -> float | None:
        """Displacement (m) at time `t` (ns); None while poses do not reach there yet."""
        if not self._t or t > self._t[-1]:
            return None
        i = bisect_left(self._t, t)
        if i == 0:
            return self._x[0]
        part = (t - self._t[i - 1]) / (self._t[i] - self._t[i - 1])
        return self._x[i - 1] + part * (self._x[i] - self._x[i - 1])

    def speed(self, t: int, window_s: float) -> float | None:
        """Mean forward speed (m/s) over the `window_s` before `t` (ns); None while poses do not reach there yet."""
        head = self.at(t)
        tail = self.at(t - int(window_s * 1e9)) if head is not None else None
        return None if head is None or tail is None else (head - tail) / window_s
