"""The witness at a line of bus servos: it has nothing against a robot that keeps the rules, and sees each breach of them."""

from __future__ import annotations

import math

import pytest

from tests.safety.linefamilies import DynamixelWitness, FeetechWitness
from tests.safety.lineframes import Frame, dynamixel, feetech
from tests.safety.linewitness import LineBounds, LineWitness

T = 20_000_000
TICK = 2 * math.pi / 4096
IDS = (11, 12)
STEP = 26 * TICK  # rad, of a period: what the robot file allows
FAMILIES = ("dynamixel", "feetech")


def sealed(body: bytes) -> bytes:
    crc = 0
    for byte in body:  # bit by bit, as the manual's text has it
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x8005 if crc & 0x8000 else crc << 1) & 0xFFFF
    return body + crc.to_bytes(2, "little")


class Line:
    """Writes what a driver writes and says what two servos say, a period at a time."""

    def __init__(self, family: str, stow: bool = True) -> None:
        self.dxl = family == "dynamixel"
        bounds = LineBounds(
            (1, 1), (math.pi, math.pi), (-1.0, -1.0), (1.0, 1.0), STEP, 0.3, 0.0, 4.0, 0.1, IDS, (1.0, 1.0),
            (0.0, -0.5) if stow else (), 1.0, 4.0, 1.0,
        )  # fmt: skip
        self.witness: LineWitness = (DynamixelWitness if self.dxl else FeetechWitness)(bounds)
        self.t, self.at, self.permit = 0, (0.0, 0.0), ("RUN", True)
        if self.dxl:
            slots = b"".join(at.to_bytes(2, "little") for at in (98, 100, 101, 116, 117, 118, 119))
            for servo in IDS:
                self.write(self.packet(servo, 3, (168).to_bytes(2, "little") + slots))

    def packet(self, servo: int, kind: int, params: bytes) -> bytes:
        if self.dxl:
            return sealed(
                b"\xff\xff\xfd\x00" + bytes((servo,)) + (len(params) + 3).to_bytes(2, "little") + bytes((kind,)) + params
            )
        body = bytes((servo, len(params) + 2, kind)) + params
        return b"\xff\xff" + body + bytes((~sum(body) & 0xFF,))

    def write(self, data: bytes) -> None:
        self.witness.wrote(self.t, data)

    def to_each(self, address: int, rows: list[bytes]) -> bytes:
        wide = 2 if self.dxl else 1
        head = address.to_bytes(wide, "little") + len(rows[0]).to_bytes(wide, "little")
        return self.packet(254, 0x83, head + b"".join(bytes((i,)) + row for i, row in zip(IDS, rows, strict=False)))

    def goals(self, *angles: float, **odd: int) -> bytes:
        ticks = [round((x + math.pi) / TICK) for x in angles]
        if self.dxl:
            head = bytes((odd.get("watchdog", 5),)) + odd.get("pwm", 885).to_bytes(2, "little")
            return self.to_each(224, [head + n.to_bytes(4, "little") for n in ticks])
        rest = b"\0\0" + odd.get("speed", 2600).to_bytes(2, "little") + odd.get("limit", 1000).to_bytes(2, "little")
        return self.to_each(42, [n.to_bytes(2, "little") + rest for n in ticks])

    def torque(self, value: int) -> bytes:
        return self.to_each(64 if self.dxl else 40, [bytes((value,))] * 2)

    def brake(self) -> bytes:
        return self.goals(*self.at, pwm=0) if self.dxl else self.torque(2)

    def period(self, *written: bytes, on: int = 1, silent: tuple[int, ...] = (), asks: bool = True) -> None:
        self.witness.permit(self.t, *self.permit, 1.0)
        self.t += T
        wide, (first, size) = (2, (64, 82)) if self.dxl else (1, (40, 31))
        if asks:
            self.write(self.packet(254, 0x82, first.to_bytes(wide, "little") + size.to_bytes(wide, "little") + bytes(IDS)))
        for servo, angle in zip(IDS, self.at, strict=True):
            if asks and servo not in silent:
                says, ticks = bytearray(size), round((angle + math.pi) / TICK)
                says[0] = on
                if self.dxl:
                    says[4], says[34], says[68:72] = 2, 5, ticks.to_bytes(4, "little")
                    self.witness.heard(self.packet(servo, 0x55, b"\0" + bytes(says)))
                else:
                    says[16:18] = ticks.to_bytes(2, "little")
                    self.witness.heard(self.packet(servo, 0, bytes(says)))
        for data in written:
            self.write(data)
        self.witness.moment(self.t, self.permit[0], ())

    def led(self, periods: int = 3) -> Line:
        """Switched on, and held where it is."""
        self.period(self.goals(*self.at), self.torque(1), self.goals(*self.at), on=0)
        for _ in range(periods - 1):
            self.period(self.goals(*self.at))
        return self

    def said(self) -> str:
        return " | ".join(self.witness.violations)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_has_nothing_against_a_robot_that_is_switched_on_led_and_lowered(family):
    line = Line(family).led(20)
    for k in range(1, 6):
        line.period(line.goals(k * STEP * 0.9, 0.0))
        line.at = (k * STEP * 0.9, 0.0)
    line.permit = ("RELAX", False)
    for _ in range(5):
        line.period(line.goals(*line.at))
    for _ in range(4):  # the permit has run out: it holds, and then goes down
        line.period(line.goals(*line.at))
    for _ in range(12):
        line.period(line.goals(*line.at))
    for k in range(1, 4):
        line.period(line.goals(line.at[0], -k * STEP * 0.4))
    line.period(line.torque(0))
    line.period(on=0)
    assert line.said() == "" and line.witness.goals > 20 and line.witness.history[-1].modes == {1: 0, 2: 0}


