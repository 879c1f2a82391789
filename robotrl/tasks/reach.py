"""Reach: an arm brings the point between its fingers to a goal and holds it there.

Observation: angles and speeds of the joints that place the point, the way from the point to the goal, the goal, how much of the
holding is done; with `history` past ones and the targets in force.
With `task.pixels.cameras` pictures in place of all but the joints.
Action: how far these joints' targets move in a step, one by one or as a motion of the point (manipulator.py); the others stay.
Reward: minus time, distance and jerk, and where `tilt_weight` says so a hand that looks far up or down, until the goal is held.
No step earns anything: the quickest quiet way is the best.
Termination: the point was within `tolerance_m` of the goal in `hold_steps` readings in a row ("reached"). Truncation: time.
The point is where the joints' angles and the arm's geometry say: nobody else measures it.
"""

from __future__ import annotations

import math

import numpy as np

from robotrl import config
from robotrl.messages import Imu, Joints
from robotrl.serialarm import Point
from robotrl.tasks.manipulator import Manipulator

FAR_M = 0.1  # brings the way to the goal to the size of the angles; chosen


class Reach(Manipulator):
    """The goal of an episode is drawn from seed and episode alone. `holding`: readings in a row within the tolerance so far."""

    def __init__(self, task: config.Task, robot: config.Robot, seed: int) -> None:
        super().__init__(task, robot, task.reach)
        self.settings, self._seed = task.reach, seed
        self.sensors = self.numbers(10)
        self._low, self._high = np.array(self.settings.goal_low), np.array(self.settings.goal_high)
        self.goal = (self._low + self._high) / 2  # m, base frame
        self.holding = 0

    def begin(self, episode: int) -> None:
        """Draw this episode's goal."""
        self.goal, self.holding = self.drawn(episode), 0

    def drawn(self, episode: int) -> np.ndarray:
        """The goal of an episode, (3,) m."""
        return np.random.default_rng([self._seed, 4, episode]).uniform(self._low, self._high)

    def set_up(self, episode: int) -> tuple[float, ...]:
        """Where the goal is to be seen, (x, y, z); nothing where nobody looks."""
        return tuple(self.drawn(episode).tolist()) if self._watched else ()

    def distance(self, joints: Joints) -> float:
        """Of the point from the goal, m."""
        return math.dist(self.arm.tip(joints.position), self.goal)

    def observation(self, joints: Joints, imu: Imu) -> np.ndarray:
        """(sensors,) float32, of order one; counts the readings within the tolerance, so it is asked once a cycle."""
        n = self.actions
        point: Point = self.arm.tip(joints.position)
        self.holding = self.holding + 1 if math.dist(point, self.goal) <= self.settings.tolerance_m else 0
        out = np.empty(2 * n + 10, np.float32)
        self.felt(joints, out)
        way = self.goal - point
        out[2 * n : 2 * n + 3] = way / FAR_M
        out[2 * n + 3 : 2 * n + 6] = np.tanh(way / self.settings.near_m)
        out[2 * n + 6 : 2 * n + 9] = (self.goal - (self._low + self._high) / 2) / FAR_M
        out[-1] = min(1.0, self.holding / self.settings.hold_steps)
        return out[: self.sensors]

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
        tilted = max(0.0, abs(self.rates.pitch(joints.position) - settings.tilt_rad) - settings.tilt_free)
        return settings.time_cost + settings.distance_weight * far + near + settings.tilt_weight * tilted

    def reward_of(self, t: int, sent: np.ndarray, cost: float, ended: bool) -> float | None:
        """At most 0; known at once."""
        return -cost - self.settings.jerk_weight * self.jerk(sent)
