"""Stack: a brick in the gripper goes onto a fixed one and is pressed on (Lego of Haarnoja et al. 2018, arXiv 1803.06773).

The fixed brick's place is known. The hand points down; its yaw is the turntable's, so both bricks look away from the base.
Observation: angles and speeds of the joints that place the point; the way from the point to its place in the stack, plain and
with its last millimetres spread out; how far the hand is from pointing down; the place; the share of the holding that is done.
Action: four joints, or the point's motion and the hand's pitch (manipulator.py).
Reward: minus time, distance, tilt, jerk. Distance is to a place that is higher by up to `hover_m` while the brick is not over the
other: down along a funnel.
Termination: the point was seated - within `seat_m` of its place, and upright - in `hold_steps` readings in a row ("stacked"):
lower than it can come without the studs having gone in. Truncation: time.
"""

from __future__ import annotations

import math

import numpy as np

from robotrl import config
from robotrl.messages import Imu, Joints
from robotrl.tasks.manipulator import Manipulator

FAR_M = 0.1  # brings the way to the size of the angles; chosen
DOWN = math.pi / 2  # rad, pitch of a hand that points down


class Stack(Manipulator):
    """The place of an episode is drawn from seed and episode alone."""

    def __init__(self, task: config.Task, robot: config.Robot, seed: int) -> None:
        super().__init__(task, robot, task.stack)
        self.settings, self._seed = task.stack, seed
        self.sensors = 2 * self.actions + 12
        self._middle = np.array(self.settings.place)
        self.place = self._middle.copy()  # m, base frame: of the held brick's middle when it is stacked
        self.holding = 0

    def begin(self, episode: int) -> None:
        """Draw where the fixed brick stands."""
        self.place, self.holding = self.placed(episode), 0

    def placed(self, episode: int) -> np.ndarray:
        """The place in an episode, (3,) m."""
        spread = self.settings.spread_m
        moved = np.random.default_rng([self._seed, 6, episode]).uniform(-spread, spread, 2)
        return self._middle + (moved[0], moved[1], 0.0)

    def set_up(self, episode: int) -> tuple[float, ...]:
        """`placed`, where the bricks are to be stacked."""
        return tuple(self.placed(episode).tolist())

    def way(self, joints: Joints) -> np.ndarray:
        """From the point to its place, (3,) m."""
        return np.asarray(self.place - self.tip(joints))

    def tilt(self, joints: Joints) -> float:
        """How far the hand is from pointing down, rad."""
        return self.rates.pitch(joints.position) - DOWN

    def funnel(self, way: np.ndarray) -> np.ndarray:
        """The way to where it should be next, (3,) m: over its place, down to it as it comes to be over it."""
        aside = math.hypot(way[0], way[1])
        return way + (0.0, 0.0, min(self.settings.hover_m, max(0.0, self.settings.steep * (aside - self.settings.over_m))))

    def seated(self, joints: Joints) -> bool:
        """As low as only a brick that was pressed on can be, over its place."""
        s, way = self.settings, self.way(joints)
        return math.hypot(way[0], way[1]) <= s.over_m and abs(way[2]) <= s.seat_m and abs(self.tilt(joints)) <= s.tilt_rad

    def observation(self, joints: Joints, imu: Imu) -> np.ndarray:
        """(2 n + 12,) float32, of order one; counts the readings while seated, so it is asked once a cycle."""
        n = self.actions
        self.holding = self.holding + 1 if self.seated(joints) else 0
        way, out = self.way(joints), np.empty(self.sensors, np.float32)
        self.felt(joints, out)
        out[2 * n : 2 * n + 3] = way / FAR_M
        out[2 * n + 3 : 2 * n + 6] = np.tanh(way / self.settings.near_m)
        out[2 * n + 6] = np.tanh(self.funnel(way)[2] / self.settings.near_m)
        out[2 * n + 7] = self.tilt(joints)
        out[2 * n + 8] = math.tanh(self.tilt(joints) / self.settings.tilt_rad)
        out[2 * n + 9 : 2 * n + 11] = (self.place - self._middle)[:2] / FAR_M
        out[-1] = min(1.0, self.holding / self.settings.hold_steps)
        return out

    def ended(self, joints: Joints, imu: Imu) -> str:
        """ "stacked", or nothing."""
        return "stacked" if self.holding >= self.settings.hold_steps else ""

    def cut(self, now: int, begun: int, steps: int) -> str:
        """The time limit."""
        return "time" if steps >= self.settings.episode_steps else ""

    def cost(self, joints: Joints, imu: Imu) -> float:
        """Of being where the point now is."""
        s, away = self.settings, float(np.linalg.norm(self.funnel(self.way(joints))))
        near = s.near_weight * math.tanh(away / s.near_m)
        tilted = s.tilt_weight * min(1.0, abs(self.tilt(joints)))
        return s.time_cost + s.distance_weight * away + near + tilted

    def reward_of(self, t: int, sent: np.ndarray, cost: float, ended: bool) -> float | None:
        """At most 0; known at once."""
        return -cost - self.settings.jerk_weight * self.jerk(sent)
