"""An arm in lockstep: the program (`sim/program.py`) on the servos' line alone. It has no IMU and no tracker, and needs none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from robotrl.clock import LockstepClock
from robotrl.config import Run
from robotrl.drivers.tracker import PoseStream
from robotrl.messages import Guard, Teleop, Transition
from robotrl.nodes.reset import LEVEL
from robotrl.replay import Replay
from robotrl.serialarm import ARMS
from robotrl.sim.freetwin import FreeTwin
from robotrl.sim.program import Program
from robotrl.sim.rig import Rig
from robotrl.sim.servotwin import ServoTwin, laid
from robotrl.sim.teleoperator import Teacher

if TYPE_CHECKING:
    from robotrl.sim.eyes import Eyes

PUSHED = (2, 16)  # steps of an episode, between which a push begins; chosen: a learned policy has its brick on after 20


class ArmRig(Program):
    """One arm, its program and its operator. Everything random comes from `seed`."""

    def __init__(
        self, run: Run, seed: int, replay: Replay | None = None, deterministic: bool = False,
        keep: Callable[[Transition], object] | None = None,
    ) -> None:  # fmt: skip
        """`keep` takes the pilot's transitions; the replay does without it."""
        clock = LockstepClock()
        self.twin = ServoTwin(run.robot.kind, seed, clock, run.twin.physics_dt)
        self._table = laid(run, self.twin, seed)
        super().__init__(run, seed, clock, self.twin, replay, deterministic, keep)
        self.imu = LEVEL  # it stands on a table
        self.eyes = self._seeing(run, seed)
        self.teacher = Teacher(run, seed, clock) if run.twin.takeover else None
        self._push_at, self._pushed = -1, 0  # the step at which it is pushed, and for how many more it is

    def _seeing(self, run: Run, seed: int) -> Eyes | None:
        """Cameras, where the policy sees by them."""
        if not run.task.pixels.cameras:
            return None
        from robotrl.sim.eyes import eyes_of, sighted  # late: it imports pybullet, which must have been told to be quiet

        eyes = eyes_of(run, self.twin.joints, seed)
        self.pilot.gaze.eyes = sighted(eyes, self.pilot.task, self.clock)
        return eyes

    @property
    def table(self) -> Any:
        """What stands on its table, to be looked at."""
        return self._table

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

    def _open_senses(self) -> None:
        self._tracker = PoseStream(self._ports["tracker"], self.clock) if "tracker" in self._ports else None

    def _sense(self, now: int) -> None:
        tracker = self._tracker
        if tracker is None:
            return
        for pose in self._try("tracker", now, tracker.read, lambda: None) or ():
            self.pilot.see(pose)
            self.sentry.hear(pose, now)

    def _entered(self, state: str) -> None:
        self.twin.joints.push[:], self._pushed = 0.0, 0
        if self._table is not None:
            self._table.entered(state, self.pilot.set_up)
        if state == "RUN" and self.eyes is not None:
            self.eyes.begin()
        if state == "RUN" and self.run.twin.push_n > 0:
            self._push_at = int(self.rng.integers(*PUSHED))

    def _hand(self, now: int) -> Teleop | None:
        """The scripted person's, where there is one."""
        if self.teacher is None or self.joints is None:
            return None
        return self.teacher.look(self.joints, self.pilot, self.permit, self.applied)

    def _stepped(self, steps: int) -> None:
        """A push on the hand, level, from any side, with half to all of `twin.push_n`."""
        if steps == self._push_at:
            angle, force = self.rng.uniform(0, 2 * np.pi), self.run.twin.push_n * self.rng.uniform(0.5, 1.0)
            self._force = np.array((force * np.cos(angle), force * np.sin(angle), 0.0))
            self._pushed = round(self.run.twin.push_s / self.period_s)
            self.pushes += 1
        if self._pushed and self.joints is not None:
            self._pushed -= 1
            arm = ARMS[self.run.robot.kind]
            rows = np.array(arm.jacobian(self.joints.position))
            self.twin.joints.push[: arm.moving] = rows @ self._force if self._pushed else 0.0


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
