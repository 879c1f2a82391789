"""The memory table of a Feetech STS3215 (hardware facts 5; the maker's table of its STS servos)."""

from __future__ import annotations

import math

from robotrl.sim.controltable import Register, Table
from robotrl.sim.gearmotor import Gearmotor

BAUD = (1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400)  # by register 6
MODEL = 777
TURN = 4096  # steps
AMPS = 6.5e-3  # unit of current
POSITION, SPEED, PWM, STEP = 0, 1, 2, 3
VOLTAGE_BIT, ENCODER_BIT, HEAT_BIT, CURRENT_BIT, OVERLOAD_BIT = 1, 2, 4, 8, 32  # of error byte and registers 19, 65
DRIVE_REVERSED, FINE_SPEED, MANY_TURNS, FEEDBACK_REVERSED = 1, 4, 16, 128  # bits of register 18
DAMPED, CENTRE = 2, 128  # values of register 40 beside 0 and 1

# 12 V: 30 kg cm, 0.222 s for 60 degrees; inertia and friction as identified on an SO-101 (hardware facts 3.1).
STS3215_12V = Gearmotor(2.94, 2.7, math.radians(60) / 0.222, 12.0, 0.028, 0.052)
STS3215_7V4 = Gearmotor(1.9, 2.4, math.radians(60) / 0.222, 7.4, 0.028, 0.052)
STIFFNESS = 17.8 / 16 / 2.94  # bridge per rad and unit of P: 17.8 N m/rad at P 16


def table() -> Table:
    return Table([*_rom(), *_ram(), *_feedback(), *_factory()])


def _rom() -> list[Register]:
    fixed = [(0, 1, "firmware_major", 3), (1, 1, "firmware_minor", 10), (2, 1, "endian", 0), (3, 2, "model", MODEL)]
    rows: list[tuple[int, int, str, int, int, int]] = [
        (5, 1, "id", 1, 0, 253), (6, 1, "baud", 0, 0, 7), (7, 1, "return_delay", 0, 0, 254), (8, 1, "status_level", 1, 0, 1),
        (9, 2, "min_position", 0, 0, 4095), (11, 2, "max_position", 4095, 0, 4095), (13, 1, "max_temperature", 70, 0, 100),
        (14, 1, "max_voltage", 140, 0, 254), (15, 1, "min_voltage", 40, 0, 254), (16, 2, "max_torque", 1000, 0, 1000),
        (18, 1, "phase", 12, 0, 254), (19, 1, "unload_conditions", 44, 0, 254), (20, 1, "led_conditions", 47, 0, 254),
        (21, 1, "p", 32, 0, 254), (22, 1, "d", 32, 0, 254), (23, 1, "i", 0, 0, 254), (24, 1, "min_start_force", 16, 0, 254),
        (25, 1, "i_limit", 0, 0, 254), (26, 1, "dead_zone_cw", 1, 0, 32), (27, 1, "dead_zone_ccw", 1, 0, 32),
        (28, 2, "protection_current", 511, 0, 511), (30, 1, "resolution", 1, 1, 100), (33, 1, "mode", 0, 0, 3),
        (34, 1, "protective_torque", 20, 0, 100), (35, 1, "protection_time", 200, 0, 254), (36, 1, "overload_torque", 80, 0, 100),
        (37, 1, "speed_p", 10, 0, 254), (38, 1, "over_current_time", 200, 0, 254), (39, 1, "speed_i", 10, 0, 254),
    ]  # fmt: skip
    offset = Register(31, 2, "homing_offset", 0, rom=True, sign_bit=11)
    free = [Register(at, size, name, value, True, low, high, True) for at, size, name, value, low, high in rows]
    return [*(Register(at, size, name, value, False) for at, size, name, value in fixed), *free, offset]


def _ram() -> list[Register]:
    return [
        Register(40, 1, "torque", 0, low=0, high=128),
        Register(41, 1, "acceleration", 0, low=0, high=254),
        Register(42, 2, "goal_position", TURN // 2, sign_bit=15),
        Register(44, 2, "goal_time", 0, sign_bit=10),
        Register(46, 2, "goal_speed", 0, sign_bit=15),
        Register(48, 2, "torque_limit", 1000, low=0, high=1000),
        Register(55, 1, "lock", 1, low=0, high=1),
    ]


def _feedback() -> list[Register]:
    rows = [
        (56, 2, "present_position", 15), (58, 2, "present_speed", 15), (60, 2, "present_load", 10), (62, 1, "voltage", 0),
        (63, 1, "temperature", 0), (64, 1, "registered", 0), (65, 1, "status", 0), (66, 1, "moving", 0), (67, 2, "target", 15),
        (69, 2, "present_current", 15),
    ]  # fmt: skip
    return [Register(at, size, name, 0, False, sign_bit=bit) for at, size, name, bit in rows]


def _factory() -> list[Register]:
    return [Register(84, 1, "max_speed", 0), Register(85, 1, "max_acceleration", 0), Register(86, 1, "factory_last", 0)]
