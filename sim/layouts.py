"""Frame layouts compiled once: a command is matched and read, and its answer built, without taking the frame apart again.

Register numbers, scales and subframes, and the manual they are from: `sim/registers.py`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robotrl.sim.registers import (
    ACTIONS,
    CAN_FD_LENGTHS,
    CODE,
    COMMAND,
    DTYPE,
    F32,
    IDENTITY,
    IGNORED,
    INT32,
    LARGEST,
    LONGEST,
    NOT_WRITABLE,
    PAD,
    READ_ONLY,
    SIZE,
    STATUS,
    TELEMETRY,
    UNKNOWN_REGISTER,
    Frame,
    encode,
    to_varuint,
)


class Field(NamedTuple):
    """A register's place in a reply."""

    register: int
    kind: int
    at: int  # byte


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
        self.fields: list[Field] = []
        self.template = self._lay_out()
        self._runs: list[tuple[Any, int, Any, Any, Any]] = []  # by kind: columns, kind, bytes, scales, largest number
        for kind in sorted({field.kind for field in self.fields}) if self.bulk else ():
            self._runs.append(self._run(kind))

    def _fit(self) -> None:
        """Keep the parts that a CAN-FD frame has room for."""
        room, kept = LONGEST - len(self._head), []
        for part in self.parts:
            room -= len(part) if isinstance(part, bytes) else len(_reply_head(*part)) + part[2] * SIZE[part[0]]
            if room >= 0:
                kept.append(part)
        self.parts = kept

    def _lay_out(self) -> bytes:
        """The frame with nothing in its fields, which are listed on the way."""
        out = bytearray(self._head)
        for part in self.parts:
            if isinstance(part, bytes):
                out += part
                continue
            kind, start, count = part
            out += _reply_head(kind, start, count)
            for register in range(start, start + count):
                self.fields.append(Field(register, kind, len(out)))
                out += bytes(SIZE[kind])
        length = next(n for n in CAN_FD_LENGTHS if n >= len(out))
        return bytes(out) + bytes([PAD]) * (length - len(out))

    def _run(self, kind: int) -> tuple[Any, int, Any, Any, Any]:
        """The fields of one kind, for all servos at once."""
        fields = [field for field in self.fields if field.kind == kind]
        where = np.array([field.at + k for field in fields for k in range(SIZE[kind])])
        scale = largest = None
        if kind != F32:
            scale = np.array([TELEMETRY[field.register][kind] for field in fields], np.float32)
            largest = (np.float64 if kind == INT32 else np.float32)(LARGEST[kind])
        return np.array([field.register for field in fields]), kind, where, scale, largest

    def of_all(self, telemetry: NDArray[np.float32]) -> list[str]:
        """The answers of all servos, as hex text; for `bulk` replies only. `telemetry` (n, 16)."""
        n, size = len(telemetry), len(self.template)
        out = np.frombuffer(self.template * n, np.uint8).reshape(n, size).copy()
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
        return bytes(out).ljust(len(self.template), bytes([PAD])).hex()


class Chorus:
    """The answers of several servos that were asked all the same, as one text. `heads`: what stands before each one's digits."""

    def __init__(self, reply: Reply, servos: Sequence[int], heads: Sequence[bytes]) -> None:
        self._reply, self._said = reply, tuple(zip(servos, heads, strict=True))

    def __call__(self, telemetry: NDArray[np.float32]) -> bytes:
        texts = self._reply.of_all(telemetry)
        return b"".join([b"%b%b\r\n" % (head, texts[servo].encode()) for servo, head in self._said])


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
            error = self._take(register, kind, position)
            errors += error if len(errors) + len(error) <= LONGEST else b""  # what a frame has no room for is not said
            if register in (0x00, 0x20):
                self.goal_at = offset if register and kind == F32 and self.mode >= 0 else -1
            position += 1
            at = offset + SIZE[kind]
        self._unpack = struct.Struct(formats).unpack
        self._pick = itemgetter(*fixed)
        self._fixed = self._pick(self._unpack(data))
        reply = Reply(tuple(frame.reads), errors)
        self.reply = reply if reply.template else None  # reads of no register are answered by nothing
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