@pytest.mark.parametrize("family", FAMILIES)
def test_it_has_nothing_against_legs_that_brake_and_are_let_go(family):
    line = Line(family, stow=False).led(5)
    line.permit = ("RELAX", False)
    for _ in range(10):
        line.period(line.brake())
    line.period(line.torque(0))
    assert line.said() == ""


def late_permit(line: Line) -> None:
    line.led()
    line.permit = ("READY", False)
    line.period(line.goals(0.3 * STEP, 0.0))
    line.period(line.goals(0.6 * STEP, 0.0))


def switched_on_again(line: Line) -> None:
    line.led(20)
    line.period(line.goals(0.0, 0.0), line.torque(1))


def unread(line: Line) -> None:
    line.led()
    for _ in range(4):
        line.period(line.goals(0.0, 0.0), silent=(11,))
    line.period(line.goals(0.5 * STEP, 0.0), silent=(11,))


def endless(line: Line) -> None:
    line.led(20)
    line.permit = ("RELAX", False)
    for _ in range(60):
        line.period(line.goals(0.0, 0.0))


def away(line: Line) -> None:
    line.led(20)
    line.permit = ("RELAX", False)
    for _ in range(18):
        line.period(line.goals(0.0, 0.0))
    for k in range(1, 4):
        line.period(line.goals(k * 0.45 * STEP, 0.0))


def hasty(line: Line) -> None:
    line.led(20)
    line.permit = ("RELAX", False)
    line.period(line.goals(0.0, 0.0))
    line.period(line.goals(0.0, -0.4 * STEP))


def let_go_in_silence(line: Line) -> None:
    line.led()
    line.period()


def jump(line: Line) -> None:
    line.led()
    line.period(line.goals(1.3 * STEP, 0.0))


def first_goal_elsewhere(line: Line) -> None:
    line.period(line.goals(0.05, 0.0))


def out_of_range(line: Line) -> None:
    line.at = (1.0, 0.0)
    line.led()
    line.period(line.goals(1.0 + 0.9 * STEP, 0.0))


def too_far_ahead(line: Line) -> None:
    line.led()
    for k in range(1, 10):
        line.period(line.goals(0.9 * k * STEP, 0.0))


def one_goal(line: Line) -> None:
    line.led()
    line.period(line.goals(0.0))


def hold(line: Line) -> None:
    """Nobody drives it, and it came on where it may not be: it is brought in slowly."""
    line.at, line.permit = (1.2, 0.0), ("HOLD", True)
    line.led()
    for k in (1, 2, 3):
        line.period(line.goals(1.2 - 6 * k * TICK, 0.0))


