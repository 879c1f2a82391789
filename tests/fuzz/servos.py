"""What comes over a servo line into the twin: packets of both protocols, torn, merged, damaged."""

from __future__ import annotations

import math
import random

from robotrl.sim import dynamixelwire, feetechbus
from robotrl.sim.dynamixelbus import DynamixelBus
from robotrl.sim.dynamixelservo import DynamixelServo
from robotrl.sim.dynamixeltable import XL330_M288, XM430_W350
from robotrl.sim.feetechbus import FeetechBus
from robotrl.sim.feetechservo import FeetechServo
from robotrl.sim.feetechtable import STS3215_12V
from robotrl.sim.joints import Pendulums
from robotrl.sim.servobus import Chain
from tests.fuzz.engine import Broken

IDS = (1, 2, 0xFE, 3)


class Line:
    """Two servos, moving. Whatever was said to them, a good packet after a silence is answered and the joints are somewhere."""

    bus: DynamixelBus | FeetechBus

    def _start(self) -> None:
        self._chain = Chain(self.bus.servos, Pendulums([0.01, 0.02], 0.3), 0.008)  # coarse: steps take longer than bytes

    def check(self, data: bytes) -> None:
        self.bus.receive(data)
        self.bus.transmit()
        self._chain.advance(0.016)
        if not all(map(math.isfinite, (*self._chain.joints.angle, *self._chain.joints.velocity))):
            raise Broken(f"joints at {self._chain.joints.angle}, {self._chain.joints.velocity}")
        for number, servo in enumerate(self.bus.servos, 1):
            servo.read(0, 86)
            for name, value in (("id", number), ("status_level", 1), ("return_delay", 0)):
                servo.registers.put(name, value)
            servo.wakes_s = -1.0
        self.bus.receive(self.ping)
        answer = self.bus.transmit()
        if not answer.startswith(self.pong) or len(answer) != self.size:
            raise Broken(f"a good ping after it is answered {answer!r}")

    ping, pong, size = b"", b"", 0

    def held(self) -> int:
        return len(self.bus._ear._held) + sum(len(b.data) for b in self.bus._bursts)


class Dynamixel(Line):
    name = "twin's dynamixel"
    words = (b"\xff\xff\xfd\x00", b"\xff\xff\xfd", b"\xfd", b"\xff", b"\xff\xff\xfd\x00\x01\xff\xff", b"\x01\x44\x58\x4c\x22")
    ping, pong, size = dynamixelwire.sealed(b"\xff\xff\xfd\x00\x01\x03\x00\x01"), b"\xff\xff\xfd\x00\x01\x07\x00\x55", 14

    def __init__(self) -> None:
        self.bus = DynamixelBus([DynamixelServo(XM430_W350, 1), DynamixelServo(XL330_M288, 2)])
        self._start()

    def example(self, rng: random.Random) -> bytes:
        out = b""
        for _ in range(rng.randint(1, 3)):
            kind = rng.choice((1, 2, 3, 3, 3, 4, 5, 6, 8, 0x10, 0x20, 0x82, 0x83, 0x8A, 0x92, 0x93, 0x9A, rng.randrange(256)))
            where = rng.choice((7, 8, 9, 10, 11, 12, 20, 36, 48, 63, 64, 68, 98, 100, 102, 104, 112, 116, 168, 224, 578, 634))
            size = rng.choice((1, 2, 4, 4, 10, 147))
            address, length = where.to_bytes(2, "little"), size.to_bytes(2, "little")
            params = {
                2: address + length,
                3: address + (rng.randbytes(size) if rng.random() < 0.5 else rng.randrange(6).to_bytes(size, "little")),
                0x82: address + length + b"\x01\x02",
                0x83: address + length + b"\x01" + rng.randbytes(size) + b"\x02" + rng.randbytes(size),
                0x92: b"\x01" + address + length + b"\x02" + address + length,
                0x93: b"\x01" + address + length + rng.randbytes(size),
            }.get({4: 3, 0x8A: 0x82, 0x9A: 0x92}.get(kind, kind), rng.randbytes(rng.randrange(8)))
            body = (bytes((kind,)) + params).replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")
            head = b"\xff\xff\xfd\x00" + bytes((rng.choice(IDS),)) + (len(body) + 2).to_bytes(2, "little")
            out += dynamixelwire.sealed(head + body)
        return out


class Feetech(Line):
    name = "twin's feetech"
    words = (b"\xff\xff", b"\xff\xff\xfe", b"\xff\xff\x01\xff", b"\xff\xff\x01\x00", b"\xff")
    ping, pong, size = feetechbus.checked(b"\x01\x02\x01"), b"\xff\xff\x01\x02", 6

    def __init__(self) -> None:
        self.bus = FeetechBus([FeetechServo(STS3215_12V, 1), FeetechServo(STS3215_12V, 2)])
        self._start()

    def example(self, rng: random.Random) -> bytes:
        out = b""
        for _ in range(rng.randint(1, 3)):
            kind = rng.choice((1, 2, 3, 3, 3, 4, 5, 6, 8, 9, 0x0A, 0x0B, 0x82, 0x83, rng.randrange(256)))
            where, size = rng.choice((5, 6, 9, 16, 18, 31, 33, 40, 41, 42, 46, 48, 55, 84, 255)), rng.choice((1, 2, 4, 7, 60))
            params = {
                2: bytes((where, size)),
                3: bytes((where,)) + rng.randbytes(size),
                0x82: bytes((where, size, 1, 2)),
                0x83: bytes((where, size, 1)) + rng.randbytes(size) + b"\x02" + rng.randbytes(size),
            }.get(3 if kind == 4 else kind, rng.randbytes(rng.randrange(6)))
            out += feetechbus.checked(bytes((rng.choice(IDS), len(params) + 2, kind)) + params)
        return out


TARGETS = (Dynamixel, Feetech)
