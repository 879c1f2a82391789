"""An arm in lockstep: the program (`sim/program.py`) on the servos' line alone. It has no IMU and no tracker, and needs none."""

from __future__ import annotations

from collections.abc import Callable

from robotrl.clock import LockstepClock
from robotrl.config import Run
from robotrl.messages import Guard, Transition
from robotrl.nodes.reset import LEVEL
from robotrl.replay import Replay
from robotrl.sim.freetwin import FreeTwin
from robotrl.sim.program import Program
from robotrl.sim.rig import Rig
from robotrl.sim.servotwin import ServoTwin


class ArmRig(Program):
    """One arm, its program and its operator. Everything random comes from `seed`."""

    def __init__(
        self, run: Run, seed: int, replay: Replay | None = None, deterministic: bool = False,
        keep: Callable[[Transition], object] | None = None,
    ) -> None:  # fmt: skip
        """`keep` takes the pilot's transitions; the replay does without it."""
        clock = LockstepClock()
        self.twin = ServoTwin(run.robot.kind, seed, clock, run.twin.physics_dt)
        super().__init__(run, seed, clock, self.twin, replay, deterministic, keep)
        self.imu = LEVEL  # it stands on a table

    @property
    def note(self) -> str:
        """Nothing: there is no quicker one."""
        return ""

    def _jitter(self) -> float:
        return self.run.twin.period_jitter if self.run.twin.randomise else 0.0

    def _help(self, command: str, guard: Guard) -> None:
        """An arm that got stuck is lifted while it is off: one that is moved by hand under torque is a servo that jumps."""
        if command == "clear":
            self.twin.command({"place": "stand"})


def rig_of(
    run: Run, seed: int, replay: Replay | None = None, keep: Callable[[Transition], object] | None = None,
    deterministic: bool = False,
) -> Program:  # fmt: skip
    """The rig that a run's robot needs. `keep` as above."""
    if run.robot.kind == "minitaur":
        return Rig(run, seed, replay, deterministic, keep=keep)
    if "imu" in run.robot.senses:
        return Rig(run, seed, replay, deterministic, twin=FreeTwin, keep=keep)
    return ArmRig(run, seed, replay, deterministic, keep=keep)
