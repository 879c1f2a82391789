"""LeRobot's calibration of an SO-101 read: what is taken, and what is refused."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import replace

import pytest

from robotrl.calibration import homing, lerobot, store
from robotrl.calibration.store import CalibrationError
from robotrl.clock import LockstepClock
from robotrl.drivers import identity, port
from robotrl.drivers.port import DeviceError, MemoryPort
from robotrl.sim.fleets import FLEETS
from tests.nodes.armrig import run_of

# As LeRobot writes it: ranges of one arm, the gripper's from closed to open.
THEIRS = {
    "shoulder_pan": {"id": 1, "drive_mode": 0, "homing_offset": -1470, "range_min": 758, "range_max": 3292},
    "shoulder_lift": {"id": 2, "drive_mode": 0, "homing_offset": -85, "range_min": 860, "range_max": 3230},
    "elbow_flex": {"id": 3, "drive_mode": 0, "homing_offset": 1236, "range_min": 940, "range_max": 3140},
    "wrist_flex": {"id": 4, "drive_mode": 0, "homing_offset": -812, "range_min": 960, "range_max": 3120},
    "wrist_roll": {"id": 5, "drive_mode": 0, "homing_offset": 640, "range_min": 0, "range_max": 4095},
    "gripper": {"id": 6, "drive_mode": 0, "homing_offset": 1407, "range_min": 2040, "range_max": 3292},
}


def given(folder, **changes):
    data = json.loads(json.dumps(THEIRS))
    for key, value in changes.items():
        joint, field = key.split("__")
        data[joint][field] = value
    path = folder / "my_arm.json"
    path.write_text(json.dumps(data))
    return path


def robot_of(folder, name="so101"):
    return run_of(name, folder, ["robot.serial=mine"]).robot


def test_zeros_come_from_the_middles_of_the_ranges(tmp_path):
    record, says = lerobot.taken(given(tmp_path), robot_of(tmp_path))
    ticks = [o * 4096 / math.tau for o in record.offset]
    middles = [2025, 2045, 2040, 2040, 2047 - 3 * 4096 / 360, 2666 - 45 * 4096 / 360]
    assert ticks == pytest.approx(middles, abs=0.01) and record.ids == (1, 2, 3, 4, 5, 6)
    assert next(line for line in says if not line.startswith("  ")).startswith("shoulder_pan (servo 1): zero at tick 2025")
    assert all(str(THEIRS[name]["homing_offset"]) in " ".join(says) for name in THEIRS)


def test_a_range_narrower_than_the_robot_files_is_said(tmp_path):
    _, says = lerobot.taken(given(tmp_path, wrist_flex__range_min=1014), robot_of(tmp_path))
    at = next(i for i, line in enumerate(says) if line.startswith("wrist_flex"))
    assert "narrow joint_min and joint_max" in says[at + 1]
    robot, ends = robot_of(tmp_path), (1014 - 2067) * math.tau / 4096
    low, high = (tomllib.loads(line)[key] for line, key in zip(says[-2:], ("joint_min", "joint_max"), strict=True))
    assert low[3] == pytest.approx(ends + 0.035, abs=0.01) and low[:3] == pytest.approx(robot.lowest[:3])
    assert high[3] == pytest.approx(-low[3], abs=0.01) and high[4:] == pytest.approx(robot.highest[4:])


def ranged(folder, name, degrees):
    """Its upper end left as it is."""
    return given(folder, **{f"{name}__range_min": THEIRS[name]["range_max"] - round(degrees * 4096 / 360)})


# Degrees: the model's way between the stops, by LeRobot's name.
WAYS = {"shoulder_pan": 220.0, "shoulder_lift": 200.0, "elbow_flex": 193.6, "wrist_flex": 190.0, "gripper": 110.0}


@pytest.mark.parametrize("name", WAYS)
def test_a_joint_that_was_not_swept_from_stop_to_stop_is_refused(name, tmp_path):
    """Half of what lacks is what its zero is off by: 34 degrees less of the lift, and its hand was in the table."""
    with pytest.raises(CalibrationError, match=rf"{name}'s range is \d+ degrees, its stops are \d+ apart") as error:
        lerobot.taken(ranged(tmp_path, name, WAYS[name] - 5.5), robot_of(tmp_path))
    assert "\n" not in str(error.value) and "my_arm.json: " in str(error.value)
    lerobot.taken(ranged(tmp_path, name, WAYS[name] - 4.5), robot_of(tmp_path))


def test_a_range_of_a_whole_turn_is_one_that_went_over_the_encoders_end(tmp_path):
    with pytest.raises(CalibrationError, match="shoulder_lift's range is 360 degrees"):
        lerobot.taken(given(tmp_path, shoulder_lift__range_min=0, shoulder_lift__range_max=4095), robot_of(tmp_path))


# Spans in ticks, as people have published them: each joint of one arm led from stop to stop.
REAL = (
    (2731, 2389, 2209, 2367, 3849, 1590), (2701, 2382, 2204, 2301, 3825, 1419), (2708, 2369, 2211, 2309, 3831, 1493),
    (2562, 2355, 2179, 2322, 3821, 1429), (2733, 2394, 2219, 2367, 3833, 1477), (2524, 2352, 2216, 2277, 3869, 1483),
)  # fmt: skip


@pytest.mark.parametrize("spans", REAL)
def test_arms_that_people_have_calibrated_are_taken(spans, tmp_path):
    changes = {}
    for name, span in zip(THEIRS, spans, strict=True):
        changes |= {f"{name}__range_min": 2047 - span // 2, f"{name}__range_max": 2047 - span // 2 + span}
    lerobot.taken(given(tmp_path, **changes), robot_of(tmp_path))


def test_a_joint_whose_stops_nobody_knows_is_taken_as_it_is(tmp_path):
    robot = robot_of(tmp_path)
    bare = replace(robot, limits=replace(robot.limits, stop_min=(), stop_max=()))
    lerobot.taken(ranged(tmp_path, "shoulder_lift", 166.0), bare)
    one = replace(robot.limits, stop_min=(math.nan, *robot.limits.stop_min[1:]), stop_max=(math.nan, *robot.limits.stop_max[1:]))
    lerobot.taken(ranged(tmp_path, "shoulder_pan", 166.0), replace(robot, limits=one))
    with pytest.raises(CalibrationError, match="wrist_roll's range is 187 degrees"):  # one that was swept, and not all of it
        lerobot.taken(given(tmp_path, wrist_roll__range_min=160, wrist_roll__range_max=2289), robot)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"gripper__id": 7}, "gripper is servo 7, the robot file says 6"),
        ({"gripper__drive_mode": 1}, "gripper.drive_mode is 1"),
        ({"gripper__range_max": 5000}, "gripper: range"),
        ({"gripper__range_min": 4000}, "gripper: range"),
        ({"gripper__homing_offset": "x"}, "gripper.homing_offset is 'x'"),
    ],
)
def test_what_cannot_be_is_refused(changes, says, tmp_path):
    with pytest.raises(CalibrationError, match=says):
        lerobot.taken(given(tmp_path, **changes), robot_of(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"shoulder_pan": 1}', "[" * 5000])
def test_no_calibration_is_refused_in_a_line(text, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=r"x\.json: ") as error:
        lerobot.taken(path, robot_of(tmp_path))
    assert "\n" not in str(error.value)


def test_another_robot_is_refused(tmp_path):
    with pytest.raises(CalibrationError, match="kind so101, not omx"):
        lerobot.taken(given(tmp_path), robot_of(tmp_path, "omx"))


def homed(line):
    """As LeRobot leaves the servos: each with the homing offset of the file."""
    for servo, joint in zip(line.servos, THEIRS.values(), strict=True):
        servo.registers.put("homing_offset", joint["homing_offset"])
    return line


@pytest.mark.parametrize("joint", range(6))
def test_a_file_of_an_earlier_homing_is_refused_and_writes_nothing(tmp_path, monkeypatch, joint):
    robot_of(tmp_path)
    line, name = homed(FLEETS["so101"].line(None)), list(THEIRS)[joint]
    line.servos[joint].registers.put("homing_offset", THEIRS[name]["homing_offset"] - 200)  # 18 degrees
    monkeypatch.setattr(port, "SerialPort", lambda *_: MemoryPort(line, "arm"))
    words = [str(tmp_path / "run.toml"), "--serial", "mine", "--calibration", str(tmp_path / "kept")]
    with pytest.raises(CalibrationError, match=rf"{name} \(servo {joint + 1}\) was homed again since"):
        homing.main([*words, "--lerobot", str(given(tmp_path)), "--yes"])
    assert not list((tmp_path / "kept").rglob("*.json"))


def test_the_command_writes_a_record_that_the_robot_takes(tmp_path, capsys, monkeypatch):
    robot_of(tmp_path)
    line = homed(FLEETS["so101"].line(None))
    wire = MemoryPort(line, "arm")
    monkeypatch.setattr(port, "SerialPort", lambda *_: wire)
    words = [str(tmp_path / "run.toml"), "--serial", "mine", "--calibration", str(tmp_path / "kept")]
    assert homing.main([*words, "--lerobot", str(given(tmp_path)), "--yes"]) == 0
    said = capsys.readouterr().out
    assert "gripper (servo 6)" in said and "wrote" in said
    robot = store.calibrated(robot_of(tmp_path), tmp_path / "kept")
    assert robot.servos.offset[0] == pytest.approx(2025 * math.tau / 4096)
    identity.recognise(wire, robot, LockstepClock())
    line.servos[2].registers.put("homing_offset", 7)
    with pytest.raises(DeviceError, match=r"servo 3 \(elbow\) is .*another robot's, or it was changed"):
        identity.recognise(wire, robot, LockstepClock())
