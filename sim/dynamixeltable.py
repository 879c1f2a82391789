"""The control table of Dynamixel X servos, and the models the twin has (hardware facts 4.2; e-Manual, X series)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from robotrl.sim.controltable import Register, Table
from robotrl.sim.gearmotor import Gearmotor

BAUD = (9_600, 57_600, 115_200, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 4_500_000)  # by register 8
TURN = 4096  # ticks
RPM_UNIT = 0.229  # of all velocities
RAD_S = RPM_UNIT * 2 * math.pi / 60
TICKS_S = RPM_UNIT * TURN / 60
ACCELERATION_TICKS_S2 = 214.577 / 3600 * TURN
FULL_PWM = 885
CURRENT, VELOCITY, POSITION, EXTENDED, CURRENT_POSITION, PWM = 0, 1, 3, 4, 5, 16
REVERSE, TIME_BASED, TORQUE_ON_BY_GOAL = 1, 4, 8  # bits of register 10
VOLTAGE_ERROR, HEAT_ERROR, ENCODER_ERROR, SHOCK_ERROR, OVERLOAD_ERROR = 1, 4, 8, 16, 32  # bits of registers 63 and 70
FARTHEST = 1_048_575  # ticks of a goal in the modes with many turns


@dataclass(frozen=True)
class Model:
    name: str
    number: int
    motor: Gearmotor
    firmware: int = 48
    amps: float = 2.69e-3  # unit of current; 0: no sensor, register 126 is load in 0.1 %
    current_limit: int = 1193
    velocity_limit: int = 350
    volts: tuple[int, int] = (95, 160)  # limits, 0.1 V
    celsius: int = 80
    gains: tuple[int, int, int] = (800, 0, 0)  # P, I, D of position
    shutdown: int = 52
    small: bool = False  # X330: fewer indirect registers, one bank of them, at its own place
    fastest_fw: int = 45  # firmware from which fast reads are known

    @property
    def modes(self) -> tuple[int, ...]:
        by_current = (CURRENT, CURRENT_POSITION) if self.amps else ()
        return (VELOCITY, POSITION, EXTENDED, PWM, *by_current)

    def indirect(self) -> list[tuple[int, int, int]]:
        """Banks of indirect registers: first address, first data byte, how many."""
        return [(168, 208, 20)] if self.small else [(168, 224, 28), (578, 634, 28)]


def rpm(value: float) -> float:
    return value * 2 * math.pi / 60


XM430_W350 = Model("XM430-W350", 1020, Gearmotor(4.1, 2.3, rpm(46), 12.0, 0.005, 0.02))
XM430_W210 = Model("XM430-W210", 1030, Gearmotor(3.0, 2.3, rpm(77), 12.0, 0.002, 0.02), velocity_limit=480)
XL430_W250 = Model(
    "XL430-W250", 1060, Gearmotor(1.5, 1.4, rpm(61), 12.0, 0.003, 0.02), amps=0.0, velocity_limit=265, volts=(60, 140),
    celsius=72, gains=(640, 0, 4000),
)  # fmt: skip
XL330_M288 = Model(
    "XL330-M288", 1200, Gearmotor(0.52, 1.47, rpm(103), 5.0, 0.001, 0.01), amps=1e-3, current_limit=1750, velocity_limit=445,
    volts=(35, 70), celsius=70, gains=(400, 0, 0), shutdown=53, small=True, fastest_fw=46,
)  # fmt: skip
MODELS = {m.name: m for m in (XM430_W350, XM430_W210, XL430_W250, XL330_M288)}


def table(model: Model) -> Table:
    registers = [*_rom(model), *_ram(model), *_feedback(), *_indirect(model)]
    if not model.amps:
        registers = [r for r in registers if r.name not in ("current_limit", "goal_current")]
    return Table(registers)


def _rom(model: Model) -> list[Register]:
    low, high = model.volts
    fixed = [Register(0, 2, "model", model.number, False), Register(2, 4, "model_information", 0, False)]
    free = [
        Register(7, 1, "id", 1, low=0, high=252),
        Register(8, 1, "baud", 1, low=0, high=6 if model.small else 7),
        Register(9, 1, "return_delay", 250, low=0, high=254),
        Register(10, 1, "drive_mode", 0, low=0, high=13),
        Register(11, 1, "operating_mode", POSITION, low=0, high=16),
        Register(12, 1, "shadow_id", 255, low=0, high=255),
        Register(13, 1, "protocol", 2, low=1, high=2),
        Register(20, 4, "homing_offset", 0, low=-1_044_479, high=1_044_479, signed=True),
        Register(24, 4, "moving_threshold", 10, low=0, high=1023),
        Register(31, 1, "temperature_limit", model.celsius, low=0, high=100),
        Register(32, 2, "max_voltage", high, low=low, high=high),
        Register(34, 2, "min_voltage", low, low=low, high=high),
        Register(36, 2, "pwm_limit", FULL_PWM, low=0, high=FULL_PWM),
        Register(38, 2, "current_limit", model.current_limit, low=0, high=model.current_limit),
        Register(44, 4, "velocity_limit", model.velocity_limit, low=0, high=2047),
        Register(48, 4, "max_position", 4095, low=0, high=4095),
        Register(52, 4, "min_position", 0, low=0, high=4095),
        Register(60, 1, "startup", 0, low=0, high=3),
        Register(63, 1, "shutdown", model.shutdown, low=0, high=63),
    ]
    firmware = Register(6, 1, "firmware", model.firmware, False)
    return [*fixed, firmware, *(Register(**{**vars(r), "rom": True}) for r in free)]


def _ram(model: Model) -> list[Register]:
    p, i, d = model.gains
    return [
        Register(64, 1, "torque", 0, low=0, high=1),
        Register(65, 1, "led", 0, low=0, high=1),
        Register(68, 1, "status_level", 2, low=0, high=2),
        Register(69, 1, "registered", 0, False),
        Register(70, 1, "hardware_error", 0, False),
        Register(76, 2, "velocity_i", 1920, low=0, high=16383),
        Register(78, 2, "velocity_p", 100, low=0, high=16383),
        Register(80, 2, "position_d", d, low=0, high=16383),
        Register(82, 2, "position_i", i, low=0, high=16383),
        Register(84, 2, "position_p", p, low=0, high=16383),
        Register(88, 2, "feedforward_2", 0, low=0, high=16383),
        Register(90, 2, "feedforward_1", 0, low=0, high=16383),
        Register(98, 1, "bus_watchdog", 0, low=0, high=127, signed=True),
        Register(100, 2, "goal_pwm", FULL_PWM, signed=True),
        Register(102, 2, "goal_current", model.current_limit, signed=True),
        Register(104, 4, "goal_velocity", 0, signed=True),
        Register(108, 4, "profile_acceleration", 0, low=0, high=32767),
        Register(112, 4, "profile_velocity", 0, low=0, high=32767),
        Register(116, 4, "goal_position", TURN // 2, low=-FARTHEST, high=FARTHEST, signed=True),
    ]


def _feedback() -> list[Register]:
    rows = [
        (120, 2, "tick", False), (122, 1, "moving", False), (123, 1, "moving_status", False), (124, 2, "present_pwm", True),
        (126, 2, "present_current", True), (128, 4, "present_velocity", True), (132, 4, "present_position", True),
        (136, 4, "velocity_trajectory", True), (140, 4, "position_trajectory", True), (144, 2, "present_voltage", False),
        (146, 1, "temperature", False), (147, 1, "backup_ready", False),
    ]  # fmt: skip
    return [Register(address, size, name, 0, False, signed=signed) for address, size, name, signed in rows]


def _indirect(model: Model) -> list[Register]:
    out, last = [], 227 if model.small else 661
    for bank, (addresses, data, count) in enumerate(model.indirect()):
        for i in range(count):
            n = bank * count + i
            out.append(Register(addresses + 2 * i, 2, f"indirect_address_{n}", data + i, low=64, high=last))
            out.append(Register(data + i, 1, f"indirect_data_{n}"))
    return out