def quick_hold(line: Line) -> None:
    hold(line)
    line.period(line.goals(1.2 - 25 * TICK, 0.0))


BREACHES = [
    (quick_hold, "jumps"),
    (first_goal_elsewhere, "jumps"),
    (jump, "jumps"),
    (out_of_range, "leaves its range"),
    (too_far_ahead, "led to"),
    (one_goal, "goals for"),
    (unread, "nobody knows where it is"),
    (late_permit, "jumps"),  # of an arm: it is no hold
    (switched_on_again, "are switched on"),
    (let_go_in_silence, "are told nothing"),
    (endless, "without a permit for"),
    (away, "goes away from where it is stowed"),
    (hasty, "jumps"),
    (lambda line: line.period(line.torque(1), on=0), "are switched on"),
    (lambda line: line.write(b"\xff\xff\x01"), "no packet of this line"),
    (lambda line: line.write(line.packet(11, 8, b"")), "which is for a person to do"),
    (lambda line: line.write(line.packet(77, 3, line.dxl * b"\0" + b"\x50\0\1")), "is not of this robot"),
    (lambda line: line.write(line.to_each(11, [b"\1"] * 2)), "EEPROM"),
    (lambda line: line.write(line.packet(254, 3, bytes((40,)) + line.dxl * b"\0" + b"\1")), "everybody is told"),
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("breach", "says"), BREACHES)
def test_it_sees_each_breach(family, breach, says):
    line = Line(family)
    breach(line)
    assert says in line.said()


@pytest.mark.parametrize("family", FAMILIES)
def test_it_has_nothing_against_who_is_brought_in_slowly(family):
    line = Line(family)
    hold(line)
    assert not line.said()


@pytest.mark.parametrize("family", FAMILIES)
def test_legs_have_no_goals_without_a_permit(family):
    line = Line(family, stow=False).led(5)
    line.permit = ("HOLD", False)
    line.period(line.goals(0.0, 0.0))
    line.period(line.goals(0.0, 0.0))
    assert "a goal without a permit" in line.said()


@pytest.mark.parametrize(
    ("family", "odd"), [("dynamixel", {"watchdog": 0}), ("feetech", {"speed": 0}), ("feetech", {"limit": 0})]
)
def test_a_goal_carries_what_bounds_it(family, odd):
    line = Line(family)
    line.period(line.goals(0.0, 0.0, **odd))
    assert "a goal with" in line.said()


def test_registers_are_not_set_up_under_torque():
    line = Line("dynamixel").led()
    line.period(line.goals(0.0, 0.0), line.packet(11, 3, b"\x54\0\1\0"))
    line.write(line.packet(11, 3, b"\x54\0\1\0"))
    assert "are set under torque" in line.said()


# The makers' own examples (hardware facts 4.3, 5).
DYNAMIXEL = [
    ("FF FF FD 00 01 09 00 03 74 00 00 02 00 00 CA 89", False, Frame(1, 3, bytes.fromhex("740000020000"))),
    ("FF FF FD 00 01 0A 00 03 74 00 FF FF FD FD 00 21 E7", False, Frame(1, 3, bytes.fromhex("7400fffffd00"))),
    ("FF FF FD 00 01 08 00 55 00 A6 00 00 00 8C C0", True, Frame(1, 0, bytes.fromhex("a6000000"))),
]
FEETECH = [
    ("FF FF 01 09 03 2A 00 08 00 00 E8 03 D5", False, Frame(1, 3, bytes.fromhex("2a00080000e803"))),
    ("FF FF 03 04 20 00 08 D0", True, Frame(3, 32, bytes.fromhex("0008"))),
]


@pytest.mark.parametrize(
    ("read", "text", "answers", "frame"), [(dynamixel, *v) for v in DYNAMIXEL] + [(feetech, *v) for v in FEETECH]
)
def test_it_reads_the_makers_examples_and_nothing_else_for_them(read, text, answers, frame):
    data = bytes.fromhex(text)
    assert list(read(data, answers)) == [frame]
    assert [f for f in read(b"\xff\xff" + data + b"\x00", answers) if f] == [frame]
    for bit in range(8 * len(data)):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        assert frame not in list(read(bytes(broken), answers))
