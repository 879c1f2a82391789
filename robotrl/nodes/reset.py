"""The reset: plays the robot's get-up script while the guard's lease says so, and says whether it worked. Imports no torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from robotrl.config import Run
from robotrl.drivers.arm import Arm
from robotrl.drivers.legged import Keyframe, Minitaur
from robotrl.drivers.quadruped import DKitty
from robotrl.messages import Action, Imu, Joints, Permit, Reset
from robotrl.node import Node
from robotrl.safety.reset import ResetScript, Stage
from robotrl.tasksettings import things

ACTION_VALID_NS = 50_000_000
IDLE = Reset(source="reset", stage="", attempt=0, outcome="idle")
LEVEL = Imu(t=-1, roll=0.0, pitch=0.0, yaw=0.0, rates=(0.0, 0.0, 0.0), accel=(0.0, 0.0, 9.81))  # of what stands on a table


def stages(frames: Sequence[Keyframe]) -> tuple[Stage, ...]:
    """A robot's poses as the stages of a script."""
    return tuple(Stage(k.name, k.target, k.seconds, k.tolerance, k.max_tilt) for k in frames)


def _robot(run: Run) -> Minitaur | DKitty | Arm:
    """Who knows how it comes to where an episode starts. A D'Kitty without an IMU hangs on its stand, and is led as an arm is."""
    if run.robot.kind == "minitaur":
        return Minitaur(run.robot.limits)
    return DKitty(run.robot) if run.robot.kind == "dkitty" and "imu" in run.robot.senses else Arm(run.robot, run.task.start)


class Resetter:
    """One script a lease. Pure of bus and port; one call a servo cycle."""

    def __init__(self, run: Run) -> None:
        robot = _robot(run)
        self._robot = robot
        self._self_right = stages(robot.self_right())
        self._get_up = tuple(stages(way) for way in robot.get_up())
        self._script: ResetScript | None = None
        self._epoch = -1
        self._seq = 0
        self._things = things(run.task)
        self.places: Sequence[float] = ()  # where a person puts them, m
        self.state = IDLE

    def cycle(self, joints: Joints, imu: Imu, permit: Permit | None) -> Action | None:
        """Answer one servo cycle with the script's target, when it is the script's turn."""
        if permit is None or permit.state != "RESET" or permit.holder != "reset":
            self.state = IDLE
            return None
        if permit.epoch != self._epoch or self._script is None:
            self._epoch = permit.epoch
            stand = stages(self._robot.stand(joints.position))
            self._script = ResetScript(stand, self._self_right, self._get_up, wait_s=self._robot.wait_s)
        step = self._script.step(joints.t, joints.position, imu.roll, imu.pitch)
        asks = step.outcome == "done" and bool(self._things)
        self.state = Reset(
            source="reset", t=joints.t, stage=step.stage, attempt=step.attempt, outcome="asks" if asks else step.outcome,
            reason=self._asked() if asks else step.reason,
        )  # fmt: skip
        if step.target is None:
            return None
        self._seq += 1
        return Action(
            source="reset", seq=self._seq, t=joints.t, valid_ns=ACTION_VALID_NS, epoch=permit.epoch, tick=joints.tick,
            target=step.target,
        )  # fmt: skip

    def _asked(self) -> str:
        """What a person is to do before the next episode."""
        said, places = [], list(self.places)
        for what, count in self._things:
            numbers, places = places[:count], places[count:]
            said.append(f"{what} {', '.join(f'{axis} {at:.3f}' for axis, at in zip('xyz', numbers, strict=False))} m")
        return "; ".join(said)


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "reset")
    resetter = Resetter(node.run)
    joints, imu, permits = (node.bus.subscriber(topic) for topic in ("joints", "imu", "permit"))
    episodes = node.bus.subscriber("episode")
    actions, states = node.bus.publisher("action"), node.bus.publisher("reset")
    level = None if "imu" in node.run.robot.senses else LEVEL
    node.hurry(9)
    while not node.stopping and not node.orphaned():
        node.bus.wait([joints], 0.1)
        for reading in joints.drain()[-1:]:
            attitude = imu.latest() or level
            if attitude is None:
                continue
            episode = episodes.latest()
            resetter.places = episode.set_up if episode is not None else ()
            action = resetter.cycle(reading, attitude, permits.latest())
            states.send(resetter.state)
            if action is not None:
                actions.send(action)
        node.beat()
    node.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
