"""Resolved-rate motion: how an arm's joints must turn for its point to move straight, and its hand to pitch.

dq = J' (J J' + l^2)^-1 dx, damped least squares (Nakamura and Hanafusa 1986; Wampler 1986). The damping l grows only where a
direction is nearly lost, by the least singular value (Maciejewski and Klein 1988): elsewhere the motion is the one asked for.
A motion is (4,): x, y, z of the point (m, base frame) and the hand's pitch (rad), taken as `ARM_M` a radian.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robotrl.serialarm import SerialArm, Y

Array = NDArray[np.float64]
ARM_M = 0.1  # m that a radian of pitch counts as: about what it moves a hand by
LOST = 0.02  # m/rad, singular value: a direction in which a radian moves less is nearly lost; chosen
MOST = 0.02  # m/rad, damping where it is lost altogether; chosen


class ResolvedRate:
    """Of an arm whose moving joints are one turn about z and the rest about y: as many as a motion has numbers."""

    def __init__(self, arm: SerialArm) -> None:
        """ValueError for another arm."""
        if arm.moving != 4 or [pivot.axis for pivot in arm.pivots[1:4]] != [Y] * 3:
            raise ValueError("resolved-rate motion is for an arm with one turn about z and three about y")
        self.arm = arm
        self._pitch = [0.0] + [float(pivot.sign) for pivot in arm.pivots[1:4]]

    def pitch(self, q: Sequence[float]) -> float:
        """Of the hand, rad: 0 level, pi/2 down."""
        return math.fsum(sign * angle for sign, angle in zip(self._pitch, q, strict=False))

    def jacobian(self, q: Sequence[float]) -> Array:
        """(4, 4): of x, y, z (m/rad) and the pitch (times ARM_M)."""
        out = np.empty((4, 4))
        out[:3] = np.array(self.arm.jacobian(q)).T
        out[3] = np.multiply(self._pitch, ARM_M)
        return out

    def turn(self, q: Sequence[float], motion: ArrayLike) -> Array:
        """How the four joints turn, rad, for a small motion (4,)."""
        u, s, vt = np.linalg.svd(self.jacobian(q))
        least = float(s[-1])
        damping2 = 0.0 if least >= LOST else (1.0 - (least / LOST) ** 2) * MOST**2
        asked = np.multiply(motion, (1.0, 1.0, 1.0, ARM_M))
        return np.asarray(vt.T @ (s / (s * s + damping2) * (u.T @ asked)))

    def motion(self, q: Sequence[float], turn: ArrayLike) -> Array:
        """The small motion (4,) that such a turn (4,) rad makes."""
        out = self.jacobian(q) @ np.asarray(turn)
        out[3] /= ARM_M
        return np.asarray(out)
