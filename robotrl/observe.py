"""From streams to what a task sees: a window of past observations and actions, and a forward speed from stamped poses."""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np

from robotrl.messages import Pose


class History:
    """The policy's input: the newest observation, the `length` before it, and the `length` newest applied actions.

    Latency and unseen contacts make a single reading no Markov state (Haarnoja et al. 2019, section IV): with the actions
    still under way in the input it is one again. Size: n (1 + length) + a length.
    """

    def __init__(self, observation_size: int, action_size: int, length: int) -> None:
        self.n, self.a, self.length = observation_size, action_size, length
        self.size = observation_size * (1 + length) + action_size * length
        self._observations = np.zeros((1 + length, observation_size), np.float32)
        self._actions = np.zeros((length, action_size), np.float32)

    def reset(self, observation: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Start an episode as if the robot had stood like this, under this action, for as long as the window reaches."""
        self._observations[:] = observation
        self._actions[:] = action
        return self._vector()

    def push(self, observation: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Add a reading (n,) and the action (a,) now in force; returns the input (size,), newest first."""
        assert observation.shape == (self.n,) and action.shape == (self.a,), (observation.shape, action.shape)
        self._observations[1:] = self._observations[:-1]
        self._observations[0] = observation
        self._actions[1:] = self._actions[:-1]
        self._actions[0] = action
        return self._vector()

    def _vector(self) -> np.ndarray:
        return np.concatenate((self._observations.reshape(-1), self._actions.reshape(-1)))


class Track:
    """Displacement along the heading the episode began with, from stamped poses that arrive late and noisy.

    A pose counts at the time its picture was taken. Between poses the path is a straight line; nothing is extrapolated.
    """

    def __init__(self) -> None:
        self._t: list[int] = []
        self._x: list[float] = []
        self._poses: list[Pose] = []
        self._direction = (1.0, 0.0)

    def add(self, pose: Pose) -> None:
        """Take a pose; one that is not newer than the last, or not finite, is refused."""
        if not all(map(math.isfinite, (*pose.position, *pose.rpy))) or (self._t and pose.t <= self._t[-1]):
            return
        self._t.append(pose.t)
        self._poses.append(pose)
        self._x.append(pose.position[0] * self._direction[0] + pose.position[1] * self._direction[1])
        if len(self._t) > 4096:  # over a minute at 60 Hz: longer than an episode
            del self._t[:2048], self._x[:2048], self._poses[:2048]

    def begin(self) -> None:
        """Forward is from now on the heading seen last (mean over the newest poses, against the tracker's yaw noise)."""
        recent = self._poses[-12:]
        if recent:
            yaw = math.atan2(sum(math.sin(p.rpy[2]) for p in recent), sum(math.cos(p.rpy[2]) for p in recent))
            self._direction = (math.cos(yaw), math.sin(yaw))
        self._x = [p.position[0] * self._direction[0] + p.position[1] * self._direction[1] for p in self._poses]

    def newest(self) -> int | None:
        """Capture time of the newest pose, ns."""
        return self._t[-1] if self._t else None

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
        tail = self.at(t - int(window_s * 1e9))
        return None if head is None or tail is None else (head - tail) / window_s
