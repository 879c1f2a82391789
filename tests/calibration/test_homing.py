"""Homing: the offsets found bring the readings to the pose, in the robot's own signs; nothing moves."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from robotrl import config
from robotrl.calibration import commission, homing, store
from robotrl.calibration.store import CalibrationError
from robotrl.drivers import port
from robotrl.drivers.port import MemoryPort

WHO = tuple(f"{i:024x}" for i in range(8))
POSE = (math.pi / 2,) * 8


def test_the_offsets_bring_the_readings_to_the_pose(chain, robot, clock):
    sign = (1, -1, 1, -1, 1, 1, -1, -1)
    robot = replace(robot, servos=replace(robot.servos, sign=sign))
    servo_angle = [0.3 * i - 1.0 for i in range(8)]
    chain.angle = [s * a for s, a in zip(sign, servo_angle, strict=True)]  # a chain whose offsets are 0
    record = homing.measure(chain, robot, POSE, clock)
    found = [s * (a - o) for s, a, o in zip(sign, servo_angle, record.offset, strict=True)]
    assert found == pytest.approx(POSE)
    assert (record.serial, record.robot, record.ids) == ("a1", "minitaur", robot.servos.ids)


def test_nothing_moves(chain, robot, clock):
    homing.measure(chain, robot, POSE, clock)
    assert set(chain.calls) == {"stop"}


def test_noise_is_averaged_away(chain, robot, clock):
    chain.noise = 0.004
    record = homing.measure(chain, robot, POSE, clock)
    assert record.offset == pytest.approx((0.0,) * 8, abs=0.005)
    assert record.spread == pytest.approx((0.008,) * 8)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda chain: chain.missed.__setitem__(2, 1), "servo 3 did not answer"),
        (lambda chain: chain.fault.__setitem__(4, 33), "servo 5 reports fault 33"),
        (lambda chain: (chain.speed.__setitem__(0, 1.0), setattr(chain, "damping", 0.0)), "servo 1 moved by"),
        (lambda chain: chain.angle.__setitem__(1, math.nan), "servo 2 moved by nan"),
        (
            lambda chain: (setattr(chain, "deaf", True), chain.mode.__setitem__(0, 10)),
            "do not confirm torque off",
        ),
    ],
)
def test_a_robot_that_cannot_be_read_is_refused(chain, robot, clock, break_it, says):
    break_it(chain)
    with pytest.raises(CalibrationError, match=says):
        homing.measure(chain, robot, POSE, clock)


def test_a_pose_of_another_robot_is_refused(chain, robot, clock):
    with pytest.raises(CalibrationError, match="7 angles for 8 servos"):
        homing.measure(chain, robot, POSE[:7], clock)


def run_file(tmp_path, serial='serial = "a1"'):
    (tmp_path / "robots").mkdir()
    (tmp_path / "robots" / "minitaur.toml").write_text(f'name = "minitaur"\n{serial}\n')
    (tmp_path / "walk.toml").write_text('robot = "minitaur"\n')
    return str(tmp_path / "walk.toml")


def test_without_a_terminal_it_asks_nothing_and_does_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(CalibrationError, match="--yes"):
        homing.main([run_file(tmp_path), "--calibration", str(tmp_path / "records")])
    assert not (tmp_path / "records").exists()


def test_a_robot_without_a_serial_is_told_to_get_one(tmp_path):
    with pytest.raises(CalibrationError, match="write serial = "):
        homing.main([run_file(tmp_path, ""), "--yes", "--calibration", str(tmp_path / "records")])


def test_a_missing_port_is_one_line_and_writes_nothing(tmp_path):
    from robotrl.drivers.port import PortError

    arguments = [
        run_file(tmp_path),
        "--yes",
        "--port",
        str(tmp_path / "nowhere"),
        "--calibration",
        str(tmp_path / "r"),
    ]
    with pytest.raises(PortError, match="nowhere"):
        homing.main(arguments)
    assert not (tmp_path / "r").exists()


def test_the_record_comes_back_as_offsets(chain, robot, clock, tmp_path):
    chain.angle = [0.1 * i for i in range(8)]
    record = homing.measure(chain, robot, POSE, clock)
    path = store.path_of(store.Calibration, robot, tmp_path)
    store.write(record, path)
    with pytest.raises(CalibrationError, match="field 'identity' is empty: nobody asked the servos who they are"):
        store.calibrated(robot, tmp_path)
    store.write(replace(record, identity=WHO), path)
    assert store.calibrated(robot, tmp_path).servos.offset == record.offset
    assert store.calibrated(robot, tmp_path).servos.identity == WHO
    assert json.loads(path.read_text())["serial"] == "a1"
    assert isinstance(store.calibrated(robot, tmp_path), config.Robot)


def test_both_tools_end_with_one_json_object_when_asked(chain, robot, clock, tmp_path, monkeypatch, capsys):
    chain.angle = list(POSE)
    calibration = homing.measure(chain, robot, POSE, clock)
    path = store.path_of(store.Calibration, robot, tmp_path / "r")
    words = [run_file(tmp_path), "--yes", "--json", "--calibration", str(tmp_path / "r")]
    monkeypatch.setattr(port, "SerialPort", lambda *_: MemoryPort(clock))
    monkeypatch.setattr(homing, "measure", lambda *_: calibration)
    monkeypatch.setattr("robotrl.drivers.identity.asked", lambda *_: WHO)
    assert homing.main(words) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["wrote"] == str(path) and found["offset_rad"] == pytest.approx(calibration.offset)
    record = commission.commission(chain, robot, clock, ("1.2.0",) * 8, path)
    monkeypatch.setattr("robotrl.drivers.identity.firmware", lambda *_: ("1.2.0",) * 8)
    monkeypatch.setattr("robotrl.drivers.identity.recognise", lambda *_: None)
    monkeypatch.setattr(commission, "commission", lambda *_: record)
    assert commission.main(words) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["serial"], found["seen"]) == ("a1", "encoder")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "say where so101's joints are: --angle 0"),
        (["--angle", "nan"], "must be finite"),
        (["--pose", "0,0,0"], "--pose has 3 angles for 6 motors"),
        (["--pose", "0,0,x,0,0,0"], "write 6 angles in rad"),
        (["--pose", "0,0,9,0,0,0"], "within a turn"),
        (["--pose", "0,0,0,0,0,0", "--angle", "0"], "give one"),
    ],
)
def test_an_arms_pose_must_be_said(words, says, capsys):
    arm = str(Path(__file__).resolve().parents[2] / "launch" / "arm.toml")
    with pytest.raises(SystemExit):
        homing.main([arm, "--serial", "a1", "--yes", *words])
    assert says in capsys.readouterr().err


def test_an_arms_own_pose_is_taken_joint_by_joint(clock, tmp_path, monkeypatch, capsys):
    arm, taken = str(Path(__file__).resolve().parents[2] / "launch" / "arm.toml"), []
    record = store.Calibration(
        1, "so101", "so101", "a1", store.today(), (1, 2, 3, 4, 5, 6), (1,) * 6, (3.0,) * 6, (0.0,) * 6, (0.0,) * 6
    )
    monkeypatch.setattr(port, "SerialPort", lambda *_: MemoryPort(clock))
    monkeypatch.setattr("robotrl.drivers.identity.asked", lambda *_: WHO[:6])
    monkeypatch.setattr(homing, "measure", lambda chain, robot, pose, clock: taken.append(pose) or record)
    words = [arm, "--serial", "a1", "--yes", "--pose", "0,-1.5,1.5,0.8,0,0.1", "--calibration", str(tmp_path)]
    assert homing.main(words) == 0
    assert taken == [(0.0, -1.5, 1.5, 0.8, 0.0, 0.1)] and "commission " in capsys.readouterr().out
