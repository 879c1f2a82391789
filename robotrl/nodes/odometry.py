"""How far a Minitaur has come by its legs and its IMU: the way of a second in which nobody saw it.

A foot on the ground stands still, so the torso moves against it: v = -(dr/dt + w x r), with r the toe in the torso's frame and w
the body's rates. Feet have no switch: a leg's motors say how hard it presses, by the lever of its linkage, and the harder it
presses the more its word counts. On the twin's trot the way is 6 to 9 % wrong; the lowest feet, whatever they bear, gave half of
it. The height is left as it is: what a foot sinks in or slips makes a slope of it.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from robotrl.kinematics import foot
from robotrl.messages import Imu, Joints

Array = NDArray[np.float64]
HIPS = np.array([(x, y, -0.0185) for y in (0.1265, -0.1265) for x in (0.2375, -0.2375)])  # m, torso's frame; of the twin's URDF
BEND = 1e-5  # rad, by which a motor is turned to see how its toe moves
LIGHT = 1e-3  # N^2, what a leg that bears nothing still counts
GAP_S = 0.1  # between two readings: over more of it nothing is known
KEPT = 256  # readings: five seconds at 50 Hz


class Odometry:
    """A path from its own origin: place and heading, good for its differences alone."""

    def __init__(self) -> None:
        self._imu: Imu | None = None
        self._joints: Joints | None = None
        self._toes: Array | None = None
        self._place, self._yaw = np.zeros(2), 0.0
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
            way = -(self._toes - toes_before), (self._toes + toes_before) / 2
            self._move(*way, pressing(joints) ** 2 + LIGHT, (joints.t - before.t) * 1e-9, self._imu)
        else:
            self._path.clear()
        self._path.append((joints.t, self._place, self._yaw))

    def way(self, since: int, until: int) -> tuple[Array, float] | None:
        """From the torso's place and heading at `since` (ns): how far it is at `until`, (2,) m with x where it looked then, and
        by how much it has turned, rad. None where the path does not reach."""
        a, b = self._at(since), self._at(until)
        if a is None or b is None:
            return None
        (x, y), c, s = b[0] - a[0], math.cos(a[1]), math.sin(a[1])
        return np.array((c * x + s * y, c * y - s * x)), b[1] - a[1]

    def leaning(self) -> tuple[float, float] | None:
        """Roll and pitch by the IMU, rad."""
        return None if self._imu is None else (self._imu.roll, self._imu.pitch)

    def _reach(self, joints: Joints) -> Array | None:
        """Toes (4, 3) in the torso's frame."""
        if any(joints.missed) or not all(map(math.isfinite, (*joints.position, *joints.torque))):
            return None
        try:
            flat = foot(np.asarray(joints.position))
        except ValueError:
            return None
        return HIPS + np.stack((flat[:, 0], np.zeros(4), -flat[:, 1]), -1)

    def _move(self, way: Array, toes: Array, weight: Array, dt: float, imu: Imu) -> None:
        """By what the toes (4, 3) have moved against the torso the other way, each with its weight (4,)."""
        rates, roll, pitch = np.array(imu.rates), imu.roll, imu.pitch
        moved = weight @ (way - dt * np.cross(rates, toes)) / weight.sum()
        turn = (rates[1] * math.sin(roll) + rates[2] * math.cos(roll)) / max(0.2, math.cos(pitch)) * dt
        x, y = _level(roll, pitch) @ moved
        c, s = math.cos(self._yaw + turn / 2), math.sin(self._yaw + turn / 2)
        self._place = self._place + (c * x - s * y, s * x + c * y)
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


def pressing(joints: Joints) -> Array:
    """How hard each leg presses downwards, (4,) N: the force at the toe that its two motors' torques hold. 0 where it pulls."""
    angles, torque = np.asarray(joints.position), np.asarray(joints.torque).reshape(4, 2)
    bent = np.tile(angles, (3, 1))
    bent[1, 0::2] += BEND
    bent[2, 1::2] += BEND
    try:
        toes = foot(bent)
    except ValueError:
        return np.zeros(4)
    (ahead_l, down_l), (ahead_r, down_r) = ((toes[k] - toes[0]).T / BEND for k in (1, 2))
    det = ahead_l * down_r - down_l * ahead_r
    out: Array = (ahead_l * torque[:, 1] - ahead_r * torque[:, 0]) / np.where(np.abs(det) < 1e-6, np.inf, det)
    return np.maximum(out, 0.0)


def _level(roll: float, pitch: float) -> Array:
    """From the torso's frame to what is level of one with its heading, (2, 3)."""
    (cr, sr), (cp, sp) = (math.cos(roll), math.sin(roll)), (math.cos(pitch), math.sin(pitch))
    return np.array(((cp, sp * sr, sp * cr), (0.0, cr, -sr)))
