"""Codec of the moteus servo: fdcanusb text lines and register frames. Pure: bytes in, values out; no port.

A CAN-FD frame is a row of subframes; each writes, reads or replies with neighbouring registers in one of four
widths. Values keep the wire's units: revolutions, Hz (rev/s), Nm, A, V, degrees Celsius, s. The integer
widths scale them, and their most negative value means NaN. Source: mjbots/moteus reference (registers, CAN
format) and the fdcanusb text protocol.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from robotrl.drivers.tables import Width, scale

REPLY_WANTED = 0x80  # in the source byte of a CAN id
PAD = 0x50  # the no-operation subframe, fills a frame up to a length CAN-FD has
FRAME_SIZES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64)
DIAGNOSTIC = 1  # the channel of the servo's text console
POLL_BYTES = 48  # console text asked for at a time


_CODES = ("b", "h", "i", "f")
_SIZES = (1, 2, 4, 4)
_TOP = (127, 32767, 2147483647)


class FrameError(ValueError):
    """A frame that no moteus sends."""


class Subframe(NamedTuple):
    """`op` is write, read, reply, write error, read error, to servo, from servo or poll.

    `size` is how many registers; an error's one value is its code; the console's three carry the
    channel in `register`, text in `data`, and a poll the most bytes wanted in `size`.
    """

    op: str
    register: int
    width: Width = Width.INT8
    size: int = 0
    values: tuple[float, ...] = ()
    data: bytes = b""


def to_wire(value: float, register: int, width: Width) -> float:
    """The number packed for `value`: itself as f32; else scaled and saturated, NaN the lowest integer."""
    if width == Width.F32:
        return value
    top = _TOP[width]
    if math.isnan(value):
        return -top - 1
    steps = value / scale(register, width)
    return top if steps >= top else -top if steps <= -top else round(steps)


def from_wire(number: float, register: int, width: Width) -> float:
    """The inverse of `to_wire`."""
    if width == Width.F32:
        return number
    return math.nan if number == -_TOP[width] - 1 else number * scale(register, width)


def make_write(register: int, width: Width, *values: float) -> bytes:
    """Subframe that writes `values` to `register` and the ones after it."""
    return _head(0x00, register, width, len(values)) + _pack(register, width, values)


def make_read(register: int, width: Width, count: int = 1) -> bytes:
    """Subframe that asks for `count` registers from `register` on."""
    return _head(0x10, register, width, count)


def make_reply(register: int, width: Width, *values: float) -> bytes:
    """Subframe with which a servo answers a read."""
    return _head(0x20, register, width, len(values)) + _pack(register, width, values)


def make_console(text: bytes) -> bytes:
    """Frame with up to 61 bytes for the servo's console."""
    if len(text) > 61:
        raise ValueError(f"console frame of {len(text)} bytes; a CAN-FD frame carries 61")
    return bytes((0x40, DIAGNOSTIC, len(text))) + text


def make_poll() -> bytes:
    """Frame that asks for what the servo's console has printed."""
    return bytes((0x42, DIAGNOSTIC, POLL_BYTES))


def pad(frame: bytes) -> bytes:
    """`frame` filled up to the next size CAN-FD has. ValueError beyond 64 bytes."""
    for size in FRAME_SIZES:
        if size >= len(frame):
            return frame + bytes((PAD,)) * (size - len(frame))
    raise ValueError(f"frame of {len(frame)} bytes; CAN-FD carries 64")


def decode(frame: bytes) -> list[Subframe]:
    """All subframes of a frame, padding left out. FrameError on anything else."""
    try:
        return list(_subframes(frame))
    except (IndexError, struct.error):
        raise FrameError(f"frame ends within a subframe: {frame[:64].hex()}") from None


