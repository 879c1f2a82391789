"""What only several messages together show: a servo that misses often, a joint that is blocked, a sensor that lies.

`Sentry` hears each message once and hands it on; `fields` are those of `safety.causes.Inputs` that come of it. Times in ns.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import Any

from robotrl import messages as m
from robotrl.config import Robot, Run
from robotrl.nodes.motion import Motion
from robotrl.robot import learnable
from robotrl.safety.causes import Cause, catalogue
from robotrl.safety.fitting import changed, for_arms, for_unwatched, without
from robotrl.serialarm import ARMS

STARTING_NS = 200_000_000  # from the first target on, for a servo to come into position mode
POSITION_MODE = 10
TOLD = (1, 11)  # fault and watchdog have causes of their own
WINDOW = 50  # cycles: a second at the rate of the servo loop
WEIGHTLESS_M_S2 = 0.3 * 9.81  # less than this an IMU on its way down feels (row 58)
JUMP_M, JUMP_M_S = 0.15, 4.0  # a tracker's noise, and faster than any Minitaur runs or falls; chosen
GAP_S = 0.5  # poses farther apart than this are not compared
ATTITUDES = 64  # of the IMU that are kept: 0.3 s at 200 Hz, a pose is younger
RANGE_BIT = 1
SAME_MAX = 100  # readings: for ever
UNTIMELY, BLIND = ("late", "size"), ("black", "white", "flat")  # what `Image.fault` says (rows 18, 19)

Up = tuple[float, float, float]
STUCK = "it does not come home: press disable, and it lowers itself; free it, enable, reset"  # of an arm, which has no feet


def causes(run: Run) -> tuple[Cause, ...]:
    """What can stop this run's robot."""
    robot, limits = run.robot, run.robot.limits
    rows = catalogue(temp_c=limits.temp_c, tilt_rad=limits.tilt_rad, tilt_s=limits.tilt_s, falls=limits.falls)
    absent = {sense for sense in ("imu", "tracker") if sense not in robot.senses}
    absent |= set() if looked_through(run) else {"camera"}
    absent |= set() if robot.servos.protocol == "moteus" or robot.kind in ARMS else {"noise"}
    absent |= set() if learnable(robot, run.task.name) else {"learner"}
    absent |= set() if robot.kind in ARMS else {"arm"}
    absent |= set() if robot.workspace.low else {"workspace"}
    rows = for_unwatched(rows) if robot.servos.protocol == "feetech" else rows
    return without(for_arms(changed(rows, "reset_failed", note=STUCK)) if robot.kind in ARMS else rows, absent)


def looked_through(run: Run) -> set[str]:
    """Names of the cameras without which the program is blind: that of a tracker by sight, and those of a policy that sees."""
    return {*run.task.pixels.cameras, *([run.robot.tracker.camera] if run.robot.tracker.camera else [])}


