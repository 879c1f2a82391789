"""Reach: an arm brings the point between its fingers to a goal and holds it there.

Observation: angles and speeds of the joints that place the point, the way from the point to the goal, the goal, how much of the
holding is done; with `history` past ones and the targets in force.
Action: how far each of these joints' targets moves in a step, [-1, 1]^n times `step_rad`. The others stay at home.
Reward: minus time, distance and jerk, until the goal is held. No step earns anything: the quickest quiet way is the best.
Termination: the point was within `tolerance_m` of the goal in `hold_steps` readings in a row ("reached"). Truncation: time.
The point is where the joints' angles and the arm's geometry say: nobody else measures it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from robotrl import config
from robotrl.messages import Imu, Joints, Pose
from robotrl.observe import Mirror
from robotrl.serialarm import ARMS, Point

SPEED_SCALE, FAR_M = 0.5, 0.1  # s/rad and m: bring speeds and the way to the goal to the size of the angles; chosen


class Reach:
    """The goal of an episode is drawn from seed and episode alone. `holding`: readings in a row within the tolerance so far."""

    senses: tuple[str, ...] = ()
    patience_s = math.inf  # no reward is ever late

    def __init__(self, task: config.Task, robot: config.Robot, seed: int) -> None:
        self.task, self.settings, self.arm, self._seed = task, task.reach, ARMS[robot.kind], seed
        self.actions = n = self.arm.moving
        self.sensors = 2 * n + 10
        self._home = tuple(robot.home) or tuple((a + b) / 2 for a, b in zip(robot.lowest, robot.highest, strict=True))
        home, free = np.array(self._home[:n]), self.settings.range_rad
        self._least, self._most = np.maximum(robot.lowest[:n], home - free), np.minimum(robot.highest[:n], home + free)
        self._centre, self._half = (self._least + self._most) / 2, (self._most - self._least) / 2
        self._low, self._high = np.array(self.settings.goal_low), np.array(self.settings.goal_high)
        self.goal = (self._low + self._high) / 2  # m, base frame
        self.holding = 0

    def mirror(self) -> Mirror | None:
        """None: SO-101's arm stands beside the middle of its base."""
        return None

    def see(self, pose: Pose) -> None:
        """An arm that knows its joints needs no tracker."""

    def begin(self, episode: int) -> None:
        """Draw this episode's goal."""
        self.goal = np.random.default_rng([self._seed, 4, episode]).uniform(self._low, self._high)
        self.holding = 0

    def distance(self, joints: Joints) -> float:
        """Of the point from the goal, m."""
        return math.dist(self.arm.tip(joints.position), self.goal)

    def observation(self, joints: Joints, imu: Imu) -> np.ndarray:
        """(2 n + 10,) float32, of order one; counts the readings within the tolerance, so it is asked once a cycle."""
        n = self.actions
        point: Point = self.arm.tip(joints.position)
        self.holding = self.holding + 1 if math.dist(point, self.goal) <= self.settings.tolerance_m else 0
        out = np.empty(self.sensors, np.float32)
        out[:n] = joints.position[:n]
        out[n : 2 * n] = np.multiply(joints.velocity[:n], SPEED_SCALE)
        way = self.goal - point
        out[2 * n : 2 * n + 3] = way / FAR_M
        out[2 * n + 3 : 2 * n + 6] = np.tanh(way / self.settings.near_m)
        out[2 * n + 6 : 2 * n + 9] = (self.goal - (self._low + self._high) / 2) / FAR_M
        out[-1] = min(1.0, self.holding / self.settings.hold_steps)
        return out

    def target(self, action: np.ndarray, before: np.ndarray) -> tuple[float, ...]:
        """Every joint's target, rad."""
        moved = self._centre + self._half * before + self.settings.step_rad * action
        moved = np.clip(moved, self._least, self._most)
        return (*moved.tolist(), *self._home[self.actions :])

    def applied(self, target: Sequence[float]) -> np.ndarray:
        """(n,) the targets of the joints that place the point; their range in this task is [-1, 1]."""
        return ((np.asarray(target[: self.actions]) - self._centre) / self._half).astype(np.float32)

    def action(self, sent: np.ndarray, before: np.ndarray) -> np.ndarray:
        """The inverse of `target`, where no joint was at the end of its range."""
        return ((sent - before) * self._half / self.settings.step_rad).astype(np.float32)

    def ended(self, joints: Joints, imu: Imu) -> str:
        """ "reached", or nothing."""
        return "reached" if self.holding >= self.settings.hold_steps else ""

    def cut(self, now: int, begun: int, steps: int) -> str:
        """The time limit."""
        return "time" if steps >= self.settings.episode_steps else ""

    def cost(self, joints: Joints, imu: Imu) -> float:
        """Of being where the point now is."""
        far, settings = self.distance(joints), self.settings
        near = settings.near_weight * math.tanh(far / settings.near_m)
        return settings.time_cost + settings.distance_weight * far + near

    def reward_of(self, t: int, sent: np.ndarray, cost: float, ended: bool) -> float | None:
        """At most 0; known at once."""
        bend = (sent[0] - 2 * sent[1] + sent[2]) * self._half  # rad
        return -cost - self.settings.jerk_weight * float(np.abs(bend).sum()) / len(bend)

    def speed(self, begun: int, until: int) -> float:
        """An arm gets nowhere."""
        return 0.0
