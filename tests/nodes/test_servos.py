"""The servo loop against the twin's bus in memory: when torque comes on, and how it goes off."""

from __future__ import annotations

import pytest

from robotrl.clock import LockstepClock
from robotrl.config import Run
from robotrl.drivers.chain import Chain
from robotrl.drivers.port import PortError
from robotrl.messages import Action, Permit
from robotrl.nodes.servos import ServoLoop
from robotrl.nodes.wire import RETRY_NS, Wire
from robotrl.sim.twin import Twin

PERIOD_S = 0.02


class Rig:
    def __init__(self):
        run = Run()
        self.clock = LockstepClock()
        self.twin = Twin(run, 0, self.clock)
        self.twin.world.place("stand")
        self.port = self.twin.ports()["servos"]
        chain = Chain(self.port, run.robot.servos, self.clock)
        chain.stop()
        self.loop = ServoLoop(run.robot, chain, self.clock, PERIOD_S)
        self.epoch = 1

    def cycle(self, state: str = "", torque: bool = True, silent: bool = False):
        self.twin.advance(PERIOD_S)
        self.epoch += 1
        permit = Permit(source="guard", t=self.clock.now(), state=state, epoch=self.epoch, holder="", torque=torque)
        return self.loop.cycle(None if silent else permit, None)

    def modes(self):
        return set(self.cycle(silent=True)[0].mode)


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.twin.close()


def test_torque_comes_on_only_after_a_permit_without_it(rig):
    for _ in range(5):
        assert not rig.cycle("HOLD")[2].gate_open  # a driver that was started again beside a guard that holds
    rig.cycle("READY", torque=False)
    assert rig.cycle("HOLD")[2].gate_open


def test_without_a_permit_the_gate_shuts_after_60_ms_then_damps_then_confirms_off(rig):
    rig.cycle("READY", torque=False)
    for _ in range(3):
        rig.cycle("HOLD")
    stages = [rig.cycle(silent=True)[2] for _ in range(40)]
    assert [d.gate_open for d in stages[:4]] == [True, True, True, False]
    assert stages[4].stop == "damp" and stages[4].torque_on and not stages[4].powered_off_confirmed
    assert stages[-1].stop == "" and stages[-1].powered_off_confirmed and not stages[-1].torque_on


def test_a_driver_that_dies_leaves_the_motors_to_their_watchdog(rig):
    rig.cycle("READY", torque=False)
    rig.cycle("HOLD")
    rig.cycle("HOLD")
    rig.twin.advance(0.15)
    assert rig.modes() == {11}


def test_an_action_of_nobody_is_applied_by_nobody(rig):
    rig.cycle("READY", torque=False)
    rig.cycle("HOLD")
    rig.twin.advance(PERIOD_S)
    action = Action(source="policy", seq=1, t=rig.clock.now(), valid_ns=10**9, epoch=rig.epoch, tick=0, target=(2.0,) * 8)
    assert rig.loop.cycle(None, action)[1].writer == "hold"


class FakeNode:
    def __init__(self):
        self.clock, self.said = LockstepClock(), []

    def say(self, what):
        self.said.append(str(what))


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
    there[0] = True
    assert not wire.again()  # not before its time
    node.clock.advance(RETRY_NS)
    assert wire.again() and wire.device == 2 and node.said[-1] == "/dev/x: is back"
    with pytest.raises(PortError):
        there[0] = False
        Wire(node, connect)
