"""What comes over a wire from sensors into their drivers: IMU frames, pose lines; what must hold for any bytes."""

from __future__ import annotations

import math
import random
import re
import struct
import zlib

import msgspec

from robotrl import config
from robotrl.clock import LockstepClock
from robotrl.drivers.imu import WitImu
from robotrl.drivers.tracker import PoseStream
from robotrl.messages import Imu, Pose
from tests.fuzz.engine import Broken, held, torn
from tests.fuzz.wires import Told, checked, wild

AWAY_MAX = 0.15 + 1e-9  # rad, of a filtered angle from the measured one
IMU_LATE_NS, IMU_DEAF_NS, POSE_LATE_NS, POSE_DEAF_NS = 60_000_000, 30_000_000, 61_000_000, 100_000_000
WHOLE = 65_536  # bytes taken off a line in one look


def is_late(data: bytes) -> bool:
    """Whether nobody has looked for long when these bytes are read: with one input of sixteen."""
    return zlib.crc32(data) & 15 == 0 and len(data) < WHOLE


class WitMotion:
    """`drivers/imu.py`: torn and merged bytes give the same sample, and each one stands in the bytes as three checked frames.

    So it is without the filter of the angles. With it all else is the same, and the angles are not far from the measured ones.
    What waited for a late look is not read, nor is what comes soon after.
    """

    name = "imu stream"
    words = (b"\x55", b"\x55\x51", b"\x55\x52", b"\x55\x53", b"\x55\x5f", b"\xff\x7f", b"\x00\x80", b"\x55" * 12)

    def __init__(self) -> None:
        self._ports, self._clock, self._number = [Told() for _ in range(4)], LockstepClock(), 0
        wirings = [config.ImuPort(smoothing_s=smoothing_s) for smoothing_s in (0.0, 0.0, 0.1, 0.1)]
        self._imus = [WitImu(port, wiring, self._clock) for port, wiring in zip(self._ports, wirings, strict=True)]
        self._tail = b""

    def example(self, rng: random.Random) -> bytes:
        out = b""
        for _ in range(rng.randint(1, 4)):
            for kind in (0x51, 0x52, 0x53) if rng.random() < 0.8 else rng.choices(range(0x4F, 0x61), k=2):
                span = 32768 if rng.random() < 0.1 else 9000
                out += wit(kind, [rng.randrange(-span, span) for _ in range(4)])
        return out

    def check(self, data: bytes) -> None:
        if late := is_late(data):
            cut = 1 + len(data) % (len(TORN_SAMPLE) - 1)
            self._read(TORN_SAMPLE[:cut], 5_000_000)
        merged = self._read(data, IMU_LATE_NS if late else 5_000_000)
        if late:
            self._deaf(merged)
            self._deaf(self._read(data, IMU_DEAF_NS - 5_000_000))
            self._deaf(self._read(TORN_SAMPLE[cut:], 5_000_000))
        elif merged is not None and merged.t == self._clock.now():
            self._sound(merged, self._tail + data)
        for _ in range(1 if late else 2):  # the first may have been begun by a false head, of which a late look leaves nothing
            self._number = self._number % 30 + 1  # no byte of it is 0x55
            merged = self._read(good := GOOD_SAMPLES[self._number - 1], 5_000_000)
        if (
            merged is None
            or merged.stale
            or round(merged.roll * 32768 / math.pi) != self._number
            or merged.t != self._clock.now()
        ):
            raise Broken(f"after two good samples it says {merged}")
        self._tail = good

    def _deaf(self, sample: Imu | None) -> None:
        if sample is not None and (sample.t > self._clock.now() - IMU_LATE_NS or not sample.stale):
            raise Broken(f"has waited nobody knows how long and passes for new: {sample}")

    def _read(self, data: bytes, after_ns: int) -> Imu | None:
        """The sample of all four, without the filter."""
        self._clock.advance(after_ns)
        pieces = torn(data)
        for k, port in enumerate(self._ports):
            port.pieces = pieces.copy() if k & 1 else [data]
        plain, pieced, smooth, smooth_pieced = [imu.read() for imu in self._imus]
        if plain != pieced or smooth != smooth_pieced or len({(imu.errors, imu.refused) for imu in self._imus}) > 1:
            raise Broken(f"torn bytes read {pieced} or {smooth_pieced}, merged ones {plain} or {smooth}")
        if plain is None or smooth is None:
            if plain is not smooth:
                raise Broken(f"with the filter {smooth}, without it {plain}")
            return None
        if msgspec.structs.replace(smooth, roll=plain.roll, pitch=plain.pitch) != plain:
            raise Broken(f"the filter changes what it should not: {plain} to {smooth}")
        away = abs(math.remainder(smooth.roll - plain.roll, math.tau)), abs(smooth.pitch - plain.pitch)
        if not max(away) <= AWAY_MAX or abs(smooth.roll) > math.pi or abs(smooth.pitch) > math.pi / 2 + 0.02:
            raise Broken(f"the filter leads away: {plain} to {smooth}")
        return plain

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


