"""What comes over a wire from byte-framed servos into their codecs: Dynamixel packets, Feetech frames, whole cycles.

The oracles share nothing with the drivers: what a parser or a cycle takes for an answer must stand in the bytes as a whole and
checked packet, found here by regular expressions and sums of our own.
"""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable

from robotrl.drivers import dynamixel, feetech
from robotrl.drivers.dynamixel_x import XM430
from robotrl.drivers.feetech_sts import STS3215
from robotrl.drivers.sync import DynamixelRead, FeetechRead, SyncRead
from tests.fuzz.engine import Broken, held, torn

HEAD = b"\xff\xff\xfd\x00"
IDS = (1, 2, 11)


def _divided(rest: int) -> int:
    for _ in range(8):
        rest = rest << 1 ^ 0x18005 if rest & 0x8000 else rest << 1
    return rest


CRC = tuple(_divided(byte << 8) for byte in range(256))


def crc16(data: bytes, rest: int = 0) -> int:
    """x^16 + x^15 + x^2 + 1, start 0, by long division, a byte a time. `rest`: of what comes before."""
    for byte in data:
        rest = (rest << 8 & 0xFF00) ^ CRC[rest >> 8 ^ byte]
    return rest


def packet(servo: int, body: bytes, stuffed: bool = True) -> bytes:
    if stuffed:
        body = body.replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")
    out = HEAD + struct.pack("<BH", servo, len(body) + 2 & 0xFFFF) + body
    return out + struct.pack("<H", crc16(out))


def fast(rows: list[bytes]) -> bytes:
    """A fast reply of servos IDS."""
    out = HEAD + struct.pack("<BHB", 0xFE, 1 + sum(4 + len(row) for row in rows), 0x55)
    for servo, row in zip(IDS, rows, strict=True):
        out += bytes((0, servo)) + row
        out += struct.pack("<H", crc16(out))
    return out


def frame(servo: int, body: bytes) -> bytes:
    inner = bytes((servo, len(body) + 1 & 0xFF)) + body
    return b"\xff\xff" + inner + bytes((~sum(inner) & 0xFF,))


