"""The IMU's driver where samples were lost, late or in parts: what is forgotten, what counts, and what is on tape."""

from __future__ import annotations

import math

import pytest

from robotrl import config
from robotrl.clock import LockstepClock
from robotrl.drivers import imu
from robotrl.drivers.imu import WitImu
from robotrl.drivers.tape import Tape
from tests.drivers.test_imu_exact import ANSWERS, MS, Rig, Wire, connecting, frame, sample

STEP = math.pi / 32768  # rad
LATE, HELD_BACK = 60 * MS, 30 * MS


@pytest.mark.parametrize(("sizes", "reads"), [((65_536,), 1), ((65_535, 20), 2), ((1024,) * 64, 64)])
def test_of_what_waited_no_more_than_64_kib_is_thrown_away_at_once(sizes, reads):
    clock, wire = LockstepClock(), Wire(*(b"x" * size for size in sizes), b"")
    device = WitImu(wire, config.ImuPort(), clock)
    clock.advance(LATE)
    assert device.read() is None and len(wire.deadlines) == reads and device.errors == 0


def test_errors_of_before_a_late_look_still_count():
    rig = Rig()
    rig.read(b"junk" * 5)
    assert rig.device.errors == 1
    rig.later(LATE)
    assert rig.device.errors == 1


@pytest.mark.parametrize("cut", [5, 11, 15, 22, 25])
def test_the_rest_of_what_a_late_look_threw_away_is_no_sample(cut):
    rig = Rig()
    assert rig.read(sample()[:cut]) is None and rig.later(LATE) is None
    assert rig.later(HELD_BACK, sample()[cut:]) is None


def test_for_30_ms_after_a_late_look_what_comes_may_have_waited():
    rig = Rig()
    assert rig.later(LATE) is None and rig.later(HELD_BACK - 1, sample()) is None
    assert rig.later(1, sample()) is not None


@pytest.mark.parametrize("at", range(33))
def test_of_a_whole_sample_no_byte_may_be_wrong(at):
    rig, bad = Rig(), bytearray(sample())
    bad[at] ^= 4
    assert rig.read(bytes(bad)) is None
    assert rig.read(sample(angles=(0, 0, 5))).yaw == 5 * STEP and rig.device.errors == 1


def test_after_a_late_look_the_angles_are_as_measured():
    rig = Rig()
    assert rig.read(sample()).roll == 0.0 and rig.later(LATE).roll == 0.0
    got = rig.later(HELD_BACK, sample(angles=(1000, 500, 0)))
    assert (got.roll, got.pitch) == (1000 * STEP, 500 * STEP)


def test_whole_samples_behind_a_torn_frame_count_and_so_does_the_tear():
    rig = Rig()
    assert rig.read(frame(0x51)[:5]) is None and rig.device.errors == 0
    assert rig.read(sample(angles=(0, 0, 7))).yaw == 7 * STEP and rig.device.errors == 1


def test_each_run_that_is_skipped_is_an_error_of_its_own():
    rig = Rig()
    for n in (1, 2):
        rig.read(b"x" * 20)
        assert rig.device.errors == n and rig.read(sample(angles=(0, 0, n))).yaw == n * STEP


def test_in_pieces_a_sample_holds_three_numbers_a_frame_and_is_used_once():
    rig, stale = Rig(), []
    for k in range(5):
        whole = frame(0x51, 1, 2, 3, k) + frame(0x52, 0, 0, 0, k) + frame(0x53, 0, 0, 1, k) + frame(0x53, 0, 0, 2, k)
        rig.later(MS, whole[:5])
        got = rig.read(whole[5:])
        assert got.yaw == STEP
        stale.append(got.stale)
    assert stale == [False] * 4 + [True]


@pytest.mark.parametrize(("passed", "anew"), [(59_999_999, False), (60 * MS, True)])
def test_after_60_ms_without_a_sample_the_angles_are_as_measured(passed, anew):
    rig = Rig()
    rig.read(sample())
    rig.later(HELD_BACK)
    assert (rig.later(passed - HELD_BACK, sample(angles=(1000, 0, 0))).roll == 1000 * STEP) is anew


@pytest.mark.parametrize(
    ("axis", "rolled", "roll_by", "pitch_by"), [(0, 0, 1, 0), (1, 0, 0, 1), (2, 16384, 0, -1), (1, 16384, 0, 0), (2, 0, 0, 0)]
)
def test_each_axis_of_the_gyro_turns_its_angle(axis, rolled, roll_by, pitch_by):
    """5 ms at 1000 steps of 2000/32768 degree/s; smoothed over 100 ms: the filter keeps 20 parts of 21."""
    rig, rates = Rig(), tuple(1000 * (k == axis) for k in range(3))
    rig.read(sample(angles=(rolled, 0, 0), rates=rates))
    got = rig.later(5 * MS, sample(angles=(rolled, 0, 0), rates=rates))
    turned = math.radians(2000) / 32768 * 1000 * 0.005 * 20 / 21
    assert got.roll == pytest.approx(rolled * STEP + roll_by * turned, abs=3e-5)
    assert got.pitch == pytest.approx(pitch_by * turned, abs=3e-5)
    assert turned > 5e-3


def test_parts_of_an_earlier_sample_do_not_make_one_with_later_angles():
    rig = Rig()
    assert rig.read(frame(0x51, 0, 0, 2048) + frame(0x52)) is None
    assert rig.read(sample(angles=(0, 0, 1)) + frame(0x53, 0, 0, 2)).yaw == STEP


def test_what_a_sensor_says_while_it_is_set_up_is_on_tape(monkeypatch):
    wire = Wire(*ANSWERS, b"")
    _, clock, _, _ = connecting(monkeypatch, [wire])
    tape = Tape(clock)
    port, device = imu.connect(config.ImuPort(port="/dev/imu", rate_hz=50), clock, print, tape)
    assert port is wire and device.read() is None
    exchange = tape.take(0)
    passed = exchange.kinds.replace("c", "")
    written = [data for kind, data in zip(passed, exchange.data, strict=True) if kind == "w"]
    assert written == wire.sent and passed.count("r") == len(wire.deadlines) and exchange.kinds.count("c") > 3
