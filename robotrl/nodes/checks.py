"""What a robot still lacks before it may be enabled, in the guard's eyes, and what its servos say of their heat. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from robotrl import messages as m
from robotrl.config import Robot, Run

TURNED = 0.75  # of what a joint's range leaves of a turn: chosen


def lacking(run: Run, joints: m.Joints | None, drive: m.Drive | None, imu: m.Imu | None, heard: Collection[str]) -> str:
    """What keeps the robot in CHECK; '' when nothing does. It only matters before READY. `heard`: streams and sources."""
    if drive is None or joints is None:
        return "waiting for the servo driver"
    if any(joints.missed):
        silent = [name for name, n in zip(motors(run.robot), joints.missed, strict=True) if n]
        return f"motor {', '.join(silent)} does not answer: look at its cable and power"
    if any(joints.fault):
        return f"a servo reports fault {max(joints.fault)}: read its code in the manual"
    if name := turned(run.robot, joints.position):
        return f"motor {name} reads a turn off: put it amid its range by hand, then switch the motors' power off and on"
    if drive.unrescued:
        return "waiting for the rescue: nobody would stop the motors should the servo driver die"
    if imu is None and "imu" in run.robot.senses:
        return "waiting for the IMU"
    if "Pose" not in heard and "tracker" in run.robot.senses:
        return "waiting for the tracker"
    if "policy" not in heard or "reset" not in heard:
        return "waiting for policy and reset"
    return ""


def motors(robot: Robot) -> Sequence[str]:
    """What a person calls each motor: its joint, or its number."""
    return robot.servos.joints or [str(i + 1) for i in range(len(robot.servos.ids))]


def turned(robot: Robot, position: Sequence[float]) -> str:
    """The first moteus that reads a turn off by its joint (rad); "" for none.

    It counts its turns from where it was switched on: within half a turn of its magnet's zero, whichever turn it was homed in.
    Led into its range from there, a leg goes a turn too far. What is in its range and reads a turn off is outside by what the
    range leaves of a turn, at least; a limp leg hangs half as far outside.
    """
    if robot.servos.protocol != "moteus":  # a bus servo's position is within one turn
        return ""
    for name, q, low, high in zip(motors(robot), position, robot.lowest, robot.highest, strict=True):
        left = math.tau - (high - low)
        if left > 0 and max(low - q, q - high) > TURNED * left:
            return name
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
