"""The pose line at its limits, and a reader whose wire never ends."""

from __future__ import annotations

import math

import pytest

from robotrl.clock import LockstepClock
from robotrl.drivers.port import MemoryPort
from robotrl.drivers.tracker import PoseStream, make_line, parse_line
from tests.drivers.held import Held

NUMBERS = (1.0, -2.0, 3.0, 0.1, -0.2, 0.3)


def line(text: str) -> bytes:
    """`text *XX`, the sum by long division by x^8 + x^7 + x^4 + x^2 + x + 1."""
    body = f"{text} ".encode()
    value = int.from_bytes(body, "big") << 8
    for bit in range(value.bit_length() - 1, 7, -1):
        if value >> bit & 1:
            value ^= 0x197 << bit - 8
    return body + b"*%02X" % value


def pose(seq: object = 1, age: object = 2, numbers: tuple[object, ...] = NUMBERS) -> bytes:
    return line(f"pose {seq} {age} {' '.join(map(str, numbers))}")


def test_the_line_is_what_the_page_says():
    made = make_line(7, 1500, NUMBERS[:3], NUMBERS[3:])
    assert made == line("pose 7 1500 1.000000 -2.000000 3.000000 0.100000 -0.200000 0.300000") + b"\n"
    assert parse_line(made) == (7, 1500, NUMBERS) and parse_line(b"pose 9 x pose " + made + b" \r\n") == (7, 1500, NUMBERS)


@pytest.mark.parametrize(
    ("changes", "sound"),
    [
        ({"seq": 0}, True),
        ({"seq": -1}, False),
        ({"seq": 1 << 48}, True),
        ({"seq": (1 << 48) + 1}, False),
        ({"seq": "1_0"}, False),
        ({"age": "1_0"}, False),
        ({"numbers": (*NUMBERS[:5], "1_0.5")}, False),
        ({"age": 0}, True),
        ({"age": -1}, False),
        ({"age": 5_000_000}, True),
        ({"age": 5_000_001}, False),
        ({"seq": "1.0"}, False),
        ({"age": "x"}, False),
        *(
            ({"numbers": (*NUMBERS[:k], value, *NUMBERS[k + 1 :])}, abs(value) <= 1000)
            for k in range(6)
            for value in (1000.0, -1000.0, 1000.001, -1000.001)
        ),
        ({"numbers": (*NUMBERS[:5], "nan")}, False),
        ({"numbers": ("inf", *NUMBERS[1:])}, False),
        ({"numbers": NUMBERS[:5]}, False),
        ({"numbers": (*NUMBERS, 1.0)}, False),
        ({"numbers": (*NUMBERS[:5], "one")}, False),
    ],
)
def test_what_is_just_a_pose_and_what_is_not(changes, sound):
    assert (parse_line(pose(**changes)) is not None) is sound


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"*",
        b"pose",
        pose()[:-1],
        pose()[:-3],
        pose() + b"0",
        pose().replace(b"*", b"+"),
        line("pase 1 2 1 2 3 4 5 6"),
        line("a pos 1 2 1 2 3 4 5 6"),
    ],
)
def test_what_is_no_line(bad):
    assert parse_line(bad) is None


@pytest.mark.parametrize(
    "numbers",
    [
        NUMBERS[:5],
        (*NUMBERS, 0.0),
        (),
        *((*NUMBERS[:k], bad, *NUMBERS[k + 1 :]) for k in range(6) for bad in (math.nan, math.inf)),
    ],
)
def test_a_line_has_six_finite_numbers(numbers):
    with pytest.raises(ValueError, match="six finite numbers"):
        make_line(0, 0, numbers[:3], numbers[3:])


class Far:
    def __init__(self) -> None:
        self.data = b""

    def receive(self, data: bytes) -> None: ...

    def transmit(self) -> bytes:
        data, self.data = self.data, b""
        return data


def test_poses_of_one_read_in_order_with_the_time_of_their_pictures():
    far, clock = Far(), LockstepClock()
    clock.advance(10**9)
    stream = PoseStream(MemoryPort(far), clock)
    assert (stream.bad_lines, stream.lost, stream.repeats, stream.read()) == (0, 0, 0, [])
    far.data = b"\n".join([pose(5, 1000), b"  ", b"junk", pose(6, 0), pose(6, 0), b"", pose(9, 2000), pose(9), pose(0, 7), b""])
    poses = stream.read()
    assert [p.t for p in poses] == [10**9 - 1_000_000, 10**9, 10**9 - 2_000_000, 10**9 - 7000]
    assert all((p.position, p.rpy) == (NUMBERS[:3], NUMBERS[3:]) for p in poses)
    assert (stream.bad_lines, stream.lost, stream.repeats) == (1, 2, 2)
    far.data = pose(2) + b"\n" + pose(3) + b"\n"
    assert len(stream.read()) == 2 and stream.lost == 3


