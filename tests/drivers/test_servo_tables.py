"""The control tables against the manuals', transcribed: address, size, and what a step is worth."""

from __future__ import annotations

import math

import pytest

from robotrl.drivers import dynamixel_x, feetech_sts
from robotrl.drivers.dynamixel_x import MODELS, X330, XL430, XM430, Mode
from robotrl.drivers.feetech_sts import STS3215
from robotrl.drivers.tables import TWOS_COMPLEMENT, UNSIGNED, Item

# e-Manual, "Control Table of EEPROM Area" and "of RAM Area": address: size, name. The same in XM430-W350, XL430-W250, XL330-M288
# and XC330-T288.
X_TABLE = """
0 2 MODEL_NUMBER|2 4 MODEL_INFORMATION|6 1 FIRMWARE_VERSION|7 1 ID|8 1 BAUD_RATE|9 1 RETURN_DELAY_TIME|10 1 DRIVE_MODE
11 1 OPERATING_MODE|12 1 SECONDARY_ID|13 1 PROTOCOL_TYPE|20 4 HOMING_OFFSET|24 4 MOVING_THRESHOLD|31 1 TEMPERATURE_LIMIT
32 2 MAX_VOLTAGE_LIMIT|34 2 MIN_VOLTAGE_LIMIT|36 2 PWM_LIMIT|44 4 VELOCITY_LIMIT|48 4 MAX_POSITION_LIMIT
52 4 MIN_POSITION_LIMIT|60 1 STARTUP_CONFIGURATION|63 1 SHUTDOWN|64 1 TORQUE_ENABLE|65 1 LED|68 1 STATUS_RETURN_LEVEL
69 1 REGISTERED_INSTRUCTION|70 1 HARDWARE_ERROR_STATUS|76 2 VELOCITY_I_GAIN|78 2 VELOCITY_P_GAIN|80 2 POSITION_D_GAIN
82 2 POSITION_I_GAIN|84 2 POSITION_P_GAIN|88 2 FEEDFORWARD_2ND_GAIN|90 2 FEEDFORWARD_1ST_GAIN|98 1 BUS_WATCHDOG
100 2 GOAL_PWM|104 4 GOAL_VELOCITY|108 4 PROFILE_ACCELERATION|112 4 PROFILE_VELOCITY|116 4 GOAL_POSITION|120 2 REALTIME_TICK
122 1 MOVING|123 1 MOVING_STATUS|124 2 PRESENT_PWM|128 4 PRESENT_VELOCITY|132 4 PRESENT_POSITION|136 4 VELOCITY_TRAJECTORY
140 4 POSITION_TRAJECTORY|144 2 PRESENT_INPUT_VOLTAGE|146 1 PRESENT_TEMPERATURE|147 1 BACKUP_READY|168 2 INDIRECT_ADDRESS_1
"""
CURRENT = "38 2 CURRENT_LIMIT|102 2 GOAL_CURRENT|126 2 PRESENT_CURRENT"
OWN = {
    XM430: CURRENT + "|224 1 INDIRECT_DATA_1",
    XL430: "126 2 PRESENT_LOAD|224 1 INDIRECT_DATA_1",
    X330: CURRENT + "|62 1 PWM_SLOPE|208 1 INDIRECT_DATA_1",
}
RPM = 2 * math.pi / 60
# Units of the same tables: A, V, rad/s, rad, s, rad/s2, s; PWM 885 is 100 %.
X_UNITS = {
    "rad": (
        2 * math.pi / 4096,
        "HOMING_OFFSET MAX_POSITION_LIMIT MIN_POSITION_LIMIT GOAL_POSITION PRESENT_POSITION POSITION_TRAJECTORY",
    ),
    "rad/s": (0.229 * RPM, "MOVING_THRESHOLD VELOCITY_LIMIT GOAL_VELOCITY PROFILE_VELOCITY PRESENT_VELOCITY VELOCITY_TRAJECTORY"),
    "rad/s2": (214.577 * RPM / 60, "PROFILE_ACCELERATION"),
    "V": (0.1, "MAX_VOLTAGE_LIMIT MIN_VOLTAGE_LIMIT PRESENT_INPUT_VOLTAGE"),
    "degC": (1.0, "TEMPERATURE_LIMIT PRESENT_TEMPERATURE"),
    "1": (1 / 885, "PWM_LIMIT GOAL_PWM PRESENT_PWM"),
}  # fmt: skip
SIGNED = """
HOMING_OFFSET BUS_WATCHDOG GOAL_PWM GOAL_CURRENT GOAL_VELOCITY GOAL_POSITION PRESENT_PWM PRESENT_CURRENT PRESENT_LOAD
PRESENT_VELOCITY PRESENT_POSITION VELOCITY_TRAJECTORY POSITION_TRAJECTORY
"""
STS_TABLE = """
0 1 FIRMWARE_MAJOR|1 1 FIRMWARE_MINOR|2 1 BYTE_ORDER|3 2 MODEL_NUMBER|5 1 ID|6 1 BAUD_RATE|7 1 RETURN_DELAY_TIME
8 1 STATUS_RETURN_LEVEL|9 2 MIN_POSITION_LIMIT|11 2 MAX_POSITION_LIMIT|13 1 MAX_TEMPERATURE_LIMIT|14 1 MAX_VOLTAGE_LIMIT
15 1 MIN_VOLTAGE_LIMIT|16 2 MAX_TORQUE_LIMIT|18 1 PHASE|19 1 UNLOADING_CONDITION|20 1 LED_ALARM_CONDITION|21 1 P_COEFFICIENT
22 1 D_COEFFICIENT|23 1 I_COEFFICIENT|24 1 MINIMUM_STARTUP_FORCE|25 1 INTEGRAL_LIMIT|26 1 CW_DEAD_ZONE|27 1 CCW_DEAD_ZONE
28 2 PROTECTION_CURRENT|30 1 ANGULAR_RESOLUTION|31 2 HOMING_OFFSET|33 1 OPERATING_MODE|34 1 PROTECTIVE_TORQUE
35 1 PROTECTION_TIME|36 1 OVERLOAD_TORQUE|37 1 VELOCITY_P_COEFFICIENT|38 1 OVERCURRENT_TIME|39 1 VELOCITY_I_COEFFICIENT
40 1 TORQUE_ENABLE|41 1 ACCELERATION|42 2 GOAL_POSITION|44 2 GOAL_PWM|46 2 GOAL_SPEED|48 2 TORQUE_LIMIT|55 1 LOCK
56 2 PRESENT_POSITION|58 2 PRESENT_SPEED|60 2 PRESENT_LOAD|62 1 PRESENT_VOLTAGE|63 1 PRESENT_TEMPERATURE|64 1 REGISTERED_WRITE
65 1 STATUS|66 1 MOVING|67 2 TARGET_POSITION|69 2 PRESENT_CURRENT|84 1 MAXIMUM_SPEED|85 1 MAXIMUM_ACCELERATION
"""
TICK = 2 * math.pi / 4096
STS_UNITS = {
    "rad": (
        TICK,
        "MIN_POSITION_LIMIT MAX_POSITION_LIMIT HOMING_OFFSET GOAL_POSITION PRESENT_POSITION TARGET_POSITION CW_DEAD_ZONE "
        "CCW_DEAD_ZONE",
    ),
    "rad/s": (TICK, "GOAL_SPEED PRESENT_SPEED"),
    "rad/s2": (100 * TICK, "ACCELERATION"),
    "V": (0.1, "MAX_VOLTAGE_LIMIT MIN_VOLTAGE_LIMIT PRESENT_VOLTAGE"),
    "A": (6.5e-3, "PROTECTION_CURRENT PRESENT_CURRENT"),
    "degC": (1.0, "MAX_TEMPERATURE_LIMIT PRESENT_TEMPERATURE"),
}  # fmt: skip
SIGN_BITS = {
    15: "MIN_POSITION_LIMIT MAX_POSITION_LIMIT GOAL_POSITION GOAL_SPEED PRESENT_POSITION PRESENT_SPEED TARGET_POSITION "
    "PRESENT_CURRENT",
    10: "PRESENT_LOAD GOAL_PWM",
    11: "HOMING_OFFSET",
}  # fmt: skip


