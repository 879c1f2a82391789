"""The tracker's lines: what is taken, what is refused, what is counted."""

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robotrl.clock import LockstepClock
from robotrl.drivers.port import MemoryPort
from robotrl.drivers.tracker import PoseStream, make_line, parse_line

GOOD = b"pose 7 1500 1.0 -2.5 0.25 0.1 -0.2 3.0 *"


def crc(data: bytes) -> int:
    """CRC-8 polynomial 0x97 bit by bit, apart from the driver's table."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1) ^ 0x97 if value & 0x80 else value << 1
            value &= 0xFF
    return value


def summed(text: bytes) -> bytes:
    return text + b"%02X\n" % crc(text[:-1])


class Wire:
    def __init__(self) -> None:
        self.out = b""

    def receive(self, data: bytes) -> None:
        raise AssertionError("the tracker is only listened to")

    def transmit(self) -> bytes:
        data, self.out = self.out, b""
        return data


@pytest.fixture
def line():
    wire, clock = Wire(), LockstepClock()
    clock.advance(10_000_000_000)
    return wire, clock, PoseStream(MemoryPort(wire), clock)


def test_a_pose_is_stamped_with_the_time_of_its_picture(line):
    wire, clock, stream = line
    wire.out = summed(GOOD)
    (pose,) = stream.read()
    assert pose.t == clock.now() - 1_500_000
    assert pose.position == (1.0, -2.5, 0.25)
    assert pose.rpy == (0.1, -0.2, 3.0)
    assert stream.read() == []


def test_gaps_repeats_and_a_restarted_sender(line):
    wire, _, stream = line
    wire.out = b"".join(make_line(seq, 0, (0, 0, 0), (0, 0, 0)) for seq in (5, 6, 9, 9, 10, 0, 1))
    assert len(stream.read()) == 6
    assert (stream.lost, stream.repeats, stream.bad_lines) == (2, 1, 0)


@pytest.mark.parametrize(
    "text",
    [
        b"pose 7 1500 nan -2.5 0.25 0.1 -0.2 3.0 *",
        b"pose 7 1500 1.0 inf 0.25 0.1 -0.2 3.0 *",
        b"pose 7 1500 1.0 1e309 0.25 0.1 -0.2 3.0 *",
        b"pose 7 1500 1.0 1e9 0.25 0.1 -0.2 3.0 *",
        b"pose 7 -1 1.0 0 0.25 0.1 -0.2 3.0 *",
        b"pose 7 1_500 1.0 0 0.25 0.1 -0.2 3.0 *",
        b"pose 999999999999999999 1500 1.0 0 0.25 0.1 -0.2 3.0 *",
        b"pose 7 6000000 1.0 0 0.25 0.1 -0.2 3.0 *",
        b"pose -7 15 1.0 0 0.25 0.1 -0.2 3.0 *",
        b"pose 7 1500 1.0 -2.5 0.25 0.1 -0.2 *",
        b"pose 7 1500 1.0 -2.5 0.25 0.1 -0.2 3.0 4.0 *",
        b"pose x 1500 1.0 -2.5 0.25 0.1 -0.2 3.0 *",
        b"post 7 1500 1.0 -2.5 0.25 0.1 -0.2 3.0 *",
    ],
)
def test_refused_even_with_a_right_checksum(line, text):
    wire, _, stream = line
    wire.out = summed(text) + summed(GOOD)
    assert [pose.position for pose in stream.read()] == [(1.0, -2.5, 0.25)]
    assert stream.bad_lines == 1


def test_every_single_bit_error_is_refused():
    good = summed(GOOD).rstrip()
    assert parse_line(good) is not None
    for at in range(len(good)):
        for bit in range(8):
            bad = good[:at] + bytes((good[at] ^ 1 << bit,)) + good[at + 1 :]
            assert parse_line(bad) is None, bad


@given(st.lists(st.floats(-999, 999), min_size=6, max_size=6), st.integers(0, 2**40), st.integers(0, 5_000_000))
@settings(max_examples=200, deadline=None)
def test_round_trip(numbers, seq, age):
    got = parse_line(make_line(seq, age, tuple(numbers[:3]), tuple(numbers[3:])))
    assert got is not None and got[:2] == (seq, age)
    assert got[2] == pytest.approx(numbers, abs=1e-6)


def test_no_line_is_made_of_what_is_not_finite():
    with pytest.raises(ValueError, match="finite"):
        make_line(0, 0, (float("nan"), 0, 0), (0, 0, 0))


def test_fuzzed_streams_never_raise_and_the_next_good_line_is_found(line):
    wire, _, stream = line
    rng = random.Random(3)
    for seq in range(3000):
        torn = make_line(0, 5, (1, 2, 3), (0, 0, 0))[: rng.randrange(60)]
        noise = torn + rng.randbytes(rng.randrange(80)) + struct.pack("<d", rng.random())
        data = noise + (b"\n" if rng.random() < 0.5 else b"") + make_line(seq, 0, (seq / 8, 0, 0), (0, 0, 0))
        seen = []
        while data:
            cut = rng.randint(1, 90)
            wire.out, data = data[:cut], data[cut:]
            seen += stream.read()
        assert seen[-1].position[0] == seq / 8 or stream.repeats
        assert len(seen) == 1


def test_what_has_waited_while_nobody_looked_is_not_taken_for_new(line):
    """How old a picture was when its line came is known; when that was is not, for whoever slept."""
    wire, clock, stream = line
    assert stream.read() == []
    clock.advance(60_000_000)
    wire.out = summed(GOOD)
    assert len(stream.read()) == 1
    clock.advance(61_000_000)
    wire.out = summed(GOOD.replace(b"pose 7", b"pose 8")) + b"pose 9 15"
    assert stream.read() == []
    clock.advance(50_000_000)
    wire.out = summed(GOOD.replace(b"pose 7", b"pose 8"))  # held back by the system
    assert stream.read() == []
    clock.advance(49_000_000)
    wire.out = b"pose 9 15"
    assert stream.read() == []
    wire.out = b"00 1.0 -2.5 0.25 0.1 -0.2 3.0 *00\n" + summed(GOOD.replace(b"pose 7", b"pose 9"))
    clock.advance(4_000_000)
    (pose,) = stream.read()
    assert pose.t == clock.now() - 1_500_000


def test_a_burst_has_been_held_up_and_is_thrown_away(line):
    wire, clock, stream = line
    poses = [summed(GOOD.replace(b"pose 7", b"pose %d" % n)) for n in range(20)]
    wire.out = b"".join(poses[:8])
    assert len(stream.read()) == 8
    clock.advance(4_000_000)
    wire.out = b"".join(poses[8:17])
    assert stream.read() == []
    clock.advance(50_000_000)
    wire.out = poses[17]
    assert stream.read() == []
    clock.advance(50_000_000)
    wire.out = poses[18]
    assert len(stream.read()) == 1
