"""The far ends of the sensors' wires: a WitMotion IMU and the pose tracker's line stream.

Both look at the world as it was a while ago, add noise, quantise as the wire does, and hand out bytes when asked.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from robotrl import config
from robotrl.sim.domain import Domain
from robotrl.sim.fdcanusb import checksum
from robotrl.sim.noise import Normals

FRAME = 11  # bytes: 0x55, type, four int16, sum
ACCELERATION, RATES, ATTITUDE, REGISTERS = 0x51, 0x52, 0x53, 0x5F
MASK_BIT = {ACCELERATION: 1, RATES: 2, ATTITUDE: 3}
ALL = 0b1110
SAVE, MASK, RATE, BAUD, AXIS6, READ, KEY = 0x00, 0x02, 0x03, 0x04, 0x24, 0x27, 0x69
UNLOCK = 0xB588
UNLOCKED_S = 10.0
HZ = {
    1: 0.1,
    2: 0.5,
    3: 1.0,
    4: 2.0,
    5: 5.0,
    6: 10.0,
    7: 20.0,
    8: 50.0,
    9: 100.0,
    11: 200.0,
}  # by register RATE
BAUDS = {1: 4800, 2: 9600, 3: 19200, 4: 38400, 5: 57600, 6: 115200, 7: 230400, 8: 460800, 9: 921600}
ACCEL_RANGE, RATE_RANGE, ANGLE_RANGE = 16 * 9.80665, math.radians(2000.0), math.pi  # what 32768 stands for
ACCEL_NOISE = 0.05  # m/s^2, sd; chosen
TEMPERATURE, SUPPLY, VERSION = 2500, 500, 0x4C31  # 25 C, 5 V; 1/100
WAITING_MAX = 8192  # bytes the serial line keeps for a reader that does not read

# Delays (s) of n samples, their noise (8 n,) and the domain they are taken in to their frames; b"": cannot.
Quick = Callable[[list[float], np.ndarray, Domain], bytes]


class ImuSensor:
    """WitMotion WT901: streams what its mask says at its rate; obeys unlock, mask, rate, save, register reads, reboot.

    It powers up as it was last saved: all three motion frames at `twin.imu_rate_hz`, at a baud that carries them.
    """

    def __init__(self, world: Any, twin: config.Twin, rng: np.random.Generator, quick: Quick | None = None) -> None:
        """`quick` makes the frames of samples faster than `_sample`, and the same."""
        self._world, self._twin, self._normals, self._quick = world, twin, Normals(rng), quick
        rate = min((r for r, hz in HZ.items() if hz >= twin.imu_rate_hz), default=11)
        baud = 2 if HZ[rate] <= 20 else 6
        self._saved = {MASK: ALL, RATE: rate, BAUD: baud, AXIS6: 0}
        self.registers = dict(self._saved)
        self._unlocked_until = -1.0
        self._partial = b""
        self._out = bytearray()
        self._next = world.time
        self._count = 0

    @property
    def rate_hz(self) -> float:
        """Samples a second: what is asked for, less where the baud does not carry it (it says nothing about that)."""
        return _rate_hz(self.registers[MASK], self.registers[BAUD], self.registers[RATE])

    def advance(self) -> None:
        """Take the samples that fell due since the last call."""
        period = 1.0 / self.rate_hz
        now = self._world.time
        if now - self._next > 1.0:  # nobody called for long: no burst
            self._next = now
        latency, extra = self._twin.imu_latency_s, self._world.domain.extra_latency_s
        delays, due = [], self._next
        while due <= now + 1e-9:
            delays.append(max(0.0, now - due) + latency + extra)
            due += period
        self._next = due
        if delays:
            self._out += self._samples(delays)
        if len(self._out) > WAITING_MAX:
            del self._out[: len(self._out) - WAITING_MAX]

    def _samples(self, delays: list[float]) -> bytes:
        noise = self._normals.take(8 * len(delays))
        quick = self._quick if self.registers[MASK] == ALL else None
        if quick is not None and (frames := quick(delays, noise, self._world.domain)):
            return frames
        rows = noise.reshape(-1, 8).tolist()
        return b"".join([self._sample(delay, row) for delay, row in zip(delays, rows, strict=True)])

    def _sample(self, delay: float, noise: list[float]) -> bytes:
        """The frames of what there was `delay` (s) ago; `noise` (8,), unit normal."""
        domain, seen = self._world.domain, self._world.torso(delay)
        mask, out = self.registers[MASK], b""
        tilt, turn = domain.imu_noise_rad, self._twin.imu_rate_noise
        roll, pitch, yaw = seen.rpy
        if mask & 0b0010:
            a = seen.accel
            out += _motion(ACCELERATION, [a[k] + ACCEL_NOISE * noise[k] for k in range(3)], ACCEL_RANGE, TEMPERATURE)
        if mask & 0b0100:
            g = seen.rates
            out += _motion(RATES, [g[k] + turn * noise[3 + k] for k in range(3)], RATE_RANGE, SUPPLY)
        if mask & 0b1000:
            angles = (
                roll + domain.imu_bias[0] + tilt * noise[6],
                pitch + domain.imu_bias[1] + tilt * noise[7],
                yaw,
            )
            out += _motion(ATTITUDE, [_wrap(x) for x in angles], ANGLE_RANGE, VERSION)
        return out

    def receive(self, data: bytes) -> None:
        """Commands `FF AA register low high`; bytes that are none are passed over."""
        data = self._partial + data
        at = data.find(b"\xff\xaa")
        while 0 <= at <= len(data) - 5:
            self._obey(data[at + 2], data[at + 3] | data[at + 4] << 8)
            data = data[at + 5 :]
            at = data.find(b"\xff\xaa")
        self._partial = data[-4:] if at < 0 else data[at:]

    def _obey(self, register: int, value: int) -> None:
        now = self._world.time
        if register == READ:
            values = [self.registers.get((value & 0xFF) + k, 0) for k in range(4)]
            self._out += _frame(REGISTERS, [v - 0x10000 if v > 0x7FFF else v for v in values])
        elif register == KEY:
            self._unlocked_until = now + UNLOCKED_S if value == UNLOCK else -1.0
        elif now > self._unlocked_until:
            return  # locked: writes are passed over in silence
        elif register == SAVE:
            if value == 0xFF:  # reboot
                self.registers = dict(self._saved)
                self._unlocked_until = -1.0
            elif value == 0:
                self._saved = dict(self.registers)
        else:
            self.registers[register] = value

    def transmit(self) -> bytes:
        data = bytes(self._out)
        self._out.clear()
        return data


class TrackerSensor:
    """Pose tracker: a picture every 1/rate, its pose on the wire `tracker_delay_s` later as a line that says how old it is."""

    def __init__(self, world: Any, twin: config.Twin, rng: np.random.Generator) -> None:
        self._world, self._twin, self._normals = world, twin, Normals(rng)
        self._period = 1.0 / twin.tracker_rate_hz
        self._next = world.time
        self._seq = 0
        self._seen: list[tuple[float, int, list[float]]] = []  # capture time, number, position and attitude

    def advance(self) -> None:
        """Take the pictures that fell due since the last call."""
        now = self._world.time
        if now - self._next > 1.0:
            self._next = now
        while self._next <= now + 1e-9:
            seen = self._world.torso(max(0.0, now - self._next))
            noise = self._normals.take(6).tolist()
            pose = [p + self._twin.tracker_noise_m * e for p, e in zip(seen.position, noise[:3], strict=True)]
            pose += [_wrap(a + self._twin.tracker_noise_rad * e) for a, e in zip(seen.rpy, noise[3:], strict=True)]
            self._seen.append((self._next, self._seq, pose))
            self._seq += 1
            self._next += self._period
        if len(self._seen) > 120:
            del self._seen[:-120]

    def receive(self, data: bytes) -> None:
        """The tracker takes no commands."""

    def transmit(self) -> bytes:
        """Lines `pose SEQ AGE_US X Y Z ROLL PITCH YAW *XX` of all pictures that are worked out by now."""
        now, out = self._world.time, b""
        while self._seen and self._seen[0][0] + self._twin.tracker_delay_s <= now + 1e-9:
            taken, seq, pose = self._seen.pop(0)
            text = b"pose %d %d %.5f %.5f %.5f %.5f %.5f %.5f " % (seq, round((now - taken) * 1e6), *pose)
            out += b"%b*%02X\n" % (text, checksum(text))
        return out


def _wrap(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi


@functools.cache
def _rate_hz(mask: int, baud: int, rate: int) -> float:
    frames = sum(mask >> bit & 1 for bit in MASK_BIT.values())
    carried = BAUDS.get(baud, 9600) / 10 / FRAME / max(1, frames)
    asked = HZ.get(rate, 10.0)
    return max((hz for hz in HZ.values() if hz <= min(asked, carried)), default=0.1)


def _motion(kind: int, values: list[float], full: float, last: int) -> bytes:
    scaled = [max(-32768, min(32767, round(v * (32768 / full)))) for v in values]
    return _frame(kind, [*scaled, last])


def _frame(kind: int, words: list[int]) -> bytes:
    body = struct.pack("<BB4h", 0x55, kind, *words)
    return body + bytes([sum(body) & 0xFF])
