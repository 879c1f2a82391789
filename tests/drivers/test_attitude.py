"""The IMU's filter: noise goes, motion stays, and no gyro leads it far from what was measured."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest

from robotrl import config
from robotrl.clock import LockstepClock
from robotrl.drivers.attitude import AWAY_MAX, ComplementaryFilter
from robotrl.drivers.imu import WitImu
from robotrl.drivers.port import MemoryPort

PERIOD = 0.005


def rotation(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Body to world, about z, then y, then x."""
    (cr, cp, cy), (sr, sp, sy) = np.cos([roll, pitch, yaw]), np.sin([roll, pitch, yaw])
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    return np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]]) @ about_y @ about_x


def trot(t: float) -> tuple[float, float, float]:
    return 0.4 * math.sin(12 * t), 0.3 * math.sin(19 * t + 1), 2.0 * t + 0.5 * math.sin(7 * t)


def body_rates(t: float) -> tuple[float, float, float]:
    """From the rotation's derivative: R' = R [w]x."""
    h = 1e-5
    cross = rotation(*trot(t)).T @ (rotation(*trot(t + h)) - rotation(*trot(t - h))) / (2 * h)
    return cross[2, 1], cross[0, 2], cross[1, 0]


def test_motion_is_followed_without_lag():
    """Ten times closer than the angle five samples ago, which an average over nine samples would say."""
    kept = ComplementaryFilter(PERIOD, 1e9)  # nothing but the gyro after the first sample
    worst = lag = 0.0
    for k in range(400):
        t = k * PERIOD
        roll, pitch = kept.update(*trot(t)[:2], body_rates(t))
        worst = max(worst, abs(roll - trot(t)[0]), abs(pitch - trot(t)[1]))
        lag = max(lag, abs(trot(t)[0] - trot(t - 5 * PERIOD)[0]))
    assert worst < 0.01 < 0.1 * lag


@pytest.mark.parametrize("smoothing", [0.02, 0.1])
def test_white_noise_shrinks_by_the_formula(smoothing):
    rng, rows = np.random.default_rng(0), []
    kept = ComplementaryFilter(PERIOD, smoothing)
    for noise in rng.normal(0, 0.02, (20_000, 2)):
        rows.append(kept.update(*noise, (0.0, 0.0, 0.0)))
    k = PERIOD / (PERIOD + smoothing)
    assert np.std(rows, axis=0) == pytest.approx([0.02 * math.sqrt(k / (2 - k))] * 2, rel=0.06)


def test_nothing_is_filtered_where_it_is_off_or_begins_again():
    off = ComplementaryFilter(PERIOD, 0.0)
    assert [off.update(a, -a, (9.0, 9.0, 9.0)) for a in (0.1, 0.3, -0.2)] == [(0.1, -0.1), (0.3, -0.3), (-0.2, 0.2)]
    kept = ComplementaryFilter(PERIOD, 0.1)
    kept.update(0.0, 0.0, (0.0, 0.0, 0.0))
    kept.restart()
    assert kept.update(0.1, 0.05, (1.0, 1.0, 0.0)) == (0.1, 0.05)


@pytest.mark.parametrize(("pitch", "filtered"), [(1.19, True), (1.2, True), (1.2000001, False), (1.21, False), (-1.21, False)])
def test_from_1_2_rad_of_pitch_on_angles_are_as_measured(pitch, filtered):
    kept = ComplementaryFilter(PERIOD, 0.1)
    kept.update(0.0, math.copysign(1.15, pitch), (0.0, 0.0, 0.0))
    assert (kept.update(0.1, pitch, (0.0, 0.0, 0.0)) != (0.1, pitch)) is filtered


