"""What comes over a wire from sensors into their drivers: IMU frames, pose lines; what must hold for any bytes."""

from __future__ import annotations

import math
import random
import re
import struct

from robotrl import config
from robotrl.clock import LockstepClock
from robotrl.drivers.imu import WitImu
from robotrl.drivers.port import MemoryPort
from robotrl.drivers.tracker import PoseStream
from robotrl.messages import Imu
from tests.fuzz.engine import Broken, held, torn
from tests.fuzz.wires import Far, checked, wild


class WitMotion:
    """`drivers/imu.py`: torn and merged bytes give the same sample, and each one stands in the bytes as three checked frames."""

    name = "imu stream"
    words = (b"\x55", b"\x55\x51", b"\x55\x52", b"\x55\x53", b"\x55\x5f", b"\xff\x7f", b"\x00\x80", b"\x55" * 12)

    def __init__(self) -> None:
        self._far, self._clock, self._number = (Far(), Far()), LockstepClock(), 0
        self._imus = [WitImu(MemoryPort(far), config.ImuPort(), self._clock) for far in self._far]
        self._tail = b""

    def example(self, rng: random.Random) -> bytes:
        out = b""
        for _ in range(rng.randint(1, 4)):
            for kind in (0x51, 0x52, 0x53) if rng.random() < 0.8 else rng.choices(range(0x4F, 0x61), k=2):
                span = 32768 if rng.random() < 0.1 else 9000
                out += wit(kind, [rng.randrange(-span, span) for _ in range(4)])
        return out

    def check(self, data: bytes) -> None:
        merged, pieced = self._read(data)
        if merged != pieced or self._imus[0].errors != self._imus[1].errors or self._imus[0].refused != self._imus[1].refused:
            raise Broken(f"torn bytes read {pieced}, merged ones {merged}")
        if merged is not None and merged.t == self._clock.now():
            self._sound(merged, self._tail + data)
        for _ in range(2):  # the first may have been begun by a false head
            self._number = self._number % 30 + 1  # no byte of it is 0x55
            good = [wit(kind, [self._number] * 4) for kind in (0x51, 0x52, 0x53)]
            merged, _ = self._read(b"".join(good))
        if (
            merged is None
            or merged.stale
            or round(merged.roll * 32768 / math.pi) != self._number
            or merged.t != self._clock.now()
        ):
            raise Broken(f"after two good samples it says {merged}")
        self._tail = b"".join(good)

    def _read(self, data: bytes) -> tuple[Imu | None, Imu | None]:
        self._clock.advance(5_000_000)
        self._far[0].pieces, self._far[1].pieces = [data], torn(data)
        return self._imus[0].read(), self._imus[1].read()

    def _sound(self, sample: Imu, data: bytes) -> None:
        for kind, numbers, full in (
            (0x51, sample.accel, 16 * 9.80665), (0x52, sample.rates, math.radians(2000)),
            (0x53, (sample.roll, sample.pitch, sample.yaw), math.pi),
        ):  # fmt: skip
            raw = struct.pack("<BB3h", 0x55, kind, *(round(n * 32768 / full) for n in numbers))
            if not any(sum(data[at : at + 10]) & 0xFF == data[at + 10] for at in _places(raw, data) if at + 11 <= len(data)):
                raise Broken(f"no frame says {numbers}")
        if max(map(abs, sample.accel)) > 16 * 9.81 or max(map(abs, sample.rates)) > 35 or abs(sample.pitch) > math.pi / 2 + 0.02:
            raise Broken(f"out of range and passes for good: {sample}")

    def held(self) -> int:
        return held(*[imu._parser for imu in self._imus])


def wit(kind: int, numbers: list[int]) -> bytes:
    body = struct.pack("<BB4h", 0x55, kind & 0xFF, *numbers)
    return body + bytes((sum(body) & 0xFF,))


def _places(part: bytes, data: bytes) -> list[int]:
    found, at = [], data.find(part)
    while at >= 0:
        found.append(at)
        at = data.find(part, at + 1)
    return found


class Poses:
    """`drivers/tracker.py`: torn and merged lines give the same poses, and each one is a checked line."""

    name = "pose lines"
    words = (b"pose ", b" *", b"\n", b"\r\n", b" nan", b" inf", b" 1e9", b" -", b"_", b" 0x10", b"9" * 30)

    def __init__(self) -> None:
        self._far, self._clock, self._seq = (Far(), Far()), LockstepClock(), 10**12
        self._streams = [PoseStream(MemoryPort(far), self._clock) for far in self._far]
        self._clock.advance(10**12)

    def example(self, rng: random.Random) -> bytes:
        out, seq = b"", rng.randrange(10**6)
        for _ in range(rng.randint(1, 3)):
            seq += rng.choice((1, 1, 1, 2, 0, -5))
            numbers = [rng.uniform(-3, 3) if rng.random() < 0.9 else wild(rng) for _ in range(6)]
            age = rng.choice((33_000, 0, -1, 5_000_001, 10**20)) if rng.random() < 0.2 else 33_000
            out += checked(b"pose %d %d %b" % (seq, age, b" ".join(b"%.6f" % n for n in numbers))) + rng.choice((b"\n", b"\r\n"))
        return out

    def check(self, data: bytes) -> None:
        one, many = self._streams
        self._far[0].pieces, self._far[1].pieces = [data], torn(data)
        merged, pieced = one.read(), many.read()
        if merged != pieced or (one.bad_lines, one.lost, one.repeats) != (many.bad_lines, many.lost, many.repeats):
            raise Broken(f"torn bytes are other poses than merged ones: {pieced}, {merged}")
        sound = [n for n in re.split(rb"\n", data) if re.search(rb"\*[0-9A-F]{2}\s*$", n)]
        if len(merged) > len(sound):
            raise Broken(f"{len(merged)} poses of {len(sound)} lines with a check sum")
        for pose in merged:
            if not all(abs(n) <= 1000 for n in (*pose.position, *pose.rpy)) or not 0 <= self._clock.now() - pose.t <= 5 * 10**9:
                raise Broken(f"out of range and passes for good: {pose}")
        self._seq += 2
        good = checked(b"pose %d 1000 1 2 3 0.1 0.2 0.3" % self._seq) + b"\n"
        for far in self._far:
            far.pieces = [good]
        for stream in self._streams:
            poses = stream.read()
            if not poses or poses[-1].position != (1.0, 2.0, 3.0):
                raise Broken("the good line after it is not understood")

    def held(self) -> int:
        return held(*[stream._lines for stream in self._streams])


TARGETS = (WitMotion, Poses)
