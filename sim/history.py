"""The robot's last physics steps, so that a sensor or a servo can be late by any time, not by whole steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Quaternion = tuple[float, float, float, float]  # x, y, z, w
Pair = tuple[tuple[float, ...], ...]  # (position, orientation) or (velocity, spin), as PyBullet answers

GRAVITY = 9.81
# Of a row: angle, velocity, torque; from TORSO position and orientation, from SPEED velocity and spin.
TORSO, SPEED, ROW = 24, 31, 37
NEVER = -(1 << 60)  # a step that is not: those before the first have small negative numbers


class Sample(NamedTuple):
    """The robot as it was at `time` (s). Joints (8,) in robot convention, rad, rad/s, Nm; the rest (3,).

    `rates` (rad/s) and `accel` (specific force, m/s^2: +g upwards at rest) are in the torso's frame, as an IMU
    at the torso's centre of mass feels them; `position` (m) is the torso's origin in the world.
    """

    time: float
    angle: Array
    velocity: Array
    torque: Array
    rpy: Array
    rates: Array
    accel: Array
    position: Array


class Torso(NamedTuple):
    """The torso's part of a `Sample`, as plain numbers."""

    rpy: tuple[float, ...]
    rates: tuple[float, ...]
    accel: tuple[float, ...]
    position: tuple[float, ...]


