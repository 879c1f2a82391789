"""A device that is unplugged and plugged in again, and the node that publishes what it reads."""

from __future__ import annotations

import os

import pytest

from robotrl.clock import LockstepClock
from robotrl.drivers.port import PortError, SerialPort
from robotrl.drivers.tape import Tape
from robotrl.messages import Exchange
from robotrl.nodes.wire import RETRY_NS, Wire, sense


class FakeNode:
    """A node with a clock of its own, that tells what was done with it. It is its own bus and publisher."""

    def __init__(self, periods=0):
        self.clock, self.said, self.periods = LockstepClock(), [], periods
        self.bus, self.sent, self.taped, self.beats, self.closed = self, [], [], [], 0
        self.tape = Tape(self.clock)

    def say(self, what):
        self.said.append(str(what))

    def refuse(self, why):
        self.say(why)
        self.close()
        return 2

    def hurry(self, priority):
        pass

    def publisher(self, topic):
        assert topic in ("imu", "wire")
        return self

    def send(self, message):
        (self.taped if isinstance(message, Exchange) else self.sent).append(message)

    def every(self, period_ns):
        for number in range(self.periods):
            yield number
            self.clock.advance(period_ns)

    def beat(self, note):
        self.beats.append(note)

    def close(self):
        self.closed += 1


class FakePort:
    name = "/dev/x"
    closed = 0

    def close(self):
        self.closed += 1


def test_a_lost_wire_is_tried_once_a_second_and_comes_back():
    node, ports, there = FakeNode(), [], [True]

    def connect():
        if not there[0]:
            raise PortError("/dev/x: no such port")
        ports.append(FakePort())
        return ports[-1], len(ports)

    wire = Wire(node, connect)
    there[0] = False
    wire.lost(PortError("/dev/x: port lost"))
    assert wire.device is None and ports[0].closed and node.said == ["/dev/x: port lost"]
    node.clock.advance(RETRY_NS)
    assert not wire.again()
    node.clock.advance(RETRY_NS)
    assert not wire.again() and node.said == ["/dev/x: port lost", "/dev/x: no such port"], "why, once"
    there[0] = True
    assert not wire.again()  # not before its time
    node.clock.advance(RETRY_NS)
    assert wire.again() and wire.device == 2 and node.said[-1] == "/dev/x: is back"
    with pytest.raises(PortError):
        there[0] = False
        Wire(node, connect)


def test_a_device_that_comes_back_as_none_that_can_be_spoken_with_is_tried_on():
    """Another one in its place, say: the driver died of it, and of it again, until it stayed down."""
    node, port, answers = FakeNode(), FakePort(), [ValueError("model 7: known are 350, 1060")] * 2

    def connect():
        if len(answers) < 2:
            raise answers[0]
        return port, "device"

    wire = Wire(node, connect)
    wire.lost(PortError("/dev/x: port lost"))
    answers.pop()
    for _ in range(3):
        node.clock.advance(RETRY_NS)
        assert not wire.again() and node.said == ["/dev/x: port lost", "model 7: known are 350, 1060"]
    answers *= 2
    node.clock.advance(RETRY_NS)
    assert wire.again() and wire.device == "device" and node.said[-1] == "/dev/x: is back"


@pytest.mark.parametrize("error", [PortError("/dev/x: no such port"), ValueError("rate 7: use 200")])
def test_a_sensor_that_cannot_be_opened_ends_its_node_with_a_line(error):
    node = FakeNode(periods=3)

    def connect():
        raise error

    assert sense(node, connect, "imu", 5_000_000, lambda device: [device], node.tape) == 2
    assert node.said == [str(error)] and node.closed == 1 and not node.beats


def test_a_sensor_publishes_what_it_reads_and_goes_on_after_its_port_was_lost():
    node, ports = FakeNode(periods=8), []

    def connect():
        ports.append(FakePort())
        return ports[-1], f"device {len(ports)}"

    def read(device):
        if len(node.sent) == 4 and device == "device 1":
            raise PortError("/dev/x: port lost")
        return [device] * 2  # several a period, as a tracker has them

    assert sense(node, connect, "imu", RETRY_NS // 2, read, node.tape) == 0
    assert node.sent == ["device 1"] * 4 + ["device 2"] * 8
    assert node.beats == ["", "", "port lost", "port lost", "", "", "", ""]
    assert node.said == ["/dev/x: port lost", "/dev/x: is back"]
    assert [port.closed for port in ports] == [1, 1] and node.closed == 1
    assert [x.first for x in node.taped] == [1, 3, 5, 5, 5, 7, 9, 11], "the number of the first message that each tape gave"


def test_several_periods_share_a_tape():
    node, port = FakeNode(periods=12), FakePort()

    def read(device):
        return [node.tape.clock.now()]

    assert sense(node, lambda: (port, "device"), "imu", 5_000_000, read, node.tape) == 0
    assert [(x.first, len(x.calls), x.kinds) for x in node.taped] == [(1, 4, "cccc"), (5, 4, "cccc"), (9, 4, "cccc")]
    assert [call.kind for x in node.taped for call in x.calls] == ["read"] * 12


def test_a_port_is_known_by_its_adapters_name_and_not_by_the_place_where_it_is_plugged_in(tmp_path):
    """Row 10 of the fault catalogue: another adapter in the same place is not ours, ours in another place is."""
    (here, near), (there, far_near) = os.openpty(), os.openpty()
    ours, other = tmp_path / "usb-ours", tmp_path / "usb-other"
    ours.symlink_to(os.ttyname(near))
    node = FakeNode()

    def connect():
        port = SerialPort(str(ours), 1_000_000, node.clock)
        return port, port

    wire = Wire(node, connect)
    os.close(here)
    os.close(near)
    ours.unlink()
    other.symlink_to(os.ttyname(far_near))
    wire.lost(PortError("lost"))
    node.clock.advance(RETRY_NS)
    assert not wire.again() and "no such port" in node.said[-1]
    ours.symlink_to(os.ttyname(far_near))
    node.clock.advance(RETRY_NS)
    assert wire.again()
    wire.device.write(b"x")
    assert os.read(there, 1) == b"x"
    wire.close()
    os.close(there)
    os.close(far_near)
