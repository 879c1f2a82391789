"""What the chain makes of lines: which it believes, which it counts, and as what. Frames are put together by hand."""

from __future__ import annotations

import math
import struct
from dataclasses import replace

import pytest

from robotrl import config
from robotrl.clock import LockstepClock
from robotrl.drivers.chain import Chain
from robotrl.drivers.port import MemoryPort

SERVOS = config.Servos(ids=(1, 26), sign=(1, -1), offset=(0.5, -0.25), velocity_limit=20.0)
REACH = 1.5 * 20.0 * 0.05  # rad: row 4 of the fault catalogue, over 50 ms
TAU = math.tau


def crc(data: bytes) -> int:
    value = int.from_bytes(data, "big") << 8
    for bit in range(value.bit_length() - 1, 7, -1):
        if value >> bit & 1:
            value ^= 0x197 << bit - 8
    return value


def frame(turn=0.25, speed=0.5, torque=-0.75, mode=10, motor=47, volts=32, board=31, fault=0) -> bytes:
    """int8 mode; three f32 from position on; int8 motor temperature; int8 voltage, board temperature, fault."""
    return struct.pack(
        "<BBbBBfffBBbBBbbb", 0x21, 0, mode, 0x2F, 1, turn, speed, torque, 0x21, 0x0A, motor, 0x23, 0x0D, volts, board, fault
    )


class Wire:
    """Answers each query with the lines of `says`, a function of the query's host (0x40 to 0x7e in turn)."""

    def __init__(self) -> None:
        self.says, self.out, self.asked = lambda host: [], b"", []

    def receive(self, data: bytes) -> None:
        line = data.splitlines()[0]
        host = int(line.split()[2][:2], 16) - 0x80
        if host >= 0:
            self.asked.append(data)
            self.out += b"".join(said + b"\r\n" for said in self.says(host))

    def transmit(self) -> bytes:
        data, self.out = self.out, b""
        return data


@pytest.fixture
def rig():
    wire = Wire()
    return wire, Chain(MemoryPort(wire), SERVOS, LockstepClock())


def rcv(servo: int, host: int, frame: bytes, form: str = "x") -> bytes:
    return f"rcv {servo << 8 | host:{form}} {frame.hex()} E B".encode()


def read(rig, *lines, first: bytes = b""):
    """One cycle in which servo 26 answers well and these lines come too, each a function of the host."""
    wire, chain = rig
    wire.says = lambda host: [line(host) for line in lines] + [rcv(26, host, frame())]
    return chain.read(3)


def test_a_sound_answer_in_the_robots_units(rig):
    joints = read(rig, lambda host: rcv(1, host, frame(turn=1.0, speed=2.0, torque=3.0)))
    assert joints.position == pytest.approx((TAU - 0.5, -(0.25 * TAU + 0.25))) and joints.velocity == pytest.approx(
        (2 * TAU, -0.5 * TAU)
    )
    assert (joints.torque, joints.temp_c, joints.voltage) == ((3.0, 0.75), (47.0, 47.0), (16.0, 16.0))
    assert (joints.mode, joints.fault, joints.missed, joints.tick) == ((10, 10), (0, 0), (0, 0), 3)
    assert (rig[1].frame_errors, rig[1].late_replies) == (0, 0)


@pytest.mark.parametrize("form", ["x", "X", "04x", "04X"])
def test_ids_in_every_form(rig, form):
    wire, chain = rig
    for _ in range(2):
        wire.says = lambda host: [rcv(1, host, frame(), form), rcv(26, host, frame(), form)]
        assert chain.read(0).missed == (0, 0)
    assert (chain.frame_errors, chain.late_replies) == (0, 0)


@pytest.mark.parametrize(
    ("part", "shown", "value"),
    [
        ({"motor": 127, "board": 31}, "temp_c", 127.0),
        ({"motor": 1, "board": 31}, "temp_c", 1.0),
        ({"motor": -128, "board": -127}, "board_c", -127.0),
        ({"volts": 0}, "voltage", 0.0),
        ({"volts": 127}, "voltage", 63.5),
        ({"turn": 1000.0}, "position", 1000.0 * TAU - 0.5),
        ({"turn": -1000.0}, "position", -1000.0 * TAU - 0.5),
        ({"mode": 0}, "mode", 0),
        ({"mode": 127, "fault": 127}, "fault", 127),
        ({"speed": 159.15}, "velocity", 999.97),  # 1000 rad/s are the most that a velocity limit may be
        ({"speed": -159.15}, "velocity", -999.97),
        ({"torque": 100.0}, "torque", 100.0),
        ({"torque": -100.0}, "torque", -100.0),
    ],
)
def test_health(rig, part, shown, value):
    joints = read(rig, lambda host: rcv(1, host, frame(**part)))
    assert joints.missed[0] == 0 and getattr(joints, shown)[0] == pytest.approx(value, rel=1e-5)