*GOOD_SAMPLES, TORN_SAMPLE = (b"".join(wit(kind, [number] * 4) for kind in (0x51, 0x52, 0x53)) for number in range(1, 32))
TORN_POSE = checked(b"pose 1 1000 1 2 3 0.1 0.2 0.3") + b"\n"


def _places(part: bytes, data: bytes) -> list[int]:
    found, at = [], data.find(part)
    while at >= 0:
        found.append(at)
        at = data.find(part, at + 1)
    return found


SUMMED = re.compile(rb"\*[0-9A-F]{2}\s*$")


class Poses:
    """`drivers/tracker.py`: torn and merged lines give the same poses, and each one is a checked line.

    What waited for a late look, or came in a burst, is not read, nor is what comes soon after.
    """

    name = "pose lines"
    words = (b"pose ", b" *", b"\n", b"\r\n", b" nan", b" inf", b" 1e9", b" -", b"_", b" 0x10", b"9" * 30)

    def __init__(self) -> None:
        self._ports, self._clock, self._seq = (Told(), Told()), LockstepClock(), 10**12
        self._clock.advance(10**12)
        self._streams = [PoseStream(port, self._clock) for port in self._ports]

    def example(self, rng: random.Random) -> bytes:
        out, seq = b"", rng.randrange(10**6)
        for _ in range(rng.randint(1, 3) if rng.random() < 0.95 else rng.randint(7, 11)):
            seq += rng.choice((1, 1, 1, 2, 0, -5))
            numbers = [rng.uniform(-3, 3) if rng.random() < 0.9 else wild(rng) for _ in range(6)]
            age = rng.choice((33_000, 0, -1, 5_000_001, 10**20)) if rng.random() < 0.2 else 33_000
            out += checked(b"pose %d %d %b" % (seq, age, b" ".join(b"%.6f" % n for n in numbers))) + rng.choice((b"\n", b"\r\n"))
        return out

    def check(self, data: bytes) -> None:
        cut = 1 + len(data) % (len(TORN_POSE) - 1) if (late := is_late(data)) else 0
        self._read(TORN_POSE[:cut], 0)
        merged = self._read(data, POSE_LATE_NS if late else 20_000_000)
        sound = [line for line in data.split(b"\n") if SUMMED.search(line)]
        if len(merged) > min(len(sound), 0 if late else 8):
            raise Broken(f"{len(merged)} poses of {len(sound)} lines with a check sum{', looked at late' * late}")
        for pose in merged:
            if not all(abs(n) <= 1000 for n in (*pose.position, *pose.rpy)) or not 0 <= self._clock.now() - pose.t <= 5 * 10**9:
                raise Broken(f"out of range and passes for good: {pose}")
        if late or (len(sound) > 8 and not merged):  # it may have been a burst
            if self._read(data if late else b"", POSE_DEAF_NS // 2):
                raise Broken("what comes soon after a late look passes for new")
            if self._read(TORN_POSE[cut:] if late else b"", POSE_DEAF_NS // 2):
                raise Broken("a line that began before a late look passes for new")
        self._seq += 2
        poses = self._read(checked(b"pose %d 1000 1 2 3 0.1 0.2 0.3" % self._seq) + b"\n", 0)
        if not poses or poses[-1].position != (1.0, 2.0, 3.0):
            raise Broken("the good line after it is not understood")

    def _read(self, data: bytes, after_ns: int) -> list[Pose]:
        self._clock.advance(after_ns)
        self._ports[0].pieces, self._ports[1].pieces = [data], torn(data)
        one, many = self._streams
        merged, pieced = one.read(), many.read()
        if merged != pieced or (one.bad_lines, one.lost, one.repeats) != (many.bad_lines, many.lost, many.repeats):
            raise Broken(f"torn bytes are other poses than merged ones: {pieced}, {merged}")
        return merged

    def held(self) -> int:
        return held(*[stream._lines for stream in self._streams])


TARGETS = (WitMotion, Poses)
