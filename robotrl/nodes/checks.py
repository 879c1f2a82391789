"""What a robot still lacks before it may be enabled, in the guard's eyes, and what its servos say of their heat. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection

from robotrl import messages as m
from robotrl.config import Robot, Run


def lacking(run: Run, joints: m.Joints | None, drive: m.Drive | None, imu: m.Imu | None, heard: Collection[str]) -> str:
    """What keeps the robot in CHECK; '' when nothing does. It only matters before READY. `heard`: streams and sources."""
    if drive is None or joints is None:
        return "waiting for the servo driver"
    if any(joints.missed):
        names = run.robot.servos.joints or [str(i + 1) for i in range(len(joints.missed))]
        silent = [name for name, n in zip(names, joints.missed, strict=True) if n]
        return f"motor {', '.join(silent)} does not answer: look at its cable and power"
    if any(joints.fault):
        return f"a servo reports fault {max(joints.fault)}: read its code in the manual"
    if drive.unrescued:
        return "waiting for the rescue: nobody would stop the motors should the servo driver die"
    if imu is None and "imu" in run.robot.senses:
        return "waiting for the IMU"
    if "Pose" not in heard and "tracker" in run.robot.senses:
        return "waiting for the tracker"
    if "policy" not in heard or "reset" not in heard:
        return "waiting for policy and reset"
    return ""


def hottest(joints: m.Joints, robot: Robot) -> float:
    """deg C, as a winding; a board counts as that much hotter as its limit is lower, so that the margins are the same.

    nan where a servo that answers says no number. One that a driver has not heard yet is missed, and no more.
    """
    lead = robot.limits.temp_c - robot.servos.board_c
    boards = [c + lead for c in joints.board_c]
    said = (*zip(joints.temp_c, joints.missed, strict=True), *zip(boards, joints.missed, strict=False))
    temps = [t for t, missed in said if t == t or not missed]
    return math.nan if any([t != t for t in temps]) else max(temps, default=-math.inf)
