"""What comes over a wire into the twin: commands to servos behind their adapter, to the IMU; messages on the bus.

The far ends serve any client, so they too must take any bytes: torn and merged writes are answered alike, a good one understood.
"""

from __future__ import annotations

import math
import random
import struct
import typing
from functools import cache
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import zmq

from robotrl import config, messages
from robotrl.bus import Subscriber
from robotrl.clock import LockstepClock
from robotrl.sim.domain import Domain
from robotrl.sim.moteusbus import MoteusBus
from robotrl.sim.senses import ImuSensor
from robotrl.topics import TOPICS
from tests.fuzz.engine import Broken, held, torn
from tests.fuzz.wires import checked

FLOAT = struct.Struct("<f")
ODD = (0.0, math.nan, math.inf, -math.inf, 3e38, 1e-45, 0.25, -0.25, 1e6)


class Rotors:
    """What servos stand on: eight that never move, at a time that does not pass."""

    domain, overheated, time = Domain(), np.zeros(8, bool), 1.0
    angle = velocity = current = np.zeros(8)

    def sensed(self, delay_s: float) -> Rotors:
        return self


SAID = b"OKERrcv *0123456789ABCDEFabcdef\r\nlgthmarosuinwkqd-_.xyp"  # what an adapter's answers are made of
QUERY = b"\n%b\n" % checked(b"can send 8001 190000")


class Bus:
    """`sim/fdcanusb.py` and `sim/moteusbus.py`, each servo's console too."""

    name = "twin's servos"
    words = (b"can send ", b"can std ", b"can on", b"\n", b"\r", b" *", b"8001 ", b"7f ", b"ffff8001 ", b"*00", b"01000a",
             b"2d81",
             b"1400040001", b"4001", b"\x00", b"x" * 300, b"80" * 20)  # fmt: skip

    def __init__(self) -> None:
        twin = config.Twin(joint_noise_rad=0.0, wire_time=False)
        self._buses = [MoteusBus(Rotors(), config.Servos(), twin, np.random.default_rng(0)) for _ in range(2)]

    def example(self, rng: random.Random) -> bytes:
        out, sums = b"", rng.random() < 0.1
        for _ in range(rng.randint(1, 4)):
            address = rng.choice((b"%02x", b"80%02x", b"fe%02x", b"%02x")) % rng.choice((1, 2, 8, 9, 0x7F))
            text = b"can send %b %b" % (address, _command(rng).hex().encode())
            out += (checked(text) if sums else text) + rng.choice((b"\n", b"\n", b"\r\n"))
        return out

    def check(self, data: bytes) -> None:
        one, many = self._buses
        one.receive(data)
        for piece in torn(data):
            many.receive(piece)
        merged, pieced = one.transmit(), many.transmit()
        if merged != pieced:
            raise Broken(f"torn bytes are answered {pieced[-200:]!r}, merged ones {merged[-200:]!r}")
        if merged.translate(None, SAID):
            raise Broken(f"says {merged[-200:]!r}")
        for bus in self._buses:
            bus.receive(QUERY)
            if b"rcv 100 2" not in bus.transmit():
                raise Broken("a good query after it is not answered")
            bus.checked = False

    def held(self) -> int:
        return max(max(held(bus._partial, bus._out, bus._timed), *(held(vars(c)) for c in bus._consoles)) for bus in self._buses)


def _command(rng: random.Random) -> bytes:
    """A frame: subframes that write, read, speak to the console, in any order."""
    out = b""
    for _ in range(rng.randint(1, 4)):
        kind = rng.randint(0, 3)
        count, start = (
            rng.randint(0, 6) if rng.random() < 0.95 else rng.randint(20, 60),
            rng.choice((0, 1, 0x20, 0x23, 0x0F, 0x12, 0x38, 0x70, rng.randrange(128))),
        )
        where = bytes((start,)) if rng.random() < 0.8 else bytes((start | 0x80, rng.choice((1, 2, 0xFF))))
        head = bytes((kind << 2 | (count if count < 4 else 0),)) + bytes((count,)) * (not 0 < count < 4) + where
        if rng.random() < 0.5:
            out += bytes((head[0] | 0x10,)) + head[1:]
        elif rng.random() < 0.8:
            numbers = (
                b"".join(FLOAT.pack(rng.choice(ODD)) for _ in range(count))
                if kind == 3
                else rng.randbytes(count * (1, 2, 4)[kind % 3])
            )
            out += rng.choice((b"", b"\x01\x00\x0a")) + head + numbers
        else:
            text = rng.choice((b"conf get id.id\n", b"conf set id.id nan\n", b"conf enumerate\n", b"conf set motor.poles 1e99\n",
                               b"d stop\n", b"tel\n", b"conf load\n"))  # fmt: skip
            out += rng.choice((bytes((0x40, 1, len(text))) + text, b"\x42\x01\x30", b"\x44\x01\x00\x30"))
    return out[:64]


class World:
    """What the IMU feels."""

    domain, time = Domain(), 1.0

    def torso(self, delay_s: float) -> Any:
        raise NotImplementedError