def table(text: str) -> dict[str, tuple[int, int]]:
    rows = (row.split() for line in text.strip().splitlines() for row in line.split("|"))
    return {name: (int(address), int(size)) for address, size, name in rows}


def items(of: type) -> dict[str, Item]:
    return {name: getattr(of, name) for name in dir(of) if isinstance(getattr(of, name), Item)}


@pytest.mark.parametrize("family", [XM430, XL430, X330])
def test_dynamixel_addresses(family):
    assert {name: (i.address, i.size) for name, i in items(family).items()} == table(X_TABLE) | table(OWN[family])


@pytest.mark.parametrize("family", [XM430, XL430, X330])
def test_dynamixel_steps_and_signs(family):
    for unit, (scale, names) in X_UNITS.items():
        for name in names.split():
            item = getattr(family, name)
            assert (item.unit, item.scale) == (unit, pytest.approx(scale, rel=1e-12)), name
    for name, item in items(family).items():
        assert item.sign == (TWOS_COMPLEMENT if name in SIGNED.split() else UNSIGNED), name
    assert Item(7, 1, "ID(7)", "", 1.0, UNSIGNED, 0) == family.ID
    assert family.RETURN_DELAY_TIME.scale == 2e-6 and family.BUS_WATCHDOG.scale == 0.02 and family.REALTIME_TICK.scale == 1e-3
    assert {family.RETURN_DELAY_TIME.unit, family.BUS_WATCHDOG.unit, family.REALTIME_TICK.unit} == {"s"}
    gains = (
        family.VELOCITY_I_GAIN,
        family.VELOCITY_P_GAIN,
        family.POSITION_D_GAIN,
        family.POSITION_I_GAIN,
        family.POSITION_P_GAIN,
    )
    assert [1 / gain.scale for gain in gains] == [65536, 128, 16, 65536, 128]
    assert family.FEEDFORWARD_1ST_GAIN.scale == family.FEEDFORWARD_2ND_GAIN.scale == 0.25