class History:
    """A ring of physics steps: joints, and of the torso what PyBullet gives; the rest is derived when asked.

    The arrays stay where they are for as long as the history lives: the native inner loop writes and reads them too.
    """

    def __init__(self, dt: float, frame: tuple[tuple[float, ...], Quaternion], depth: int = 256) -> None:
        """`frame`: position and orientation of the torso's inertial frame in the torso."""
        self.dt = dt
        self.depth = depth
        self.offset = frame[0]
        self.turn = (-frame[1][0], -frame[1][1], -frame[1][2], frame[1][3])
        self.rows = np.zeros((depth, ROW))
        self._joints = list(self.rows[:, 0:TORSO])  # views, made once
        self._torso: list[list[float]] = [[]] * depth  # rpy, rates, accel, position
        self._derived = [NEVER] * depth  # the step whose values stand in `_torso`
        self.step = 0

    def fill(self, joints: Array, pose: Pair, twist: Pair) -> None:
        """Forget everything: the robot has been like this for ever. `joints` (24,), the rest: see `push`."""
        self.rows[:, 0:TORSO] = joints
        self.rows[:, TORSO:] = (*pose[0], *pose[1], *twist[0], *twist[1])
        self._derived = [NEVER] * self.depth

    def push(self, pose: Pair, twist: Pair) -> Array:
        """One physics step on; returns the joints' row (24,) to fill in: angle, velocity, torque.

        `pose`: centre-of-mass position and orientation; `twist`: linear and angular velocity, all in the world.
        """
        self.step += 1
        i = self.step % self.depth
        self.rows[i, TORSO:] = (*pose[0], *pose[1], *twist[0], *twist[1])
        return self._joints[i]

    def stay(self) -> Array:
        """As `push`, for a torso that goes on as it was."""
        before = self.rows[self.step % self.depth]
        self.step += 1
        i = self.step % self.depth
        self.rows[i, TORSO:] = before[TORSO:]
        return self._joints[i]

    @property
    def newest(self) -> Array:
        """Joints (24,) as they are; read only."""
        return self._joints[self.step % self.depth]

    def joints(self, back: float) -> Array:
        """Joints (24,) as they were `back` steps ago, interpolated; read only."""
        whole = int(back)
        part = back - whole
        newer = self._joints[(self.step - whole) % self.depth]
        if part == 0.0:
            return newer
        older = self._joints[(self.step - whole - 1) % self.depth]
        blend: Array = newer * (1.0 - part)
        blend += older * part
        return blend

    def sample(self, delay_s: float) -> Sample:
        """The robot `delay_s` ago. Raises ValueError beyond the depth or for the future."""
        whole, part = self.split(delay_s)
        newer = self._joints[(self.step - whole) % self.depth]
        older = self._joints[(self.step - whole - 1) % self.depth]
        row = newer + (older - newer) * part
        time = (self.step - delay_s / self.dt) * self.dt
        return Sample(time, row[0:8], row[8:16], row[16:24], *map(np.array, self._blend(whole, part)))

    def torso(self, delay_s: float) -> Torso:
        """The torso alone, as `sample` has it, without the cost of arrays."""
        return self._blend(*self.split(delay_s))

    def split(self, delay_s: float) -> tuple[int, float]:
        """Whole steps back, and the fraction of one beyond."""
        back = self.back(delay_s)
        whole = int(back)
        return whole, back - whole

    def back(self, delay_s: float) -> float:
        """So many steps back. Raises ValueError for what the history does not reach."""
        back = delay_s / self.dt
        if not 0.0 <= back < self.depth - 2:
            raise ValueError(f"delay {delay_s} s: the history holds 0 to {(self.depth - 2) * self.dt:.3f} s")
        return back

    def _blend(self, whole: int, part: float) -> Torso:
        newer, older = self._step(self.step - whole), self._step(self.step - whole - 1)
        row = [a + (b - a) * part for a, b in zip(newer, older, strict=True)]
        turn = [older[k] - newer[k] for k in (0, 1, 2)]
        if not -math.pi <= min(turn) <= max(turn) <= math.pi:  # the short way round, also where an angle wraps
            row[0:3] = [newer[k] + part * ((turn[k] + math.pi) % (2 * math.pi) - math.pi) for k in (0, 1, 2)]
        return Torso(tuple(row[0:3]), tuple(row[3:6]), tuple(row[6:9]), tuple(row[9:12]))

    def _step(self, step: int) -> list[float]:
        i = step % self.depth
        if self._derived[i] != step:
            self._torso[i] = self._derive(self.rows[i, TORSO:].tolist(), self.rows[i - 1, SPEED : SPEED + 3].tolist())
            self._derived[i] = step
        return self._torso[i]

    def _derive(self, row: list[float], before: list[float]) -> list[float]:
        """Of a row's torso (13,) and the linear velocity (3,) a step before it."""
        x, y, z, *orientation, vx, vy, vz, wx, wy, wz = row
        m = matrix(product(orientation, self.turn))
        (a, b, c), (d, e, f), (g, h, i) = m
        ox, oy, oz = self.offset
        ux, uy, uz = before
        fx, fy, fz = (vx - ux) / self.dt, (vy - uy) / self.dt, (vz - uz) / self.dt + GRAVITY
        return [
            *euler(m),
            a * wx + d * wy + g * wz, b * wx + e * wy + h * wz, c * wx + f * wy + i * wz,
            a * fx + d * fy + g * fz, b * fx + e * fy + h * fz, c * fx + f * fy + i * fz,
            x - (a * ox + b * oy + c * oz), y - (d * ox + e * oy + f * oz), z - (g * ox + h * oy + i * oz),
        ]  # fmt: skip


def product(a: Sequence[float], b: Sequence[float]) -> Quaternion:
    """Quaternion product, x y z w."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def matrix(q: tuple[float, ...]) -> tuple[tuple[float, float, float], ...]:
    """Rotation matrix of a unit quaternion x y z w, by rows."""
    x, y, z, w = q
    return (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )


def euler(m: tuple[tuple[float, float, float], ...]) -> tuple[float, float, float]:
    """Roll, pitch, yaw (rad; yaw, then pitch, then roll) of a rotation matrix."""
    pitch = math.asin(max(-1.0, min(1.0, -m[2][0])))
    return math.atan2(m[2][1], m[2][2]), pitch, math.atan2(m[1][0], m[0][0])