def test_no_voltage_is_no_number(rig):
    joints = read(rig, lambda host: rcv(1, host, frame(volts=-128)))
    assert math.isnan(joints.voltage[0]) and joints.missed == (0, 0)


@pytest.mark.parametrize("celsius", [0, -1, -127, -128])
def test_a_winding_that_is_not_read_is_no_number(rig, celsius):
    joints = read(rig, lambda host: rcv(1, host, frame(motor=celsius, board=-128)))
    assert math.isnan(joints.temp_c[0]) and math.isnan(joints.board_c[0]) and joints.missed == (0, 0)


NAN = float("nan")


@pytest.mark.parametrize(
    "bad",
    [
        *({name: value} for name in ("turn", "speed", "torque") for value in (1e6, -1e6, NAN, math.inf, -math.inf)),
        *({"turn": value} for value in (1000.001, -1000.001)),
        *({"speed": value} for value in (159.16, -159.16)),
        *({"torque": value} for value in (100.001, -100.001)),
        {"volts": -1},
        {"volts": -127},
        {"mode": -1},
        {"fault": -1},
        {"mode": -128},
    ],
)
def test_values_that_no_servo_has_are_refused_and_counted(rig, bad):
    joints = read(rig, lambda host: rcv(1, host, frame(**bad)))
    assert (joints.missed[0] > 0, rig[1].frame_errors) == (True, 1)


@pytest.mark.parametrize("at", [0, 1, 3, 4, 17, 18, 20, 21])
def test_every_head_is_looked_at(rig, at):
    spoilt = bytearray(frame())
    spoilt[at] ^= 1
    joints = read(rig, lambda host: rcv(1, host, bytes(spoilt)))
    assert (joints.missed[0] > 0, rig[1].frame_errors) == (True, 1)


@pytest.mark.parametrize(
    ("change", "good"),
    [
        (lambda f: f + b"\x50" * 8, True),
        (lambda f: f + b"\x50\x51", False),
        (lambda f: f + b"\0", False),
        (lambda f: f[:-1], False),
        (lambda f: b"", False),
    ],
)
def test_padding_may_follow_and_nothing_else(rig, change, good):
    joints = read(rig, lambda host: rcv(1, host, change(frame())) if change(frame()) else b"rcv 100  E")
    assert (joints.missed[0] == 0) is good and rig[1].frame_errors == (0 if good else 1)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_jump_is_not_believed_until_the_joint_was_lost_for_three_cycles(rig, sign):
    def turned(rad: float):
        return lambda host: rcv(1, host, frame(turn=(0.5 + rad) / TAU))

    assert read(rig, turned(0.0)).position[0] == pytest.approx(0.0, abs=1e-6)
    assert read(rig, turned(sign * REACH * 0.999)).missed[0] == 0
    for missed in (1, 2, 3):
        joints = read(rig, turned(-sign * REACH * 0.01))
        assert (joints.missed[0], joints.position[0]) == (missed, pytest.approx(sign * REACH * 0.999, abs=1e-5))
    assert rig[1].frame_errors == 3
    joints = read(rig, turned(-sign * 90.0))
    assert joints.missed[0] == 0 and joints.position[0] == pytest.approx(-sign * 90.0, rel=1e-5)


def test_a_jump_of_just_what_can_be_is_believed():
    turn, angle = (0.25, 0.5), [turn * TAU - 0.5 for turn in (0.25, 0.5)]
    reach = angle[1] - angle[0]
    near = [reach / 0.075 * (1 + k * 2**-53) for k in range(-9, 10)]
    limit = next(v for v in near if 1.5 * v * 0.05 == reach)
    wire = Wire()
    rig = wire, Chain(MemoryPort(wire), replace(SERVOS, velocity_limit=limit), LockstepClock())
    for k in (0, 1, 0):
        assert read(rig, lambda host, k=k: rcv(1, host, frame(turn=turn[k]))).missed == (0, 0)


def test_the_first_angle_is_believed_wherever_it_is(rig):
    assert read(rig, lambda host: rcv(1, host, frame(turn=1000.0))).missed[0] == 0


TURNS = range(0x40, 0x7F)