# what the tests of steps do not name a unit for
OTHER_UNITS = {
    "s": "RETURN_DELAY_TIME BUS_WATCHDOG REALTIME_TICK PROTECTION_TIME OVERCURRENT_TIME",
    "1": "MAX_TORQUE_LIMIT TORQUE_LIMIT PRESENT_LOAD GOAL_PWM MINIMUM_STARTUP_FORCE PROTECTIVE_TORQUE OVERLOAD_TORQUE",
    "A": "CURRENT_LIMIT GOAL_CURRENT PRESENT_CURRENT",
    "V/s": "PWM_SLOPE",
}


@pytest.mark.parametrize(("family", "named"), [(XM430, X_UNITS), (XL430, X_UNITS), (X330, X_UNITS), (STS3215, STS_UNITS)])
def test_all_else_is_a_count_and_a_gain_has_no_unit(family, named):
    units = {name: unit for unit, (_, names) in named.items() for name in names.split()}
    units |= {name: unit for unit, names in OTHER_UNITS.items() for name in names.split()}
    for name, item in items(family).items():
        assert item.unit == units.get(name, ""), name
        assert item.scale == 1.0 or name in units or name.endswith("GAIN"), name


def test_dynamixel_current():
    for of, ampere in ((XM430, 2.69e-3), (X330, 1e-3)):
        for item in (of.CURRENT_LIMIT, of.GOAL_CURRENT, of.PRESENT_CURRENT):
            assert (item.unit, item.scale) == ("A", ampere)
    assert (XL430.PRESENT_LOAD.unit, XL430.PRESENT_LOAD.scale) == ("1", 0.001)
    assert (X330.PWM_SLOPE.unit, X330.PWM_SLOPE.scale) == ("V/s", 1.977)


