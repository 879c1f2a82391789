"""Registers of the servos as data: number, meaning, and what one step is worth in each width.

moteus: mjbots/moteus reference, "Register command set". Angles are revolutions there, speeds Hz (rev/s).
"""

from __future__ import annotations

from enum import IntEnum


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
