"""An arm as the reset knows it: where it goes before an episode. Angles in rad, robot convention. No port and no bus in here."""

from __future__ import annotations

import math
from collections.abc import Sequence

from robotrl import config
from robotrl.drivers.legged import ANY, Keyframe

HOME_LEAST_S = 0.3  # from wherever; chosen
SHARE = 0.45  # of the gate's speed for the quickest joint at its quickest: a reset has half of it
HOME_RAD = 0.15  # a joint that carries a weight hangs a little lower


class Arm:
    """What `legged.Minitaur` says of a robot that can fall over, of one that cannot."""

    wait_s = 0.0  # its joints stand on nothing, and need not wait for each other

    def __init__(self, robot: config.Robot, start: Sequence[float] = ()) -> None:
        """`start`: where it goes in the place of its home, rad."""
        self._slew = robot.limits.slew_rad_s
        self._home = (
            tuple(start)
            or robot.home
            or robot.stow
            or tuple((a + b) / 2 for a, b in zip(robot.lowest, robot.highest, strict=True))
        )

    def stand(self, position: Sequence[float]) -> tuple[Keyframe, ...]:
        """Where an episode starts, in the time that the way there from `position` (n,) rad takes."""
        ways = [abs(a - b) for a, b in zip(self._home, position, strict=False) if math.isfinite(b)]
        seconds = max(HOME_LEAST_S, 1.5 * max(ways, default=0.0) / (SHARE * self._slew))  # 1.5: quicker in the middle
        return (Keyframe("home", self._home, seconds, HOME_RAD, ANY),)

    def self_right(self) -> tuple[Keyframe, ...]:
        return ()

    def get_up(self) -> tuple[tuple[Keyframe, ...], ...]:
        return ()
