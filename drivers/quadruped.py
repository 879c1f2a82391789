"""D'Kitty as the reset knows it: how it gets onto its feet. Angles in rad, robot convention. No port and no bus in here.

Joints: hip roll, hip pitch, knee of front right, front left, back left, back right (hardware facts 2.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from robotrl import config
from robotrl.drivers.legged import ANY, UNJUDGED, Keyframe

TUCK_S, LEAST_S = 0.6, 0.4
SHARE = 0.4  # of the servos' own speed for the quickest joint at its quickest; chosen
STANDING, LEVEL = 0.25, 0.3  # rad: off the pose, and of tilt, with which it stands
TUCK = (0.0, 1.5, -1.5) * 4  # feet drawn in under the hips, torso on the ground


class DKitty:
    """What `legged.Minitaur` says of a robot with eight motors, of one with twelve servos."""

    wait_s = 0.0  # not tried with it

    def __init__(self, robot: config.Robot) -> None:
        self._home, self._speed = robot.home, SHARE * robot.servos.velocity_limit
        self._tuck = tuple(
            min(max(at, low), high) for at, low, high in zip(TUCK, robot.lowest, robot.highest, strict=True)
        )  # fmt: skip

    def stand(self, position: Sequence[float]) -> tuple[Keyframe, ...]:
        """Where an episode starts, in the time that the way there from `position` (12,) rad takes."""
        ways = [abs(a - b) for a, b in zip(self._home, position, strict=False) if math.isfinite(b)]
        seconds = max(LEAST_S, 1.5 * max(ways, default=0.0) / self._speed)  # 1.5: quicker in the middle
        return (Keyframe("stand", self._home, seconds, STANDING, LEVEL),)

    def self_right(self) -> tuple[Keyframe, ...]:
        """Nothing turns it over here: from its side or back it is lifted."""
        return ()

    def get_up(self) -> tuple[tuple[Keyframe, ...], ...]:
        """From the belly: draw the feet in, then stretch all legs at once."""
        return ((Keyframe("tuck", self._tuck, TUCK_S, UNJUDGED, ANY), Keyframe("rise", self._home, TUCK_S, UNJUDGED, ANY)),)
