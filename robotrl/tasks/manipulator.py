"""What the tasks of an arm share: its action, in joints or in the room.

Joint space: how far each of the joints that place the point moves its target in a step, [-1, 1]^4 times `step_rad`.
Cartesian: how far the point's target moves along x, y, z and how far the hand pitches, [-1, 1]^4 times `moves.step_m` and
`moves.turn_rad`, by damped resolved rates (`robotrl/resolved.py`); a step that asks a joint for more than `step_rad` is shortened
and keeps its direction. Which of the two: `task.moves.space`. What is sent, stored and judged by the gate are joint targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from robotrl import config
from robotrl.messages import Imu, Joints, Pose
from robotrl.observe import Mirror
from robotrl.resolved import ResolvedRate
from robotrl.serialarm import ARMS, Point

SPEED_SCALE = 0.5  # s/rad: brings speeds to the size of the angles; chosen


class Steps(Protocol):
    """The part of a task's settings that bounds its motion."""

    @property
    def step_rad(self) -> float: ...
    @property
    def range_rad(self) -> float: ...


class Manipulator:
    """One of its tasks adds what it aims at. Targets `sent` are normalised joint targets, (4,); actions (4,)."""

    patience_s = math.inf  # no reward is ever late
    senses: tuple[str, ...] = ()

    def __init__(self, task: config.Task, robot: config.Robot, steps: Steps) -> None:
        self.task, self.arm, self._steps = task, ARMS[robot.kind], steps
        self.actions = n = self.arm.moving
        self.rates = ResolvedRate(self.arm)
        self._watched = bool(task.pixels.cameras)  # there is something to be seen
        self._told = task.pixels.told or not self._watched  # else it sees by cameras where goals and things are
        self._cartesian = task.moves.space == "cartesian"
        self._stride = np.array([task.moves.step_m] * 3 + [task.moves.turn_rad])
        self._home = config.start_of(task, robot)
        home, free = np.array(self._home[:n]), steps.range_rad
        self._least, self._most = np.maximum(robot.lowest[:n], home - free), np.minimum(robot.highest[:n], home + free)
        self._centre, self._half = (self._least + self._most) / 2, (self._most - self._least) / 2

    def mirror(self) -> Mirror | None:
        """None: SO-101's arm stands beside the middle of its base."""
        return None

    def see(self, pose: Pose) -> None:
        """An arm that knows its joints needs no tracker."""

    def set_up(self, episode: int) -> tuple[float, ...]:
        """Nothing."""
        return ()

    def tip(self, joints: Joints) -> Point:
        """Where its point is, m, base frame."""
        return self.arm.tip(joints.position)

    def target(self, action: np.ndarray, before: np.ndarray) -> tuple[float, ...]:
        """Every joint's target, rad."""
        if self._cartesian:
            turn = self.turned(self._stride * action, before)
        else:
            turn = self._steps.step_rad * action
        moved = np.clip(self._centre + self._half * before + turn, self._least, self._most)
        return (*moved.tolist(), *self._home[self.actions :])

    def led(self, twist: Sequence[float], angles: Sequence[float], before: np.ndarray) -> np.ndarray:
        """The action (4,) within [-1, 1] by which a person leads: a hand's `twist` (6,) m/s and rad/s, or a leader's `angles`.

        It moves what the task's own actions move, no faster; roll and yaw of a hand are not among it, nor is the gripper.
        """
        if angles:
            most = self._steps.step_rad
            turn = np.clip((self.applied(angles) - before) * self._half, -most, most)
        else:
            x, y, z, _, pitch, _ = twist
            turn = self.turned(np.array((x, y, z, pitch)) / self.task.rate_hz, before)
        return np.clip(self.action(self.moved(before, turn), before), -1.0, 1.0)

    def turned(self, motion: np.ndarray, before: np.ndarray) -> np.ndarray:
        """How the joints' targets (4,) turn, rad, for a motion (4,) of point and hand; no faster than `step_rad`."""
        turn = self.rates.turn(self.pose(before), motion.tolist())
        return np.asarray(turn * (self._steps.step_rad / max(self._steps.step_rad, float(np.abs(turn).max()))))

    def moved(self, sent: np.ndarray, turn: np.ndarray) -> np.ndarray:
        """Targets `sent` (4,) after the joints' targets have turned by `turn` (4,) rad."""
        return (sent + turn / self._half).astype(np.float32)

    def pose(self, sent: np.ndarray) -> list[float]:
        """Every joint's angle, rad, where targets `sent` are reached."""
        return [*(self._centre + self._half * sent).tolist(), *self._home[self.actions :]]

    def applied(self, target: Sequence[float]) -> np.ndarray:
        """(4,) the targets of the joints that place the point; their range in this task is [-1, 1]."""
        return ((np.asarray(target[: self.actions]) - self._centre) / self._half).astype(np.float32)

    def action(self, sent: np.ndarray, before: np.ndarray) -> np.ndarray:
        """The inverse of `target`, where nothing was shortened; else the motion that was really made."""
        turn = (sent - before) * self._half
        if self._cartesian:
            return (self.rates.motion(self.pose(before), turn) / self._stride).astype(np.float32)
        return np.asarray(turn / self._steps.step_rad, np.float32)

    def numbers(self, told: int) -> int:
        """In an observation: what it feels, and the others where these are not to be seen."""
        return 2 * self.actions + told * self._told

    def felt(self, joints: Joints, out: np.ndarray) -> None:
        """Angles and speeds of the joints that place the point into the first 2 n numbers."""
        n = self.actions
        out[:n] = joints.position[:n]
        out[n : 2 * n] = np.multiply(joints.velocity[:n], SPEED_SCALE)

    def jerk(self, sent: np.ndarray) -> float:
        """Mean second difference of the last three targets (3, 4), rad."""
        bend = (sent[0] - 2 * sent[1] + sent[2]) * self._half
        return float(np.abs(bend).sum()) / len(bend)

    def cut(self, now: int, begun: int, steps: int) -> str:
        """Nothing; a task adds its time limit."""
        return ""

    def ended(self, joints: Joints, imu: Imu) -> str:
        """Nothing; a task adds its success."""
        return ""

    def speed(self, begun: int, until: int) -> float:
        """An arm gets nowhere."""
        return 0.0
