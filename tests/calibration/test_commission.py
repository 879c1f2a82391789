"""Commissioning: what it measures, and that anything amiss ends it with the motors off and no record."""

from __future__ import annotations

import itertools
import math

import pytest

from robotrl.calibration import commission, homing, measure, store
from robotrl.calibration.store import CalibrationError
from robotrl.drivers import identity, moteus
from robotrl.drivers.port import DeviceError, MemoryPort
from robotrl.drivers.tables import Width

POSE = (math.pi / 2,) * 8
FIRMWARE = ("1.2.0",) * 8


@pytest.fixture
def calibration(chain, robot, clock, tmp_path):
    path = store.path_of(store.Calibration, robot, tmp_path)
    store.write(homing.measure(chain, robot, POSE, clock), path)
    return path


def test_a_sound_robot_gets_its_record(chain, robot, clock, calibration, tmp_path):
    record = commission.commission(chain, robot, clock, FIRMWARE, calibration, lambda i, way: True)
    assert chain.configured
    assert all(0.09 <= trip <= 0.12 for trip in record.trip_s)
    assert record.moved == pytest.approx((measure.STEP_RAD,) * 8, rel=0.05)
    assert 0.0 < record.stop_s < 0.5 and all(0.0 < rad < 0.1 for rad in record.stop_rad)
    assert (record.seen, record.firmware[0]) == ("operator", "1.2.0")
    assert chain.calls[-1] == "stop" and chain.confirmed_off()
    store.write(record, store.path_of(store.Commissioning, robot, tmp_path))
    assert store.commissioned(robot, tmp_path) == record


def test_the_motors_come_to_the_homing_pose_slowly(chain, robot, clock):
    chain.angle = [0.3, 2.9] * 4
    steps, write = [], chain.write
    chain.write = lambda targets: steps.append(targets) or write(targets)
    measure.sign_test(chain, robot, clock, POSE)
    assert chain.angle == pytest.approx(POSE, abs=0.02)
    jumps = [abs(a - b) for one, two in itertools.pairwise(steps) for a, b in zip(one, two, strict=True)]
    assert max(jumps) <= measure.SPEED * 0.02 + 0.01


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda c: setattr(c, "complaints", ["servo 3: does not answer"]), "servo 3: does not answer"),
        (lambda c: c.watchdog_s.__setitem__(6, math.inf), "servo 7: watchdog did not stop it within 0.5 s"),
        (lambda c: c.watchdog_s.__setitem__(0, 0.3), "servo 1: watchdog tripped after 0.3"),
        (lambda c: c.watchdog_s.__setitem__(0, 0.03), "servo 1: watchdog tripped after 0.0"),
        (lambda c: c.gain.__setitem__(1, 0.0), "servo 2 went"),
        (lambda c: c.gain.__setitem__(1, -30.0), "servo 2 is"),
        (lambda c: c.fault.__setitem__(2, 33), "servo 3 reports fault 33"),
        (lambda c: c.missed.__setitem__(3, 3), "servo 4 does not answer"),
        (lambda c: c.angle.__setitem__(0, 5.0), r"servo 1 is \+3.43 rad from the homing pose"),
        (lambda c: setattr(c, "damping", 0.0), "still turning"),
        (lambda c: setattr(c, "deaf", True), "not confirmed"),
    ],
)
def test_anything_amiss_ends_it_with_the_motors_damped_and_off(chain, robot, clock, calibration, break_it, says):
    break_it(chain)
    with pytest.raises(CalibrationError, match=says):
        commission.commission(chain, robot, clock, FIRMWARE, calibration)
    assert chain.calls[-1] == "stop"
    if "write" in chain.calls:
        since = chain.calls[len(chain.calls) - chain.calls[::-1].index("write") :]
        assert set(since) == {"damp", "stop"}


def test_a_person_who_saw_it_turn_the_wrong_way_is_believed(chain, robot, clock, calibration):
    with pytest.raises(CalibrationError, match=r"servo 4 turned the wrong way; turn sign\[3\]"):
        commission.commission(chain, robot, clock, FIRMWARE, calibration, lambda i, way: i != 3)
    assert chain.calls[-1] == "stop"


def test_a_record_that_only_the_encoders_saw_is_refused(chain, robot, clock, calibration, tmp_path):
    """An encoder turns with its motor: it cannot tell that one is mounted the other way round."""
    record = commission.commission(chain, robot, clock, FIRMWARE, calibration)
    assert record.seen == "encoder"
    store.write(record, store.path_of(store.Commissioning, robot, tmp_path))
    with pytest.raises(CalibrationError, match=r"nobody saw which way the motors turn.*without --yes"):
        store.commissioned(robot, tmp_path)


def test_a_person_who_saw_it_is_in_the_record(chain, robot, clock, calibration):
    assert commission.commission(chain, robot, clock, FIRMWARE, calibration, lambda i, way: True).seen == "operator"


class Board:
    """The far end of a wire with servos that say who they are; `mute` says nothing, noise comes first."""

    def __init__(self, mute: int = 0) -> None:
        self.mute, self.out = mute, b""

    def receive(self, data: bytes) -> None:
        for line in data.splitlines():
            got = moteus.parse_line(line.replace(b"can send ", b"rcv "))
            servo, host = got.can_id & 0x7F, got.can_id >> 8 & 0x7F
            frame = moteus.make_reply(0x101, Width.INT32, 0x010203)
            frame += moteus.make_reply(0x120, Width.INT32, -1, servo, 7)
            self.out += b"OK\nrcv 0100 2400\nnoise\n"
            if servo != self.mute:
                self.out += b"rcv %04x %b\n" % (servo << 8 | host, frame.hex().encode())

    def transmit(self) -> bytes:
        out, self.out = self.out, b""
        return out


def test_each_servo_says_who_it_is(clock):
    found = identity.identify(MemoryPort(Board()), (1, 2), clock)
    assert found == [identity.Identity("1.2.3", f"ffffffff{i:08x}00000007") for i in (1, 2)]


def test_a_servo_that_does_not_say_is_named(clock):
    with pytest.raises(DeviceError, match="servo 2 does not say who it is"):
        identity.identify(MemoryPort(Board(mute=2)), (1, 2, 3), clock)


def test_a_servo_that_says_infinity_for_who_it_is_does_not_say(clock):
    class Boundless(Board):
        def receive(self, data: bytes) -> None:
            for register, count in ((0x101, 1), (0x120, 3)):
                frame = moteus.make_reply(register, Width.F32, *[float("inf")] * count)
                self.out += b"rcv 0110 %b\n" % frame.hex().encode()
            frame = moteus.make_reply(0x101, Width.F32, float("inf")) + moteus.make_reply(0x120, Width.F32, *[float("inf")] * 3)
            self.out += b"rcv 0110 %b\n" % frame.hex().encode()

    with pytest.raises(DeviceError, match="servo 1 does not say who it is"):
        identity.identify(MemoryPort(Boundless()), (1,), clock)
