"""Registers of the servos as data: number, meaning, and what one step is worth in each width.

moteus: mjbots/moteus reference, "Register command set". Angles are revolutions there, speeds Hz (rev/s).
A `Register` of it has a number and four widths; an `Item` is a field of the byte-addressed control tables of Dynamixel
(`dynamixel_x.py`) and Feetech (`feetech_sts.py`) servos, in SI units.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import NamedTuple


class Mode(IntEnum):
    STOPPED = 0
    FAULT = 1
    POSITION = 10
    TIMEOUT = 11
    ZERO_VELOCITY = 12
    BRAKE = 15


class Register(IntEnum):
    MODE = 0x00
    POSITION = 0x01
    VELOCITY = 0x02
    TORQUE = 0x03
    MOTOR_TEMP = 0x0A
    VOLTAGE = 0x0D
    TEMP = 0x0E
    FAULT = 0x0F
    TARGET_POSITION = 0x20
    TARGET_VELOCITY = 0x21
    TARGET_TORQUE = 0x22
    KP_SCALE = 0x23
    KD_SCALE = 0x24
    MAX_TORQUE = 0x25
    STOP_POSITION = 0x26
    WATCHDOG = 0x27
    VELOCITY_LIMIT = 0x28
    ACCEL_LIMIT = 0x29


class Width(IntEnum):
    """How a value is written; the numbers are the two type bits of a subframe's first byte."""

    INT8 = 0
    INT16 = 1
    INT32 = 2
    F32 = 3


# one step of int8, int16, int32
_POSITION = (0.01, 1e-4, 1e-5)
_VELOCITY = (0.1, 2.5e-4, 1e-5)
_TORQUE = (0.5, 0.01, 0.001)
_CURRENT = (1.0, 0.1, 0.001)
_VOLTAGE = (0.5, 0.1, 0.001)
_TEMP = (1.0, 0.1, 0.001)
_TIME = (0.01, 0.001, 1e-6)
_FRACTION = (1 / 127, 1 / 32767, 1 / 2147483647)
_PLAIN = (1.0, 1.0, 1.0)
_SCALES = {
    **dict.fromkeys((0x01, 0x06, 0x20, 0x26, 0x130, 0x131), _POSITION),
    **dict.fromkeys((0x02, 0x21, 0x28), _VELOCITY),
    **dict.fromkeys((0x03, 0x22, 0x25), _TORQUE),
    **dict.fromkeys((0x04, 0x05), _CURRENT),
    **dict.fromkeys((0x0A, 0x0E), _TEMP),
    **dict.fromkeys((0x23, 0x24), _FRACTION),
    0x07: (10.0, 0.05, 1e-4),
    0x0D: _VOLTAGE,
    0x27: _TIME,
    0x29: (0.05, 0.001, 1e-5),
}


def scale(register: int, width: Width) -> float:
    """What one integer step of `register` is worth."""
    return _SCALES.get(register, _PLAIN)[width]


UNSIGNED = -2
TWOS_COMPLEMENT = -1


class Item(NamedTuple):
    """A field of a control table: `size` bytes from `address`, little-endian; one step of it is worth `scale` of `unit`.

    `sign` is UNSIGNED, TWOS_COMPLEMENT, or the number of the bit that makes a magnitude negative. Bits above that one belong to
    the magnitude again, as in Feetech's position offset; `top` is the largest magnitude there. `section` is the heading in the
    maker's manual.
    """

    address: int
    size: int
    section: str
    unit: str = ""
    scale: float = 1.0
    sign: int = UNSIGNED
    top: int = 0

    @property
    def least(self) -> int:
        """The lowest number of steps that the field holds."""
        if self.sign == TWOS_COMPLEMENT:
            return -(1 << 8 * self.size - 1)
        return 0 if self.sign == UNSIGNED else -self.most

    @property
    def most(self) -> int:
        """The highest number of steps that the field holds."""
        return self.top or (1 << (self.sign if self.sign >= 0 else 8 * self.size - (self.sign == TWOS_COMPLEMENT))) - 1

    def encode(self, steps: int) -> bytes:
        """The field's bytes. ValueError for a number it does not hold."""
        if not self.least <= steps <= self.most:
            raise ValueError(f"{self.section}: {steps} steps; it holds {self.least} to {self.most}")
        return self.encode_held(steps)

    def encode_held(self, steps: int) -> bytes:
        """The bytes of a number that is known to be one the field holds."""
        if self.sign >= 0:
            low, high = abs(steps) & (1 << self.sign) - 1, abs(steps) >> self.sign
            steps = low | (steps < 0) << self.sign | high << self.sign + 1
        return steps.to_bytes(self.size, "little", signed=self.sign == TWOS_COMPLEMENT)

    def decode(self, data: bytes) -> int:
        """Steps from the field's bytes. ValueError for another number of bytes."""
        if len(data) != self.size:
            raise ValueError(f"{self.section}: {len(data)} bytes; it has {self.size}")
        raw = int.from_bytes(data, "little", signed=self.sign == TWOS_COMPLEMENT)
        if self.sign < 0:
            return raw
        magnitude = raw & (1 << self.sign) - 1 | raw >> self.sign + 1 << self.sign
        return -magnitude if raw >> self.sign & 1 else magnitude

    def steps(self, value: float) -> int:
        """The nearest number of steps to a value in `unit`. ValueError for one that is not finite or does not fit."""
        if not math.isfinite(value):
            raise ValueError(f"{self.section}: {value} is not finite")
        steps = round(value / self.scale)
        if not self.least <= steps <= self.most:
            raise ValueError(f"{self.section}: {value} {self.unit} is {steps} steps; it holds {self.least} to {self.most}")
        return steps
