"""WitMotion's standard protocol (WT901 and its kin), pure: frames out of bytes, commands into bytes.

A frame is 55, a type, eight bytes, and the sum of these ten. Three in a row are a sample: acceleration (51), rates (52),
angles (53). Source: WitMotion standard protocol.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

FRAME = 11  # bytes
ACCEL, RATES, ANGLES, REGISTERS = 0x51, 0x52, 0x53, 0x5F
TYPES = range(0x50, 0x60)
SAMPLE = 3 * FRAME
UNLOCK = bytes.fromhex("ffaa6988b5")
SAVE = bytes.fromhex("ffaa000000")

_NUMBERS = struct.Struct("<4h")
_SAMPLE = struct.Struct("<H4hBH4hBH4hB")
_HEADS = (ACCEL << 8 | 0x55, RATES << 8 | 0x55, ANGLES << 8 | 0x55)

Sample = tuple[int, ...]  # (9,) acceleration, rates, angles, three raw int16 of each


class Frame(NamedTuple):
    kind: int  # 0x50 to 0x5F
    numbers: tuple[int, int, int, int]  # raw int16


def make_set(register: int, value: int) -> bytes:
    """Command that writes a register; needs UNLOCK before it."""
    return struct.pack("<BBBH", 0xFF, 0xAA, register, value)


def make_get(register: int) -> bytes:
    """Command that asks for `register` and the three after it; answered by a frame of type 5F."""
    return struct.pack("<BBBH", 0xFF, 0xAA, 0x27, register)


class Parser:
    """Finds frames in any bytes, torn, merged or mad; never raises. `errors` counts the runs skipped."""

    def __init__(self) -> None:
        self._pending = b""
        self._astray = False
        self.errors = 0

    @property
    def clear(self) -> bool:
        """Whether what comes next begins a frame: nothing waits for its end, and nothing was skipped since the last one."""
        return not self._pending and not self._astray

    def feed(self, data: bytes) -> list[Frame | None]:
        """Frames in order; None where bytes had to be skipped before the next one."""
        data = self._pending + data
        found: list[Frame | None] = []
        at = 0
        last = len(data) - FRAME  # where the last whole frame can begin
        while at <= last:
            kind = data[at + 1]
            if data[at] == 0x55 and kind in TYPES and sum(data[at : at + 10]) & 0xFF == data[at + 10]:
                found.append(Frame(kind, _NUMBERS.unpack_from(data, at + 2)))
                self._astray = False
                at += FRAME
                continue
            if not self._astray:
                self._astray = True
                self.errors += 1
                found.append(None)
            start = data.find(b"\x55", at + 1)
            at = start if start >= 0 else len(data)
        self._pending = data[at:]
        return found


def whole_samples(data: bytes) -> tuple[list[Sample], int]:
    """The samples that `data` begins with, and where the first byte stands that is in none.

    What a sensor sends all day, in a third of the time that `Parser.feed` takes; the rest is for that one.
    """
    found: list[Sample] = []
    at = 0
    while at + SAMPLE <= len(data):
        a, ax, ay, az, _, a_sum, b, p, q, r, _, b_sum, c, roll, pitch, yaw, _, c_sum = _SAMPLE.unpack_from(data, at)
        if (a, b, c) != _HEADS:
            break
        if sum(data[at : at + 10]) & 0xFF != a_sum or sum(data[at + 11 : at + 21]) & 0xFF != b_sum:
            break
        if sum(data[at + 22 : at + 32]) & 0xFF != c_sum:
            break
        found.append((ax, ay, az, p, q, r, roll, pitch, yaw))
        at += SAMPLE
    return found, at
