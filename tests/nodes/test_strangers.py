"""Rows 10 and 50 of the catalogue: what is plugged in must be the robot that was calibrated, before one byte can move it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from robotrl.clock import LockstepClock
from robotrl.config import Run
from robotrl.drivers import identity, moteus
from robotrl.drivers.port import DeviceError, MemoryPort, PortError
from robotrl.drivers.tables import Width
from robotrl.nodes.servoloop import connected
from robotrl.nodes.wire import RETRY_NS, Wire
from robotrl.sim.fleets import FLEETS
from robotrl.sim.twin import Twin
from tests.nodes.armrig import run_of

OTHERWISE = {"omx": ("max_position", 4090), "dkitty": ("moving_threshold", 11), "so101": ("homing_offset", -85)}
WRITTEN = ("torque", "goal_position", "lock", "bus_watchdog", "indirect_address_0")


class Node:
    """Of a node, what a wire needs."""

    def __init__(self):
        self.clock, self.said = LockstepClock(), []

    def say(self, what):
        self.said.append(str(what))


class Kept(MemoryPort):
    """What was written to it is kept."""

    def __init__(self, far, name):
        super().__init__(far, name)
        self.sent = []

    def write(self, data):
        self.sent.append(data)
        super().write(data)


class Socket:
    """A robot on a wire that can be pulled, and what is plugged in there."""

    def __init__(self, robot, far):
        self.node, self.robot, self.far = Node(), robot, far
        self.port = None
        self.wire = Wire(self.node, self.connect)

    def connect(self):
        self.port = Kept(self.far, "line")
        return self.port, connected(self.robot, self.port, self.node.clock, -1, self.node.say)

    def replugged(self, far):
        """Is it taken?"""
        self.wire.lost(PortError("line: port lost"))
        self.far = far
        self.node.clock.advance(RETRY_NS)
        return self.wire.again()


@pytest.fixture(params=OTHERWISE)
def name(request):
    return request.param


def known(robot, port):
    """The robot as its calibration file has it."""
    return replace(robot, servos=replace(robot.servos, identity=identity.asked(port, robot.servos, LockstepClock())))


def registers(line):
    return [[servo.registers.get(name) for name in WRITTEN if servo.registers.has(name)] for servo in line.servos]


def test_another_robot_of_the_same_numbers_is_refused_when_it_is_plugged_in_and_the_same_one_taken(name, tmp_path):
    own, other = FLEETS[name].line(None), FLEETS[name].line(None)
    socket = Socket(known(run_of(name, tmp_path, ["robot.serial=a1"]).robot, MemoryPort(own)), own)
    register, steps = OTHERWISE[name]
    place = len(other.servos) - 1
    other.servos[place].registers.put(register, steps)
    other.servos[place]._settings = None
    other.servos[0].registers.put("torque", 1)  # it holds: with our zeros it must not even be lowered
    before = registers(other)
    assert not socket.replugged(other) and registers(other) == before
    said, servos = socket.node.said[-1], socket.robot.servos
    assert f"line: servo {servos.ids[place]} ({servos.joints[place]}) is " in said and "another robot's" in said
    assert "\n" not in said and f"plug in {name} a1, or calibrate anew" in said
    assert socket.replugged(own) and socket.node.said[-1] == "line: is back"


def test_another_robot_is_refused_at_the_first_start_too(name, tmp_path):
    own, other = FLEETS[name].line(None), FLEETS[name].line(None)
    robot = known(run_of(name, tmp_path).robot, MemoryPort(own))
    other.servos[0].registers.put("firmware_minor" if name == "so101" else "firmware", 49)
    before = registers(other)
    with pytest.raises(DeviceError, match=f"servo {robot.servos.ids[0]} "):
        Socket(robot, other)
    assert registers(other) == before


def test_one_that_does_not_say_who_it_is_is_nobody(name, tmp_path):
    own = FLEETS[name].line(None)
    socket = Socket(known(run_of(name, tmp_path).robot, MemoryPort(own)), own)
    own.faults.begin("mute", own.servos[1].id, 1e9)
    assert not socket.replugged(own)
    assert f"servo {own.servos[1].id} does not say who it is" in socket.node.said[-1]


def test_every_servo_is_asked_for_all_that_it_is_known_by(name, tmp_path):
    line, robot = FLEETS[name].line(None), run_of(name, tmp_path).robot
    ours = identity.asked(MemoryPort(line), robot.servos, LockstepClock())
    items = identity.FEETECH if name == "so101" else identity.DYNAMIXEL
    for item in items:
        servo = line.servos[2]
        register = servo.registers.table.at[item.address]
        was = servo.registers.get(register.name)
        servo.registers.put(register.name, was ^ 1)
        told = identity.asked(MemoryPort(line), robot.servos, LockstepClock())
        assert told[2] != ours[2] and told[:2] + told[3:] == ours[:2] + ours[3:], item
        servo.registers.put(register.name, was)


def test_another_minitaur_is_refused_and_its_own_taken_again():
    clock = LockstepClock()
    twin = Twin(Run(), 0, clock)
    try:
        far = twin.wires["servos"]
        socket = Socket(known(Run().robot, MemoryPort(far)), far)
        twin.bus.boards[6] = 99
        assert not socket.replugged(far)
        assert f"line: servo 7 is {99:08x}" in socket.node.said[-1] and "another robot's" in socket.node.said[-1]
        asked = {line.split()[3][:4] for data in socket.port.sent for line in data.splitlines()}
        assert asked == {b"1981"}, "it was asked two registers, and nothing was written"
        twin.bus.boards[6] = 7
        assert socket.replugged(far)
    finally:
        twin.close()


class Strict:
    """A moteus adapter that takes no line without a checksum."""

    out = b""

    def receive(self, data):
        for line in data.splitlines():
            if b"*" not in line:
                self.out += moteus.with_checksum(b"ERR missing checksum") + b"\n"
                continue
            servo = int(line.split()[2], 16) & 0x7F
            frame = moteus.make_reply(0x101, Width.INT32, 1) + moteus.make_reply(0x120, Width.INT32, 0, 0, servo)
            text = b"rcv %04x %b" % (servo << 8 | identity.HOST, frame.hex().encode())
            self.out += moteus.with_checksum(text) + b"\n"

    def transmit(self):
        out, self.out = self.out, b""
        return out


def test_an_adapter_that_asks_for_checksums_is_asked_with_them():
    found = identity.identify(MemoryPort(Strict()), (1, 2), LockstepClock())
    assert [one.serial for one in found] == [f"{i:024x}" for i in (1, 2)]
