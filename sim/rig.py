"""A Minitaur in lockstep: the program (`sim/program.py`) with IMU and tracker, on a twin that is pushed, redrawn and lifted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robotrl.clock import LockstepClock
from robotrl.config import ConfigError, Run
from robotrl.drivers.imu import WitImu
from robotrl.drivers.tracker import PoseStream
from robotrl.messages import Guard, Imu, Pose, Transition
from robotrl.nodes.tagtracker import TagTracker
from robotrl.replay import Replay
from robotrl.sim.freetwin import FreeTwin
from robotrl.sim.operator import needs_a_hand
from robotrl.sim.program import Program
from robotrl.sim.tagcamera import view_of
from robotrl.sim.twin import Twin


class Rig(Program):
    """One robot, its program and its operator. Everything random comes from `seed`."""

    def __init__(
        self, run: Run, seed: int, replay: Replay | None = None, deterministic: bool = False,
        twin: type[Twin] | type[FreeTwin] = Twin, keep: Callable[[Transition], object] | None = None,
    ) -> None:  # fmt: skip
        """`keep` takes the pilot's transitions; the replay does without it."""
        clock = LockstepClock()
        self.twin = twin(run, seed, clock)
        self._push_at = -1
        super().__init__(run, seed, clock, self.twin, replay, deterministic, keep)

    def speed(self) -> float:
        """True forward speed of the torso along its heading, m/s, over the last period."""
        now, before = self.twin.world.torso(0.0), self.twin.world.torso(self.period_s)
        heading = np.array((np.cos(now.rpy[2]), np.sin(now.rpy[2])))
        return float(np.subtract(now.position[:2], before.position[:2]) @ heading / self.period_s)

    def _open_senses(self) -> None:
        self._connect_imu()
        self._connect_tracker()
        wired = self.run.robot.tracker.camera
        if wired and self.twin.camera is None:
            raise ConfigError(f"robot.tracker.camera: the twin of a {self.run.robot.kind} has none; set it to an empty name")
        self.sight = TagTracker(self.run.robot.roof, view_of(self.run.twin.tripod, self.run.robot.seen_by)) if wired else None

    def _connect_imu(self) -> None:
        driver = WitImu(self._ports["imu"], self.run.robot.imu, self.clock)
        driver.configure()
        self.imu_driver = driver

    def _connect_tracker(self) -> None:
        self.tracker = PoseStream(self._ports["tracker"], self.clock)

    def _read_imu(self) -> Imu | None:
        return self.imu_driver.read()

    def _read_tracker(self) -> list[Pose]:
        return self.tracker.read()

    def _sense(self, now: int) -> None:
        sample = self._try("imu", now, self._read_imu, self._connect_imu)
        if sample is not None:
            self.imu = sample
            self.sentry.hear(sample, now)
        if self.sight is not None:
            poses = self._look(sample)
        else:
            poses = self._try("tracker", now, self._read_tracker, self._connect_tracker) or []
        for pose in poses:
            self.pilot.see(pose)
            self.sentry.hear(pose, now)

    def _look(self, sample: Imu | None) -> list[Pose]:
        """By the camera's pictures: what its process would make of them, and of the last readings of IMU and motors."""
        assert self.sight is not None and self.twin.camera is not None
        if sample is not None:
            self.sight.hear(sample)
        poses = [self.sight.step(self.joints)] if self.joints is not None else []
        while (shot := self.twin.camera.shoot()) is not None:
            poses.append(self.sight.look(shot[1], shot[0]))
        return [pose for pose in poses if pose is not None]

    def _jitter(self) -> float:
        return self.twin.world.domain.period_jitter

    def _help(self, command: str, guard: Guard) -> None:
        if needs_a_hand(command, guard):
            self.twin.world.place("stand")

    def _stepped(self, steps: int) -> None:
        if steps == self._push_at:
            self._push_at = -1
            self.pushes += 1
            self.twin.world.push(self._push(), self.run.twin.push_s)

    def _entered(self, state: str) -> None:
        if isinstance(self.twin, FreeTwin):
            self.twin.entered(state)
        twin = self.run.twin
        if state == "RESET" and twin.randomise:
            self.twin.world.randomise(self.rng)
        if state == "RESET" and (twin.terrain != "flat" or twin.carried_back or self.sight is not None):
            # A course begins at its start: carried back, or the stairs would be behind it; and so does a camera's view.
            self.twin.world.place("stand")
        if state == "RUN" and twin.push_n > 0:
            self._push_at = int(self.rng.integers(50, max(51, self.run.task.episode_steps - 150)))

    def _push(self) -> tuple[float, float, float]:
        """From any side, between half of and the whole force asked for (120 to 240 N), and downwards where that is asked."""
        twin = self.run.twin
        force = twin.push_n * self.rng.uniform(0.5, 1.0)
        angle = self.rng.uniform(0, 2 * np.pi)
        down = twin.push_down_n * self.rng.uniform(0.6, 1.0) if twin.push_down_n > 0 else 0.0
        return (force * np.cos(angle), force * np.sin(angle), -down)
