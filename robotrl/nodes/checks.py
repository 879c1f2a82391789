"""What a robot still lacks before it may be enabled, in the guard's eyes, and what its servos say of their heat. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from robotrl import messages as m
from robotrl.config import Robot, Run

X_TICK_RAD = math.tau / 4096  # of a Dynamixel X's encoder
TURNED_RAD = 0.2  # beyond what the links allow: for a homing that is a little off; chosen


def lacking(run: Run, joints: m.Joints | None, drive: m.Drive | None, imu: m.Imu | None, heard: Collection[str]) -> str:
    """What keeps the robot in CHECK; '' when nothing does. It only matters before READY. `heard`: streams and sources."""
    if drive is None or joints is None:
        return "waiting for the servo driver"
    if any(joints.missed):
        silent = [name for name, n in zip(motors(run.robot), joints.missed, strict=True) if n]
        return f"motor {', '.join(silent)} does not answer: look at its cable and power"
    if any(joints.fault):
        return f"a servo reports fault {max(joints.fault)}: read its code in the manual"
    if note := astray(run.robot, joints.position):
        return note
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


def astray(robot: Robot, position: Sequence[float]) -> str:
    """Which motor must not get torque before a person has turned it by hand, by all angles (rad); "" for none."""
    if name := turned(robot, position):
        return f"motor {name} reads a turn off: put the leg amid its range by hand, then switch the motors' power off and on"
    if name := beyond_the_turn(robot, position):
        return f"motor {name} was turned past the end of its encoder's turn: turn it back by hand"
    return ""


def turned(robot: Robot, position: Sequence[float]) -> str:
    """The two motors of the first leg of which one reads a turn off, by their angles (rad); "" for none.

    A moteus counts its turns from where it was switched on: within half a turn of its magnet's zero, whichever turn it was
    homed in. Led into its range from there, a leg goes a turn too far. A limp leg may have turned round as a whole, and each of
    its motors be anywhere; but the sum of the two is within a turn, for its links cannot pass each other (`legged_limits`).
    """
    if robot.kind != "minitaur":  # a bus servo's position is within one turn
        return ""
    for i in range(0, len(position), 2):
        if not -TURNED_RAD <= position[i] + position[i + 1] <= math.tau + TURNED_RAD:
            return f"{motors(robot)[i]} or {motors(robot)[i + 1]}"
    return ""


def beyond_the_turn(robot: Robot, position: Sequence[float]) -> str:
    """The first joint whose limp servo has counted on past its one turn, by their angles (rad); "" for none.

    A Dynamixel without torque counts turns; with torque, in position mode, it is within the one turn again and goes for its goal
    the long way round (e-Manual, "Present Position(132)").
    """
    servos = robot.servos
    if servos.protocol != "dynamixel":
        return ""
    gears = servos.gear or (1.0,) * len(servos.ids)
    for name, at, sign, gear, offset in zip(motors(robot), position, servos.sign, gears, servos.offset, strict=True):
        if not -X_TICK_RAD / 2 < sign * at * gear + offset < math.tau - X_TICK_RAD / 2:
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
    return math.nan if any(map(math.isnan, temps)) else max(temps, default=-math.inf)
