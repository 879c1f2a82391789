"""Kinematics of a Minitaur: leg space, motor angles, and the closed form of its five-bar legs.

Conventions (hardware facts 1.1, 1.2). Legs: front left, back left, front right, back right. Motors: two a
leg, L then R, so motor 2i and 2i+1 belong to leg i. Angles in rad, robot convention: 0 points the upper link
straight up, pi/2 along the body, pi straight down. A leg lives in the plane (forward, down) whose origin is
the common axis of its two motors; lengths in m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

LEGS = 4
MOTORS = 8
SIDES = (1.0, 1.0, -1.0, -1.0)  # left legs, right legs
SIDE = np.array(SIDES)
# The link that carries the toe hangs from the L motor on left legs and from the R motor on right legs.
LONG = np.array([0, 2, 5, 7])
SHORT = np.array([1, 3, 4, 6])
# Left and right exchanged: mirrored legs are legs[LEGS_MIRRORED], with the same signs; mirrored motors likewise.
LEGS_MIRRORED = np.array([2, 3, 0, 1])
MOTORS_MIRRORED = np.array([5, 4, 7, 6, 1, 0, 3, 2])


@dataclass(frozen=True)
class FiveBar:
    """Lengths of one leg, m. `toe` is measured along the long lower link, from its knee through the ankle."""

    upper: float  # motor axis to knee, both sides
    short: float  # knee to ankle on the short lower link
    long: float  # knee to ankle on the long lower link
    toe: float  # knee to toe on the long lower link


IDENTIFIED = FiveBar(upper=0.101, short=0.200, long=0.208, toe=0.240)  # rainbow_dash and derpy (hardware facts 1.1)
IDEALISED = FiveBar(upper=0.115, short=0.200, long=0.200, toe=0.200)  # minitaur.urdf, toe at the ankle
MEASURED = FiveBar(upper=0.112, short=0.199, long=0.199, toe=0.2315)  # the lengths published for the machine itself


def to_motors(swing: ArrayLike, extension: ArrayLike) -> Array:
    """Leg space to motor angles: swing (..., 4) and extension (..., 4) in rad to (..., 8) in rad."""
    swing, extension = np.asarray(swing, float), np.asarray(extension, float)
    if swing.shape != extension.shape or swing.shape[-1:] != (LEGS,):
        raise ValueError(f"swing {swing.shape} and extension {extension.shape} must both be (..., {LEGS})")
    motors = np.empty((*swing.shape[:-1], MOTORS))
    turn = SIDE * swing
    motors[..., 0::2] = extension - turn
    motors[..., 1::2] = extension + turn
    return motors


def to_leg(motors: ArrayLike) -> tuple[Array, Array]:
    """Motor angles (..., 8) to leg space: swing (..., 4) and extension (..., 4), rad."""
    motors = _checked(motors)
    left, right = motors[..., 0::2], motors[..., 1::2]
    return SIDE * (right - left) / 2, (left + right) / 2


def motors_of(swing: Sequence[float], extension: Sequence[float]) -> tuple[float, ...]:
    """`to_motors` of one robot's plain numbers, (4,) and (4,): once a period, in half the time that arrays take to begin."""
    legs = [(e, side * s) for side, s, e in zip(SIDES, swing, extension, strict=True)]
    return tuple([motor for e, turn in legs for motor in (e - turn, e + turn)])


def legs_of(motors: Sequence[float]) -> list[float]:
    """`to_leg` of one robot's plain numbers (8,): four swings, then four extensions."""
    pairs = list(zip(SIDES, motors[0::2], motors[1::2], strict=True))
    return [side * (right - left) / 2 for side, left, right in pairs] + [(left + right) / 2 for _, left, right in pairs]


def gap(motors: ArrayLike) -> Array:
    """Angle between the upper links of each leg, measured below the hip, (..., 4) rad: 2 pi - 2 extension."""
    return 2 * np.pi - 2 * to_leg(motors)[1]


def foot(motors: ArrayLike, leg: FiveBar = IDENTIFIED) -> Array:
    """Toe of every leg in its own plane, (..., 4, 2): forward and down from the hip axis, m.

    Raises ValueError where the loop cannot close: the knees are too far apart or too close.
    """
    knee, _, ankle = _loop(_checked(motors), leg)
    toe: Array = knee + (ankle - knee) * (leg.toe / leg.long)
    return toe


def knee_angles(motors: ArrayLike, leg: FiveBar = IDENTIFIED) -> Array:
    """How far each lower link is folded against its upper link, (..., 8) rad: 0 is stretched, pi folded back."""
    motors = _checked(motors)
    long_knee, short_knee, ankle = _loop(motors, leg)
    fold = np.empty(motors.shape)
    fold[..., LONG] = -_angle(long_knee, ankle - long_knee) % (2 * np.pi)
    fold[..., SHORT] = _angle(short_knee, ankle - short_knee) % (2 * np.pi)
    return fold


def _checked(motors: ArrayLike) -> Array:
    motors = np.asarray(motors, float)
    if motors.shape[-1:] != (MOTORS,):
        raise ValueError(f"motor angles have shape {motors.shape}, want (..., {MOTORS})")
    return motors


def _loop(motors: Array, leg: FiveBar) -> tuple[Array, Array, Array]:
    """Long knee, short knee, ankle, each (..., 4, 2) forward and down: the ankle is where two circles meet."""
    long, short = motors[..., LONG], motors[..., SHORT]
    long_knee = leg.upper * np.stack([-np.sin(long), -np.cos(long)], -1)
    short_knee = leg.upper * np.stack([np.sin(short), -np.cos(short)], -1)
    across = short_knee - long_knee
    distance = np.linalg.norm(across, axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        along = (leg.long**2 - leg.short**2 + distance**2) / (2 * distance)
        height2 = leg.long**2 - along**2
        unit = across / distance
    if not np.all(height2 >= 0):  # nan, from knees that coincide, fails as well
        raise ValueError("the leg cannot close at these motor angles; keep the gap of its motors within the limits")
    normal = np.stack([-unit[..., 1], unit[..., 0]], -1)  # down when the short knee is in front
    return long_knee, short_knee, long_knee + along * unit + np.sqrt(height2) * normal


def _angle(a: Array, b: Array) -> Any:
    """Signed angle from a to b, both (..., 2)."""
    cross = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return np.arctan2(cross, (a * b).sum(-1))