def test_where_it_is_steep_no_turning_is_reckoned():
    kept = ComplementaryFilter(PERIOD, 0.1)  # keeps 20 parts of 21
    kept.update(0.2, 1.3, (5.0, 5.0, 5.0))
    assert kept.update(0.2, 1.19, (5.0, 5.0, 5.0)) == pytest.approx((0.2, 1.19 + 0.11 * 20 / 21), abs=1e-12)
    kept.restart()
    kept.update(0.0, 1.2, (0.0, 1.0, 0.0))  # just not: half of what it would be at both ends
    assert kept.update(0.0, 1.2, (0.0, 1.0, 0.0)) == pytest.approx((0.0, 1.2 + 0.5 * PERIOD * 20 / 21), abs=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_it_is_never_farther_than_0_15_rad_from_what_was_measured(sign):
    kept = ComplementaryFilter(PERIOD, 0.1)
    kept.update(0.0, 0.0, (0.0, 0.0, 0.0))
    assert kept.update(sign * 0.5, -sign * 0.5, (0.0, 0.0, 0.0)) == pytest.approx((sign * 0.35, -sign * 0.35), abs=1e-12)
    kept.restart()
    kept.update(0.0, 0.0, (0.0, 0.0, 0.0))
    assert kept.update(sign * 0.15, sign * 0.15, (0.0, 0.0, 0.0)) == pytest.approx((sign * 0.15 / 21,) * 2, abs=1e-12)


@pytest.mark.parametrize("turn", [-30.0, 30.0])
def test_a_mad_gyro_leads_no_farther_than_the_bound(turn):
    kept = ComplementaryFilter(PERIOD, 0.1)
    for _ in range(100):
        roll, pitch = kept.update(0.02, -0.03, (turn, turn, 0.0))
        assert abs(roll - 0.02) <= AWAY_MAX + 1e-12 and abs(pitch + 0.03) <= AWAY_MAX + 1e-12
    assert roll - 0.02 == pytest.approx(math.copysign(AWAY_MAX, turn))


def test_a_fall_that_the_gyro_does_not_see_is_seen():
    """A gyro stuck at zero: 30 degrees are reached by what was measured."""
    kept = ComplementaryFilter(PERIOD, 0.1)
    kept.update(0.0, 0.0, (0.0, 0.0, 0.0))
    assert kept.update(0.0, 0.8, (0.0, 0.0, 0.0))[1] == pytest.approx(0.8 - AWAY_MAX)


def test_a_robot_on_its_back_does_not_spin():
    kept, seen = ComplementaryFilter(PERIOD, 0.1), []
    for k in range(40):
        roll, _ = kept.update(math.remainder(math.pi + 0.02 * (-1) ** k, 2 * math.pi), 0.0, (0.0, 0.0, 0.0))
        seen.append(abs(roll))
    assert min(seen) > math.pi - 0.03 and max(seen) <= math.pi


def test_a_steep_pitch_is_taken_as_measured():
    kept = ComplementaryFilter(PERIOD, 0.1)
    kept.update(0.0, 1.1, (0.0, 0.0, 0.0))
    assert kept.update(2.0, 1.55, (5.0, 5.0, 5.0)) == (2.0, 1.55)
    roll, pitch = kept.update(2.0, 1.1, (0.0, 0.0, 0.0))
    assert roll == pytest.approx(2.0) and abs(pitch - 1.1) <= AWAY_MAX


class Line:
    """Samples as the wire has them: a robot that lies still, whose angles alternate by a tenth of a radian."""

    def __init__(self) -> None:
        self.count, self.out = 0, b""

    def receive(self, data: bytes) -> None:
        del data

    def transmit(self) -> bytes:
        out, self.out = self.out, b""
        return out

    def sample(self, angle: float, rate: float = 0.0) -> None:
        self.count += 1
        numbers = (
            (0, 0, 2048 + self.count % 7),
            (round(rate / math.radians(2000) * 32768), 0, 0),
            (round(angle / math.pi * 32768), 0, 0),
        )
        for kind, three in zip((0x51, 0x52, 0x53), numbers, strict=True):
            body = struct.pack("<BB4h", 0x55, kind, *three, 0)
            self.out += body + bytes((sum(body) & 0xFF,))


@pytest.fixture
def rig():
    line, clock = Line(), LockstepClock()
    clock.advance(10**9)
    return line, clock, WitImu(MemoryPort(line, "imu0"), config.ImuPort(), clock)


def test_samples_that_nobody_reads_are_filtered_too(rig):
    line, clock, device = rig
    for k in range(200):
        line.sample(0.1 * (-1) ** k)
        if k % 4 == 3:
            clock.advance(20_000_000)
            sample = device.read()
    assert abs(sample.roll) < 0.02, "one in four, always the same one, would say -0.1"


def test_the_gyro_counts_in_radians(rig):
    line, clock, device = rig
    for k in range(100):
        line.sample(0.01 * k, rate=2.0)
        clock.advance(5_000_000)
        sample = device.read()
    assert sample.roll == pytest.approx(0.99, abs=0.003)


@pytest.mark.parametrize("broken", ["stray byte", "silence", "out of range", "frame lost"])
def test_after_lost_samples_it_begins_anew(rig, broken):
    line, clock, device = rig
    line.sample(0.0)
    device.read()
    clock.advance(5_000_000)
    if broken == "stray byte":
        line.out += b"\x01"
    elif broken == "silence":
        clock.advance(60_000_000)
        device.read()  # it looks late
        clock.advance(30_000_000)  # what comes from now on is new
    elif broken == "out of range":
        line.sample(0.0, rate=math.radians(2000) * 32767 / 32768)
    else:
        line.sample(0.0)
        line.out = line.out[:11] + line.out[22:]
    line.sample(0.1)
    assert device.read().roll == pytest.approx(0.1, abs=1e-4)
