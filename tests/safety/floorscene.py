"""D'Kitty on the ground, on stage: its line and that line's witness, and beside them an IMU and a pose tracker.

The rows of the catalogue that begin in one of these two (15 to 18, 20, 58) as a Minitaur plays them; what begins in the line is
played by the robots of `linerows.py`.
"""

from __future__ import annotations

from unittest import mock

from robotrl import config
from robotrl.config import Run
from robotrl.sim import program
from robotrl.sim.freetwin import FreeTwin
from robotrl.sim.liars import Skew, Weightless
from robotrl.sim.rig import Rig
from tests.safety.linefamilies import line_witness
from tests.safety.linescene import LineScene, Seen, Swayer, run_of
from tests.safety.linewitness import LineWitness
from tests.safety.mischief import on
from tests.safety.rows import ROWS, Row
from tests.safety.scene import LIVE

FLOOR = "dkitty_floor"
SWAY_RAD = 0.04  # it stands on these legs


class WatchedFloor(Seen, Rig):
    def __init__(self, run: Run, seed: int, witness: LineWitness) -> None:
        self._witness = witness
        with mock.patch.object(program, "Pilot", lambda *_: Swayer(SWAY_RAD)):
            super().__init__(run, seed, twin=FreeTwin)


class FloorScene(LineScene):
    """As `LineScene`, with the senses that walking needs."""

    rig: WatchedFloor  # type: ignore[assignment]

    def __init__(self, seed: int = 0, keep: bool = True) -> None:
        self.run = run_of(FLOOR)
        self.witness = line_witness(config.to_dict(self.run), keep)
        self.rig = WatchedFloor(self.run, seed, self.witness)
        self._set_up(("noise", "learner"))
        self.lied, self.rescued, self.rescue = [], True, None

    def heal(self) -> None:
        for wire in self.rig.twin.wires.values():
            wire.clear()
        self.each, self.action = lambda: None, lambda action: action
        self.console, self.human_age, self.beats, self.unkept = True, 0.0, set(LIVE), ""
        self.guard_lives = self.driver_lives = True


# A fall is seen by the attitude alone: no task is played that would end its episode.
FALL = Row(58, "tilted by 0.9 rad", on("imu", lambda s: Skew(0.9, 0.0)), ("tilt",), "RELAX", 360, ("RUN",), ("RUN", "HOLD"),
           lasts=False)  # fmt: skip
FALLING = Row(58, "falling", on("imu", lambda s: Weightless()), ("free_fall",), "RELAX", 160, ("RUN",), ("RUN", "HOLD"),
              lasts=False)  # fmt: skip
FLOOR_ROWS = (*(row for row in ROWS if row.number in (15, 16, 17, 18, 20)), FALL, FALLING)
