"""Devices that lie: whole frames, right checksums, and what they say is not so."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robotrl.sim.faults import Fault
from robotrl.sim.fdcanusb import checksum
from robotrl.sim.senses import ACCELERATION, ATTITUDE, FRAME

Value = Callable[[float], float]  # of what is so

# Registers of a servo's answer that may be lied about, by name; angles and speeds in its own revolutions.
REGISTERS = {"mode": 0x00, "angle": 0x01, "speed": 0x02, "torque": 0x03, "winding_c": 0x0A, "volts": 0x0D, "board_c": 0x0E,
             "fault": 0x0F}  # fmt: skip


class Lies:
    """What some servos say instead of what is so: by servo's index and register."""

    def __init__(self) -> None:
        self._told: dict[tuple[int, int], Value] = {}

    def tell(self, servo: int, what: str, value: Value) -> None:
        """From now on. ValueError for a register there is not."""
        if what not in REGISTERS:
            raise ValueError(f"what {what!r}: use {', '.join(REGISTERS)}")
        self._told[servo, REGISTERS[what]] = value

    def end(self) -> None:
        self._told.clear()

    def over(self, telemetry: NDArray[np.float32]) -> NDArray[np.float32]:
        """`telemetry` (n, 16), as it is said: itself where nobody lies."""
        if not self._told:
            return telemetry
        said = telemetry.copy()
        for (servo, register), value in self._told.items():
            said[servo, register] = value(float(said[servo, register]))
        return said


def frozen() -> Value:
    """The first value for ever."""
    first: list[float] = []

    def value(now: float) -> float:
        first.append(now) if not first else None
        return first[0]

    return value


class Skew(Fault):
    """The IMU's attitude is wrong: roll and pitch times `sign`, and this much more (rad), in frames that are otherwise whole."""

    def __init__(self, roll: float, pitch: float, sign: float = 1.0) -> None:
        self._more, self._sign = (roll, pitch), sign

    def outward(self, data: bytes) -> bytes:
        out = b""
        for at in range(0, len(data), FRAME):
            frame = data[at : at + FRAME]
            if len(frame) == FRAME and frame[1] == ATTITUDE:
                raw = struct.unpack_from("<2h", frame, 2)
                turned = (self._sign * n + a / math.pi * 32768 for n, a in zip(raw, self._more, strict=True))
                body = frame[:2] + struct.pack("<2h", *(max(-32768, min(32767, round(n))) for n in turned)) + frame[6:10]
                frame = body + bytes([sum(body) & 0xFF])
            out += frame
        return out


class Weightless(Fault):
    """The IMU feels a tenth of what there is, as one that falls does, in frames that are otherwise whole."""

    def outward(self, data: bytes) -> bytes:
        out = b""
        for at in range(0, len(data), FRAME):
            frame = data[at : at + FRAME]
            if len(frame) == FRAME and frame[1] == ACCELERATION:
                felt = (round(n * 0.1) for n in struct.unpack_from("<3h", frame, 2))
                body = frame[:2] + struct.pack("<3h", *felt) + frame[8:10]
                frame = body + bytes([sum(body) & 0xFF])
            out += frame
        return out


class Mispose(Fault):
    """The tracker is wrong: its numbers (x, y, z in m; roll, pitch, yaw in rad) changed by `how`, in otherwise whole lines."""

    def __init__(self, how: Callable[[list[float]], list[float]]) -> None:
        self._how = how

    def outward(self, data: bytes) -> bytes:
        out = b""
        for line in data.splitlines(keepends=True):
            words = line.split()
            if len(words) == 10 and words[0] == b"pose":
                numbers = self._how([float(word) for word in words[3:9]])
                text = b" ".join(words[:3]) + "".join(f" {n:.5f}" for n in numbers).encode() + b" "
                line = text + b"*%02X\n" % checksum(text)
            out += line
        return out


def moved(metres: float) -> Mispose:
    """The tracker takes another thing for the robot, so far away along x."""
    return Mispose(lambda pose: [pose[0] + metres, *pose[1:]])


def mirrored(tilt: float = 0.6) -> Mispose:
    """A flat tag seen from afar has two attitudes that look alike: the tracker chose the wrong one, `tilt` rad off."""
    return Mispose(lambda pose: [*pose[:4], -pose[4] + tilt, pose[5]])


def stuck() -> Mispose:
    """One picture for ever, under new numbers."""
    first: list[float] = []

    def same(pose: list[float]) -> list[float]:
        first.extend(pose if not first else [])
        return first

    return Mispose(same)