def test_sections_name_address_and_heading():
    for family in (XM430, XL430, X330):
        for name, item in items(family).items():
            word = {"SECONDARY_ID": "Secondary(Shadow)"}.get(name, name.split("_")[0])
            assert item.section.endswith(f"({item.address})") and item.section.lower().startswith(word.lower())
    for item in items(STS3215).values():
        part = 1 if item.address < 5 else 2 if item.address < 40 else 3 if item.address < 56 else 4 if item.address < 80 else 5
        assert item.section == f"memory table 2.{part}, {item.address}"


def test_dynamixel_models():
    told = {
        1020: ("XM430-W350", XM430, 52, 45), 1030: ("XM430-W210", XM430, 52, 45), 1060: ("XL430-W250", XL430, 52, 45),
        1190: ("XL330-M077", X330, 53, 46), 1200: ("XL330-M288", X330, 53, 46), 1220: ("XC330-T288", X330, 52, 46),
    }  # fmt: skip
    assert {n: (m.name, m.table, m.shutdown, m.fast) for n, m in MODELS.items()} == told
    assert [int(m) for m in MODELS[1020].modes] == [int(m) for m in MODELS[1200].modes] == [0, 1, 3, 4, 5, 16]
    assert MODELS[1060].modes == (Mode.VELOCITY, Mode.POSITION, Mode.EXTENDED_POSITION, Mode.PWM)


def test_dynamixel_numbers():
    assert dynamixel_x.BAUDS == (9600, 57600, 115200, 1000000, 2000000, 3000000, 4000000, 4500000)
    assert [int(b) for b in dynamixel_x.Drive] == [1, 4, 8]
    assert {b.name: int(b) for b in dynamixel_x.HardwareError} == {
        "VOLTAGE": 1, "OVERHEATING": 4, "ENCODER": 8, "ELECTRICAL_SHOCK": 16, "OVERLOAD": 32}  # fmt: skip
    assert dynamixel_x.RAM == 64 and dynamixel_x.INDIRECT_SLOTS == 28


def test_feetech_addresses():
    assert {name: (i.address, i.size) for name, i in items(STS3215).items()} == table(STS_TABLE)


def test_feetech_steps_and_signs():
    for unit, (scale, names) in STS_UNITS.items():
        for name in names.split():
            item = getattr(STS3215, name)
            assert (item.unit, item.scale) == (unit, pytest.approx(scale, rel=1e-12)), name
    bits = {name: bit for bit, names in SIGN_BITS.items() for name in names.split()}
    assert {name: item.sign for name, item in items(STS3215).items() if item.sign != UNSIGNED} == bits
    thousandths = ("MAX_TORQUE_LIMIT", "TORQUE_LIMIT", "PRESENT_LOAD", "GOAL_PWM", "MINIMUM_STARTUP_FORCE")
    assert {(getattr(STS3215, name).unit, getattr(STS3215, name).scale) for name in thousandths} == {("1", 0.001)}
    assert STS3215.PROTECTIVE_TORQUE.scale == STS3215.OVERLOAD_TORQUE.scale == 0.01
    assert STS3215.PROTECTION_TIME.scale == STS3215.OVERCURRENT_TIME.scale == 0.01 and STS3215.RETURN_DELAY_TIME.scale == 2e-6


