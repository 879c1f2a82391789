"""How far a Minitaur has come by its legs and its IMU: the way of a second in which nobody saw it.

A foot on the ground stands still, so the torso moves against it: v = -(dr/dt + w x r), with r the toe in the torso's frame and w the
body's rates. Feet have no switch: those within a finger's breadth of the lowest count as standing. On the twin's trots this is 5 to
7 % of the way wrong (hardware facts 9); where feet scuff, more.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from robotrl.kinematics import foot
from robotrl.messages import Imu, Joints
from robotrl.nodes.leaning import up_of

Array = NDArray[np.float64]
HIPS = np.array([(x, y, -0.0185) for y in (0.1265, -0.1265) for x in (0.2375, -0.2375)])  # m, torso's frame; of the twin's URDF
STANDING_M = 0.012  # above the lowest toe; chosen
GAP_S = 0.1  # between two readings: over more of it nothing is known
KEPT = 256  # readings: five seconds at 50 Hz


class Odometry:
    """A path from its own origin: place and heading, good for its differences alone."""

    def __init__(self) -> None:
        self._imu: Imu | None = None
        self._joints: Joints | None = None
        self._toes: Array | None = None
        self._place, self._yaw = np.zeros(3), 0.0
        self._path: deque[tuple[int, Array, float]] = deque(maxlen=KEPT)

    def hear(self, imu: Imu) -> None:
        """Attitude and rates; a stale one, or one that is no number, is passed over."""
        if not imu.stale and all(map(math.isfinite, (imu.roll, imu.pitch, *imu.rates))):
            self._imu = imu

    def step(self, joints: Joints) -> None:
        """A reading of the motors. One that is not whole, or at which a leg cannot close, ends the path."""
        before, self._joints = self._joints, joints
        toes_before, self._toes = self._toes, self._reach(joints)
        if self._toes is None or self._imu is None:
            self._path.clear()
            return
        if before is not None and toes_before is not None and 0 < joints.t - before.t < GAP_S * 1e9:
            self._move(toes_before, self._toes, (joints.t - before.t) * 1e-9, self._imu)
        else:
            self._path.clear()
        self._path.append((joints.t, self._place.copy(), self._yaw))

    def way(self, since: int, until: int) -> tuple[Array, float] | None:
        """From the torso's place and heading at `since` (ns): how far it is at `until`, (3,) m with x where it looked then, and by
        how much it has turned, rad. None where the path does not reach."""
        a, b = self._at(since), self._at(until)
        if a is None or b is None:
            return None
        (x, y, z), c, s = b[0] - a[0], math.cos(a[1]), math.sin(a[1])
        return np.array((c * x + s * y, c * y - s * x, z)), b[1] - a[1]

    def leaning(self) -> tuple[float, float] | None:
        """Roll and pitch by the IMU, rad."""
        return None if self._imu is None else (self._imu.roll, self._imu.pitch)

    def _reach(self, joints: Joints) -> Array | None:
        """Toes (4, 3) in the torso's frame."""
        if any(joints.missed) or not all(map(math.isfinite, joints.position)):
            return None
        try:
            flat = foot(np.asarray(joints.position))
        except ValueError:
            return None
        return HIPS + np.stack((flat[:, 0], np.zeros(4), -flat[:, 1]), -1)

    def _move(self, before: Array, now: Array, dt: float, imu: Imu) -> None:
        up, rates = up_of(imu.roll, imu.pitch), np.array(imu.rates)
        middle = (before + now) / 2
        height = middle @ up
        standing = height <= height.min() + STANDING_M
        velocity = -((now - before) / dt + np.cross(rates, middle))[standing].mean(0)
        pitch, roll = imu.pitch, imu.roll
        turn = (rates[1] * math.sin(roll) + rates[2] * math.cos(roll)) / max(0.2, math.cos(pitch)) * dt
        level = _level(roll, pitch) @ velocity
        c, s = math.cos(self._yaw + turn / 2), math.sin(self._yaw + turn / 2)
        self._place += dt * np.array((c * level[0] - s * level[1], s * level[0] + c * level[1], level[2]))
        self._yaw += turn

    def _at(self, t: int) -> tuple[Array, float] | None:
        """Place and heading at t, between two readings, or up to a reading's time before or behind them."""
        path = self._path
        if len(path) < 2 or not path[0][0] - GAP_S * 1e9 < t < path[-1][0] + GAP_S * 1e9:
            return None
        k = len(path) - 1
        while k > 1 and path[k - 1][0] > t:
            k -= 1
        (t0, p0, y0), (t1, p1, y1) = path[k - 1], path[k]
        part = (t - t0) / (t1 - t0)
        return p0 + part * (p1 - p0), y0 + part * (y1 - y0)


def _level(roll: float, pitch: float) -> Array:
    """From the torso's frame to a level one with its heading, (3, 3)."""
    (cr, sr), (cp, sp) = (math.cos(roll), math.sin(roll)), (math.cos(pitch), math.sin(pitch))
    return np.array(((cp, sp * sr, sp * cr), (0.0, cr, -sr), (-sp, cp * sr, cp * cr)))
