"""Which joints of an arm say the same for ever though they are led elsewhere: the reading stands still, and the motor runs on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from robotrl import config
from robotrl.drivers.pressing import STRAIN
from robotrl.serialarm import ARMS

# A joint of the twin's arms, led anywhere, stands still to the tick so far from its target for one cycle. One that something is
# in the way of strains there, or presses with what little it is given; one that runs free draws less.
FAR = 0.4  # of the lead
AFTER_NS = 100_000_000
TICK_RAD = 0.0016
STILL_RAD = 2.5 * TICK_RAD  # an encoder that is dead may still flicker
SHARE = 0.05  # of the supply, for who is frozen: its motor would race back as soon as its reading does; chosen
PACE_S = 0.01  # of the slew: a period's at half its speed, as in a stop
GIVEN = 0.8  # of what a joint is given at least: all its power where it is cold, its continuous torque's share where it is warm


class Frozen:
    """`servos`: by place, those that have said the same for AFTER_NS with their target FAR away, and ran free.

    A servo goes by its own reading: from one that stands still it is driven on past every limit for as long as its goal is
    elsewhere, in whatever state its robot is. They are left with SHARE until torque is off: one whose reading moves again is
    where nobody knew. The last joint may hold something gently, and is not judged; nor are legs, which stand on the ground.
    """

    def __init__(self, robot: config.Robot) -> None:
        self.servos: tuple[int, ...] = ()
        self._judged = len(robot.servos.ids) - 1 if robot.kind in ARMS else 0
        lead, servos = robot.limits.lead_rad, robot.servos
        self._far, self._lead = FAR * lead, lead + TICK_RAD
        self._step = PACE_S * robot.limits.slew_rad_s
        self._free = min(STRAIN, GIVEN * servos.power) * servos.continuous_torque
        self.let_go()

    def read(
        self, now: int, position: Sequence[float], torque: Sequence[float], led: Sequence[float], driven: Sequence[bool]
    ) -> None:  # fmt: skip
        """Take a reading (ns, rad, Nm); `led`: the targets; `driven`: who goes by them with all his torque, and was heard."""
        for i, (at, nm, to, on) in enumerate(zip(position[: self._judged], torque, led, driven, strict=False)):
            if not on:
                self._since.pop(i, None)
                continue
            if not (same := abs(at - self._said.get(i, math.inf)) < STILL_RAD):
                self._said[i] = at
            since = self._since.get(i)
            if not (same and abs(to - at) >= self._far and abs(nm) <= self._free):
                self._since.pop(i, None)
            elif since is None:
                self._since[i] = now
            elif now - since >= AFTER_NS and i not in self.servos:
                self.servos = (*self.servos, i)
                self._rest[i] = at if abs(to - at) <= self._lead else None

    def lead(self, wanted: Sequence[float], last: Sequence[float]) -> list[float]:
        """The targets to send (rad) for those `wanted`, after the `last`: who is frozen goes to where it says it is, where its
        motor comes to rest, and not in one leap. Farther than the lead no gate leads: such a reading has jumped (row 4)."""
        out = list(wanted)
        for i, rest in self._rest.items():
            to = last[i] if rest is None else rest
            out[i] = min(max(to, last[i] - self._step), last[i] + self._step)
        return out

    def let_go(self) -> None:
        """Torque is off."""
        self.servos = ()
        self._said: dict[int, float] = {}
        self._since: dict[int, int] = {}
        self._rest: dict[int, float | None] = {}  # what each said when it was found
