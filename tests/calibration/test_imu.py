"""An IMU of known mounting, bias, scale and noise, over the driver's bytes: it is found, and the driver then says the truth."""

from __future__ import annotations

import math
import struct
from dataclasses import replace

import numpy as np
import pytest

from robotrl import config
from robotrl.calibration import devices, imu, store
from robotrl.calibration.imu import Rest
from robotrl.calibration.store import CalibrationError
from robotrl.drivers.imu import WitImu
from robotrl.drivers.port import MemoryPort

G = 9.80665
SIDES = tuple(imu.UP)
# World from robot for each side up: turns about the robot's own axes.
LAID = {
    "top": (0, 0, 0), "bottom": (math.pi, 0, 0), "left": (math.pi / 2, 0, 0), "right": (-math.pi / 2, 0, 0),
    "front": (0, -math.pi / 2, 0), "back": (0, math.pi / 2, 0),
}  # fmt: skip


class Felt:
    """A WitMotion far end, 200 samples a second. `robot` (3, 3) is world from robot; `rates` in the robot's axes, rad/s."""

    def __init__(self, optics, clock, mount, seed=0):
        self.clock, self.mount, self.rng = clock, mount, np.random.default_rng(seed)
        self.gyro_bias, self.accel_bias, self.accel_scale = np.zeros(3), np.zeros(3), np.ones(3)
        self.gyro_noise, self.accel_noise = 0.004, 0.02
        self.robot, self.rates = np.eye(3), np.zeros(3)
        self.turned, self.next = optics.turned, clock.now()

    def lie(self, side, off=(0.0, 0.0, 0.0)):
        self.robot = self.turned(off) @ self.turned(LAID[side])

    def receive(self, data):
        pass

    def transmit(self):
        out = b""
        while self.next <= self.clock.now():
            self.next += 5_000_000
            out += self.sample()
        return out

    def sample(self):
        sensor = self.robot @ self.mount  # world from sensor
        accel = sensor.T @ (0, 0, G) * self.accel_scale + self.accel_bias + self.rng.normal(0, self.accel_noise, 3)
        rates = self.mount.T @ self.rates + self.gyro_bias + self.rng.normal(0, self.gyro_noise, 3)
        pitch = math.asin(np.clip(-sensor[2, 0], -1, 1))
        angles = math.atan2(sensor[2, 1], sensor[2, 2]), pitch, math.atan2(sensor[1, 0], sensor[0, 0])
        scales = (16 * G / 32768, math.radians(2000) / 32768, math.pi / 32768)
        out = b""
        for kind, values, scale in zip((0x51, 0x52, 0x53), (accel, rates, angles), scales, strict=True):
            numbers = [max(-32768, min(32767, round(v / scale))) for v in values]
            body = struct.pack("<BB4h", 0x55, kind, *numbers, 0)
            out += body + bytes((sum(body) % 256,))
        return out


@pytest.fixture
def robot():
    base = config.Robot()
    return replace(base, serial="a1", imu=replace(base.imu, port="/dev/serial/by-id/usb-x"))


@pytest.fixture
def felt(optics, clock):
    """Mounted on its side and turned round, not quite square; everything about it a little wrong."""
    out = Felt(optics, clock, optics.turned((0.03, -0.02, 0.01)) @ np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]))
    out.gyro_bias, out.accel_bias = np.array([0.02, -0.01, 0.03]), np.array([0.2, -0.1, 0.15])
    out.accel_scale = np.array([1.02, 0.99, 1.01])
    return out


def found(felt, robot, sides, off=None):
    sensor, off = WitImu(MemoryPort(felt, "imu"), robot.imu, felt.clock), off or {}
    return imu.measure(sensor, robot, sides, felt.clock, lambda s: felt.lie(s, off.get(s, (0, 0, 0))), lambda line: None)


def between(a, b):
    return math.degrees(math.acos(min(1.0, (np.trace(np.reshape(a, (3, 3)).T @ b) - 1) / 2)))


def test_six_poses_tell_everything(felt, robot):
    record = found(felt, robot, SIDES)
    assert between(record.mount, felt.mount) < 0.05
    assert record.gyro_bias == pytest.approx(felt.gyro_bias, abs=4e-4)
    assert record.accel_bias == pytest.approx(felt.accel_bias, abs=0.01)
    assert record.accel_scale == pytest.approx(felt.accel_scale, abs=0.001)
    assert record.gyro_noise == pytest.approx((0.004,) * 3, rel=0.15)
    assert record.accel_noise == pytest.approx((0.02,) * 3, rel=0.15)
    assert max(record.residual_deg) < 0.1 and record.samples > 2300


def test_two_poses_tell_which_way_it_is_mounted(felt, robot):
    felt.accel_bias, felt.accel_scale = np.zeros(3), np.ones(3)
    for other in ("left", "right", "front", "back"):
        assert between(found(felt, robot, ("top", other)).mount, felt.mount) < 0.1


def test_what_is_level_is_told_by_the_level_pose_alone(felt, robot):
    """A robot laid on its side lies as it happens to: that may turn forwards a little, and not tilt anything."""
    felt.accel_bias, felt.accel_scale = np.zeros(3), np.ones(3)
    record = found(felt, robot, ("top", "left"), {"left": (0.15, 0.0, 0.0)})
    up = np.reshape(record.mount, (3, 3)) @ felt.mount.T @ (0, 0, 1)
    assert math.degrees(math.acos(min(1.0, up[2]))) < 0.05
    assert record.residual_deg[0] < 0.05 and 5 < record.residual_deg[1] < 12


