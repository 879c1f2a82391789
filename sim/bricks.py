"""Two bricks whose studs grip (hardware facts 3.2): plain contact only rests, so the press fit is modelled.

The fixed brick has studs `STUD_M` high on it, and whatever is not pressed on rests on them. When the free brick is over it -
within `ALIGNED_M`, turned and tilted by no more than `ALIGNED_RAD` - and is pressed down with `press_n` or more for `ENGAGES_S`,
the studs go in: its place is then held with at most `hold_n` along each axis. Pulled by more than that it comes off again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pybullet
from numpy.typing import NDArray

Array = NDArray[np.float64]
Turn = tuple[float, float, float, float]  # x, y, z, w
BRICK_M = (0.032, 0.032, 0.0192)  # of a Duplo 2 x 2 without its studs
STUD_M = 0.0045  # the same brick's
BRICK_KG = 0.02  # as hardware facts 3.2; a real one has half
ALIGNED_M = 0.002  # hardware facts 3.2
ALIGNED_RAD = 0.1  # chosen: over half a brick 2 mm
ENGAGES_S = 0.01
OFF_M = STUD_M / 2  # from its seat: the studs are out
MU = 0.6


@dataclass(frozen=True)
class Fit:
    """How the studs grip."""

    press_n: float = 6.0  # chosen: an OpenManipulator-X presses with 10 N without strain
    hold_n: float = 6.0  # chosen: as much to take it off


class Bricks:
    """A fixed brick on a plinth and a free one, in the world of `client`. Places are of a brick's middle, (3,) m, world."""

    def __init__(self, client: int, fit: Fit = Fit()) -> None:
        self.fit, self._client = fit, client
        half = [x / 2 for x in BRICK_M]
        free = pybullet.createCollisionShape(pybullet.GEOM_BOX, halfExtents=half, physicsClientId=client)
        self.free = pybullet.createMultiBody(BRICK_KG, free, physicsClientId=client)
        self.fixed = self._fixed([0.8, 0.2, 0.2, 1.0], half)
        self.studs = self._fixed([0.9, 0.4, 0.4, 1.0], [half[0] * 0.8, half[1] * 0.8, STUD_M / 2])
        self.plinth = self._fixed([0.5, 0.5, 0.5, 1.0], [half[0], half[1], 0.5])
        for body in (self.free, self.fixed, self.studs):
            pybullet.changeDynamics(body, -1, lateralFriction=MU, linearDamping=0, angularDamping=0, physicsClientId=client)
        self._joint = -1  # the constraint by which the studs hold
        self._pressed = 0.0  # s
        self._home = False  # the studs are in all the way
        self.seat = np.zeros(3)
        self.yaw = 0.0

    def _fixed(self, colour: list[float], half: list[float]) -> int:
        shape = pybullet.createCollisionShape(pybullet.GEOM_BOX, halfExtents=half, physicsClientId=self._client)
        look = pybullet.createVisualShape(
            pybullet.GEOM_BOX, halfExtents=half, rgbaColor=colour, physicsClientId=self._client
        )  # fmt: skip
        return int(pybullet.createMultiBody(0, shape, look, physicsClientId=self._client))

    @property
    def seated(self) -> bool:
        """The studs hold the free brick, and are in all the way."""
        return self._joint >= 0 and self._home

    def lay(self, seat: Array, yaw: float, free: Array, turn: Turn) -> None:
        """Take the bricks apart: the fixed one under `seat`, turned by `yaw`; the free one at rest at `free`."""
        self.part()
        self.seat, self.yaw = np.asarray(seat, float), yaw
        upright = pybullet.getQuaternionFromEuler([0, 0, yaw])
        under = self.seat - (0, 0, BRICK_M[2])
        for body, at in (
            (self.fixed, under), (self.studs, under + (0, 0, (BRICK_M[2] + STUD_M) / 2)),
            (self.plinth, under - (0, 0, BRICK_M[2] / 2 + 0.5)),
        ):  # fmt: skip
            pybullet.resetBasePositionAndOrientation(body, at.tolist(), upright, physicsClientId=self._client)
        pybullet.resetBasePositionAndOrientation(self.free, list(free), turn, physicsClientId=self._client)
        pybullet.resetBaseVelocity(self.free, [0, 0, 0], [0, 0, 0], physicsClientId=self._client)

    def part(self) -> None:
        """The studs let go."""
        if self._joint >= 0:
            pybullet.removeConstraint(self._joint, physicsClientId=self._client)
        self._joint, self._pressed, self._home = -1, 0.0, False
        pybullet.setCollisionFilterPair(self.free, self.studs, -1, -1, 1, physicsClientId=self._client)

    def off(self) -> tuple[float, float, float, float]:
        """The free brick's middle from its seat (m: aside, up), and how far it is turned and tilted (rad)."""
        at, turn = pybullet.getBasePositionAndOrientation(self.free, physicsClientId=self._client)
        away = np.subtract(at, self.seat)
        m = pybullet.getMatrixFromQuaternion(turn)
        quarter = (math.atan2(m[3], m[0]) - self.yaw) % (math.pi / 2)  # it fits four ways
        tilt = math.acos(max(-1.0, min(1.0, m[8])))
        return math.hypot(away[0], away[1]), float(away[2]), min(quarter, math.pi / 2 - quarter), tilt

    def press(self) -> float:
        """How hard the free brick presses on the studs, N."""
        points = pybullet.getContactPoints(self.free, self.studs, physicsClientId=self._client)
        return float(sum(p[9] * abs(p[7][2]) for p in points))

    def stepped(self, dt: float) -> None:
        """To be called after each physics step: studs go in, or come out."""
        aside, up, turned, tilt = self.off()
        if self._joint >= 0:
            away = math.hypot(aside, up)
            self._home = self._home or away < OFF_M / 2
            if away > (OFF_M if self._home else STUD_M + ALIGNED_M):
                self.part()
            return
        if aside > ALIGNED_M or turned > ALIGNED_RAD or tilt > ALIGNED_RAD or up > STUD_M + 0.002:
            self._pressed = 0.0
            return
        self._pressed = self._pressed + dt if self.press() >= self.fit.press_n else 0.0
        if self._pressed >= ENGAGES_S - 1e-9:
            self._engage()

    def _engage(self) -> None:
        pybullet.setCollisionFilterPair(self.free, self.studs, -1, -1, 0, physicsClientId=self._client)
        _, turn = pybullet.getBasePositionAndOrientation(self.free, physicsClientId=self._client)
        yaw = pybullet.getEulerFromQuaternion(turn)[2]
        quarter = self.yaw + round((yaw - self.yaw) / (math.pi / 2)) * math.pi / 2
        self._joint = pybullet.createConstraint(
            self.free, -1, -1, -1, pybullet.JOINT_FIXED, [0, 0, 0], [0, 0, 0], self.seat.tolist(), [0, 0, 0, 1],
            pybullet.getQuaternionFromEuler([0, 0, quarter]), physicsClientId=self._client,
        )  # fmt: skip
        pybullet.changeConstraint(self._joint, maxForce=self.fit.hold_n, physicsClientId=self._client)
