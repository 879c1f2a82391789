"""The tracker by sight: poses from a camera's pictures, and for a moment without a sight of the board from legs and IMU.

Pure, as `sight.py`: what it is given, in the order of its coming, is all that it knows.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from robotrl.messages import Imu, Joints, Pose
from robotrl.nodes.odometry import Odometry
from robotrl.nodes.sight import Sight, Sighting
from robotrl.tagboard import Roof
from robotrl.viewpoint import Viewpoint

Array = NDArray[np.float64]
RECKON_NS = 1_000_000_000  # so long the legs' word is taken for the camera's (hardware facts 9)
SILENT_NS = 100_000_000  # without a picture: then it is reckoned at the legs' own times
WINDOW_NS = 200_000_000  # of a velocity
GAP_NS = 100_000_000  # between two poses: over more of it no place in between is known


class Velocity:
    """The way of the last 0.2 s over 0.2 s: the mean velocity in it, and so, for any steady acceleration, that of 0.1 s ago.

    A pose that is wrong by s makes it wrong by 7 s a second. A straight line fitted to all poses between would make less noise,
    4.4 s, and weigh the middle more than the ends: of a gait whose speed ripples it is another velocity, by more than that.
    """

    def __init__(self) -> None:
        self._poses: deque[tuple[int, Array]] = deque()

    def add(self, t: int, position: Array) -> tuple[Array, int] | None:
        """With the pose of time `t`: velocity (3,) m/s and the time (ns) that it is of; None where no pose is old enough."""
        self._poses.append((t, position))
        begin = t - WINDOW_NS
        while len(self._poses) > 2 and self._poses[1][0] <= begin:
            self._poses.popleft()
        (t0, p0), (t1, p1) = self._poses[0], self._poses[min(1, len(self._poses) - 1)]
        if t0 > begin or t1 - t0 > GAP_NS:
            return None
        place = p0 + (begin - t0) / (t1 - t0) * (p1 - p0)
        return (position - place) / (WINDOW_NS * 1e-9), begin + WINDOW_NS // 2


class TagTracker:
    """One robot's. Give it what comes, as it comes; `look` and `step` answer with a pose when there is one."""

    def __init__(self, roof: Roof, view: Viewpoint, legs: bool = True) -> None:
        """`legs`: it has a Minitaur's."""
        self.sight = Sight(roof, view)
        self._odometry = Odometry() if legs else None
        self._velocity = Velocity()
        self._last: Sighting | None = None
        self._newest = -1  # time of the newest pose
        self._pictured = -1  # and of the newest picture

    def hear(self, imu: Imu) -> None:
        """A reading of the IMU."""
        self.sight.hear(imu)
        if self._odometry is not None:
            self._odometry.hear(imu)

    def look(self, image: NDArray[np.uint8], t: int) -> Pose | None:
        """A picture taken at `t` (ns), as `Sight.look` takes it; one no newer than the last pose is passed over."""
        self._pictured = max(self._pictured, t)
        if t <= self._newest:
            return None
        sighting = self.sight.look(image, t)
        if sighting is None:
            return self._reckoned(t)
        self._last = sighting
        return self._pose(t, sighting.position, sighting.rotation, False)

    def step(self, joints: Joints) -> Pose | None:
        """A reading of the motors. A pose comes of it when the camera is silent."""
        if self._odometry is None:
            return None
        self._odometry.step(joints)
        silent = joints.t - self._pictured > SILENT_NS
        return self._reckoned(joints.t) if silent else None

    def _reckoned(self, t: int) -> Pose | None:
        """From the last sighting on, by the legs: at most for a second."""
        last = self._last
        if self._odometry is None or last is None or not 0 < t - last.t <= RECKON_NS or t <= self._newest:
            return None
        way, leaning = self._odometry.way(last.t, t), self._odometry.leaning()
        if way is None or leaning is None:
            return None
        (x, y), turned = way
        yaw = math.atan2(last.rotation[1, 0], last.rotation[0, 0])
        c, s = math.cos(yaw), math.sin(yaw)
        place = last.position + (c * x - s * y, s * x + c * y, 0.0)
        return self._made(t, place, (*leaning, (yaw + turned + math.pi) % (2 * math.pi) - math.pi), True)

    def _pose(self, t: int, position: Array, rotation: Array, reckoned: bool) -> Pose:
        pitch = math.asin(max(-1.0, min(1.0, -rotation[2, 0])))
        rpy = math.atan2(rotation[2, 1], rotation[2, 2]), pitch, math.atan2(rotation[1, 0], rotation[0, 0])
        return self._made(t, position, rpy, reckoned)

    def _made(self, t: int, position: Array, rpy: tuple[float, ...], reckoned: bool) -> Pose:
        self._newest = t
        velocity = self._velocity.add(t, position)
        speed = () if velocity is None else tuple(velocity[0].tolist())
        return Pose(
            t=t, position=tuple(position.tolist()), rpy=tuple(map(float, rpy)), velocity=speed,
            velocity_t=0 if velocity is None else velocity[1], reckoned=reckoned,
        )  # fmt: skip
