"""The handshake's judgement: nothing to say of what is as it must be, one line of each thing that is not."""

from __future__ import annotations

import dataclasses

import pytest

from robotrl.drivers import handshake
from robotrl.drivers.dynamixel_x import X330, XM430, X
from robotrl.drivers.feetech_sts import STS3215
from robotrl.drivers.handshake import Present, Wanted, roll_call, swapped

KNEE = Wanted(12, "knee", 1020, firmware=45, exact={X.MIN_POSITION_LIMIT: 800, X.MAX_POSITION_LIMIT: 3200},
              most={X.TEMPERATURE_LIMIT: 80, XM430.CURRENT_LIMIT: 1193})  # fmt: skip
KNEE_READS = {
    X.MODEL_NUMBER: 1020, X.FIRMWARE_VERSION: 45, X.BAUD_RATE: 3, X.RETURN_DELAY_TIME: 0, X.DRIVE_MODE: 0, X.OPERATING_MODE: 3,
    X.SECONDARY_ID: 255, X.PROTOCOL_TYPE: 2, X.STARTUP_CONFIGURATION: 0, X.SHUTDOWN: 52, X.STATUS_RETURN_LEVEL: 2,
    X.HARDWARE_ERROR_STATUS: 0, X.BUS_WATCHDOG: 5, X.MIN_POSITION_LIMIT: 800, X.MAX_POSITION_LIMIT: 3200, X.TEMPERATURE_LIMIT: 80,
    XM430.CURRENT_LIMIT: 1193,
}  # fmt: skip
REARM = "write 0, then 5; a reboot clears it, so write it after every start"
JAW = Wanted(
    6, "gripper", 777, firmware=3 * 256 + 10, mode=0, exact={STS3215.HOMING_OFFSET: -50}, most={STS3215.TORQUE_LIMIT: 500}
)
S = STS3215
JAW_READS = {
    S.FIRMWARE_MAJOR: 3, S.FIRMWARE_MINOR: 10, S.BYTE_ORDER: 0, S.MODEL_NUMBER: 777, S.BAUD_RATE: 0, S.RETURN_DELAY_TIME: 0,
    S.STATUS_RETURN_LEVEL: 1, S.PHASE: 12, S.UNLOADING_CONDITION: 44, S.PROTECTION_CURRENT: 500, S.OPERATING_MODE: 0, S.LOCK: 1,
    S.STATUS: 0, S.HOMING_OFFSET: -50, S.TORQUE_LIMIT: 500, S.MAX_TORQUE_LIMIT: 500,
}  # fmt: skip


def test_what_is_as_it_must_be_is_not_spoken_of():
    assert handshake.dynamixel(KNEE, KNEE_READS) == [] and set(handshake.dynamixel_items(KNEE)) == set(KNEE_READS)
    assert handshake.feetech(JAW, JAW_READS) == [] and set(handshake.feetech_items(JAW)) == set(JAW_READS)
    newer = {X.FIRMWARE_VERSION: 99, X.SHUTDOWN: 61, X.SECONDARY_ID: 253, X.TEMPERATURE_LIMIT: 70}
    assert handshake.dynamixel(KNEE, KNEE_READS | newer) == []
    for version in ((4, 0), (3, 11), (4, 10)):
        assert handshake.feetech(JAW, JAW_READS | {S.FIRMWARE_MAJOR: version[0], S.FIRMWARE_MINOR: version[1]}) == []
    assert handshake.feetech(JAW, JAW_READS | {S.UNLOADING_CONDITION: 47, S.PROTECTION_CURRENT: 1, S.TORQUE_LIMIT: 0}) == []


