"""The driver's line to a rescue that takes nothing for a while: what it holds afterwards is what the driver holds."""

from __future__ import annotations

import os
import socket

import pytest

from robotrl.clock import WallClock
from robotrl.config import Run
from robotrl.drivers.port import SerialPort
from robotrl.nodes.rescue import Ward
from robotrl.nodes.tether import NAME, Tether
from robotrl.sim.bare import BareBus

CLOCK = WallClock()


@pytest.fixture
def buses():
    made = [BareBus(Run().robot), BareBus(Run().robot)]
    yield made
    for bus in made:
        bus.close()


@pytest.fixture
def ends(tmp_path, buses):
    """The driver's end, with a port; the rescue's, which has a copy of it, and then takes nothing until it takes no more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.bind(str(tmp_path / NAME))
        door.listen(1)
        tether = Tether(tmp_path, CLOCK)
        tether.beat(False)
        line, _ = door.accept()
    line.setblocking(False)
    ward = Ward(line, Run().robot, CLOCK, 1 << 30)
    assert tether.greet(1)
    port = SerialPort(buses[0].path, 115200, CLOCK)
    tether.give(port.fileno(), False)
    ward.hear()
    assert held(ward) == where(port)
    for _ in range(2000):  # 278 are taken: six seconds
        tether.beat(True)
    yield tether, ward, port
    tether.close()
    ward.close()


def where(port: SerialPort) -> str:
    return os.ttyname(port.fileno())


def held(ward: Ward) -> str:
    """The port that the rescue has a copy of."""
    return "" if ward.port is None else os.ttyname(ward.port.fileno())


def test_a_port_that_is_dropped_meanwhile_is_let_go_of_at_the_next_beat(ends, buses):
    tether, ward, port = ends
    tether.drop()
    port.close()
    for _ in range(3):
        tether.beat(False)
        ward.hear()
    assert held(ward) == "" and not ward.torque_on
    SerialPort(buses[0].path, 115200, CLOCK).close()  # nobody has a lock on it


def test_a_port_that_comes_in_its_place_is_the_one_that_is_held(ends, buses):
    tether, ward, port = ends
    tether.drop()
    port.close()
    other = SerialPort(buses[1].path, 115200, CLOCK)
    tether.give(other.fileno(), False)
    for _ in range(3):
        tether.beat(True)
        ward.hear()
    assert held(ward) == where(other) and ward.torque_on
    tether.drop()
    other.close()
    ward.hear()
    assert held(ward) == ""
