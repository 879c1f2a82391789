"""The Minitaur as the drivers know it: which motor is which, leg space, and the poses a reset goes through.

Motors, signs and leg space: hardware facts 1.2. Angles in rad, robot convention. No port and no bus in here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robotrl import config, kinematics

Array = NDArray[np.float64]

LEGS = ("front_left", "back_left", "front_right", "back_right")
MOTORS = tuple(f"{leg}_{side}" for leg in LEGS for side in "LR")
OUTWARDS = (1.0, -1.0, 1.0, -1.0)  # the swing that takes front feet forwards and back feet backwards
STAND_HEIGHT = 0.255  # m, torso's origin above flat ground under the servos' own gains; measured on the twin
ANY = math.pi  # rad, a tilt that asks nothing
STANDING = 0.6  # rad, off the stand's pose: a heavy robot on soft servos sags by 0.5, a folded leg is off by 1.2
UNJUDGED = 9.0  # rad, a tolerance that asks nothing


@dataclass(frozen=True)
class Keyframe:
    """A pose on the way: reach `target` (8,) rad within `seconds`, every motor to within `tolerance` rad.

    `max_tilt` is the largest roll or pitch (rad) with which the pose counts as reached; pi asks nothing.
    """

    name: str
    target: tuple[float, ...]
    seconds: float
    tolerance: float
    max_tilt: float


class Minitaur:
    """Eight motors, four legs, and what may be asked of them."""

    legs = LEGS
    motors = MOTORS
    stand_height = STAND_HEIGHT
    wait_s = 0.4  # for a leg that something holds; it is free by then, or it is not: chosen on the twin

    def __init__(self, limits: config.Limits) -> None:
        self.limits = limits

    def to_motors(self, swing: ArrayLike, extension: ArrayLike) -> Array:
        """Leg space, each (..., 4) rad, to motor angles (..., 8) rad."""
        return kinematics.to_motors(swing, extension)

    def to_leg(self, motors: ArrayLike) -> tuple[Array, Array]:
        """Motor angles (..., 8) rad to swing and extension, each (..., 4) rad."""
        return kinematics.to_leg(motors)

    def allowed(self, motors: ArrayLike) -> bool:
        """Whether every motor is in range and every leg's gap as wide as the limits ask; nan is not."""
        angles = np.asarray(motors, float)
        gap, least = kinematics.gap(angles), self.limits.gap_min
        rounding = 1e-9  # a pose on its limit is allowed
        inside = (angles >= self.limits.position_min - rounding) & (angles <= self.limits.position_max + rounding)
        return bool(np.all(inside) and np.all((gap >= least) & (gap <= 2 * math.pi - least)))

    def lie(self) -> tuple[Keyframe, ...]:
        """Down onto the belly, legs along the body; safe to switch off in."""
        return (Keyframe("lie", SPLAY, 0.8, 0.4, ANY),)

    def stand(self, position: Sequence[float] = ()) -> tuple[Keyframe, ...]:
        """From any upright pose, or with the feet under the hips. The last keyframe is where an episode starts."""
        return (Keyframe("stand", STAND, 0.4, STANDING, 0.3),)

    def get_up(self) -> tuple[tuple[Keyframe, ...], ...]:
        """Ways from the belly to feet under the hips, to be tried in turn; `stand` follows each and stretches all legs at once.

        The feet are drawn in while the body still lies on the ground. A leg that swings under load leaves its foot where it
        scrubs, and one this short has little lever against its motors. Where that did not do, a leg lay wrong: the next ways
        first throw all legs back, or front and back ones inwards.
        """
        tuck = Keyframe("tuck", _legs([0.0] * 4, [0.6] * 4), 0.4, UNJUDGED, ANY)
        back, inwards = (
            Keyframe(name, _legs(swing, [1.2] * 4), 0.5, UNJUDGED, ANY)
            for name, swing in (("back", [-0.6] * 4), ("inwards", [-0.8 * s for s in OUTWARDS]))
        )
        return (tuck,), (back, tuck), (inwards, tuck)

    def self_right(self) -> tuple[Keyframe, ...]:
        """From the back or a side onto the feet or the belly: two throws of the legs, each a search's result on the twin.

        The first pitches the robot up from its side, the second rolls it over from its back. Empty when the limits do
        not let the legs turn over the torso (they need -2.2 to 5.7 rad): then only the operator can right the robot.
        """
        frames = (
            *_throw("draw", [1.61, 1.95, 1.61, 1.95], [1.56, 1.88, 1.56, 1.88], 0.16),
            *_throw("kick", [-0.21, -1.67, -0.21, -1.67], [1.48, 1.15, 1.48, 1.15], 0.20),
            *_throw("push", [-1.03, -0.49, -1.03, -0.49], [2.73, 2.27, 2.73, 2.27], 0.50),
            Keyframe("splay", SPLAY, 0.3, UNJUDGED, ANY),
            *_throw("lean", [1.63, 1.63, 2.72, 2.72], [2.39, 2.39, 0.68, 0.68], 0.16),
            *_throw("roll", [-2.93, -2.93, 2.84, 2.84], [2.67, 2.67, 2.54, 2.54], 0.46),
            Keyframe("splay again", SPLAY, 0.3, UNJUDGED, ANY),
        )
        return frames if all(self.allowed(frame.target) for frame in frames) else ()


def _legs(swing: list[float], extension: list[float]) -> tuple[float, ...]:
    return tuple(float(m) for m in kinematics.to_motors(swing, extension))


def _throw(name: str, swing: list[float], extension: list[float], seconds: float) -> tuple[Keyframe, Keyframe]:
    """Move in half of the time, hold in the other: a throw is judged by where the robot lands, not by its joints."""
    target = _legs(swing, extension)
    moving = Keyframe(name, target, seconds / 2, UNJUDGED, ANY)
    return moving, dataclasses.replace(moving, name=f"{name}, hold")


STAND = _legs([0.0] * 4, [2.0] * 4)
SPLAY = _legs([1.25 * s for s in OUTWARDS], [1.9] * 4)
