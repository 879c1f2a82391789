"""Walk forward: the MDP of Haarnoja et al. 2019 ("Learning to Walk via Deep RL", arXiv 1812.11103; SAC paper 1812.05905, 7.2).

Observation: 8 motor angles, roll, pitch and their rates (no yaw: it drifts), with five past observations and actions: 112.
Action: swing and extension of each leg, scaled to [-1, 1]^8: four swings, then four extensions.
Reward: forward speed from the tracker, capped, minus penalties on running away, jerky targets, tilt, turning, front legs under
the body, effort, a fall.
Termination: a fall. Truncation: 500 steps, or no way made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from robotrl.config import Task
from robotrl.kinematics import LEGS_MIRRORED, MOTORS_MIRRORED, legs_of, motors_of
from robotrl.messages import Imu, Joints, Pose
from robotrl.observe import Mirror, Track

SENSORS, ACTIONS = 12, 8
LEG_NAMES = ("front_left", "back_left", "front_right", "back_right")
SENSOR_NAMES = (*(f"{leg}_{side}" for leg in LEG_NAMES for side in "LR"), "roll", "pitch", "roll_rate", "pitch_rate")
ACTION_NAMES = (*(f"swing_{leg}" for leg in LEG_NAMES), *(f"extension_{leg}" for leg in LEG_NAMES))
FRONT = slice(0, 4, 2)  # front left, front right
TURNING_MAX = 10.0  # rad/s that count; the IMU reads 35 at most; chosen
RATE_SCALE = 0.2  # body rates reach +-5 rad/s in a gait: brings them to the size of the angles; chosen


def window_names(length: int) -> tuple[str, ...]:
    """What each number of the policy's input is, `observe.History` of this length; "-1" a step ago."""
    sensors = tuple(f"{name}{-k or ''}" for k in range(1 + length) for name in SENSOR_NAMES)
    return sensors + tuple(f"sent_{name}{-k or ''}" for k in range(length) for name in ACTION_NAMES)