@pytest.mark.parametrize(
    ("item", "steps", "says"),
    [
        (X.MODEL_NUMBER, 1060, "Model Number(0): 1060, not XM430-W350; fit the right one"),
        (X.FIRMWARE_VERSION, 44, "Firmware Version(6): 44, 45 is needed; update it with Wizard 2.0"),
        (X.BAUD_RATE, 1, "Baud Rate(8): 1, 1000000 baud is asked for; write 3 with torque off"),
        (X.RETURN_DELAY_TIME, 250, "Return Delay Time(9): 250, every answer waits so many times 2 us; write 0 with torque off"),
        (X.DRIVE_MODE, 1,
         "Drive Mode(10): 1, the joint turns the other way than the robot file says; change bit 0 with torque off"),
        (X.DRIVE_MODE, 4, "Drive Mode(10): 4, its profile is in ms: each goal would take so long; clear bit 2 with torque off"),
        (X.DRIVE_MODE, 8, "Drive Mode(10): 8, any goal turns torque on; clear bit 3 with torque off"),
        (X.OPERATING_MODE, 4, "Operating Mode(11): 4, mode 3 is asked for; write 3 with torque off"),
        (X.SECONDARY_ID, 252, "Secondary(Shadow) ID(12): 252, it obeys that id too; write 255 with torque off"),
        (X.PROTOCOL_TYPE, 1, "Protocol Type(13): 1, protocol 2.0 is spoken here; write 2 with torque off"),
        (X.STARTUP_CONFIGURATION, 3, "Startup Configuration(60): 3, torque comes on with power; clear bit 0 with torque off"),
        (X.SHUTDOWN, 48, "Shutdown(63): 48 does not let go on overheating; write 52 with torque off"),
        (X.SHUTDOWN, 1, "Shutdown(63): 1 does not let go on overheating, electrical shock, overload; write 53 with torque off"),
        (X.STATUS_RETURN_LEVEL, 1, "Status Return Level(68): 1, writes are not answered; write 2"),
        (X.HARDWARE_ERROR_STATUS, 36,
         "Hardware Error Status(70): 36, overheating, overload; find the cause, then reboot the servo"),
        (X.HARDWARE_ERROR_STATUS, 64, "Hardware Error Status(70): 64, unknown; find the cause, then reboot the servo"),
        (X.HARDWARE_ERROR_STATUS, 16, "Hardware Error Status(70): 16, electrical shock; find the cause, then reboot the servo"),
        (X.BUS_WATCHDOG, 0, f"Bus Watchdog(98): 0, 5 is asked for; {REARM}"),
        (X.BUS_WATCHDOG, -1, f"Bus Watchdog(98): -1, it has tripped, 5 is asked for; {REARM}"),
        (X.MIN_POSITION_LIMIT, 0, "Min Position Limit(52): 0, the robot file says 800; write 800 with torque off"),
        (X.TEMPERATURE_LIMIT, 81, "Temperature Limit(31): 81, 80 at most; write 80 with torque off"),
        (XM430.CURRENT_LIMIT, 1194, "Current Limit(38): 1194, 1193 at most; write 1193 with torque off"),
    ],
)  # fmt: skip
def test_a_dynamixel_register_that_is_not(item, steps, says):
    assert handshake.dynamixel(KNEE, KNEE_READS | {item: steps}) == [f"servo 12 (knee), {says}"]


@pytest.mark.parametrize(
    ("item", "steps", "says"),
    [
        (S.MODEL_NUMBER, 2825, "2.1, 3: 2825, not STS3215; fit the right one"),
        (S.FIRMWARE_MAJOR, 2, "2.1, 0: 2, version 3.10 is needed; update it"),
        (S.FIRMWARE_MINOR, 9, "2.1, 1: 9, version 3.10 is needed; update it"),
        (S.BYTE_ORDER, 1, "2.1, 2: 1, numbers come high byte first; write 0 with torque off"),
        (S.OPERATING_MODE, 1, "2.2, 33: 1, nothing in the servo stops it when the host is gone; write 0 with torque off"),
        (S.PHASE, 13, "2.2, 18: 13, the joint turns the other way than the robot file says; change bit 0 with torque off"),
        (S.PHASE, 8, "2.2, 18: 8, speeds are in 0.732 rpm; set bit 2 with torque off"),
        (S.PHASE, 28, "2.2, 18: 28, positions count turns; clear bit 4 with torque off"),
        (S.UNLOADING_CONDITION, 4, "2.2, 19: 4 does not let go on overcurrent, overload; write 44 with torque off"),
        (S.UNLOADING_CONDITION, 40, "2.2, 19: 40 does not let go on overheating; write 44 with torque off"),
        (S.UNLOADING_CONDITION, 36, "2.2, 19: 36 does not let go on overcurrent; write 44 with torque off"),
        (S.UNLOADING_CONDITION, 12, "2.2, 19: 12 does not let go on overload; write 44 with torque off"),
        (S.PROTECTION_CURRENT, 0, "2.2, 28: 0, no current is too high; write 511, or less, with torque off"),
        (S.RETURN_DELAY_TIME, 250, "2.2, 7: 250, every answer waits so many times 2 us; write 0 with torque off"),
        (S.STATUS_RETURN_LEVEL, 0, "2.2, 8: 0, writes are not answered; write 1 with torque off"),
        (S.LOCK, 0, "2.3, 55: 0, what is written to EPROM stays there; write 1"),
        (S.BAUD_RATE, 4, "2.2, 6: 4, 1000000 baud is asked for; write 0 with torque off"),
        (S.STATUS, 33, "2.4, 65: 33, voltage, overload; find the cause, then switch torque on again"),
        (S.HOMING_OFFSET, 50, "2.2, 31: 50, the robot file says -50; write -50 with torque off"),
        (S.TORQUE_LIMIT, 501, "2.3, 48: 501, 500 at most; write 500"),
        (S.MAX_TORQUE_LIMIT, 0, "2.2, 16: 0, it moves nothing; write 1000, or less, with torque off"),
    ],
)
def test_a_feetech_register_that_is_not(item, steps, says):
    got = handshake.feetech(JAW, JAW_READS | {item: steps})
    if item is S.FIRMWARE_MAJOR:  # then the minor one does not help
        assert got.pop(1).endswith("2.1, 1: 10, version 3.10 is needed; update it")
    assert got == [f"servo 6 (gripper), memory table {says}"]