@pytest.mark.parametrize("late", [1, 2, 3, 62])
def test_an_answer_to_an_earlier_cycle_is_late_and_one_to_nobody_an_error(rig, late):
    _, chain = rig
    for k in range(4):
        joints = read(rig, lambda host: rcv(1, TURNS[TURNS.index(host) - late], frame()))
        assert joints.missed[0] > 0 and (chain.late_replies, chain.frame_errors) == (k + 1, 0)
    read(rig, lambda host: rcv(2, host, frame()), lambda host: rcv(1, 0x12, frame()), lambda host: rcv(1, host, frame()))
    assert (chain.late_replies, chain.frame_errors) == (4, 2)
    read(rig, lambda host: rcv(1, TURNS[TURNS.index(host) - late], b"\0"))
    assert (chain.late_replies, chain.frame_errors) == (5, 2)


@pytest.mark.parametrize("held", [*range(1, 6), *range(59, 70), 126])
@pytest.mark.parametrize("first", [1, 2, 5, 9999])
def test_of_a_wire_that_was_held_up_no_answer_but_to_the_newest_question_is_taken(rig, held, first, monkeypatch):
    """All that was said meanwhile comes after the next question, `first` of it with this one, the rest with the one after it.

    The question's own number is also that of the one 63 cycles ago: who was silent for so long is believed again after
    three answers in cycles in which nothing came late.
    """
    wire, chain = rig
    monkeypatch.setattr("robotrl.drivers.sudden.JUMP_C", 1000.0)  # the board's temperature says here which cycle it is of
    said, taken = [], []
    for k in range(held + 8):

        def says(host: int, k: int = k) -> list[bytes]:
            said.append(rcv(1, host, frame(board=k - held)))
            count = 0 if 1 <= k <= held else first if k == held + 1 else len(said)
            out, said[:] = said[:count], said[count:]
            return [*out, rcv(26, host, frame())]

        wire.says = says
        joints = chain.read(3)
        taken.append((joints.missed[0] == 0, joints.board_c[0] == k - held))
    assert all(right for fresh, right in taken if fresh)
    assert all(fresh for fresh, _ in taken[held + 6 :])
    assert held >= 61 or taken[held + 2] == (True, True), "it was not silent for as long as numbers last"


@pytest.mark.parametrize(("silent", "doubted"), [(61, 0), (62, 3), (63, 3), (200, 3)])
def test_who_was_silent_for_as_long_as_numbers_last_is_believed_after_three_answers(rig, silent, doubted):
    _, chain = rig
    read(rig, lambda host: rcv(1, host, frame()))
    for k in range(silent):
        assert read(rig).missed == (k + 1, 0)
    for k in range(doubted):
        assert read(rig, lambda host: rcv(1, host, frame(turn=1.0))).missed == (silent + k + 1, 0)
    joints = read(rig, lambda host: rcv(1, host, frame(turn=1.0)))
    assert joints.missed == (0, 0) and joints.position[0] == pytest.approx(TAU - 0.5)
    assert (chain.frame_errors, chain.late_replies) == (0, 0)


def test_a_late_answer_among_those_three_and_they_are_counted_anew(rig):
    _, chain = rig
    read(rig, lambda host: rcv(1, host, frame()))
    for _ in range(62):
        read(rig)
    late = (lambda host: rcv(1, TURNS[TURNS.index(host) - 5], frame()),)
    for k, others in enumerate([(), (), late, (), (), ()]):
        assert read(rig, *others, lambda host: rcv(1, host, frame(turn=1.0))).missed == (63 + k, 0)
    assert read(rig, lambda host: rcv(1, host, frame(turn=1.0))).missed == (0, 0)
    assert (chain.frame_errors, chain.late_replies) == (0, 1)


def test_queries_come_from_63_hosts_in_turn(rig):
    wire, _ = rig
    for _ in range(64):
        read(rig)
    assert [data.split()[2] for data in wire.asked] == [*(b"%x01" % host for host in range(0xC0, 0xFF)), b"c001"]


def test_a_second_answer_is_an_error_and_its_servo_is_named(rig):
    _, chain = rig
    joints = read(rig, *(lambda host, s=s: rcv(1, host, frame(speed=s)) for s in (1.0, 2.0, 3.0)))
    assert joints.missed == (0, 0) and joints.velocity[0] == pytest.approx(TAU) and chain.frame_errors == 2, "the first stays"
    found = chain.check()
    assert any("servo 1 on memory: answers twice" in line for line in found) and not any(
        "servo 26 on memory: answers" in line for line in found
    )