class Walk:
    """The task as functions of messages; what it remembers is the tracker's path. Leg-space actions `a` are normalised, (8,)."""

    sensors, actions = SENSORS, ACTIONS
    senses: tuple[str, ...] = ("imu", "tracker")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.patience_s = task.tracker_patience_s
        self.track = Track()
        self._scale = np.repeat(np.array([task.swing_range, task.extension_range], np.float32), 4)
        self._centre = np.repeat(np.array([0.0, task.extension_centre], np.float32), 4)
        self._backwards = -float(self._scale[0])  # a positive swing moves the front feet forwards
        self._units = list(zip(self._centre.tolist(), self._scale.tolist(), strict=True))

    def see(self, pose: Pose) -> None:
        """A pose from the tracker."""
        self.track.add(pose)

    def begin(self, episode: int) -> None:
        """Forward is from now on where the robot looks."""
        self.track.begin()

    def set_up(self, episode: int) -> tuple[float, ...]:
        """Nothing."""
        return ()

    def observation(self, joints: Joints, imu: Imu) -> np.ndarray:
        """The 12 sensor values, float32, all of order one."""
        attitude = (imu.roll, imu.pitch, imu.rates[0] * RATE_SCALE, imu.rates[1] * RATE_SCALE)
        out = np.array((*joints.position, *attitude), np.float32)
        out[:8] -= self.task.extension_centre
        return out

    def mirror(self) -> Mirror:
        """The policy's input and action with the robot's left and right exchanged: roll and its rate change sign."""
        attitude, one = np.arange(8, SENSORS), np.ones(ACTIONS, np.float32)
        once = Mirror(
            observation=np.concatenate((MOTORS_MIRRORED, attitude)),
            observation_sign=np.concatenate((one, np.array([-1, 1, -1, 1], np.float32))),
            action=np.concatenate((LEGS_MIRRORED, 4 + LEGS_MIRRORED)),
            action_sign=one,
        )
        return once.window(self.task.history)

    def legs(self, action: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Swing (4,) and extension (4,), rad, that an action asks for when the legs were last sent to `before`.

        A first-order low-pass: the legs' normalised target moves by the fraction `smoothing` of the way to `action`. Noise from
        step to step then moves no leg, and what is left of exploration is motion (Haarnoja et al. smooth by a moving average).
        """
        legs = self._centre + self._scale * (before + self.task.smoothing * (action - before))
        return legs[:4], legs[4:]

    def sent(self, swing: np.ndarray, extension: np.ndarray) -> np.ndarray:
        """The normalised target (8,) of leg positions; where the gate clamped it may lie slightly outside [-1, 1]."""
        return ((np.concatenate((swing, extension)) - self._centre) / self._scale).astype(np.float32)

    def action(self, sent: np.ndarray, before: np.ndarray) -> np.ndarray:
        """The action (8,) that would have sent the legs from `before` to `sent`: the inverse of `legs`."""
        return (before + (sent - before) / np.float32(self.task.smoothing)).astype(np.float32, copy=False)

    def target(self, action: np.ndarray, before: np.ndarray) -> tuple[float, ...]:
        """The eight motors' targets, rad, of an action when the legs were last sent to `before`."""
        swing, extension = self.legs(action, before)
        return motors_of(swing.tolist(), extension.tolist())

    def applied(self, target: Sequence[float]) -> np.ndarray:
        """The normalised target (8,) of the motors' targets, rad: `sent`, of plain numbers."""
        legs = zip(legs_of(target), self._units, strict=True)
        return np.array([(angle - centre) / scale for angle, (centre, scale) in legs], np.float32)

    def reward_of(self, t: int, sent: np.ndarray, cost: float, ended: bool) -> float | None:
        """Of the step until `t` (ns), which a fall ended or not; None while the tracker's poses do not reach there."""
        speed = self.track.speed(t, self.task.velocity_window_s)
        return None if speed is None else self.reward(speed, sent, cost, ended)

    def reward(self, speed: float, actions: np.ndarray, cost: float = 0.0, fallen: bool = False) -> float:
        """Of one step, at most `speed_cap`. m/s; `actions` (3, 8): leg targets as applied, newest first; `cost` as below."""
        assert actions.shape == (3, ACTIONS), actions.shape
        t = self.task
        forward = min(max(speed, -t.speed_cap), t.speed_cap) - t.overspeed_weight * max(0.0, speed - t.overspeed_free)
        newest = actions[0]
        bend = (newest - 2 * actions[1] + actions[2]) * self._scale  # rad
        smooth = float(np.add.reduce(np.abs(bend))) / ACTIONS  # `mean` takes three times as long
        front, fold = newest[FRONT], 0.0
        if min(front.tolist()) * self._backwards > t.fold_free:  # most often they are not so far under it
            fold = float(np.add.reduce(np.maximum(0.0, front * self._backwards - t.fold_free))) / len(front)
        return forward - t.acceleration_weight * smooth - t.fold_weight * fold - cost - t.fall_penalty * fallen

    def cost(self, joints: Joints, imu: Imu) -> float:
        """What this moment takes off the reward: tilt, turning and effort. What is no number costs nothing here."""
        t = self.task
        # max(0.0, nan) is 0: an attitude that is no number is a fall, and has its own price
        lean = min(max(0.0, self.tilt(imu) - t.tilt_free), math.pi)
        turning = min(max(0.0, abs(imu.rates[2])), TURNING_MAX)
        return t.tilt_weight * lean + t.turning_weight * turning + t.effort_weight * self.effort(joints)

    @staticmethod
    def effort(joints: Joints) -> float:
        """Mean squared torque of the motors, Nm^2: what heats them. 0 where a torque was never read."""
        return max(0.0, math.fsum(nm * nm for nm in joints.torque) / len(joints.torque))  # max(0, nan) is 0

    @staticmethod
    def tilt(imu: Imu) -> float:
        """The larger of roll and pitch, rad, without sign; nan if either is."""
        roll, pitch = abs(imu.roll), abs(imu.pitch)
        return roll if roll >= pitch or roll != roll else pitch

    def terminated(self, imu: Imu) -> bool:
        """A fall: rolled or pitched beyond `fall_tilt`; an attitude that is no number counts as one."""
        return not self.tilt(imu) <= self.task.fall_tilt  # written so that a comparison with nan, which is false, means fallen

    def ended(self, joints: Joints, imu: Imu) -> str:
        """ "fall", or nothing."""
        return "fall" if self.terminated(imu) else ""

    def cut(self, now: int, begun: int, steps: int) -> str:
        """Why the episode is cut off here, though the world would go on: values are bootstrapped across it. Empty: it is not."""
        newest, seen = self.track.newest(), self.track.seen()
        if newest is None or seen is None or now - seen > self.task.tracker_patience_s * 1e9:
            return "tracker lost"
        if steps >= self.task.episode_steps:
            return "time"
        return "stuck" if self._stuck(newest, begun) else ""

    def _stuck(self, newest: int, begun: int) -> bool:
        """No way made for `stuck_s`: on folded legs a robot may lie for good, and teaches no more by it."""
        if newest - begun < self.task.stuck_s * 1e9:
            return False
        progress = self.track.speed(newest, self.task.stuck_s)
        return progress is not None and progress * self.task.stuck_s < self.task.stuck_m

    def speed(self, begun: int, until: int) -> float:
        """Net forward speed, m/s, as far as poses reach."""
        until = min(until, self.track.newest() or begun)
        a, b = self.track.at(begun), self.track.at(until)
        seconds = (until - begun) * 1e-9
        return (b - a) / seconds if a is not None and b is not None and seconds > 0 else 0.0
