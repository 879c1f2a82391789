"""The registers against the tables of the moteus reference, transcribed: "Register command set" and "Mappings"."""

from __future__ import annotations

import pytest

from robotrl.drivers.tables import Mode, Register, Width, scale

NUMBERS = {
    "MODE": 0x000,
    "POSITION": 0x001,
    "VELOCITY": 0x002,
    "TORQUE": 0x003,
    "MOTOR_TEMP": 0x00A,
    "VOLTAGE": 0x00D,
    "TEMP": 0x00E,
    "FAULT": 0x00F,
    "TARGET_POSITION": 0x020,
    "TARGET_VELOCITY": 0x021,
    "TARGET_TORQUE": 0x022,
    "KP_SCALE": 0x023,
    "KD_SCALE": 0x024,
    "MAX_TORQUE": 0x025,
    "STOP_POSITION": 0x026,
    "WATCHDOG": 0x027,
    "VELOCITY_LIMIT": 0x028,
    "ACCEL_LIMIT": 0x029,
}
# Registers of one kind, and what one step of int8, int16 and int32 is worth.
MAPPINGS: list[tuple[tuple[int, ...], tuple[float, float, float]]] = [
    ((0x001, 0x006, 0x020, 0x026, 0x130, 0x131), (0.01, 0.0001, 0.00001)),  # position, revolutions
    ((0x002, 0x021, 0x028), (0.1, 0.00025, 0.00001)),  # velocity, Hz
    ((0x003, 0x022, 0x025), (0.5, 0.01, 0.001)),  # torque, Nm
    ((0x004, 0x005), (1.0, 0.1, 0.001)),  # current, A
    ((0x007,), (10.0, 0.05, 0.0001)),  # power, W
    ((0x00A, 0x00E), (1.0, 0.1, 0.001)),  # temperature, C
    ((0x00D,), (0.5, 0.1, 0.001)),  # voltage, V
    ((0x023, 0x024), (1 / 127, 1 / 32767, 1 / 2147483647)),  # scale of kp and kd
    ((0x027,), (0.01, 0.001, 0.000001)),  # time, s
    ((0x029,), (0.05, 0.001, 0.00001)),  # acceleration, Hz/s
    ((0x000, 0x00F, 0x008, 0x070), (1.0, 1.0, 1.0)),  # counts
]


def test_numbers():
    assert {register.name: int(register) for register in Register} == NUMBERS
    modes = {"STOPPED": 0, "FAULT": 1, "POSITION": 10, "TIMEOUT": 11, "ZERO_VELOCITY": 12, "BRAKE": 15}
    assert {mode.name: int(mode) for mode in Mode} == modes
    assert [int(width) for width in (Width.INT8, Width.INT16, Width.INT32, Width.F32)] == [0, 1, 2, 3] and len(Width) == 4


@pytest.mark.parametrize(("registers", "steps"), MAPPINGS)
def test_steps(registers, steps):
    for register in registers:
        assert tuple(scale(register, width) for width in (Width.INT8, Width.INT16, Width.INT32)) == pytest.approx(
            steps, rel=1e-12, abs=0.0
        )
