"""The registers against the tables of the moteus reference, transcribed: "Register command set" and "Mappings"."""

from __future__ import annotations

import pytest

from robotrl.drivers.tables import Item, Mode, Register, Width, scale

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


# a field's sign bit, its largest magnitude, then steps and the byte they make, written out by hand
@pytest.mark.parametrize(
    ("sign", "top", "bytes_"),
    [
        (0, 127, {0: 0, 1: 0b10, 3: 0b110, -1: 0b11, -3: 0b111, 127: 0xFE, -127: 0xFF}),  # all of the magnitude is above it
        (0, 0, {0: 0}),
        (1, 127, {1: 0b1, 2: 0b100, -1: 0b11, -2: 0b110, -127: 0xFF, 127: 0xFD}),
        (3, 0, {7: 0b0111, -7: 0b1111, -1: 0b1001}),
        (7, 0, {127: 0x7F, -127: 0xFF, -1: 0x81, 0: 0}),
    ],
)
def test_a_sign_may_stand_in_any_bit(sign, top, bytes_):
    item = Item(9, 1, "nine", sign=sign, top=top)
    assert (item.least, item.most) == (-max(bytes_), max(bytes_))
    for steps, byte in bytes_.items():
        assert item.encode(steps) == bytes((byte,)) and item.decode(bytes((byte,))) == steps, steps
    for steps in (max(bytes_) + 1, -max(bytes_) - 1):
        with pytest.raises(ValueError, match=f"nine: {steps} steps; it holds {-max(bytes_)} to {max(bytes_)}"):
            item.encode(steps)
