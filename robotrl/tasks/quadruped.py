"""What the tasks of D'Kitty share: twelve joints as an action, what the robot feels, where the tracker saw it.

Joints: hip roll, hip pitch, knee of front right, front left, back left, back right (hardware facts 2.1).
Action: a target for each joint, [-1, 1]^12 of its range; targets move `smoothing` of the way to it in a step.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from robotrl import config
from robotrl.messages import Imu, Joints, Pose
from robotrl.observe import Mirror

JOINTS = 12
SPEED_SCALE, RATE_SCALE = 0.2, 0.2  # s/rad: bring speeds to the size of the angles; chosen
KEPT_S = 2.0  # of the tracker's path; a reward waits for `tracker_patience_s` at most
HEADINGS = 12  # poses over which the heading at the beginning is averaged, against the tracker's noise
MIRRORED = np.array([3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8])  # left and right exchanged
MIRRORED_SIGN = np.tile(np.array([-1, 1, 1], np.float32), 4)

Place = tuple[float, float, float]  # x, y, yaw


class Path:
    """Where the torso was: x, y, yaw from stamped poses that arrive late. Between two the way is straight."""

    def __init__(self) -> None:
        self._t: list[int] = []
        self._places: list[Place] = []

    def add(self, pose: Pose) -> None:
        """Take a pose; one that is not newer than the last, or not finite, is refused."""
        if not all(map(math.isfinite, (*pose.position, *pose.rpy))) or (self._t and pose.t <= self._t[-1]):
            return
        self._t.append(pose.t)
        self._places.append((pose.position[0], pose.position[1], pose.rpy[2]))
        if self._t[-1] - self._t[0] > 2 * KEPT_S * 1e9:
            old = bisect_left(self._t, self._t[-1] - int(KEPT_S * 1e9))
            del self._t[:old], self._places[:old]

    def newest(self) -> tuple[int, Place] | None:
        """The newest pose and when it was taken, ns."""
        return (self._t[-1], self._places[-1]) if self._t else None

    def start(self) -> Place:
        """Where it is now, its heading averaged over the newest poses; the origin while nothing was seen."""
        recent = self._places[-HEADINGS:]
        if not recent:
            return (0.0, 0.0, 0.0)
        yaw = math.atan2(sum(math.sin(p[2]) for p in recent), sum(math.cos(p[2]) for p in recent))
        return (recent[-1][0], recent[-1][1], yaw)

    def at(self, t: int) -> Place | None:
        """Where it was at time `t` (ns); None while poses do not reach there yet."""
        if not self._t or t > self._t[-1]:
            return None
        i = bisect_left(self._t, t)
        if i == 0:
            return self._places[0]
        a, b = self._places[i - 1], self._places[i]
        part = (t - self._t[i - 1]) / (self._t[i] - self._t[i - 1])
        turn = (b[2] - a[2] + math.pi) % (2 * math.pi) - math.pi
        return (a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1]), a[2] + part * turn)


def upright(imu: Imu) -> float:
    """Cosine of the tilt: the torso's z against the world's. -1 of an attitude that is no number: it counts as fallen."""
    cosine = math.cos(imu.roll) * math.cos(imu.pitch) if math.isfinite(imu.roll + imu.pitch) else -1.0
    return cosine


class Quadruped:
    """One of its tasks adds what it aims at. Actions `a` and targets `sent` are normalised, (12,)."""

    actions = JOINTS
    senses: tuple[str, ...] = ("imu", "tracker")
    body = 2 * JOINTS + 4  # numbers of the robot itself in an observation

    def __init__(self, task: config.Task) -> None:
        self.task = task
        self.patience_s = task.tracker_patience_s
        self.path = Path()
        legs = task.legs
        self._centre = np.tile(np.array([0.0, legs.pitch_centre, legs.knee_centre], np.float32), 4)
        self._half = np.tile(np.array([legs.roll_range, legs.pitch_range, legs.knee_range], np.float32), 4)

    def set_up(self, episode: int) -> tuple[float, ...]:
        """Nothing."""
        return ()

    def see(self, pose: Pose) -> None:
        """A pose from the tracker."""
        self.path.add(pose)

    def felt(self, joints: Joints, imu: Imu) -> np.ndarray:
        """(28,) float32: angles off the middle of their ranges, speeds, roll, pitch and their rates."""
        out = np.empty(self.body, np.float32)
        out[:JOINTS] = joints.position
        out[:JOINTS] -= self._centre
        out[JOINTS : 2 * JOINTS] = np.multiply(joints.velocity, SPEED_SCALE)
        out[2 * JOINTS :] = (imu.roll, imu.pitch, imu.rates[0] * RATE_SCALE, imu.rates[1] * RATE_SCALE)
        return out

    def mirrored(self, aims: Sequence[int]) -> Mirror:
        """The window's mirror; `aims`: 1 or -1 for each number that a task adds to `felt`."""
        joints = np.concatenate((MIRRORED, JOINTS + MIRRORED))
        signs = (*MIRRORED_SIGN, *MIRRORED_SIGN, -1, 1, -1, 1, *aims)
        once = Mirror(
            observation=np.concatenate((joints, np.arange(2 * JOINTS, self.body + len(aims)))),
            observation_sign=np.array(signs, np.float32), action=MIRRORED, action_sign=MIRRORED_SIGN,
        )  # fmt: skip
        return once.window(self.task.history)

    def target(self, action: np.ndarray, before: np.ndarray) -> tuple[float, ...]:
        """The twelve joints' targets, rad."""
        led = before + self.task.legs.smoothing * (action - before)
        return tuple((self._centre + self._half * led).tolist())

    def applied(self, target: Sequence[float]) -> np.ndarray:
        """The normalised target (12,)."""
        return ((np.asarray(target) - self._centre) / self._half).astype(np.float32)

    def action(self, sent: np.ndarray, before: np.ndarray) -> np.ndarray:
        """The inverse of `target`."""
        return (before + (sent - before) / np.float32(self.task.legs.smoothing)).astype(np.float32)

    def lost(self, now: int) -> bool:
        """The tracker has not seen it for too long."""
        newest = self.path.newest()
        return newest is None or now - newest[0] > self.task.tracker_patience_s * 1e9
