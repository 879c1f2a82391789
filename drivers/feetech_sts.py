"""Control table of the Feetech STS3215: what stands where, in which steps, under which heading of the manual.

Source: Feetech's memory table of the magnetic-encoder STS series (2.1 version, 2.2 EPROM, 2.3 SRAM control, 2.4 SRAM feedback,
2.5 factory; read in two public digests that agree) and SCS protocol manual. Numbers are little-endian and signed by a bit of
their own: 15 for positions, speeds and currents, 10 for loads, 11 for the position offset (whose bit 12 counts 2048 more).
There is no command watchdog: what the host last asked for is done for ever, so velocity mode has no place here and a goal may
lead a joint only by a little.
"""

from __future__ import annotations

import math
from enum import IntEnum, IntFlag

from robotrl.drivers.tables import Item

TICK = math.tau / 4096  # rad
MODEL = 777  # of the STS3215: version bytes 9 and 3
EPROM = range(5, 40)
BAUDS = (1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400)  # by code
MIDDLE_HERE = 128  # written to TORQUE_ENABLE it makes the present position 2048


class Mode(IntEnum):
    """Operating mode (33)."""

    POSITION = 0
    VELOCITY = 1
    PWM = 2
    STEP = 3


class Error(IntFlag):
    """Bits of a status frame's error byte and of STATUS (65), UNLOADING_CONDITION (19) and LED_ALARM_CONDITION (20)."""

    VOLTAGE = 1
    ENCODER = 2
    OVERHEATING = 4
    OVERCURRENT = 8
    OVERLOAD = 32


class Phase(IntFlag):
    """Phase (18): the bits that change what numbers mean. The maker asks not to change them."""

    REVERSE = 1
    SPEED_UNIT = 4  # set, as it comes: a speed's step is 1 tick/s; clear: 0.732 rpm
    MULTI_TURN = 16


_VERSION, _EPROM, _CONTROL, _FEEDBACK, _FACTORY = (f"memory table 2.{n}" for n in (1, 2, 3, 4, 5))