@pytest.mark.parametrize(
    ("item", "steps", "to"),
    [
        (X.RETURN_DELAY_TIME, 250, 0), (X.DRIVE_MODE, 13, 0), (X.DRIVE_MODE, 2 + 8, 2), (X.OPERATING_MODE, 4, 3),
        (X.SECONDARY_ID, 252, 255), (X.PROTOCOL_TYPE, 1, 2), (X.STARTUP_CONFIGURATION, 3, 2), (X.SHUTDOWN, 1, 53),
        (X.MIN_POSITION_LIMIT, 0, None), (X.TEMPERATURE_LIMIT, 81, 80), (X.BAUD_RATE, 1, None), (X.BUS_WATCHDOG, 0, None),
        (X.STATUS_RETURN_LEVEL, 1, None), (X.FIRMWARE_VERSION, 1, None), (X.MODEL_NUMBER, 1060, None),
        (X.HARDWARE_ERROR_STATUS, 4, None),
    ],
)  # fmt: skip
def test_what_a_dynamixel_may_be_told_to_become(item, steps, to):
    """Registers in EEPROM that are a question of a number: neither speed, nor a range, nor what is in RAM."""
    assert handshake.dynamixel_settings(KNEE, KNEE_READS) == {}
    assert handshake.dynamixel_settings(KNEE, KNEE_READS | {item: steps}) == ({} if to is None else {item: to})
    turned = dataclasses.replace(KNEE, reverse=True)
    assert handshake.dynamixel_settings(turned, KNEE_READS | {X.DRIVE_MODE: 8}) == {X.DRIVE_MODE: 1}


@pytest.mark.parametrize(
    ("item", "steps", "to"),
    [
        (S.BYTE_ORDER, 1, None), (S.OPERATING_MODE, 1, 0), (S.PHASE, 13, 12), (S.PHASE, 8, 12), (S.PHASE, 28, 12),
        (S.PHASE, 25, 12), (S.UNLOADING_CONDITION, 4, 44), (S.UNLOADING_CONDITION, 3, 47), (S.PROTECTION_CURRENT, 0, 511),
        (S.RETURN_DELAY_TIME, 250, 0), (S.STATUS_RETURN_LEVEL, 0, 1), (S.HOMING_OFFSET, 50, -50), (S.LOCK, 0, None),
        (S.BAUD_RATE, 4, None), (S.TORQUE_LIMIT, 501, None), (S.STATUS, 4, None), (S.FIRMWARE_MINOR, 0, None),
        (S.MAX_TORQUE_LIMIT, 0, 1000),
    ],
)  # fmt: skip
def test_what_a_feetech_servo_may_be_told_to_become(item, steps, to):
    assert handshake.feetech_settings(JAW, JAW_READS) == {}
    assert handshake.feetech_settings(JAW, JAW_READS | {item: steps}) == ({} if to is None else {item: to})
    turned = dataclasses.replace(JAW, reverse=True)
    assert handshake.feetech_settings(turned, JAW_READS) == {S.PHASE: 13}


def test_a_register_that_was_not_read_is_spoken_of():
    for judge, wanted, reads in ((handshake.dynamixel, KNEE, KNEE_READS), (handshake.feetech, JAW, JAW_READS)):
        for item in reads:
            got = judge(wanted, {i: steps for i, steps in reads.items() if i is not item})
            lines = [line for line in got if f"{item.section}: was not read; try again" in line]
            assert lines and lines == got, item
        assert len(judge(wanted, {})) >= len(reads)
    minor = {item: steps for item, steps in JAW_READS.items() if item is not S.FIRMWARE_MAJOR} | {S.FIRMWARE_MINOR: 9}
    got = handshake.feetech(JAW, minor)
    assert len(got) == 2 and "was not read" in got[0] and "9, version 3.10 is needed" in got[1]


