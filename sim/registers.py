"""The servo's registers and the frames that hold them: numbers, scales, subframes. What is done with them: `sim/layouts.py`.

After the moteus reference manual (register map version 5): a value as int8, int16 or int32 is its register's scale times the
number, truncated toward zero and saturated at +-max; the most negative number means NaN. Computed in single precision, as there.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robotrl.sim import firmware as fw

INT8, INT16, INT32, F32 = range(4)
SIZE = (1, 2, 4, 4)
CODE = "bhif"
LARGEST = (127, 32767, 2147483647)
DTYPE = tuple(map(np.dtype, ("<i1", "<i2", "<i4", "<f4")))
PAD, LONGEST = 0x50, 64
CAN_FD_LENGTHS = (*range(9), 12, 16, 20, 24, 32, 48, 64)

Scale = tuple[float, float, float]
INTEGER: Scale = (1.0, 1.0, 1.0)
ANGLE: Scale = (0.01, 0.0001, 0.00001)  # rev
SPEED: Scale = (0.1, 0.00025, 0.00001)  # Hz
ACCELERATION: Scale = (0.05, 0.001, 0.00001)  # Hz/s
TORQUE: Scale = (0.5, 0.01, 0.001)  # Nm
FRACTION: Scale = (1 / 127, 1 / 32767, 1 / 2147483647)
AMPERE: Scale = (1.0, 0.1, 0.001)  # also deg C
VOLT: Scale = (0.5, 0.1, 0.001)
WATT: Scale = (10.0, 0.05, 0.0001)
SECOND: Scale = (0.01, 0.001, 0.000001)

TELEMETRY: dict[int, Scale] = {
    0x00: INTEGER, 0x01: ANGLE, 0x02: SPEED, 0x03: TORQUE, 0x04: AMPERE, 0x05: AMPERE, 0x06: ANGLE, 0x07: WATT,
    0x0A: AMPERE, 0x0B: INTEGER, 0x0C: INTEGER, 0x0D: VOLT, 0x0E: AMPERE, 0x0F: INTEGER,
}  # fmt: skip
COMMAND: dict[int, tuple[int, Scale]] = {
    0x1C: (fw.IQ, AMPERE), 0x1D: (fw.IQ + 1, AMPERE),
    0x20: (fw.P, ANGLE), 0x21: (fw.V, SPEED), 0x22: (fw.FF, TORQUE), 0x23: (fw.KP, FRACTION),
    0x24: (fw.KD, FRACTION), 0x25: (fw.MAX, TORQUE), 0x26: (fw.MAX + 1, ANGLE), 0x27: (fw.WATCHDOG, SECOND),
    0x28: (fw.VLIM, SPEED), 0x29: (fw.ALIM, ACCELERATION),
    0x40: (fw.LOWER, ANGLE), 0x41: (fw.UPPER, ANGLE), 0x42: (fw.FF, TORQUE), 0x43: (fw.KP, FRACTION),
    0x44: (fw.KD, FRACTION), 0x45: (fw.MAX, TORQUE), 0x46: (fw.WATCHDOG, SECOND),
}  # fmt: skip
ACTIONS: dict[int, Scale] = {0x130: ANGLE, 0x131: ANGLE, 0x132: INTEGER, 0x133: INTEGER}
IGNORED = {*range(0x10, 0x1C), 0x1E, 0x2A, 0x2B, 0x2C, 0x2D, 0x47, 0x48, 0x5C, 0x5D, 0x71, *range(0x76, 0x80)}
READ_ONLY = {
    *TELEMETRY, *range(0x30, 0x3E), *range(0x50, 0x59), 0x5E, 0x5F, *range(0x60, 0x6D), 0x70, 0x100, 0x101, 0x102, 0x110,
}  # fmt: skip
MODES = {fw.STOPPED, fw.BRAKE, *fw.STARTED}
UNKNOWN_REGISTER, NOT_WRITABLE, NO_SUCH_MODE = 1, 2, 3  # error numbers in subframes 0x30 and 0x31
STATUS: dict[int, Scale] = {
    0x30: TORQUE, 0x31: TORQUE, 0x32: TORQUE, 0x33: TORQUE, 0x34: TORQUE, 0x38: ANGLE, 0x39: SPEED, 0x3A: TORQUE,
    0x3B: ANGLE, 0x3C: SPEED, 0x3D: TORQUE, 0x50: ANGLE, 0x51: SPEED, 0x58: INTEGER, 0x5C: INTEGER, 0x5D: INTEGER,
    0x5E: INTEGER, 0x5F: INTEGER, 0x70: INTEGER, 0x71: INTEGER, 0x100: INTEGER, 0x101: INTEGER, 0x102: INTEGER,
    0x120: INTEGER, 0x121: INTEGER, 0x122: INTEGER,
}  # fmt: skip
IDENTITY = {0x100: 1, 0x101: 0x010200, 0x102: 5}  # model r4.x, firmware, register map


def varuint(data: bytes, at: int) -> tuple[int, int]:
    """Value and the offset behind it. IndexError when the bytes end first."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def to_varuint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(value: float, kind: int, scale: Scale) -> bytes:
    """One value as the firmware would write it into a reply."""
    if kind == F32:
        return struct.pack("<f", value)
    largest = LARGEST[kind]
    if not math.isfinite(value):
        return struct.pack("<" + CODE[kind], -largest - 1)
    with np.errstate(over="ignore"):  # saturates, like the rest
        number = float(np.float32(value) / np.float32(scale[kind]))
    return struct.pack("<" + CODE[kind], int(max(-largest, min(largest, number))))


@dataclass
class Frame:
    """What is in a frame, unread: (register, kind, offset) of each value written, (kind, start, count) of each read."""

    writes: list[tuple[int, int, int]] = field(default_factory=list)
    reads: list[tuple[int, int, int]] = field(default_factory=list)
    # of the diagnostic channel: subframe, channel, packet acknowledged, length asked for or sent, payload
    streams: list[tuple[int, int, int, int, bytes]] = field(default_factory=list)


def dissect(data: bytes) -> Frame:
    """Take a frame apart. What follows an unknown or cut subframe is not looked at, as in the firmware."""
    frame, at = Frame(), 0
    try:
        while at < len(data):
            code = data[at]
            at += 1
            if code < 0x20:
                kind, count = code >> 2 & 3, code & 3
                if not count:
                    count, at = varuint(data, at)
                start, at = varuint(data, at)
                if code >= 0x10:
                    frame.reads.append((kind, start, min(count, LONGEST)))
                    continue
                if at + count * SIZE[kind] > len(data):
                    break
                for k in range(count):
                    frame.writes.append((start + k, kind, at))
                    at += SIZE[kind]
            elif code in (0x40, 0x42, 0x44):
                channel, at = varuint(data, at)
                number = 0
                if code == 0x44:
                    number, at = data[at], at + 1
                length, at = varuint(data, at)
                payload = b""
                if code == 0x40:
                    payload, at = data[at : at + length], at + length
                frame.streams.append((code, channel, number, length, payload))
            elif code != PAD:
                break
    except IndexError:
        pass  # cut off in the middle of a subframe's head
    return frame


def value_of(number: Any, scale: float, nan: int) -> float:
    """A number from the wire in the register's unit."""
    if not scale:
        return float(number)
    return math.nan if number == nan else number * scale
