"""A new servo's number and speed, against the twin's servos: found at any speed, changed on request, read back, and kept."""

from __future__ import annotations

import pytest

from robotrl.clock import LockstepClock
from robotrl.drivers import newservo
from robotrl.drivers.mending import Mending
from robotrl.drivers.port import DeviceError, MemoryPort
from robotrl.drivers.servo_chain import ServoChain
from robotrl.sim import dynamixeltable, feetechtable
from robotrl.sim.dynamixelbus import DynamixelBus
from robotrl.sim.dynamixelservo import DynamixelServo
from robotrl.sim.feetechbus import FeetechBus
from robotrl.sim.feetechservo import FeetechServo
from robotrl.sim.fleets import FLEETS
from tests.nodes.armrig import run_of


class Table:
    """Servos on a table, and an adapter of which any speed may be asked."""

    def __init__(self, family, *numbers):
        self.family = family
        if family == "dynamixel":
            self.servos = [DynamixelServo(dynamixeltable.XM430_W350, n) for n in numbers]
            self.bus = DynamixelBus(self.servos)
        else:
            self.servos = [FeetechServo(feetechtable.STS3215_12V, n) for n in numbers]
            self.bus = FeetechBus(self.servos)

    def connect(self, baud):
        self.bus.host_baud = baud
        return MemoryPort(self.bus, "table")

    def look(self, *ids):
        return newservo.look(self.connect, LockstepClock(), self.family, ids)

    def give(self, found, number, baud):
        return newservo.give(self.connect, LockstepClock(), self.family, found, number, baud)


@pytest.fixture(params=["dynamixel", "feetech"])
def family(request):
    return request.param


@pytest.mark.parametrize("code", [1, 2, 3])
def test_a_servo_is_found_at_whatever_speed_it_has_and_given_another_and_a_number(family, code):
    table = Table(family, 1)
    table.servos[0].registers.put("baud", code)
    table.servos[0].registers.put("return_delay", 250)
    (found,) = table.look(*range(5))
    bauds = {"dynamixel": dynamixeltable.BAUD, "feetech": feetechtable.BAUD}[family]
    assert found.servo.id == 1 and found.baud == bauds[code] and found.servo.model == {"dynamixel": 1020, "feetech": 777}[family]
    said = table.give(found, 42, 57_600)
    registers = table.servos[0].registers
    assert registers.get("id") == 42 and bauds[registers.get("baud")] == 57_600 and registers.get("return_delay") == 0
    assert any("42" in line for line in said)
    assert [(f.servo.id, f.baud) for f in table.look(1, 42)] == [(42, 57_600)]


def test_what_was_changed_outlives_power_and_the_memory_is_locked_again(family):
    table = Table(family, 1)
    table.give(table.look(1)[0], 7, 1_000_000)
    if family == "feetech":
        assert table.servos[0].registers.get("lock") == 1
    table.servos[0].boot()
    table.servos[0].wakes_s = -1.0
    assert table.servos[0].registers.get("id") == 7 and table.servos[0].registers.get("torque") == 0


def test_a_number_that_another_has_is_refused_and_nothing_changed(family):
    table = Table(family, 1, 2)
    one = next(f for f in table.look(1, 2) if f.servo.id == 1)
    before = [bytes(s.registers.raw) for s in table.servos]
    with pytest.raises(DeviceError, match="id 2: another servo has it"):
        table.give(one, 2, 1_000_000)
    assert [bytes(s.registers.raw) for s in table.servos] == before


@pytest.mark.parametrize("apart", [0.004, 0.5, -2.0])
@pytest.mark.parametrize("number", [1, 3])
def test_two_new_servos_of_one_number_are_refused_and_nothing_is_written(family, number, apart):
    """Both came as 1, both became 3, and it was said as one."""
    table = Table(family, 1, 1)
    table.servos[0].angle, table.servos[1].angle = 0.1, 0.1 + apart
    (found,) = table.look(*range(5))
    before = [(bytes(s.registers.raw[:40]), s.registers.get("torque")) for s in table.servos]
    with pytest.raises(DeviceError, match=r"id 1: .*two servos have that id, connect one at a time") as error:
        table.give(found, number, 1_000_000)
    assert [(bytes(s.registers.raw[:40]), s.registers.get("torque")) for s in table.servos] == before
    assert "\n" not in str(error.value)


def test_a_speed_that_it_does_not_have_is_refused(family):
    table = Table(family, 1)
    with pytest.raises(DeviceError, match="choose one of"):
        table.give(table.look(1)[0], 1, 123_456)


def test_a_servo_that_does_not_obey_is_told_of(family):
    table = Table(family, 1)
    (found,) = table.look(1)
    table.bus.faults.begin("deaf", 1, 1e9)
    with pytest.raises(DeviceError, match="id 1"):
        table.give(found, 5, 1_000_000)


@pytest.fixture(params=["omx", "so101"])
def mended(request, tmp_path):
    clock = LockstepClock()
    bus, robot = FLEETS[request.param].line(None), run_of(request.param, tmp_path).robot
    return bus, Mending(robot, MemoryPort(bus, "arm"), clock), ServoChain(MemoryPort(bus, "arm"), robot, clock)