def test_a_mode_and_a_baud_that_the_model_lacks():
    wanted = dataclasses.replace(KNEE, model=1060, mode=5, baud=12345)
    got = handshake.dynamixel(wanted, KNEE_READS | {X.MODEL_NUMBER: 1060, X.OPERATING_MODE: 5})
    assert got == [
        "servo 12 (knee): XL430-W250 has no mode 5; choose one of 1, 3, 4, 16",
        "servo 12 (knee): 12345 baud is none it has; choose one of 9600, 57600, 115200, 1000000, 2000000, 3000000, 4000000, "
        "4500000",
    ]


def test_a_model_that_is_not_known_keeps_the_usual_mask():
    wanted = dataclasses.replace(KNEE, model=9)
    assert handshake.dynamixel(wanted, KNEE_READS | {X.MODEL_NUMBER: 9}) == []
    assert "write 52" in handshake.dynamixel(wanted, KNEE_READS | {X.MODEL_NUMBER: 9, X.SHUTDOWN: 0})[0]
    got = handshake.dynamixel(wanted, KNEE_READS)
    assert got == ["servo 12 (knee), Model Number(0): 1020, not model 9; fit the right one"]


def test_an_xl330_asks_for_its_own_mask():
    wanted = dataclasses.replace(KNEE, model=1200, most={X330.CURRENT_LIMIT: 1750})
    assert "does not let go on voltage; write 53" in handshake.dynamixel(wanted, KNEE_READS | {X.MODEL_NUMBER: 1200})[0]


def test_who_asks_for_no_version_takes_any():
    assert Wanted(1, "a", 1020).firmware == 0 == Present(1, 1020).firmware
    assert handshake.dynamixel(dataclasses.replace(KNEE, firmware=0), KNEE_READS | {X.FIRMWARE_VERSION: 0}) == []


def test_a_joint_that_is_to_be_reversed():
    wanted = dataclasses.replace(KNEE, reverse=True)
    assert handshake.dynamixel(wanted, KNEE_READS | {X.DRIVE_MODE: 1}) == []
    assert len(handshake.dynamixel(wanted, KNEE_READS)) == 1
    jaw = dataclasses.replace(JAW, reverse=True)
    assert handshake.feetech(jaw, JAW_READS | {S.PHASE: 5}) == [] and len(handshake.feetech(jaw, JAW_READS)) == 1


ARM = [Wanted(11, "waist", 1020), Wanted(12, "knee", 1020), Wanted(13, "wrist", 1060)]
HERE = [Present(11, 1020, 45), Present(12, 1020, 45), Present(13, 1060, 45)]


@pytest.mark.parametrize(
    ("present", "says"),
    [
        (HERE, []),
        (HERE[::-1], []),
        (HERE[1:], ["servo 11 (waist): does not answer; check its id, baud, cable and power"]),
        ([*HERE, HERE[0]], ["id 11: answers 2 times; unplug all but one servo with it and give that one its own id"]),
        ([*HERE, Present(1, 1020)],
         ["id 1: XM430-W350 answers and is not in the robot file; unplug it, or give it the id of the one it replaces"]),
        ([*HERE, Present(1, 5)],
         ["id 1: model 5 answers and is not in the robot file; unplug it, or give it the id of the one it replaces"]),
        ([Present(11, 1060), HERE[1], Present(13, 1020)],
         ["servo 11 (waist) and servo 13 (wrist): each is of the other's model; their ids are swapped: change them back",
          "servo 12 (knee) and servo 13 (wrist)"]),
        ([HERE[0], HERE[1], Present(13, 777)],
         ["servo 13 (wrist): is STS3215, not XL430-W250; fit the right one or correct the robot file"]),
    ],
)  # fmt: skip
def test_who_is_there(present, says):
    assert roll_call(ARM, present) == says[:1]


def test_two_servos_with_one_id_that_ping_alike():
    says = "id 12: answers a ping and garbles its reads; unplug servos until it reads well: two have that id, or its cable is bad"
    assert roll_call(ARM, HERE, garbled=(12,)) == [says]
    assert len(roll_call(ARM, [*HERE, HERE[1]], garbled=(12,))) == 1 and roll_call(ARM[:1], HERE[:1], garbled=(12,)) == []