def packets(data: bytes) -> set[tuple[int, int, bytes]]:
    """Every checked status packet that stands somewhere in `data`, within another one too."""
    found = set()
    for match in re.finditer(rb"(?=\xff\xff\xfd\x00([\x00-\xfc])(..)\x55)", data, re.DOTALL):
        end = match.start() + 7 + int.from_bytes(match[2], "little")
        whole = data[match.start() : end]
        if len(whole) >= 11 and end <= len(data) and whole[-2:] == struct.pack("<H", crc16(whole[:-2])):
            body = whole[8:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")
            found.add((match[1][0], body[0], body[1:]))
    return found


def frames(data: bytes) -> set[tuple[int, int, bytes]]:
    found = set()
    for match in re.finditer(rb"(?=\xff\xff([\x00-\xfd])([\x02-\xff])([\x00-\x7f]))", data, re.DOTALL):
        whole = data[match.start() : match.start() + 4 + match[2][0]]
        if len(whole) == 4 + match[2][0] and sum(whole[2:]) & 0xFF == 0xFF:
            found.add((match[1][0], match[3][0], whole[5:-1]))
    return found


def params(rng: random.Random, length: int) -> bytes:
    return bytes(rng.choices((0, 0, 0xFF, 0xFF, 0xFD, 0x55, 1, rng.randrange(256)), k=length))


WORDS = (HEAD, b"\xff\xff\xfd", b"\xff\xff\xfd\xfd", b"\xff\xff", b"\xff", b"\x55", b"\xfd\x00", b"\xfe", packet(1, b"\x55\x00"),
         packet(2, b"\x55\x80" + bytes(10)), packet(0xFE, b"\x83\x74\x00\x04\x00" + bytes(10)), packet(3, b"\x55" + HEAD, False),
         fast([bytes(10)] * 3))  # fmt: skip
SHORT = (b"\xff\xff", b"\xff", b"\xff\xff\x01\x02", b"\xff\xff\xff", frame(1, b"\x00"), frame(2, bytes(7)), b"\xff\xff\x0b\x08",
         frame(0xFE, b"\x83\x2a\x02" + bytes(9)), frame(1, b"\x00" + b"\xff\xff\x02\x02\x00\xfb"))  # fmt: skip


class DynamixelStream:
    """`dynamixel.Parser`: torn and merged bytes mean the same, nothing unsound passes, one good packet is always read."""

    name = "dynamixel codec"
    words = WORDS
    good = packet(7, b"\x55\x80\x10\xff\xff\xfd\x00")

    def __init__(self) -> None:
        self._one, self._many, self._fast = dynamixel.Parser(), dynamixel.Parser(), dynamixel.Parser(fast=True)

    def example(self, rng: random.Random) -> bytes:
        out = b""
        for _ in range(rng.randint(1, 4)):
            body = bytes((rng.choice((0x55, 0x55, 0x55, 0x55, 0x02)), rng.choice((0, 0, 0x80, 7, 0xFF)))) + params(
                rng, rng.randint(0, 24)
            )
            out += packet(rng.choice((1, 2, 252, 253, 0xFE)), body, rng.random() < 0.9)
        return out

    def check(self, data: bytes) -> None:
        merged = self._one.feed(data + self.good)
        pieced = [status for piece in (*torn(data), self.good) for status in self._many.feed(piece)]
        if merged != pieced or self._one.errors != self._many.errors:
            raise Broken(f"torn bytes are other packets than merged ones: {pieced} {merged}")
        if not merged or merged[-1] != (7, 0x80, b"\x10\xff\xff\xfd\x00") or self._one.pending:
            raise Broken("the good packet after it is not understood")
        sound = packets(data + self.good)
        for status in merged:
            if tuple(status) not in sound:
                raise Broken(f"no packet says {status}")
        self._lenient(data)

    def _lenient(self, data: bytes) -> None:
        """With fast replies, which are not stuffed, a good packet is sure to be read after a reset."""
        self._fast.reset()
        for status in self._fast.feed(data):
            if status.id == 0xFE and crc16(status.params[:-2]) != int.from_bytes(status.params[-2:], "little"):
                raise Broken("a fast reply is not sound")
            for part in dynamixel.split_fast(status.params, (10, 10, 10)):
                if len(part.params) != 10:
                    raise Broken(f"a part of a fast reply has {len(part.params)} bytes")
        if held(self._fast) > 1200:
            raise Broken("more than a packet is kept")
        self._fast.reset()
        if self._fast.feed(self.good)[-1:] != [(7, 0x80, b"\x10\xff\xff\xfd\x00")]:
            raise Broken("a good packet is not understood after a reset")

    def held(self) -> int:
        return held(self._one, self._many, self._fast)


class FeetechStream:
    """`feetech.Parser`: nothing unsound passes, and what came before hides one good frame at the most.

    Its sum is eight bits: a header that noise ends in takes the first good frame's bytes for its own in one of 256 cases.
    """

    name = "feetech codec"
    words = SHORT
    good = frame(11, b"\x20\x10\x00\x08\x64\x80\x2c")

    def __init__(self) -> None:
        self._known, self._any = feetech.Parser(IDS, len(self.good), exact=True), feetech.Parser()

    def example(self, rng: random.Random) -> bytes:
        out = b""
        for _ in range(rng.randint(1, 4)):
            body = bytes((rng.choice((0, 0, 0x20, 0x7F, 0x80)),)) + params(rng, rng.choice((6, 6, 6, 0, 2, 15)))
            out += frame(rng.choice((1, 2, 11, 253, 0xFE)), body)
        return out

    def check(self, data: bytes) -> None:
        known = [status for piece in (*torn(data), self.good, self.good) for status in self._known.feed(piece)]
        if not known or known[-1] != (11, 0x20, b"\x10\x00\x08\x64\x80\x2c") or self._known.pending:
            raise Broken("the good frames after it are not understood")
        sound = frames(data + self.good + self.good)
        for status in (*known, *self._any.feed(data)):
            if tuple(status) not in sound:
                raise Broken(f"no frame says {status}")
        if any(status.id not in IDS or len(status.params) not in (0, 6) for status in known):
            raise Broken(f"answers that nobody asked for: {known}")
        if len(self._any.pending) >= 250 or len(self._known.pending) >= len(self.good):
            raise Broken("more than a frame is kept")
        self._any.reset()

    def held(self) -> int:
        return held(self._known, self._any)


class _Cycle:
    """A whole cycle of any bytes, torn and merged, then one that is undisturbed."""

    words: tuple[bytes, ...]
    _read: SyncRead
    _found: Callable[[bytes], set[tuple[int, int, bytes]]]
    _good: bytes

    def check(self, data: bytes) -> None:
        read, sound = self._read, type(self)._found(data)
        for pieces in ([data], torn(data)):
            read.begin()
            for piece in pieces:
                if read.feed(piece):
                    break
            if read.finish() != bool(read.heard.all()):
                raise Broken("complete without having heard all")
            self._sound(sound)
        read.begin()
        if not read.feed(self._good) or not read.complete:
            raise Broken("an undisturbed answer is not understood")

    def _sound(self, sound: set[tuple[int, int, bytes]]) -> None:
        read = self._read
        for i, servo in enumerate(read.ids):
            row, error = read.data[i].tobytes(), int(read.error[i])
            if read.heard[i] and (servo, error, row) not in sound:
                raise Broken(f"servo {servo} said no {row.hex()} with error {error}")
            if not read.heard[i] and (row.strip(b"\0") or (error and (servo, error, b"") not in sound)):
                raise Broken(f"servo {servo} was not heard and says {row.hex()} with error {error}")

    def held(self) -> int:
        return held(self._read._raw, self._read._parser)


class DynamixelCycle(_Cycle):
    """`sync.DynamixelRead` of three servos."""

    name = "dynamixel cycle"
    words = WORDS
    _found = staticmethod(packets)
    _good = b"".join(packet(i, b"\x55\x00" + bytes(10)) for i in IDS)

    def __init__(self) -> None:
        self._read = DynamixelRead(IDS, (XM430.PRESENT_CURRENT, XM430.PRESENT_VELOCITY, XM430.PRESENT_POSITION))

    def example(self, rng: random.Random) -> bytes:
        out = b""
        for servo in IDS:
            servo = servo if rng.random() < 0.9 else rng.choice((*IDS, 9))
            out += packet(servo, b"\x55" + bytes((rng.choice((0, 0, 0x80)),)) + params(rng, rng.choice((10, 10, 10, 10, 0, 9))))
        return out


class FastCycle(DynamixelCycle):
    """The same by a fast read: what is taken must be in a fast reply up to a CRC that is right, or in a packet of its own."""

    name = "dynamixel fast cycle"
    _good = fast([bytes(10)] * 3)

    def __init__(self) -> None:
        items = (XM430.PRESENT_CURRENT, XM430.PRESENT_VELOCITY, XM430.PRESENT_POSITION)
        self._read = DynamixelRead(IDS, items, fast=True)

    def example(self, rng: random.Random) -> bytes:
        return super().example(rng) if rng.random() < 0.2 else fast([params(rng, 10) for _ in IDS])

    @staticmethod
    def _found(data: bytes) -> set[tuple[int, int, bytes]]:
        found = packets(data)
        for match in re.finditer(rb"(?=\xff\xff\xfd\x00\xfe..)", data, re.DOTALL):
            at, crc = match.start() + 8, crc16(data[match.start() : match.start() + 8])
            while len(part := data[at : at + 14]) == 14:
                crc = crc16(part[:-2], crc)
                if part[-2:] != struct.pack("<H", crc):
                    break
                found.add((part[1], part[0], part[2:-2]))
                at, crc = at + 14, crc16(part[-2:], crc)
        return found


class FeetechCycle(_Cycle):
    """`sync.FeetechRead` of three servos."""

    name = "feetech cycle"
    words = SHORT
    _found = staticmethod(frames)
    _good = b"".join(frame(i, bytes(7)) for i in IDS)

    def __init__(self) -> None:
        self._read = FeetechRead(IDS, (STS3215.PRESENT_POSITION, STS3215.PRESENT_SPEED, STS3215.PRESENT_LOAD))

    def example(self, rng: random.Random) -> bytes:
        out = b""
        for servo in IDS:
            servo = servo if rng.random() < 0.9 else rng.choice((*IDS, 9))
            out += frame(servo, bytes((rng.choice((0, 0, 0x20, 0x80)),)) + params(rng, rng.choice((6, 6, 6, 6, 0, 5))))
        return out


TARGETS = (DynamixelStream, FeetechStream, DynamixelCycle, FastCycle, FeetechCycle)
