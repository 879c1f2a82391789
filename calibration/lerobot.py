"""An SO-101 that LeRobot has calibrated: its JSON in, our record and what was taken from it out.

LeRobot writes a homing offset into each servo, so that the middle of the joint's travel reads 2047, and the ends of the travel as
position limits; the file repeats both. Our zeros are the model's (hardware facts 3.1), not the middles: the wrist's and the jaw's
lie elsewhere. What is in the servos stays there: a record made so is worth nothing once their homing offsets are changed.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from robotrl import config
from robotrl.calibration import store
from robotrl.calibration.store import Calibration, CalibrationError
from robotrl.clock import Clock
from robotrl.drivers.asking import Asking
from robotrl.drivers.feetech_sts import STS3215, TICK
from robotrl.drivers.identity import silent
from robotrl.drivers.port import Port

# LeRobot's names, ours in the robot file's order, and the middle of each joint's travel in degrees (hardware facts 3.1).
JOINTS = (
    ("shoulder_pan", 0.0), ("shoulder_lift", 0.0), ("elbow_flex", 0.0), ("wrist_flex", 0.0), ("wrist_roll", 3.0),
    ("gripper", 45.0),
)  # fmt: skip
FULL_TURN = ("wrist_roll",)  # LeRobot lets it turn all the way: its range is the encoder's, its middle where it was homed
FIELDS = ("id", "drive_mode", "homing_offset", "range_min", "range_max")
LAST = 4095
INSIDE_RAD = 0.035  # of its ends, as the robot file's own limits are
# By which a recorded range may be narrower and wider than the way between the model's stops. Of 18 SO-101 followers whose ranges
# are public, joints led from stop to stop are 2 degrees narrower (elbow) to 30 wider (gripper; pan 20, wrist 18, lift 15).
NARROWER, WIDER = math.radians(5.0), math.radians(35.0)


def taken(path: Path, robot: config.Robot) -> tuple[Calibration, list[str]]:
    """The record for `robot`, and a line of what was taken for each joint. CalibrationError naming file and joint."""
    if robot.kind != "so101":
        raise CalibrationError(f"{path}: LeRobot's SO-101 file is for a robot of kind so101, not {robot.kind}; name its run file")
    data = _read(path)
    offset: list[float] = []
    says: list[str] = []
    lows, highs = list(robot.lowest), list(robot.highest)
    for i, (name, middle) in enumerate(JOINTS):
        joint = _joint(path, data, name)
        if joint["id"] != robot.servos.ids[i]:
            raise CalibrationError(
                f"{path}: {name} is servo {joint['id']}, the robot file says {robot.servos.ids[i]}; correct it"
            )
        low, high = joint["range_min"], joint["range_max"]
        _swept(path, name, (high - low) * TICK, robot, i)
        centre = 2047.0 if name in FULL_TURN and (low, high) == (0, LAST) else (low + high) / 2
        sign = robot.servos.sign[i]
        offset.append(centre * TICK - sign * math.radians(middle))
        ends = sorted(sign * (tick * TICK - offset[i]) for tick in (low, high))
        says.append(
            f"{name} (servo {joint['id']}): zero at tick {offset[i] / TICK:.0f} from the range {low} to {high},"
            f" which is {ends[0]:.2f} to {ends[1]:.2f} rad; homing offset {joint['homing_offset']} stays in the servo"
        )
        if robot.lowest[i] < ends[0] - TICK or robot.highest[i] > ends[1] + TICK:
            ours = f"{robot.lowest[i]:.2f} to {robot.highest[i]:.2f}"
            says.append(f"  the robot file lets it go {ours} rad: narrow joint_min and joint_max to the range, or it is refused")
            lows[i], highs[i] = max(lows[i], ends[0] + INSIDE_RAD), min(highs[i], ends[1] - INSIDE_RAD)
    if (tuple(lows), tuple(highs)) != (robot.lowest, robot.highest):
        says.append("for [limits] of the robot file, a little inside these ranges:")
        says += [f"joint_{end} = [{', '.join(f'{x:.2f}' for x in xs)}]" for end, xs in (("min", lows), ("max", highs))]
    n = len(JOINTS)
    record = Calibration(
        schema=store.SCHEMA, robot=robot.name, kind=robot.kind, serial=robot.serial, made=store.today(), ids=robot.servos.ids,
        sign=robot.servos.sign, offset=tuple(offset), pose=tuple(math.radians(m) for _, m in JOINTS), spread=(0.0,) * n,
    )  # fmt: skip
    return record, says


def _swept(path: Path, name: str, swept: float, robot: config.Robot, i: int) -> None:
    """CalibrationError where a range cannot be the way from stop to stop: its middle is then none of the joint's, and its zero is
    wrong by half of what lacks. A joint that turns all the way has no ends to be led to, nor one whose stops nobody knows."""
    low, high = robot.limits.stop_min, robot.limits.stop_max
    whole = high[i] - low[i] if low and high else math.nan
    if (name in FULL_TURN and swept == LAST * TICK) or not math.isfinite(whole) or -NARROWER <= swept - whole <= WIDER:
        return
    raise CalibrationError(
        f"{path}: {name}'s range is {math.degrees(swept):.0f} degrees, its stops are {math.degrees(whole):.0f} apart"
        " (robot file): calibrate again in LeRobot, each joint from stop to stop, or home it here instead"
    )


def still_held(path: Path, robot: config.Robot, port: Port, clock: Clock) -> None:
    """CalibrationError naming the first servo that holds another homing offset than the file: each zero taken from it would be
    wrong by the difference. DeviceError where a servo does not say. Nothing is written."""
    data, asking = _read(path), Asking(port, clock, "feetech")
    for servo, (name, _) in zip(robot.servos.ids, JOINTS, strict=True):
        said, ours = asking.read(servo, (STS3215.HOMING_OFFSET,)), _joint(path, data, name)["homing_offset"]
        if not said:
            raise silent(port, servo)
        if said[STS3215.HOMING_OFFSET] != ours:
            raise CalibrationError(
                f"{path}: {name} (servo {servo}) was homed again since: the file says homing offset {ours}, the servo holds"
                f" {said[STS3215.HOMING_OFFSET]}; give the newer file, calibrate in LeRobot again, or home it here instead"
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CalibrationError(f"{path}: not readable: {' '.join(str(error).split())}; give LeRobot's calibration file") from None
    names = [name for name, _ in JOINTS]
    if not isinstance(data, dict) or sorted(data) != sorted(names):
        found = ", ".join(map(str, data)) if isinstance(data, dict) else type(data).__name__
        raise CalibrationError(f"{path}: holds {found}; LeRobot's file of an SO-101 has {', '.join(names)}")
    return data


def _joint(path: Path, data: dict[str, Any], name: str) -> dict[str, int]:
    joint = data[name]
    if not isinstance(joint, dict) or sorted(joint) != sorted(FIELDS):
        raise CalibrationError(f"{path}: {name} must have {', '.join(FIELDS)}; calibrate it again in LeRobot")
    for field in FIELDS:
        if type(joint[field]) is not int:
            raise CalibrationError(
                f"{path}: {name}.{field} is {joint[field]!r}, not a whole number; calibrate it again in LeRobot"
            )
    offset = STS3215.HOMING_OFFSET
    if joint["drive_mode"] != 0:
        why = "LeRobot turns it round, which no SO-101 of theirs does"
        raise CalibrationError(f"{path}: {name}.drive_mode is {joint['drive_mode']}: {why}; home it here instead")
    if not (0 <= joint["range_min"] < joint["range_max"] <= LAST and offset.least <= joint["homing_offset"] <= offset.most):
        raise CalibrationError(f"{path}: {name}: range or homing offset is none of an STS3215; calibrate it again in LeRobot")
    return joint