def test_what_the_start_refuses_is_written_on_request_and_no_more(mended):
    bus, mending, chain = mended
    assert mending.needed() == []
    wrong = (
        {"drive_mode": 5, "operating_mode": 5, "return_delay": 250, "max_position": 2500}
        if isinstance(bus, DynamixelBus)
        else {"phase": 28, "protection_current": 0, "return_delay": 250, "max_position": 2100}
    )
    limits = wrong.popitem()
    for register, steps in (*wrong.items(), limits):
        bus.servos[1].registers.put(register, steps)
    bus.servos[1]._settings = None
    chain.stop()
    before = [bytes(s.registers.raw[:40]) for s in bus.servos]
    needed = mending.needed()
    assert {mend.servo for mend in needed} == {bus.servos[1].id} and len(needed) == 3
    assert [bytes(s.registers.raw[:40]) for s in bus.servos] == before, "looking writes nothing"
    mending.write(needed)
    assert mending.needed() == [] and bus.servos[1].registers.get(limits[0]) == limits[1], "a range is its owner's"
    assert isinstance(bus, DynamixelBus) or bus.servos[1].registers.get("lock") == 1
    chain.configure()
    (left,) = chain.check()
    assert str(limits[1]) in left


# A register of the servo, one that the robot file does not allow, and what it must become.
OWN_LIMITS = {
    "omx": {
        "temperature_limit": (81, 80), "max_voltage": (161, 160), "min_voltage": (94, 95), "current_limit": (1194, 1193),
        "velocity_limit": (400, 350), "pwm_limit": (600, 885),
    },
    "so101": {
        "max_temperature": (71, 70), "max_voltage": (141, 140), "min_voltage": (39, 40), "protection_current": (0, 511),
        "overload_torque": (81, 80), "protection_time": (201, 200), "protective_torque": (21, 20),
        "over_current_time": (201, 200), "max_torque": (1001, 1000),
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "register"), [(name, register) for name, rows in OWN_LIMITS.items() for register in rows])
def test_each_limit_of_the_servos_own_is_refused_written_and_read_back(name, register, tmp_path):
    bus, robot = FLEETS[name].line(None), run_of(name, tmp_path).robot
    port, clock = MemoryPort(bus, "arm"), LockstepClock()
    mending, chain = Mending(robot, port, clock), ServoChain(port, robot, clock)
    chain.stop()
    chain.configure()
    assert chain.check() == []
    worse, allowed = OWN_LIMITS[name][register]
    bus.servos[1].registers.put(register, worse)
    (line,) = chain.check()
    assert f"servo {bus.servos[1].id} ({robot.servos.joints[1]}), " in line and f": {worse}, " in line and str(allowed) in line
    assert line.endswith(f"setup-servo --robot {name}") and "\n" not in line
    mending.write(mending.needed())
    chain.configure()
    assert bus.servos[1].registers.get(register) == allowed and chain.check() == []


@pytest.mark.parametrize(
    ("name", "field", "register"),
    [("omx", "pwm", "pwm_limit"), ("so101", "pwm", "max_torque"), ("omx", "amps", "current_limit"),
     ("so101", "amps", "protection_current"), ("omx", "speed_rad_s", "velocity_limit")],
)  # fmt: skip
def test_a_robot_file_that_allows_less_than_the_maker_is_obeyed(name, field, register, tmp_path):
    bus = FLEETS[name].line(None)
    robot = run_of(name, tmp_path, ["robot.servos.power=0.5", f"robot.servos.protection.{field}=0.6"]).robot
    port, clock = MemoryPort(bus, "arm"), LockstepClock()
    mending, chain = Mending(robot, port, clock), ServoChain(port, robot, clock)
    before = bus.servos[0].registers.get(register)
    chain.stop()
    chain.configure()
    assert len(chain.check()) == len(bus.servos)
    mending.write(mending.needed())
    chain.configure()
    assert 0 < bus.servos[0].registers.get(register) < before and chain.check() == []


def test_a_servo_that_does_not_take_what_it_is_told_is_named(mended):
    bus, mending, _ = mended
    bus.servos[0].registers.put("return_delay", 250)
    needed = mending.needed()
    bus.faults.begin("deaf", bus.servos[0].id, 1e9)
    with pytest.raises(DeviceError, match=rf"servo {bus.servos[0].id} .*does not read \d+ after writing it"):
        mending.write(needed)


def test_a_robots_silent_servo_is_named_before_anything_is_written(mended):
    bus, mending, _ = mended
    bus.faults.begin("mute", bus.servos[2].id, 1e9)
    with pytest.raises(DeviceError, match=rf"servo {bus.servos[2].id} .*does not answer"):
        mending.needed()


class Lossy(MemoryPort):
    """Loses one packet, the first of these bytes."""

    lost = b""

    def write(self, data):
        if data == self.lost:
            self.lost = b""
        else:
            super().write(data)


@pytest.mark.parametrize("deaf", [False, True], ids=["lost", "deaf"])
@pytest.mark.parametrize("name", ["omx", "so101"])
def test_nothing_is_written_into_a_robot_one_of_whose_servos_still_has_torque(name, deaf, tmp_path):
    bus, robot = FLEETS[name].line(None), run_of(name, tmp_path).robot
    port, clock = Lossy(bus, "arm"), LockstepClock()
    mending, chain = Mending(robot, port, clock), ServoChain(port, robot, clock)
    first, last = bus.servos[0], bus.servos[-1]
    first.registers.put("return_delay", 250)
    needed = mending.needed()
    last.registers.put("torque", 1)
    port.lost = chain.line.stopping
    if deaf:
        bus.faults.begin("deaf", last.id, 1e9)
        with pytest.raises(DeviceError, match=rf"servo {last.id} .*: does not read 0 after writing it"):
            mending.write(needed)
        assert first.registers.get("return_delay") == 250, "a register in EEPROM under torque"
    else:
        mending.write(needed)
        assert first.registers.get("return_delay") == 0 and last.registers.get("torque") == 0
