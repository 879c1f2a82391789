"""The servo's register frames as the firmware reads and answers them: subframes, scales, layouts compiled once.

After the moteus reference manual (register map version 5): a value as int8, int16 or int32 is its register's scale times the
number, truncated toward zero and saturated at +-max; the most negative number means NaN. Computed in single precision, as there.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


class Reply:
    """The answer to a set of reads: built for all servos at once from their telemetry, one by one where it needs more."""

    def __init__(self, reads: tuple[tuple[int, int, int], ...], errors: bytes) -> None:
        self._head = errors
        self.parts: list[tuple[int, int, int] | bytes] = []  # runs of known registers (kind, start, count), or an error
        for kind, start, count in reads:
            for register in range(start, start + count):
                last = self.parts[-1] if self.parts else b""
                if not _readable(register, kind):
                    self.parts.append(bytes([0x31]) + to_varuint(register) + bytes([UNKNOWN_REGISTER]))
                elif isinstance(last, tuple) and last[0] == kind and last[1] + last[2] == register and register != start:
                    self.parts[-1] = (kind, last[1], last[2] + 1)
                else:
                    self.parts.append((kind, register, 1))
        self._fit()
        self.bulk = all(isinstance(p, bytes) or p[1] + p[2] <= 0x10 for p in self.parts)
        self._runs: list[tuple[Any, int, Any, Any, Any]] = []  # by kind: columns, kind, bytes, scales, largest number
        self._template = self._lay_out()

    def _fit(self) -> None:
        """Keep the parts that a CAN-FD frame has room for."""
        room, kept = LONGEST - len(self._head), []
        for part in self.parts:
            room -= len(part) if isinstance(part, bytes) else len(_reply_head(*part)) + part[2] * SIZE[part[0]]
            if room >= 0:
                kept.append(part)
        self.parts = kept

    def _lay_out(self) -> bytes:
        out = bytearray(self._head)
        columns: dict[int, list[int]] = {}
        where: dict[int, list[int]] = {}
        for part in self.parts:
            if isinstance(part, bytes):
                out += part
                continue
            kind, start, count = part
            out += _reply_head(kind, start, count)
            columns.setdefault(kind, []).extend(range(start, start + count))
            where.setdefault(kind, []).extend(range(len(out), len(out) + count * SIZE[kind]))
            out += bytes(count * SIZE[kind])
        for kind, those in columns.items() if self.bulk else ():
            scale = largest = None
            if kind != F32:
                scale = np.array([TELEMETRY[column][kind] for column in those], np.float32)
                largest = (np.float64 if kind == INT32 else np.float32)(LARGEST[kind])
            self._runs.append((np.array(those), kind, np.array(where[kind]), scale, largest))
        length = next(n for n in CAN_FD_LENGTHS if n >= len(out))
        return bytes(out) + bytes([PAD]) * (length - len(out))

    def of_all(self, telemetry: NDArray[np.float32]) -> list[str]:
        """The answers of all servos, as hex text; for `bulk` replies only. `telemetry` (n, 16)."""
        n, size = len(telemetry), len(self._template)
        out = np.frombuffer(self._template * n, np.uint8).reshape(n, size).copy()
        for columns, kind, where, scale, largest in self._runs:
            values = telemetry.take(columns, 1)
            if scale is not None:
                values = _saturated(values / scale, kind, largest)
            out[:, where] = values.astype(DTYPE[kind], "C").view(np.uint8)
        text = out.tobytes().hex()
        return [text[i : i + 2 * size] for i in range(0, 2 * size * n, 2 * size)]

    def of_one(self, read: Any) -> str:
        """The answer of one servo whose registers `read(register) -> (value, scale)` gives, as hex text."""
        out = bytearray(self._head)
        for part in self.parts:
            if isinstance(part, bytes):
                out += part
                continue
            kind, start, count = part
            out += _reply_head(kind, start, count)
            for register in range(start, start + count):
                value, scale = read(register)
                out += encode(value, kind, scale)
        return bytes(out).ljust(len(self._template), bytes([PAD])).hex()


class Plan:
    """A frame layout compiled: how to tell that a frame has it, where its values are, what it asks."""

    def __init__(self, data: bytes, frame: Frame) -> None:
        formats, at, position = "<", 0, 0
        fixed: list[int] = []
        self.values: list[tuple[int, int, float, int]] = []  # column, place in the tuple, scale (0: as it is), NaN's number
        self.actions: list[tuple[int, int, float, int]] = []  # the same with a register for the column
        self.mode = -1  # place of the mode
        self.goal_at = -1  # offset of a position in single precision, behind a mode
        errors = b""
        for register, kind, offset in [*frame.writes, (0, 0, len(data))]:
            if offset > at:
                formats += f"{offset - at}s"
                fixed.append(position)
                position += 1
            if offset == len(data):
                break
            formats += CODE[kind]
            errors += self._take(register, kind, position)
            if register in (0x00, 0x20):
                self.goal_at = offset if register and kind == F32 and self.mode >= 0 else -1
            position += 1
            at = offset + SIZE[kind]
        self._unpack = struct.Struct(formats).unpack
        self._pick = itemgetter(*fixed)
        self._fixed = self._pick(self._unpack(data))
        self.reply = Reply(tuple(frame.reads), errors) if frame.reads or errors else None
        self.is_query = not frame.writes

    def _take(self, register: int, kind: int, place: int) -> bytes:
        nan = -LARGEST[kind] - 1 if kind != F32 else 0
        if register == 0:
            self.mode = place
            self.values = []  # a mode write resets what came before it
        elif register in COMMAND:
            column, scale = COMMAND[register]
            self.values.append((column, place, scale[kind] if kind != F32 else 0.0, nan))
        elif register in ACTIONS:
            self.actions.append((register, place, ACTIONS[register][kind] if kind != F32 else 0.0, nan))
        elif register not in IGNORED:
            number = NOT_WRITABLE if register in READ_ONLY else UNKNOWN_REGISTER
            return bytes([0x30]) + to_varuint(register) + bytes([number])
        return b""

    def match(self, data: bytes) -> tuple[Any, ...] | None:
        """The frame's values if it has this layout. The caller has compared the length."""
        values = self._unpack(data)
        return values if self._pick(values) == self._fixed else None


def value_of(number: Any, scale: float, nan: int) -> float:
    """A number from the wire in the register's unit."""
    if not scale:
        return float(number)
    return math.nan if number == nan else number * scale


def _saturated(values: Any, kind: int, largest: Any) -> Any:
    """Whole numbers of a register's scale, within what `kind` holds; its most negative one for NaN and infinities."""
    lost = None if math.isfinite(values.sum()) else ~np.isfinite(values)
    if kind == INT32:
        values = values.astype(np.float64)  # 2^31 - 1 is no single-precision number
    values = np.minimum(np.maximum(values, -largest), largest)
    if lost is not None:
        values[lost] = -LARGEST[kind] - 1
    return values


def _readable(register: int, kind: int) -> bool:
    if register in IDENTITY or 0x120 <= register <= 0x122:
        return kind == INT32
    return register in TELEMETRY or register in COMMAND or register in STATUS


def _reply_head(kind: int, start: int, count: int) -> bytes:
    code = 0x20 | kind << 2
    return (bytes([code | count]) if count <= 3 else bytes([code]) + to_varuint(count)) + to_varuint(start)
