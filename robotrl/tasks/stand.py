"""Stand up straight: ROBEL's D'Kitty stand (Ahn et al. 2019, arXiv 1909.11639; google-research/robel, robel/dkitty/stand.py).

Observation: what the robot feels (`quadruped.felt`), and the way back to where it began, in its own axes: 30; past ones and the
targets in force. The pose is always the same, so its error is in the angles.
Action: a target for each of the twelve joints.
Reward, ROBEL's sum times `scale`: uprightness, minus the joints' mean error and the way from the start, bonuses, a fall.
Termination: on its side (uprightness below 0). Truncation: 8 s, a lost tracker.
Success, as ROBEL counts it: mean error below 15 degrees and uprightness above 0.9 at the end.
"""

from __future__ import annotations

import math

import numpy as np

from robotrl import config
from robotrl.messages import Imu, Joints
from robotrl.observe import Mirror
from robotrl.tasks.quadruped import Place, Quadruped, upright

AIMS = (1, -1)
VERY_UPRIGHT = 0.9


class Stand(Quadruped):
    sensors = Quadruped.body + len(AIMS)

    def __init__(self, task: config.Task) -> None:
        super().__init__(task)
        self.settings = task.stand
        self._pose = np.array(task.stand.pose)
        self._from: Place = (0.0, 0.0, 0.0)
        self._good = False

    def mirror(self) -> Mirror:
        """Left and right exchanged: of a pose that is itself symmetric."""
        return self.mirrored(AIMS)

    def begin(self, episode: int) -> None:
        """The middle is where it stands now."""
        self._from, self._good = self.path.start(), False

    def error(self, joints: Joints) -> float:
        """The joints' mean distance from the pose, rad."""
        return float(np.abs(np.subtract(joints.position, self._pose)).mean())

    def observation(self, joints: Joints, imu: Imu) -> np.ndarray:
        """(30,) float32, of order one."""
        newest = self.path.newest()
        x, y, yaw = newest[1] if newest is not None else self._from
        dx, dy, c, s = self._from[0] - x, self._from[1] - y, math.cos(yaw), math.sin(yaw)
        return np.concatenate((self.felt(joints, imu), np.array((c * dx + s * dy, c * dy - s * dx), np.float32)))

    def ended(self, joints: Joints, imu: Imu) -> str:
        """ "fall", or nothing."""
        self._good = self.error(joints) < self.settings.close_rad / 2 and upright(imu) > VERY_UPRIGHT
        return "" if upright(imu) >= self.settings.upright else "fall"

    def cut(self, now: int, begun: int, steps: int) -> str:
        """A lost tracker, the time limit."""
        if self.lost(now):
            return "tracker lost"
        return "time" if steps >= self.settings.episode_steps else ""

    def cost(self, joints: Joints, imu: Imu) -> float:
        """Minus all of the reward but for the way from the start."""
        s, up, error = self.settings, upright(imu), self.error(joints)
        standing = s.upright_weight * (up - s.upright) / (1 - s.upright) - s.fall_penalty * (up < s.upright)
        bonus = s.small_bonus * up * (error < s.close_rad)
        bonus += s.big_bonus * (error < s.close_rad / 2 and up > VERY_UPRIGHT)
        return s.pose_weight * error - standing - bonus

    def reward_of(self, t: int, sent: np.ndarray, cost: float, ended: bool) -> float | None:
        """Of the step until `t` (ns); None while the tracker's poses do not reach there."""
        at = self.path.at(t)
        if at is None:
            return None
        away = math.hypot(at[0] - self._from[0], at[1] - self._from[1])
        return self.settings.scale * (-cost - self.settings.centre_weight * away)

    def succeeded(self, t: int) -> bool | None:
        """In its pose and upright when it was looked at last."""
        return self._good

    def speed(self, begun: int, until: int) -> float:
        """It stays where it is."""
        return 0.0