class Commands:
    """`sim/senses.py`: what the IMU is told."""

    name = "twin's imu"
    words = (
        b"\xff\xaa",
        b"\xff",
        b"\xaa",
        b"\x69\x88\xb5",
        b"\xff\xaa\x69\x88\xb5",
        b"\xff\xaa\x27\x02\x00",
        b"\xff\xaa\x00\xff\x00",
    )

    def __init__(self) -> None:
        self._imus = [ImuSensor(World(), config.Twin(), np.random.default_rng(0)) for _ in range(2)]

    def example(self, rng: random.Random) -> bytes:
        out = b""
        for _ in range(rng.randint(1, 5)):
            register = rng.choice((0x00, 0x02, 0x03, 0x04, 0x24, 0x27, 0x69, rng.randrange(256)))
            value = rng.choice((0, 1, 6, 0xFF, 0xB588, rng.randrange(65536)))
            out += struct.pack("<BBBH", 0xFF, 0xAA, register, value)
        return out

    def check(self, data: bytes) -> None:
        one, many = self._imus
        one.receive(data)
        for piece in torn(data):
            many.receive(piece)
        if one.registers != many.registers or one.transmit() != many.transmit():
            raise Broken("torn commands are obeyed otherwise than merged ones")
        if not 0.1 <= one.rate_hz <= 200:
            raise Broken(f"{one.rate_hz} samples a second")
        for imu in self._imus:
            # a command that was cut off takes up to four bytes of what follows: what is no head does no harm
            imu.receive(bytes(4) + b"\xff\xaa\x69\x88\xb5" + b"\xff\xaa\x03\x06\x00" + b"\xff\xaa\x27\x03\x00")
            if not imu.transmit().endswith(_registers(imu, 3)) or imu.registers[3] != 6:
                raise Broken("a good command after it is not obeyed")

    def held(self) -> int:
        return max(held(imu._partial, imu._out, imu.registers) for imu in self._imus)


def _registers(imu: ImuSensor, first: int) -> bytes:
    body = struct.pack("<BB4H", 0x55, 0x5F, *(imu.registers.get(first + k, 0) for k in range(4)))
    return body + bytes((sum(body) & 0xFF,))


class Unconnected:
    """A ZeroMQ context, and a socket of it, that nobody is behind."""

    def socket(self, kind: int) -> Unconnected:
        return self

    def setsockopt(self, option: int, value: Any) -> None:
        pass

    def connect(self, address: str) -> None:
        pass

    def close(self, linger: int) -> None:
        pass


class Messages:
    """`robotrl/bus.py`: a frame to every topic's reader; a message is of its type and of a known source, bad ones are counted."""

    name = "bus messages"
    words = (b"\xc0", b"\xc3", b"\xcb\x7f\xf8" + bytes(6), b"\xa6source", b"\x91" * 3, b"\xdd" + b"\xff" * 4,
             b"\xdb\x7f\xff\xff\xff", b"\xcf" + b"\xff" * 8, b"\xa2\xff\xff", b"\xc7\x01\x00\x00", b"\xd6\xff" + bytes(4),
             b"\x81\xa1x" + b"\x91" * 3000)  # fmt: skip

    def __init__(self) -> None:
        self._ends = []
        context = cast(zmq.Context, Unconnected())
        for topic in TOPICS:
            self._ends.append(Subscriber(context, Path("nowhere"), topic, LockstepClock()))
        self._bad = [0] * len(self._ends)  # as each had refused when it was asked last

    def example(self, rng: random.Random) -> bytes:
        entry = TOPICS[rng.choice(list(TOPICS))]
        values: dict[str, Any] = {
            "source": rng.choice(entry.sources),
            "boot": rng.randrange(1 << 48),
            "seq": rng.randrange(10**6),
        }
        for name, kind in fields(entry.type):
            if name not in values:
                values[name] = value(rng, kind)
        return msgspec.msgpack.encode(entry.type(**values))

    def check(self, data: bytes) -> None:
        for i, end in enumerate(self._ends):
            bad, count = self._bad[i], end.count
            got = end.take(data, TOPICS[end.topic].sources[0])
            self._bad[i] = end.bad
            if (self._bad[i] - bad, end.count - count) != ((1, 0) if got is None else (0, 1)):
                raise Broken(f"{end.topic}: neither taken nor counted as bad")
            if got is not None:
                typed(end.topic, got)
                if got.source not in TOPICS[end.topic].sources:
                    raise Broken(f"{end.topic}: took {got}")

    def held(self) -> int:
        return sum(held(end._past, end._arrivals) for end in self._ends) // len(self._ends)


def typed(topic: str, got: messages.Message) -> None:
    """Broken unless it is a message of its topic's type, and all in it of theirs."""
    if type(got) is not TOPICS[topic].type:
        raise Broken(f"{topic}: took {got}")
    for name, kind in fields(type(got)):
        if not fits(getattr(got, name), kind):
            raise Broken(f"{topic}: {name} is {getattr(got, name)!r}")


def value(rng: random.Random, kind: Any) -> Any:
    if kind is float:
        return rng.choice((0.0, 1.5, math.nan, math.inf, -1e308))
    if kind is int:
        return rng.choice((0, 1, -1, 1 << 40, (1 << 64) - 1))
    if kind is bool:
        return rng.random() < 0.5
    if kind is str:
        return rng.choice(("", "run", "hold", "\u00e4" * 5))
    if kind is bytes:
        return rng.randbytes(rng.choice((0, 1, 32, 33)))
    if not (items := items_of(kind)):
        return kind(**{name: value(rng, part) for name, part in fields(kind)})
    return tuple(value(rng, item) for item in (items if items[-1] is not ... else items[:1] * rng.choice((8, 8, 0, 3))))


items_of = cache(typing.get_args)


@cache
def fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, field.type) for field in msgspec.structs.fields(kind))


def fits(value: Any, kind: Any) -> bool:
    """Whether `value` is of a message's declared type, what is in it too."""
    if items := items_of(kind):
        if type(value) is not tuple:
            return False
        if items[-1] is ...:
            items = items[:1] * len(value)
        return len(value) == len(items) and all(map(fits, value, items))
    if type(value) is not kind:
        return False
    return not issubclass(kind, msgspec.Struct) or all(fits(getattr(value, name), part) for name, part in fields(kind))


TARGETS = (Bus, Commands, Messages)