LOW, HIGH = {X.MIN_POSITION_LIMIT: 0, X.MAX_POSITION_LIMIT: 2000}, {X.MIN_POSITION_LIMIT: 1000, X.MAX_POSITION_LIMIT: 4000}
TWINS = [Wanted(1, "left", 1020, exact=LOW), Wanted(2, "right", 1020, exact=HIGH)]


@pytest.mark.parametrize(
    ("first", "second", "swap"),
    [(LOW, HIGH, False), (HIGH, LOW, True), (LOW, LOW, False), (HIGH, HIGH, False),
     ({**HIGH, X.MAX_POSITION_LIMIT: 3999}, LOW, False), ({}, LOW, False)],
)  # fmt: skip
def test_servos_of_one_model_in_each_others_places(first, second, swap):
    says = "servo 1 (left) and servo 2 (right): each holds the other's limits; "
    says += "their ids are swapped: change them back, or calibrate anew"
    assert swapped(TWINS, {1: first, 2: second}) == [says] * swap
    assert swapped(TWINS, {1: first}) == []


def test_a_servo_that_is_like_its_own_as_well_is_not_swapped():
    """What both were promised it reads; then the other one is wrong and nobody is in another's place."""
    reads, narrow = LOW, {X.MIN_POSITION_LIMIT: 0}
    left, right = Wanted(1, "left", 1020, exact=narrow), Wanted(2, "right", 1020, exact=LOW)
    assert swapped([left, right], {1: reads, 2: {X.MIN_POSITION_LIMIT: 0, X.MAX_POSITION_LIMIT: 99}}) == []
    assert swapped([right, left], {1: reads, 2: {X.MIN_POSITION_LIMIT: 0, X.MAX_POSITION_LIMIT: 99}}) == []
    assert swapped([left, dataclasses.replace(right, exact=HIGH)], {1: HIGH, 2: LOW})[0].startswith("servo 1 (left) and")
    assert swapped([dataclasses.replace(left, exact={}), right], {1: reads, 2: {}}) == []


def test_torque_is_off_for_what_outlives_power_and_no_more():
    """The first register that does not is the torque's own: at 64, and at 40."""
    for judge, wanted, reads, items in (
        (handshake.dynamixel, KNEE, KNEE_READS, (X.ID, X.TORQUE_ENABLE)),
        (handshake.feetech, JAW, JAW_READS, (S.VELOCITY_I_COEFFICIENT, S.TORQUE_ENABLE)),
    ):
        exact = dataclasses.replace(wanted, exact=dict.fromkeys(items, 1))
        first, second = judge(exact, reads | dict.fromkeys(items, 0))
        assert first.endswith("write 1 with torque off") and second.endswith("write 1")


def test_a_complaint_names_setup_servo_where_that_would_mend_it_and_nowhere_else():
    named = "setup-servo --robot so101.toml"
    for judge, settings, wanted, reads, mends in (
        (handshake.dynamixel, handshake.dynamixel_settings, KNEE, KNEE_READS, {X.DRIVE_MODE: 1}),
        (handshake.feetech, handshake.feetech_settings, JAW, JAW_READS, {S.PHASE: 13}),
    ):
        ours = dataclasses.replace(wanted, robot="so101.toml")
        model, baud = (X.MODEL_NUMBER, X.BAUD_RATE) if judge is handshake.dynamixel else (S.MODEL_NUMBER, S.BAUD_RATE)
        torque = X.TORQUE_ENABLE if judge is handshake.dynamixel else S.TORQUE_ENABLE
        for wrong in ({model: 1}, {baud: 2}):  # no number mends the one; the other is kept
            [line] = judge(ours, reads | wrong)
            assert named not in line and settings(ours, reads | wrong) == {}
        [line] = judge(dataclasses.replace(ours, exact={**ours.exact, torque: 0}), reads | {torque: 1})
        assert named not in line, "the first register of RAM: it would not last"
        [line] = judge(ours, reads | mends)
        assert line.endswith(f"{named}") and settings(ours, reads | mends)
        assert named not in judge(wanted, reads | mends)[0], "the file is not known"


def test_servos_that_nothing_tells_apart_are_not_swapped():
    alike = [dataclasses.replace(w, exact=LOW) for w in TWINS]
    assert (
        swapped(alike, {1: LOW, 2: LOW}) == []
        and swapped([dataclasses.replace(w, exact={}) for w in TWINS], {1: {}, 2: {}}) == []
    )


def test_complaints_are_single_lines():
    for line in handshake.dynamixel(KNEE, {}) + handshake.feetech(JAW, {}) + roll_call(ARM, []):
        assert "\n" not in line and "; " in line