def varuint(value: int) -> bytes:
    """Seven bits a byte, low ones first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _head(base: int, register: int, width: Width, count: int) -> bytes:
    first = base | width << 2
    if 1 <= count <= 3:
        return bytes((first | count,)) + varuint(register)
    return bytes((first,)) + varuint(count) + varuint(register)


def _pack(register: int, width: Width, values: Sequence[float]) -> bytes:
    numbers = [to_wire(v, register + i, width) for i, v in enumerate(values)]
    return struct.pack(f"<{len(numbers)}{_CODES[width]}", *numbers)


def _read_varuint(frame: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = frame[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
        if shift > 28:
            raise FrameError(f"number of more than 5 bytes: {frame[:64].hex()}")


def _subframes(frame: bytes) -> Iterator[Subframe]:
    at = 0
    while at < len(frame):
        first = frame[at]
        at += 1
        if first == PAD:
            continue
        if first < 0x30:
            subframe, at = _registers(frame, first, at)
        elif first in (0x30, 0x31):
            register, at = _read_varuint(frame, at)
            code, at = _read_varuint(frame, at)
            subframe = Subframe("read error" if first & 1 else "write error", register, values=(code,))
        elif first in (0x40, 0x41, 0x42):
            channel, at = _read_varuint(frame, at)
            size, at = _read_varuint(frame, at)
            carried = 0 if first == 0x42 else size
            if at + carried > len(frame):
                raise IndexError
            op = ("to servo", "from servo", "poll")[first - 0x40]
            subframe = Subframe(op, channel, size=size, data=frame[at : at + carried])
            at += carried
        else:
            raise FrameError(f"no subframe begins with {first:#04x}: {frame[:64].hex()}")
        yield subframe


def _registers(frame: bytes, first: int, at: int) -> tuple[Subframe, int]:
    op = ("write", "read", "reply")[first >> 4]
    width = Width(first >> 2 & 3)
    count = first & 3
    if count == 0:
        count, at = _read_varuint(frame, at)
    register, at = _read_varuint(frame, at)
    if op == "read":
        return Subframe(op, register, width, count), at
    if count > 64:
        raise IndexError
    numbers = struct.unpack_from(f"<{count}{_CODES[width]}", frame, at)
    values = tuple(from_wire(n, register + i, width) for i, n in enumerate(numbers))
    return Subframe(op, register, width, count, values), at + count * _SIZES[width]


class Received(NamedTuple):
    """A frame from the bus."""

    can_id: int
    frame: bytes
    checked: bool  # the line carried a checksum, and it was right


class Answer(NamedTuple):
    """The adapter's word on a `can send`: ok, or why not."""

    ok: bool
    text: str
    checked: bool


def _crc_table() -> bytes:
    table = bytearray(256)
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x97 if crc & 0x80 else 0)) & 0xFF
        table[byte] = crc
    return bytes(table)


_CRC = _crc_table()


def crc8(data: bytes, crc: int = 0) -> int:
    """CRC-8, polynomial 0x97, most significant bit first; `crc` continues an earlier part."""
    table = _CRC
    for byte in data:
        crc = table[crc ^ byte]
    return crc


def with_checksum(text: bytes) -> bytes:
    """`text *XX`: the sum covers everything before the star, the space included."""
    return b"%b *%02X" % (text, crc8(text + b" "))


def make_send(can_id: int, frame: bytes, checksum: bool = False) -> bytes:
    """The line that puts `frame`, padded, on the bus."""
    text = b"can send %04x %b" % (can_id, pad(frame).hex().encode())
    return (with_checksum(text) if checksum else text) + b"\n"


def parse_line(line: bytes) -> Received | Answer | None:
    """One line from the adapter; None for anything it does not send. Never raises.

    A line whose end was lost has swallowed the next one whole, so the last frame or answer in it counts. Where half its end was
    lost, it ends at the carriage return all the same.
    """
    line = line.rstrip()
    start = line.rfind(b"rcv ")
    if start < 0:
        start = max(line.find(b"OK"), line.find(b"ERR"))
        if start < 0:
            return None
    line, checked = line[start:].partition(b"\r")[0], False
    if line[-3:-2] == b"*":
        if b"%02X" % crc8(line[:-3]) != line[-2:].upper():
            return None
        line, checked = line[:-3], True
    if not line.startswith(b"rcv "):
        return Answer(line.startswith(b"OK"), line.decode("ascii", "replace").strip(), checked)
    try:
        _, can_id, data, *_flags = line.split()
        # not int(): it takes 1_7e, +17e and 0x17e for numbers too
        number = int.from_bytes(bytes.fromhex(can_id.decode("ascii").zfill(8)))
        return Received(number, bytes.fromhex(data.decode("ascii")), checked)
    except ValueError:  # UnicodeDecodeError is one too
        return None