@pytest.mark.parametrize(
    ("line", "errors"),
    [
        (b"OK", 0),
        (b"OK *BD", 0),
        (b"OK 1", 0),
        (b"ERR unknown", 1),
        (b"ERR", 1),
        (b"OK *BE", 1),
        (b"rubbish", 1),
        (b"rcv 101 zz", 1),
        (b"rcv 101 \xff", 1),
        (b"rcv 101", 1),
        (b"rcv", 1),
        (b"xrcv 99 00", 1),
        (b"rcv 140 00 *00", 1),
        (b"rcv 140", 1),
        (b"rcv 140 zz", 1),
        (b"rcv 140 \xff", 1),
        (b"can 140 " + frame().hex().encode(), 1),
        (b"x 140 " + frame().hex().encode() + b" rcv", 1),
    ],
)
def test_what_else_a_line_may_be(rig, line, errors):
    assert read(rig, lambda host: line).missed[0] > 0
    assert (rig[1].frame_errors, rig[1].late_replies, rig[1].checksum) == (errors, 0, False)


@pytest.mark.parametrize("before", [b"\x00\x07", b"rcv 9 00", b"junk "])
def test_an_answer_glued_to_what_was_torn_is_read(rig, before):
    joints = read(rig, lambda host: before + rcv(1, host, frame()))
    assert joints.missed == (0, 0) and rig[1].frame_errors == 0


def summed(line: bytes) -> bytes:
    return line + b" *%02X" % crc(line + b" ")


def test_a_checksum_is_looked_at_also_where_none_is_asked_for(rig):
    assert read(rig, lambda host: summed(rcv(1, host, frame()))).missed == (0, 0)
    assert read(rig, lambda host: summed(rcv(1, host, frame()))[:-1] + b"z").missed == (1, 0)
    assert rig[1].frame_errors == 1 and rig[1].checksum is False


def test_checksums_are_turned_on_where_the_far_end_asks_for_them(rig):
    wire, chain = rig
    read(rig, lambda host: b"ERR Checksum wrong")
    assert chain.checksum is True and chain.frame_errors == 2, "the answer after it had none"
    joints = read(rig, lambda host: rcv(1, host, frame()))  # without a checksum nothing is believed any more
    assert joints.missed[0] > 0 and joints.missed[1] > 0 and chain.frame_errors == 4
    first = wire.asked[-1].splitlines()[0]
    assert first == summed(first[:-4]), "what is asked carries one"
    wire.says = lambda host: [b"ERR checksum", *(summed(rcv(servo, host, frame())) for servo in (1, 26))]
    assert chain.read(0).missed == (0, 0) and chain.frame_errors == 5
    wire.says = lambda host: [b"OK checksum", *(summed(rcv(servo, host, frame())) for servo in (1, 26))]
    assert chain.read(0).missed == (0, 0) and chain.frame_errors == 5


@pytest.mark.parametrize(
    ("lines", "with_sums", "late", "errors"),
    [
        ([rcv(1, 0x41, frame()), rcv(26, 0x42, frame())], False, 2, 0),
        ([rcv(1, 0x40, b"P"), summed(rcv(1, 0x7E, b"P"))], False, 2, 0),  # of whom, not what, it is that tells
        ([rcv(3, 0x41, frame()), rcv(1, 0x3F, frame()), rcv(3, 0x41, b"P")], False, 0, 3),
        ([b"OK", b"OK extra", b"ERR no such frame", b"noise"], False, 0, 2),
        ([summed(rcv(1, 0x41, frame())), summed(rcv(3, 0x41, frame())), summed(b"OK")], True, 1, 1),
        ([rcv(1, 0x41, frame()), rcv(3, 0x41, frame()), rcv(1, 0x41, frame()) + b" *00"], True, 0, 3),
    ],
)
def test_what_came_before_the_question_is_counted_as_what_it_is_and_not_believed(lines, with_sums, late, errors):
    wire = Wire()
    chain = Chain(MemoryPort(wire), SERVOS, LockstepClock(), with_sums)
    wire.out = b"".join(line + b"\r\n" for line in lines)
    joints = chain.read(0)
    assert (chain.late_replies, chain.frame_errors) == (late, errors)
    assert joints.missed == (4, 4) and chain.checksum is with_sums


def test_a_word_about_checksums_that_comes_late_is_heeded(rig):
    wire, chain = rig
    wire.out = b"ERR checksum\r\n"
    chain.read(0)
    assert chain.checksum and wire.asked == [data for data in wire.asked if b" *" in data] and chain.frame_errors == 1
