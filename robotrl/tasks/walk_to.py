"""Walk to a place: ROBEL's D'Kitty walk (Ahn et al. 2019, arXiv 1909.11639; google-research/robel, robel/dkitty/walk.py).

Observation: what the robot feels (`quadruped.felt`), the way to the place in its own axes (plain, and with its last metre spread
out), cosine and sine of how far it looks past it: 34; past ones and the targets in force.
Action: a target for each of the twelve joints.
Reward, ROBEL's sum times `scale`: uprightness, minus distance, heading, bonuses for near, for facing it, for both, a fall.
Termination: a fall (uprightness below 0.9). Truncation: 16 s, a lost tracker.
Success, as ROBEL counts it: near (0.5 m) and facing it (cosine above 0.9) at the end.
"""

from __future__ import annotations

import math

import numpy as np

from robotrl import config
from robotrl.messages import Imu, Joints
from robotrl.observe import Mirror
from robotrl.tasks.quadruped import Place, Quadruped, upright

AIMS = (1, -1, 1, -1, 1, -1)  # in the mirror: ahead stays, to the left changes


class WalkTo(Quadruped):
    """The place of an episode is drawn from seed and episode alone, relative to where the robot stands and looks then."""

    sensors = Quadruped.body + len(AIMS)

    def __init__(self, task: config.Task, seed: int) -> None:
        super().__init__(task)
        self.settings, self._seed = task.walk_to, seed
        self.place = (2.0, 0.0)  # m, the tracker's frame
        self._speed_from: Place = (0.0, 0.0, 0.0)

    def mirror(self) -> Mirror:
        """Left and right exchanged."""
        return self.mirrored(AIMS)

    def begin(self, episode: int) -> None:
        """Draw this episode's place."""
        drawn = np.random.default_rng([self._seed, 5, episode]).uniform(self.settings.near, self.settings.far)
        x, y, yaw = self._speed_from = self.path.start()
        angle = yaw + float(drawn[1])
        self.place = (x + float(drawn[0]) * math.cos(angle), y + float(drawn[0]) * math.sin(angle))

    def aim(self, at: Place) -> tuple[float, float, float]:
        """Distance of the place (m), and how far to the left of where the robot looks it lies: cosine and sine."""
        dx, dy = self.place[0] - at[0], self.place[1] - at[1]
        off = math.atan2(dy, dx) - at[2]
        return math.hypot(dx, dy), math.cos(off), math.sin(off)

    def observation(self, joints: Joints, imu: Imu) -> np.ndarray:
        """(34,) float32, of order one. What the tracker says is the newest it has said."""
        newest = self.path.newest()
        away, ahead, left = self.aim(newest[1]) if newest is not None else (0.0, 1.0, 0.0)
        near = math.tanh(away / self.settings.there_m)
        aims = np.array((away * ahead, away * left, near * ahead, near * left, ahead, left), np.float32)
        return np.concatenate((self.felt(joints, imu), aims))

    def ended(self, joints: Joints, imu: Imu) -> str:
        """ "fall", or nothing."""
        return "" if upright(imu) >= self.settings.upright else "fall"

    def cut(self, now: int, begun: int, steps: int) -> str:
        """A lost tracker, the time limit."""
        if self.lost(now):
            return "tracker lost"
        return "time" if steps >= self.settings.episode_steps else ""

    def cost(self, joints: Joints, imu: Imu) -> float:
        """What of the reward the IMU alone decides, taken off: uprightness and a fall."""
        s, up = self.settings, upright(imu)
        standing = s.upright_weight * (up - s.upright) / (1 - s.upright)
        return s.fall_penalty * (up < s.upright) - standing

    def reward_of(self, t: int, sent: np.ndarray, cost: float, ended: bool) -> float | None:
        """Of the step until `t` (ns); None while the tracker's poses do not reach there."""
        at = self.path.at(t)
        return None if at is None else self.reward(*self.aim(at)[:2], cost)

    def reward(self, away: float, facing: float, cost: float) -> float:
        """ROBEL's sum at `away` m from the place and `facing` the cosine of the angle past it."""
        s = self.settings
        near, faces = away < s.there_m, facing > s.facing
        heading = s.heading_weight * (facing - s.facing) / (1 - s.facing)
        bonus = s.small_bonus * (near + faces) + s.big_bonus * (near and faces)
        return s.scale * (heading + bonus - s.distance_weight * away - cost)

    def succeeded(self, t: int) -> bool | None:
        """Near it and facing it at `t`; None where that is not known."""
        at = self.path.at(t)
        if at is None:
            return None
        away, facing, _ = self.aim(at)
        return away < self.settings.there_m and facing > self.settings.facing

    def speed(self, begun: int, until: int) -> float:
        """Net speed towards the place, m/s, as far as poses reach."""
        newest = self.path.newest()
        if newest is None or min(until, newest[0]) <= begun:
            return 0.0
        until = min(until, newest[0])
        at = self.path.at(until)
        assert at is not None
        return (self.aim(self._speed_from)[0] - self.aim(at)[0]) / ((until - begun) * 1e-9)
