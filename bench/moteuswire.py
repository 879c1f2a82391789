"""The lines of a moteus adapter, by what the moteus reference says of them."""

from __future__ import annotations

import math
import re
import struct

from wirelines import Chunks, Line, Reading, Robot, whole

TAIL = rb"(?:50)*(?: \*[0-9A-F]{2})?"  # padding of the frame, and a check sum where the adapter has asked for one
F32 = rb"([0-9a-f]{8})"
# Mode 10 and a position | position nan, velocity 0, kp scale 0: brakes and goes nowhere | mode 0 | the state is asked for |
# console text and polls | a number that is none, by which a line of one who died in the midst of it is ended
LINES = (
    ("goal", re.compile(rb"can send 00([0-9a-f]{2}) 01000a0d20" + F32 + rb"02237f7f0d25" + F32 + rb"0e27" + F32 * 2 + TAIL)),
    ("damp", re.compile(rb"can send 00([0-9a-f]{2}) 01000a0e200000c07f000000000223007f0d25[0-9a-f]{8}0e27[0-9a-f]{16}" + TAIL)),
    ("stop", re.compile(rb"can send 00([0-9a-f]{2}) 010000" + TAIL)),
    ("ask", re.compile(rb"can send ([c-f][0-9a-f])([0-9a-f]{2}) 11001f01110a130d" + TAIL)),
    ("talk", re.compile(rb"can send [08]0([0-9a-f]{2}) 4[02][0-9a-f]*" + TAIL)),
)
ALL = 0x7F
FIRST_HOST, LAST_HOST = 0x40, 0x7E  # by which a driver asks, in turn
REPLY = re.compile(rb"rcv ([0-9a-fA-F]{1,8}) ([0-9a-fA-F]{50,})\b")


class MoteusWire:
    def __init__(self, robot: Robot) -> None:
        self.robot = robot

    def lines(self, chunks: Chunks) -> list[Line]:
        return [line for t, text in whole(chunks, at_end=False) for line in self._line(t, text)]

    def _line(self, t: int, text: bytes) -> list[Line]:
        if text.endswith(b"!"):
            return [Line(t, "cut")]
        ids = self.robot.ids
        for kind, pattern in LINES:
            if not (found := pattern.fullmatch(text)):
                continue
            if kind == "ask":
                servo = int(found[2], 16)
                return [Line(t, kind, servo, host=int(found[1], 16) & 0x7F, cycle=servo == ids[0])]
            servo = int(found[1], 16)
            if kind == "goal":
                return [Line(t, kind, servo, self._angle(servo, _number(found[2])) if servo in ids else math.nan)]
            return [Line(t, kind, each) for each in (ids if servo == ALL else [servo])]
        if (again := text.rfind(b"can send ")) > 0 and text[again:].startswith(b"can send c0%02x " % ids[0]):
            return self._line(t, text[again:])  # a write that the line had no room for, and the first question after it
        return [Line(t, "", text=text.decode("latin-1"))] if text.strip() else []

    def readings(self, chunks: Chunks) -> list[Reading]:
        out = []
        for t, text in whole(chunks, at_end=True):
            for found in REPLY.finditer(text):
                data = bytes.fromhex(found[2][: len(found[2]) // 2 * 2].decode())
                address = int(found[1], 16)
                servo = address >> 8 & 0x7F
                heads = data[0:2], data[3:5], data[17:19], data[20:22]
                if heads != (b"\x21\x00", b"\x2f\x01", b"\x21\x0a", b"\x23\x0d") or servo not in self.robot.ids:
                    continue
                (mode,), (turns,) = struct.unpack("<b", data[2:3]), struct.unpack("<f", data[5:9])
                out.append(Reading(t, servo, address & 0x7F, self._angle(servo, turns), mode))
        return out

    def follows(self, one: Line, two: Line) -> bool:
        """Whoever takes the port anew, driver or rescue, begins with the first. Two hands at once break the order elsewhere."""
        return two.host in (FIRST_HOST, one.host + 1 if one.host < LAST_HOST else FIRST_HOST)

    def _angle(self, servo: int, turns: float) -> float:
        return self.robot.angle(servo, turns * 2 * math.pi)


def _number(digits: bytes) -> float:
    return float(struct.unpack("<f", bytes.fromhex(digits.decode()))[0])
