"""The driver's line to a rescue that takes nothing for a while: what it holds afterwards is what the driver holds."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable

import pytest

from robotrl.clock import LockstepClock, WallClock
from robotrl.config import Run
from robotrl.drivers.port import SerialPort
from robotrl.nodes.rescue import Rescue, Ward
from robotrl.nodes.tether import NAME, Tether
from robotrl.sim.bare import BareBus

CLOCK = WallClock()
MS = 1_000_000


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


def once() -> Callable[[], bool]:
    """True, then False."""
    left = [True]
    return lambda: bool(left and left.pop())


def test_a_stop_key_reaches_a_rescue_that_lowers_an_arm_and_holds_it_while_the_next_driver_says_so(tmp_path):
    """Its last life has died; while it waits for the port, only it hears keys."""
    clock = LockstepClock()
    rescue = Rescue(Run().robot, tmp_path, clock, 0.02)
    rescue._over = lambda: rescue.stopping  # it would read our standard input
    tether, held = Tether(tmp_path, CLOCK), []

    def holds() -> bool:
        clock.advance(20 * MS)
        held.append(rescue._held())
        return 5 <= len(held) < 30

    assert not tether.greet(2.0, holds)
    assert held[:41] == [False] * 5 + [True] * 35 + [False]
    tether.close()
    assert not rescue._held()
    again = Tether(tmp_path, CLOCK)
    again.greet(0.1, once())
    assert rescue._held(), "the one after it"
    rescue.stopping = True
    assert not rescue._held(), "a run that ends holds nothing"
    again.close()
    rescue.close()


def test_who_waits_at_the_door_is_watched_when_the_rescue_is_free(tmp_path):
    rescue = Rescue(Run().robot, tmp_path, CLOCK, 0.02)
    rescue._over = lambda: rescue.stopping
    tether = Tether(tmp_path, CLOCK)
    assert not tether.greet(0.1, once()) and rescue._held()
    served = threading.Thread(target=rescue.serve)
    served.start()
    assert tether.greet(20)
    tether.done()
    tether.close()
    rescue.stopping = True
    served.join()