def test_the_driver_then_says_what_the_robot_does(felt, robot, optics, tmp_path):
    store.write(found(felt, robot, SIDES), devices.imu_path(robot, tmp_path))
    robot = devices.with_imu(robot, tmp_path)
    sensor = WitImu(MemoryPort(felt, "imu"), robot.imu, felt.clock)
    for roll, pitch in ((0.0, 0.0), (0.3, -0.2), (-0.5, 0.4), (0.1, 0.9)):
        felt.robot = optics.turned((0, pitch, 0)) @ optics.turned((roll, 0, 0))
        felt.rates = np.array([0.3, -0.2, 0.1])
        sensor = WitImu(MemoryPort(felt, "imu"), replace(robot.imu, smoothing_s=0.0), felt.clock)
        rows = []
        for _ in range(50):
            felt.clock.sleep_until(felt.clock.now() + 5_000_000)
            rows.append(sensor.read())
        assert np.mean([r.roll for r in rows]) == pytest.approx(roll, abs=2e-3)
        assert np.mean([r.pitch for r in rows]) == pytest.approx(pitch, abs=2e-3)
        assert np.mean([r.rates for r in rows], axis=0) == pytest.approx(felt.rates, abs=3e-3)
        assert np.mean([r.accel for r in rows], axis=0) == pytest.approx(felt.robot.T @ (0, 0, G), abs=0.02)


def test_a_record_of_another_robot_or_port_is_refused(felt, robot, tmp_path):
    path = devices.imu_path(robot, tmp_path)
    assert devices.with_imu(robot, tmp_path) == robot  # never calibrated
    store.write(found(felt, robot, ("top", "left")), path)
    other = replace(robot, imu=replace(robot.imu, port="/dev/serial/by-id/usb-y"))
    with pytest.raises(
        CalibrationError, match=r"'/dev/serial/by-id/usb-x', this is .* 'a1' '/dev/serial/by-id/usb-y'; make it again"
    ):
        devices.with_imu(other, tmp_path)
    path.write_text(path.read_text()[:200])
    with pytest.raises(CalibrationError, match="not readable") as error:
        devices.with_imu(robot, tmp_path)
    assert "\n" not in str(error.value)


def test_a_robot_that_moves_or_lies_otherwise_is_refused(felt, robot, clock):
    with pytest.raises(CalibrationError, match=r"pose (front|left): up is 45 degrees from where"):
        record = {"left": "front"}
        sensor = WitImu(MemoryPort(felt, "imu"), robot.imu, clock)
        imu.measure(sensor, robot, ("top", "front", "left"), clock, lambda s: felt.lie(record.get(s, s)), lambda line: None)
    felt.rates = np.array([0.0, 0.0, 0.5])
    with pytest.raises(CalibrationError, match="pose top: the robot was not still"):
        found(felt, robot, ("top", "left"))
    felt.rates, felt.accel_scale = np.zeros(3), np.full(3, 1.2)
    with pytest.raises(CalibrationError, match=r"pose top: the imu feels 11.\d+ m/s2 at rest"):
        found(felt, robot, ("top", "left"))
    felt.next = 1 << 62
    with pytest.raises(CalibrationError, match="says nothing new for 1 s"):
        found(felt, robot, ("top", "left"))


@pytest.mark.parametrize("sides", [(), ("top",), ("top", "bottom"), ("left", "front"), ("top", "left", "left")])
def test_poses_that_do_not_tell_are_refused(sides):
    rests = [Rest(side, np.zeros((30, 3)), np.tile(np.array(imu.UP[side]) * G, (30, 1))) for side in sides]
    with pytest.raises(CalibrationError, match="give each once, top and"):
        imu.solve(rests)


def test_words_for_a_mounting():
    assert imu.words(np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])) == (
        "its x points right, its y points forwards, its z points up, within 0.0 degrees"
    )


def test_the_command_asks_for_each_pose_and_writes_the_record(felt, robot, tmp_path, monkeypatch, capsys):
    def lie(question, yes):
        felt.lie(next(side for side in SIDES if f"its {side} up" in question))

    closed = []
    monkeypatch.setattr(imu, "WallClock", lambda: felt.clock)
    monkeypatch.setattr(imu.tool, "require", lie)
    monkeypatch.setattr(imu.tool, "robot_of", lambda args: robot)
    port = MemoryPort(felt, "imu")
    monkeypatch.setattr(port, "close", lambda: closed.append(1))
    monkeypatch.setattr("robotrl.drivers.imu.connect", lambda wiring, clock, say: (port, WitImu(port, wiring, clock)))
    assert imu.main(["--poses", ",".join(SIDES), "--calibration", str(tmp_path)]) == 0
    assert devices.imu_of(robot, robot.imu.port, tmp_path).poses == SIDES and closed
    assert "its x points right, its y points down, its z points forwards, within" in capsys.readouterr().out
    arm = replace(robot, senses=())
    monkeypatch.setattr(imu.tool, "robot_of", lambda args: arm)
    with pytest.raises(CalibrationError, match="has no imu"):
        imu.main([])
