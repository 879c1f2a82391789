"""An arm as the reset knows it: where it goes before an episode. Angles in rad, robot convention. No port and no bus in here."""

from __future__ import annotations

from robotrl import config
from robotrl.drivers.legged import ANY, Keyframe

HOME_S = 3.0  # at half the gate's speed, from the far end of most joints; chosen
HOME_RAD = 0.15  # a joint that carries a weight hangs a little lower


class Arm:
    """What `legged.Minitaur` says of a robot that can fall over, of one that cannot."""

    def __init__(self, robot: config.Robot) -> None:
        self._home = robot.home or robot.stow or tuple((a + b) / 2 for a, b in zip(robot.lowest, robot.highest, strict=True))

    def stand(self) -> tuple[Keyframe, ...]:
        """Where an episode starts."""
        return (Keyframe("home", self._home, HOME_S, HOME_RAD, ANY),)

    def self_right(self) -> tuple[Keyframe, ...]:
        return ()

    def get_up(self) -> tuple[tuple[Keyframe, ...], ...]:
        return ()
