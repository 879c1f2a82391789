"""The emulated IMU and tracker: bytes of the manual, noise, latency, registers."""

import itertools
import math
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from robotrl import config
from robotrl.sim.domain import Domain
from robotrl.sim.fdcanusb import checksum
from robotrl.sim.senses import ImuSensor, TrackerSensor

QUIET = {"imu_rate_noise": 0.0, "tracker_noise_m": 0.0, "tracker_noise_rad": 0.0}


class Moment:
    """A world that is a straight line through time: everything grows with it."""

    def __init__(self):
        self.time, self.domain = 0.0, Domain()
        self.rpy, self.rates, self.accel = np.zeros(3), np.zeros(3), np.array([0.0, 0.0, 9.80665])

    def torso(self, delay_s):
        t = self.time - delay_s
        position = np.array([0.4 * t, 0.0, 0.25])
        return SimpleNamespace(rpy=self.rpy, rates=self.rates, accel=self.accel, position=position)


@pytest.fixture
def world():
    return Moment()


def imu(world, **twin):
    return ImuSensor(world, config.Twin(**twin), np.random.default_rng(0))


def frames(data):
    assert len(data) % 11 == 0
    out = [data[i : i + 11] for i in range(0, len(data), 11)]
    assert all(f[0] == 0x55 and sum(f[:10]) & 0xFF == f[10] for f in out)
    return out


def values(frame, full):
    return [v / 32768 * full for v in struct.unpack_from("<3h", frame, 2)]


def run(sensor, world, seconds):
    until = world.time + seconds
    while world.time < until - 1e-9:
        world.time = round(world.time + 0.002, 9)
        sensor.advance()


def test_frames_match_the_computed_golden_bytes(world):
    """Attitude 10, -20, 90 deg; rates -10.01, 5, 0 deg/s: the int16 of hardware facts 7."""
    world.rpy = np.radians([10.0, -20.0, 90.0])
    world.rates = np.radians([-10.01, 5.0, 0.0])
    sensor = imu(world, **QUIET)
    sensor.advance()
    accel, rates, attitude = frames(sensor.transmit())
    assert accel[:2] == b"\x55\x51" and values(accel, 16)[2] == pytest.approx(1.0, abs=0.02)
    assert rates[:8] == bytes.fromhex("5552 5CFF 5200 0000")
    assert attitude[:8] == bytes.fromhex("5553 1C07 C7F1 0040")


def test_rate_and_noise_floor(world):
    world.domain = Domain(imu_noise_rad=0.03)
    sensor = imu(world)
    run(sensor, world, 1.0)
    got = frames(sensor.transmit())
    assert len(got) == pytest.approx(600, abs=4)
    raw = [tuple(got[i : i + 3]) for i in range(0, len(got) - 2, 3)]
    assert all(a != b for a, b in itertools.pairwise(raw)), "a live sensor never repeats itself"
    roll = [values(f, math.pi)[0] for f in got if f[1] == 0x53]
    assert np.std(roll) == pytest.approx(0.03, rel=0.2)


def test_latency_and_bias_of_the_domain(world):
    seen = []
    world.torso = lambda delay: seen.append(delay) or Moment.torso(world, delay)
    world.domain = Domain(extra_latency_s=0.01, imu_bias=(0.03, -0.02))
    sensor = imu(world, **QUIET)
    run(sensor, world, 0.1)
    assert min(seen) >= 0.015 - 1e-9 and max(seen) < 0.015 + 0.0021
    roll, pitch, yaw = values(frames(sensor.transmit())[-1], math.pi)
    assert (roll, pitch, yaw) == pytest.approx((0.03, -0.02, 0.0), abs=1e-3)


def test_configuration_is_locked_read_back_and_saved(world):
    sensor = imu(world)
    sensor.receive(bytes.fromhex("FFAA030600"))
    assert sensor.rate_hz == 200, "locked"
    for piece in (b"\xff", b"\xaa\x69", b"\x88\xb5", b"junk", bytes.fromhex("FFAA030600"), bytes.fromhex("FFAA270300")):
        sensor.receive(piece)
    assert sensor.rate_hz == 10
    assert sensor.transmit() == bytes.fromhex("555F 0600 0600 0000 0000") + bytes([(0x55 + 0x5F + 12) & 0xFF])
    sensor.receive(bytes.fromhex("FFAA00FF00"))  # reboot: it was not saved
    assert sensor.rate_hz == 200
    sensor.receive(bytes.fromhex("FFAA6988B5 FFAA030600 FFAA000000 FFAA00FF00"))
    assert sensor.rate_hz == 10
    sensor.receive(bytes.fromhex("FFAA6988B5"))
    world.time = 11.0
    sensor.receive(bytes.fromhex("FFAA030B00"))
    assert sensor.rate_hz == 10, "the lock closes after ten seconds"


def test_mask_and_a_baud_too_low(world):
    sensor = imu(world)
    sensor.receive(bytes.fromhex("FFAA6988B5 FFAA020800"))
    run(sensor, world, 0.1)
    assert {f[1] for f in frames(sensor.transmit())} == {0x53}
    sensor.receive(bytes.fromhex("FFAA020E00 FFAA040200"))
    assert sensor.rate_hz == 20, "9600 baud carry no more than 29 samples of 33 bytes"


def test_full_scale_is_clipped(world):
    world.accel = np.array([1e6, -1e6, 0.0])
    sensor = imu(world)
    sensor.advance()
    assert struct.unpack_from("<2h", sensor.transmit(), 2) == (32767, -32768)


def test_tracker_lines(world):
    sensor = TrackerSensor(world, config.Twin(**QUIET), np.random.default_rng(0))
    lines = []
    while world.time < 1.0:
        world.time = round(world.time + 0.002, 9)
        sensor.advance()
        for line in sensor.transmit().splitlines(keepends=True):
            lines.append((world.time, line))
    assert len(lines) == pytest.approx(60 - 2, abs=1)
    for n, (arrived, line) in enumerate(lines):
        body, _, crc = line.rpartition(b"*")
        assert line.endswith(b"\n") and int(crc, 16) == checksum(body) and crc == crc.upper()
        word, seq, age, x, _, z, *rpy = body.split()
        assert word == b"pose" and int(seq) == n and len(rpy) == 3
        assert 33_000 <= int(age) <= 36_000
        assert float(x) == pytest.approx(0.4 * (arrived - int(age) * 1e-6), abs=1e-4), "the pose is of when it was taken"
        assert float(z) == 0.25


def test_tracker_age_grows_while_the_line_waits(world):
    sensor = TrackerSensor(world, config.Twin(**QUIET), np.random.default_rng(0))
    sensor.advance()
    world.time = 0.2
    assert int(sensor.transmit().split()[2]) == 200_000


def test_tracker_noise(world):
    sensor = TrackerSensor(world, config.Twin(), np.random.default_rng(0))
    run(sensor, world, 2.0)
    y = [float(line.split()[4]) for line in sensor.transmit().splitlines()]
    assert np.std(y) == pytest.approx(0.002, rel=0.3)


def test_crc_of_the_manual():
    assert checksum(b"OK ") == 0xBD