class STS3215:
    """Addresses 0 to 86. SPEED's step is 1 tick/s, or 0.732 rpm without bit 2 of PHASE."""

    FIRMWARE_MAJOR = Item(0, 1, f"{_VERSION}, 0")
    FIRMWARE_MINOR = Item(1, 1, f"{_VERSION}, 1")
    BYTE_ORDER = Item(2, 1, f"{_VERSION}, 2")
    MODEL_NUMBER = Item(3, 2, f"{_VERSION}, 3")
    ID = Item(5, 1, f"{_EPROM}, 5")
    BAUD_RATE = Item(6, 1, f"{_EPROM}, 6")
    RETURN_DELAY_TIME = Item(7, 1, f"{_EPROM}, 7", "s", 2e-6)  # reserved in the newest manual
    STATUS_RETURN_LEVEL = Item(8, 1, f"{_EPROM}, 8")
    MIN_POSITION_LIMIT = Item(9, 2, f"{_EPROM}, 9", "rad", TICK, 15)
    MAX_POSITION_LIMIT = Item(11, 2, f"{_EPROM}, 11", "rad", TICK, 15)
    MAX_TEMPERATURE_LIMIT = Item(13, 1, f"{_EPROM}, 13", "degC")
    MAX_VOLTAGE_LIMIT = Item(14, 1, f"{_EPROM}, 14", "V", 0.1)
    MIN_VOLTAGE_LIMIT = Item(15, 1, f"{_EPROM}, 15", "V", 0.1)
    MAX_TORQUE_LIMIT = Item(16, 2, f"{_EPROM}, 16", "1", 0.001)
    PHASE = Item(18, 1, f"{_EPROM}, 18")
    UNLOADING_CONDITION = Item(19, 1, f"{_EPROM}, 19")
    LED_ALARM_CONDITION = Item(20, 1, f"{_EPROM}, 20")
    P_COEFFICIENT = Item(21, 1, f"{_EPROM}, 21")
    D_COEFFICIENT = Item(22, 1, f"{_EPROM}, 22")
    I_COEFFICIENT = Item(23, 1, f"{_EPROM}, 23")
    MINIMUM_STARTUP_FORCE = Item(24, 1, f"{_EPROM}, 24", "1", 0.001)  # one byte: 25 is another field
    INTEGRAL_LIMIT = Item(25, 1, f"{_EPROM}, 25")
    CW_DEAD_ZONE = Item(26, 1, f"{_EPROM}, 26", "rad", TICK)
    CCW_DEAD_ZONE = Item(27, 1, f"{_EPROM}, 27", "rad", TICK)
    PROTECTION_CURRENT = Item(28, 2, f"{_EPROM}, 28", "A", 6.5e-3)
    ANGULAR_RESOLUTION = Item(30, 1, f"{_EPROM}, 30")
    HOMING_OFFSET = Item(31, 2, f"{_EPROM}, 31", "rad", TICK, 11, 4095)  # present = actual - offset
    OPERATING_MODE = Item(33, 1, f"{_EPROM}, 33")
    PROTECTIVE_TORQUE = Item(34, 1, f"{_EPROM}, 34", "1", 0.01)
    PROTECTION_TIME = Item(35, 1, f"{_EPROM}, 35", "s", 0.01)
    OVERLOAD_TORQUE = Item(36, 1, f"{_EPROM}, 36", "1", 0.01)
    VELOCITY_P_COEFFICIENT = Item(37, 1, f"{_EPROM}, 37")
    OVERCURRENT_TIME = Item(38, 1, f"{_EPROM}, 38", "s", 0.01)
    VELOCITY_I_COEFFICIENT = Item(39, 1, f"{_EPROM}, 39")
    TORQUE_ENABLE = Item(40, 1, f"{_CONTROL}, 40")  # 0 off, 1 on, 2 damping, MIDDLE_HERE
    ACCELERATION = Item(41, 1, f"{_CONTROL}, 41", "rad/s2", 100 * TICK)  # 0 is the most it can
    GOAL_POSITION = Item(42, 2, f"{_CONTROL}, 42", "rad", TICK, 15)
    GOAL_PWM = Item(44, 2, f"{_CONTROL}, 44", "1", 0.001, 10)  # a time in older firmware
    GOAL_SPEED = Item(46, 2, f"{_CONTROL}, 46", "rad/s", TICK, 15)  # 0 is the most it can
    TORQUE_LIMIT = Item(48, 2, f"{_CONTROL}, 48", "1", 0.001)
    LOCK = Item(55, 1, f"{_CONTROL}, 55")  # 0: writes to EPROM last; 1: until power-off
    PRESENT_POSITION = Item(56, 2, f"{_FEEDBACK}, 56", "rad", TICK, 15)
    PRESENT_SPEED = Item(58, 2, f"{_FEEDBACK}, 58", "rad/s", TICK, 15)
    PRESENT_LOAD = Item(60, 2, f"{_FEEDBACK}, 60", "1", 0.001, 10)
    PRESENT_VOLTAGE = Item(62, 1, f"{_FEEDBACK}, 62", "V", 0.1)
    PRESENT_TEMPERATURE = Item(63, 1, f"{_FEEDBACK}, 63", "degC")
    REGISTERED_WRITE = Item(64, 1, f"{_FEEDBACK}, 64")
    STATUS = Item(65, 1, f"{_FEEDBACK}, 65")
    MOVING = Item(66, 1, f"{_FEEDBACK}, 66")
    TARGET_POSITION = Item(67, 2, f"{_FEEDBACK}, 67", "rad", TICK, 15)
    PRESENT_CURRENT = Item(69, 2, f"{_FEEDBACK}, 69", "A", 6.5e-3, 15)
    MAXIMUM_SPEED = Item(84, 1, f"{_FACTORY}, 84")
    MAXIMUM_ACCELERATION = Item(85, 1, f"{_FACTORY}, 85")