class Evidence:
    """One robot's. Nothing heard is no evidence: silence is judged by the ages of streams."""

    def __init__(self, robot: Robot) -> None:
        n = len(robot.servos.ids)
        self._motion = Motion(robot)
        self._frozen = False  # by the driver's word
        self._noisy = robot.servos.protocol == "moteus"  # a bus servo says whole ticks, and the same for ever where it stands
        self._readings: list[tuple[float, float, float]] = []  # of each servo: angle, speed, torque
        self._target: Sequence[float] = ()
        self._open_since: int | None = None  # torque on, by the driver's word
        self._wrong_mode = False
        self._misses: deque[tuple[int, ...]] = deque(maxlen=WINDOW)  # in each cycle, who missed
        self._clamps: deque[bool] = deque(maxlen=WINDOW)
        self._same = [0] * n
        self._pose: m.Pose | None = None
        self._pose_same = 0
        self._jump = False
        self._sights: dict[str, str] = {}  # what is wrong with the pictures of each camera that is looked through
        self._attitudes: deque[tuple[int, Up]] = deque(maxlen=ATTITUDES)
        self._gap = 0.0
        self._weightless: tuple[int, int] | None = None  # since when, and until

    def hear(self, message: m.Message) -> None:
        """Take one message; those that prove nothing are passed over."""
        match message:
            case m.Joints():
                self._take_joints(message)
            case m.Applied():
                self._target = message.target if message.writer != "off" else ()
                if message.writer == "policy":
                    self._clamps.append(any([bits & RANGE_BIT for bits in message.clamped]))
            case m.Drive():
                self._frozen = message.frozen
                if not message.gate_open:
                    self._open_since = None
                elif self._open_since is None:
                    self._open_since = message.t
            case m.Imu():
                self._attitudes.append((message.t, up(message.roll, message.pitch)))
                self._take_weight(message)
            case m.Pose():
                self._take_pose(message)
            case m.Image():
                self._sights[message.camera] = message.fault

    @property
    def unplugged(self) -> bool:
        """A camera's process says that its device is gone."""
        return "unplugged" in self._sights.values()

    def fields(self) -> dict[str, Any]:
        """For `Inputs`; what holds for one step only is forgotten after it."""
        jump, self._jump = self._jump, False
        missed, sights = list(chain.from_iterable(self._misses)), self._sights.values()
        return {
            "missed_share": max(map(missed.count, set(missed))) / WINDOW if missed else 0.0,
            "wrong_mode": self._wrong_mode,
            "same_in_row": max(self._same) if self._noisy else SAME_MAX * self._frozen,
            **self._motion.fields(),
            "weightless_s": (self._weightless[1] - self._weightless[0]) * 1e-9 if self._weightless is not None else 0.0,
            "pose_same_in_row": self._pose_same,
            "pose_jump": jump,
            "camera_frozen": "frozen" in sights,
            "camera_late": any([sight in UNTIMELY for sight in sights]),
            "camera_blind": any([sight in BLIND for sight in sights]),
            "attitude_gap_rad": self._gap,
            "clamped_share": sum(self._clamps) / WINDOW,
        }

    def _take_joints(self, joints: m.Joints) -> None:
        self._misses.append(tuple([i for i, missed in enumerate(joints.missed) if missed]) if any(joints.missed) else ())
        driven = self._open_since is not None and joints.t - self._open_since > STARTING_NS
        self._wrong_mode = driven and any(
            [
                mode != POSITION_MODE and mode not in TOLD and not missed
                for mode, missed in zip(joints.mode, joints.missed, strict=True)
            ]
        )
        self._motion.take(joints, self._target if driven and self._target else joints.position, driven)
        before, self._readings = self._readings, list(zip(joints.position, joints.velocity, joints.torque, strict=True))
        for i, (reading, missed) in enumerate(zip(self._readings, joints.missed, strict=True)):
            if not missed:  # an old value shows nothing new
                self._same[i] = self._same[i] + 1 if driven and before and before[i] == reading else 0

    def _take_weight(self, imu: m.Imu) -> None:
        if imu.stale:
            return
        if math.hypot(*imu.accel) < WEIGHTLESS_M_S2:
            self._weightless = (self._weightless[0] if self._weightless is not None else imu.t, imu.t)
        else:
            self._weightless = None

    def _take_pose(self, pose: m.Pose) -> None:
        before, self._pose = self._pose, pose
        seen = self._attitude_at(pose.t)
        if seen is not None:
            self._gap = angle(seen, up(pose.rpy[0], pose.rpy[1]))
        if before is None:
            return
        same = (before.position, before.rpy) == (pose.position, pose.rpy)
        self._pose_same = self._pose_same + 1 if same else 0
        passed = (pose.t - before.t) * 1e-9
        if 0 < passed < GAP_S and math.dist(before.position, pose.position) > JUMP_M + JUMP_M_S * passed:
            self._jump = True

    def _attitude_at(self, t: int) -> Up | None:
        """Up as the IMU had it when the picture was taken; None where that is too long ago."""
        return next((known for at, known in reversed(self._attitudes) if at <= t), None)


def up(roll: float, pitch: float) -> Up:
    """The world's up in the torso's frame: the part of an attitude with no heading and no singular pitch; nan of no angles."""
    if not math.isfinite(roll + pitch):
        return math.nan, math.nan, math.nan
    return -math.sin(pitch), math.sin(roll) * math.cos(pitch), math.cos(roll) * math.cos(pitch)


def angle(a: Up, b: Up) -> float:
    """Between two unit vectors, rad."""
    return math.acos(max(-1.0, min(1.0, a[0] * b[0] + a[1] * b[1] + a[2] * b[2])))
