"""Which joints of an arm say the same for ever though they are led elsewhere: the reading stands still, and the motor runs on."""

from __future__ import annotations

from collections.abc import Sequence

from robotrl import config
from robotrl.drivers.pressing import STRAIN
from robotrl.serialarm import ARMS

# A joint of the twin's arms, led anywhere, stands still to the tick so far from its target for one cycle. One that something is
# in the way of strains there, or presses with what little it is given; one that runs free draws less.
FAR = 0.4  # of the lead
TICK_RAD = 0.0016  # farther than the lead no gate leads: such a reading has jumped (row 4)
PACE_S = 0.01  # of the slew: a period's at half its speed, as in a stop
GIVEN = 0.8  # of what it is given at most, as by who homes it against its stops
AFTER_NS = 100_000_000


class Frozen:
    """`servos`: by place, those that have said the same to the tick for AFTER_NS with their target FAR away, and ran free.

    A servo goes by its own reading: from one that stands still it is driven on past every limit for as long as its goal is
    elsewhere, in whatever state its robot is. They stay until torque is off. The last joint may hold something gently, and is
    not judged; nor are legs, which stand on the ground.
    """

    def __init__(self, robot: config.Robot, after_ns: int = AFTER_NS) -> None:
        self.servos: tuple[int, ...] = ()
        self._judged = len(robot.servos.ids) - 1 if robot.kind in ARMS else 0
        lead = robot.limits.lead_rad
        self._far, self._lead = FAR * lead, lead + TICK_RAD
        self._step = PACE_S * robot.limits.slew_rad_s
        servos = robot.servos
        self._free = min(STRAIN * servos.continuous_torque, GIVEN * servos.power * servos.max_torque)
        self._after_ns = after_ns
        self.let_go()

    def read(
        self, now: int, position: Sequence[float], torque: Sequence[float], led: Sequence[float], driven: Sequence[bool]
    ) -> None:  # fmt: skip
        """Take a reading (ns, rad, Nm); `led`: the targets; `driven`: who goes by them with all his torque, and was heard."""
        for i, (at, nm, to, on) in enumerate(zip(position[: self._judged], torque, led, driven, strict=False)):
            same, self._said[i] = on and at == self._said.get(i), at
            since = self._since.get(i)
            if not (same and self._far <= abs(to - at) <= self._lead and abs(nm) <= self._free):
                self._since.pop(i, None)
            elif since is None:
                self._since[i] = now
            elif now - since >= self._after_ns and i not in self.servos:
                self.servos = (*self.servos, i)

    def stopped(self, last: float, at: float) -> float:
        """The next target of one of them: from its last one (rad) towards its reading, where its motor comes to rest."""
        return min(max(at, last - self._step), last + self._step)

    def let_go(self) -> None:
        """Torque is off."""
        self.servos = ()
        self._said: dict[int, float] = {}
        self._since: dict[int, int] = {}