def test_feetech_numbers():
    assert (
        feetech_sts.MODEL == 777 == 3 << 8 | 9
        and feetech_sts.MIDDLE_HERE == 128
        and list(feetech_sts.EPROM) == list(range(5, 40))
    )
    assert feetech_sts.BAUDS == (1000000, 500000, 250000, 128000, 115200, 76800, 57600, 38400)
    assert {b.name: int(b) for b in feetech_sts.Error} == {
        "VOLTAGE": 1, "ENCODER": 2, "OVERHEATING": 4, "OVERCURRENT": 8, "OVERLOAD": 32}  # fmt: skip
    assert [int(b) for b in feetech_sts.Phase] == [1, 4, 16] and [int(m) for m in feetech_sts.Mode] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("item", "steps", "data"),
    [
        (XM430.GOAL_CURRENT, -100, "9cff"), (XM430.GOAL_CURRENT, -32768, "0080"), (XM430.GOAL_CURRENT, 32767, "ff7f"),
        (XM430.PRESENT_POSITION, 166, "a6000000"), (XM430.HOMING_OFFSET, -1044479, "0110f0ff"), (XM430.BUS_WATCHDOG, -1, "ff"),
        (XM430.PWM_LIMIT, 65535, "ffff"), (XM430.PWM_LIMIT, 0, "0000"), (XM430.ID, 252, "fc"),
        (STS3215.GOAL_POSITION, -100, "6480"), (STS3215.GOAL_POSITION, 2048, "0008"), (STS3215.GOAL_POSITION, -32767, "ffff"),
        (STS3215.PRESENT_LOAD, -300, "2c05"), (STS3215.PRESENT_LOAD, 1000, "e803"), (STS3215.PRESENT_LOAD, -1023, "ff07"),
        (STS3215.HOMING_OFFSET, -50, "3208"), (STS3215.HOMING_OFFSET, 2047, "ff07"), (STS3215.HOMING_OFFSET, -2047, "ff0f"),
        (STS3215.HOMING_OFFSET, 2048, "0010"), (STS3215.HOMING_OFFSET, 4095, "ff17"), (STS3215.HOMING_OFFSET, -2048, "0018"),
        (STS3215.HOMING_OFFSET, -4095, "ff1f"),
    ],
)  # fmt: skip
def test_numbers_on_the_wire(item, steps, data):
    assert item.encode(steps).hex() == data and item.decode(bytes.fromhex(data)) == steps


def test_a_negative_zero_is_zero():
    assert STS3215.PRESENT_POSITION.decode(b"\x00\x80") == 0 == STS3215.HOMING_OFFSET.decode(b"\x00\x08")


@pytest.mark.parametrize(
    ("item", "least", "most"),
    [
        (XM430.GOAL_CURRENT, -32768, 32767), (XM430.PWM_LIMIT, 0, 65535), (XM430.BUS_WATCHDOG, -128, 127), (XM430.ID, 0, 255),
        (XM430.GOAL_POSITION, -(2**31), 2**31 - 1), (XM430.VELOCITY_LIMIT, 0, 2**32 - 1), (STS3215.GOAL_POSITION, -32767, 32767),
        (STS3215.PRESENT_LOAD, -1023, 1023), (STS3215.HOMING_OFFSET, -4095, 4095),
    ],
)  # fmt: skip
def test_a_register_refuses_what_it_does_not_hold(item, least, most):
    assert (item.least, item.most) == (least, most)
    for steps in (least, most):
        assert item.decode(item.encode(steps)) == steps
    for steps in (least - 1, most + 1):
        with pytest.raises(ValueError, match=f"holds {least} to {most}"):
            item.encode(steps)
    with pytest.raises(ValueError, match="bytes; it has"):
        item.decode(bytes(item.size + 1))


def test_values_become_steps():
    assert XM430.GOAL_POSITION.steps(math.pi) == 2048 and XM430.GOAL_POSITION.steps(-math.pi / 2) == -1024
    assert XM430.GOAL_CURRENT.steps(0.269) == 100 and XM430.BUS_WATCHDOG.steps(0.1) == 5
    assert XM430.GOAL_CURRENT.steps(-32768 * 2.69e-3) == -32768 and XM430.GOAL_CURRENT.steps(32767 * 2.69e-3) == 32767
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="not finite"):
            XM430.GOAL_POSITION.steps(value)
    for value, steps in ((88.146, 32768), (-88.149, -32769)):
        with pytest.raises(ValueError, match=f"is {steps} steps; it holds -32768 to 32767"):
            XM430.GOAL_CURRENT.steps(value)