class Endless:
    """A port that always has more: what `first` says, then a kilobyte at a time."""

    name = "mad"

    def __init__(self, *first: int) -> None:
        self.reads: list[int] = []
        self._first = list(first)

    def write(self, data: bytes) -> None: ...

    def read(self, deadline: int, limit: int = 4096) -> bytes:
        self.reads.append(deadline)
        return b"x" * (self._first.pop(0) if self._first else 1024)

    def close(self) -> None: ...


@pytest.mark.parametrize(("first", "reads"), [((), 64), ((65_536,), 1), ((65_535,), 2), ((65_535, 1), 2)])
def test_a_wire_that_never_ends_does_not_hold_the_reader(first, reads):
    port, clock = Endless(*first), LockstepClock()
    clock.advance(5)
    assert PoseStream(port, clock).read() == [] and port.reads == [5] * reads  # until there were 65,536 bytes


def test_what_is_there_at_the_beginning_of_time_is_read():
    far, clock = Far(), LockstepClock()
    stream, far.data = PoseStream(MemoryPort(far), clock), pose() + b"\n"
    assert clock.now() == 0 and len(stream.read()) == 1


def test_half_a_line_from_before_a_late_look_is_forgotten():
    far, clock = Far(), LockstepClock()
    stream, whole = PoseStream(MemoryPort(far), clock), pose() + b"\n"
    far.data = whole[:20]
    assert stream.read() == []
    clock.advance(10**9)
    assert stream.read() == []
    for _ in range(2):
        clock.advance(50_000_000)
        far.data = whole[20:]
        assert stream.read() == []
    assert stream.bad_lines == 1


@pytest.mark.parametrize("cut", [1, 20, len(pose()), len(pose()) + 1])
def test_a_pose_may_come_in_two_looks(cut):
    far, clock = Far(), LockstepClock()
    clock.advance(10**9)
    stream, whole = PoseStream(MemoryPort(far), clock), pose() + b"\n"
    far.data = whole[:cut]
    assert len(stream.read()) == (cut == len(whole))
    clock.advance(50_000_000)
    far.data = whole[cut:]
    assert len(stream.read()) == (cut < len(whole)) and stream.bad_lines == 0


@pytest.mark.parametrize(("passed", "taken"), [(60_000_000, 1), (60_000_001, 0)])
def test_a_look_is_late_after_60_ms_to_the_nanosecond(passed, taken):
    far, clock = Far(), LockstepClock()
    clock.advance(10**9)
    stream = PoseStream(MemoryPort(far), clock)
    clock.advance(passed)
    far.data = pose() + b"\n"
    assert len(stream.read()) == taken


def test_words_are_parted_by_any_space():
    assert parse_line(line("pose\t1 2  1 2 3\t4 5 6")) == (1, 2, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0))


@pytest.mark.parametrize("passed", [60_000_000, 60_000_001, 10**9])
@pytest.mark.parametrize(("first", "reads"), [((), 64), ((65_535,), 2), ((65_536,), 1)])
def test_nor_while_what_waited_is_thrown_away(passed, first, reads):
    port, clock = Endless(*first), LockstepClock()
    stream = PoseStream(port, clock)
    clock.advance(passed)
    assert stream.read() == [] and len(port.reads) == reads


@pytest.mark.parametrize(("count", "passed", "taken"), [(8, 0, 8), (9, 99_999_999, 0), (9, 100_000_000, 1)])
def test_more_poses_at_once_than_a_sender_has_ready_are_none_and_for_a_tenth_of_a_second_none_are(count, passed, taken):
    far, clock = Far(), LockstepClock()
    clock.advance(10**9)
    stream = PoseStream(MemoryPort(far, "cam"), clock)
    far.data = b"".join(pose(k) + b"\n" for k in range(count))
    assert len(stream.read()) == (8 if count == 8 else 0)
    while passed:
        clock.advance(step := min(passed, 50_000_000))
        passed -= step
        if passed:
            assert stream.read() == []
    far.data = pose(20) + b"\n"
    assert len(stream.read()) == (1 if count == 8 else taken)


@pytest.mark.parametrize(("before", "after", "taken"), [(30, 30, 1), (61, 0, 0), (0, 61, 0)])
def test_a_look_that_is_held_up_in_its_midst_is_a_late_one(before, after, taken):
    clock = LockstepClock()
    clock.advance(10**9)
    port = Held(clock, 0, 0)
    stream = PoseStream(port, clock)
    assert stream.read() == []
    port.before, port.after, port.data = before * 10**6, after * 10**6, pose(1) + b"\n"
    assert len(stream.read()) == taken


@pytest.mark.parametrize(("passed", "taken"), [(60_000_000, 1), (60_000_001, 0)])
def test_who_looks_later_than_60_ms_throws_away_what_waits(passed, taken):
    far, clock = Far(), LockstepClock()
    clock.advance(10**9)
    stream = PoseStream(MemoryPort(far, "cam"), clock)
    clock.advance(200_000_000)
    stream.read()
    for _ in range(4):
        clock.advance(50_000_000)
        stream.read()
    clock.advance(passed)
    far.data = pose(1) + b"\n"
    assert len(stream.read()) == taken
