"""Control tables of the Dynamixel X series, Protocol 2.0: what stands where, in which steps, under which heading of the manual.

Source: ROBOTIS e-Manual, pages XM430-W350, XL430-W250, XL330-M288 and XC330-T288, "Control Table of EEPROM Area", "... of RAM
Area" and the descriptions they lead to. EEPROM (addresses below 64) takes writes only while torque is off, else error 7.
Positions are counted from the encoder's zero, 4096 a turn; 2048 is the middle of position mode. Numbers are little-endian, two's
complement where they have a sign.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from robotrl.drivers.tables import TWOS_COMPLEMENT, Item

TICK = math.tau / 4096  # rad
RPM = math.tau / 60  # rad/s
SPEED = 0.229 * RPM
RAM = 64  # the first address that is no EEPROM
INDIRECT_SLOTS = 28  # of the first bank; the 330s have 20
BAUDS = (9600, 57600, 115200, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 4_500_000)  # by code; the last is not in the 330s


class Mode(IntEnum):
    """Operating Mode(11)."""

    CURRENT = 0
    VELOCITY = 1
    POSITION = 3
    EXTENDED_POSITION = 4
    CURRENT_BASED_POSITION = 5
    PWM = 16


class Drive(IntFlag):
    """Drive Mode(10): bits."""

    REVERSE = 1
    TIME_PROFILE = 4
    TORQUE_ON_BY_GOAL = 8


class HardwareError(IntFlag):
    """Hardware Error Status(70) and Shutdown(63): bits. After a shutdown torque comes back by reboot alone."""

    VOLTAGE = 1
    OVERHEATING = 4
    ENCODER = 8
    ELECTRICAL_SHOCK = 16
    OVERLOAD = 32


def _signed(address: int, size: int, section: str, unit: str, scale: float) -> Item:
    return Item(address, size, section, unit, scale, TWOS_COMPLEMENT)


class X:
    """What all of them have; older firmware lacks start-up configuration and backup."""

    MODEL_NUMBER = Item(0, 2, "Model Number(0)")
    MODEL_INFORMATION = Item(2, 4, "Model Information(2)")
    FIRMWARE_VERSION = Item(6, 1, "Firmware Version(6)")
    ID = Item(7, 1, "ID(7)")
    BAUD_RATE = Item(8, 1, "Baud Rate(8)")
    RETURN_DELAY_TIME = Item(9, 1, "Return Delay Time(9)", "s", 2e-6)
    DRIVE_MODE = Item(10, 1, "Drive Mode(10)")
    OPERATING_MODE = Item(11, 1, "Operating Mode(11)")
    SECONDARY_ID = Item(12, 1, "Secondary(Shadow) ID(12)")
    PROTOCOL_TYPE = Item(13, 1, "Protocol Type(13)")
    HOMING_OFFSET = _signed(20, 4, "Homing Offset(20)", "rad", TICK)
    MOVING_THRESHOLD = Item(24, 4, "Moving Threshold(24)", "rad/s", SPEED)
    TEMPERATURE_LIMIT = Item(31, 1, "Temperature Limit(31)", "degC")
    MAX_VOLTAGE_LIMIT = Item(32, 2, "Max Voltage Limit(32)", "V", 0.1)
    MIN_VOLTAGE_LIMIT = Item(34, 2, "Min Voltage Limit(34)", "V", 0.1)
    PWM_LIMIT = Item(36, 2, "PWM Limit(36)", "1", 1 / 885)
    VELOCITY_LIMIT = Item(44, 4, "Velocity Limit(44)", "rad/s", SPEED)
    MAX_POSITION_LIMIT = Item(48, 4, "Max Position Limit(48)", "rad", TICK)
    MIN_POSITION_LIMIT = Item(52, 4, "Min Position Limit(52)", "rad", TICK)
    STARTUP_CONFIGURATION = Item(60, 1, "Startup Configuration(60)")
    SHUTDOWN = Item(63, 1, "Shutdown(63)")
    TORQUE_ENABLE = Item(64, 1, "Torque Enable(64)")
    LED = Item(65, 1, "LED(65)")
    STATUS_RETURN_LEVEL = Item(68, 1, "Status Return Level(68)")
    REGISTERED_INSTRUCTION = Item(69, 1, "Registered Instruction(69)")
    HARDWARE_ERROR_STATUS = Item(70, 1, "Hardware Error Status(70)")
    VELOCITY_I_GAIN = Item(76, 2, "Velocity I Gain(76)", "", 1 / 65536)
    VELOCITY_P_GAIN = Item(78, 2, "Velocity P Gain(78)", "", 1 / 128)
    POSITION_D_GAIN = Item(80, 2, "Position D Gain(80)", "", 1 / 16)
    POSITION_I_GAIN = Item(82, 2, "Position I Gain(82)", "", 1 / 65536)
    POSITION_P_GAIN = Item(84, 2, "Position P Gain(84)", "", 1 / 128)
    FEEDFORWARD_2ND_GAIN = Item(88, 2, "Feedforward 2nd Gain(88)", "", 1 / 4)
    FEEDFORWARD_1ST_GAIN = Item(90, 2, "Feedforward 1st Gain(90)", "", 1 / 4)
    BUS_WATCHDOG = _signed(98, 1, "Bus Watchdog(98)", "s", 0.02)  # 1 to 127; 0 off; -1 once it has tripped
    GOAL_PWM = _signed(100, 2, "Goal PWM(100)", "1", 1 / 885)
    GOAL_VELOCITY = _signed(104, 4, "Goal Velocity(104)", "rad/s", SPEED)
    PROFILE_ACCELERATION = Item(108, 4, "Profile Acceleration(108)", "rad/s2", 214.577 * RPM / 60)
    PROFILE_VELOCITY = Item(112, 4, "Profile Velocity(112)", "rad/s", SPEED)
    GOAL_POSITION = _signed(116, 4, "Goal Position(116)", "rad", TICK)
    REALTIME_TICK = Item(120, 2, "Realtime Tick(120)", "s", 0.001)
    MOVING = Item(122, 1, "Moving(122)")
    MOVING_STATUS = Item(123, 1, "Moving Status(123)")
    PRESENT_PWM = _signed(124, 2, "Present PWM(124)", "1", 1 / 885)
    PRESENT_VELOCITY = _signed(128, 4, "Present Velocity(128)", "rad/s", SPEED)
    PRESENT_POSITION = _signed(132, 4, "Present Position(132)", "rad", TICK)
    VELOCITY_TRAJECTORY = _signed(136, 4, "Velocity Trajectory(136)", "rad/s", SPEED)
    POSITION_TRAJECTORY = _signed(140, 4, "Position Trajectory(140)", "rad", TICK)
    PRESENT_INPUT_VOLTAGE = Item(144, 2, "Present Input Voltage(144)", "V", 0.1)
    PRESENT_TEMPERATURE = Item(146, 1, "Present Temperature(146)", "degC")
    BACKUP_READY = Item(147, 1, "Backup Ready(147)")
    INDIRECT_ADDRESS_1 = Item(168, 2, "Indirect Address(168)")  # the next ones every 2 bytes
    INDIRECT_DATA_1 = Item(224, 1, "Indirect Data(224)")  # the next ones every byte


class XL430(X):
    """XL430-W250: no current sensor, so a load (of the PWM) stands in its place and modes 0 and 5 are missing."""

    PRESENT_LOAD = _signed(126, 2, "Present Load(126)", "1", 0.001)


class XM430(X):
    """XM430-W210 and -W350."""

    CURRENT_LIMIT = Item(38, 2, "Current Limit(38)", "A", 2.69e-3)
    GOAL_CURRENT = _signed(102, 2, "Goal Current(102)", "A", 2.69e-3)
    PRESENT_CURRENT = _signed(126, 2, "Present Current(126)", "A", 2.69e-3)


class X330(X):
    """XL330 and XC330. The XC330 measures current at its power input."""

    CURRENT_LIMIT = Item(38, 2, "Current Limit(38)", "A", 1e-3)
    PWM_SLOPE = Item(62, 1, "PWM Slope(62)", "V/s", 1.977)  # 3.955 in the XC330
    GOAL_CURRENT = _signed(102, 2, "Goal Current(102)", "A", 1e-3)
    PRESENT_CURRENT = _signed(126, 2, "Present Current(126)", "A", 1e-3)
    INDIRECT_DATA_1 = Item(208, 1, "Indirect Data(208)")


@dataclass(frozen=True)
class Model:
    """What its number says about a servo. `shutdown` is the factory's mask, `fast` the first firmware with fast reads."""

    name: str
    table: type[X]
    shutdown: int = 52
    fast: int = 45

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The operating modes it has."""
        return tuple(m for m in Mode if self.measures_current or m not in (Mode.CURRENT, Mode.CURRENT_BASED_POSITION))

    @property
    def measures_current(self) -> bool:
        return self.table is not XL430


MODELS = {
    1020: Model("XM430-W350", XM430),
    1030: Model("XM430-W210", XM430),
    1060: Model("XL430-W250", XL430),
    1190: Model("XL330-M077", X330, 53, 46),
    1200: Model("XL330-M288", X330, 53, 46),
    1220: Model("XC330-T288", X330, 52, 46),
}
