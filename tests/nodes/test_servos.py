"""The servo loop against the twin's bus in memory: when torque comes on, and how it goes off."""

from __future__ import annotations

import pytest

from robotrl.clock import LockstepClock
from robotrl.config import Run
from robotrl.drivers.chain import Chain
from robotrl.messages import Action, Permit
from robotrl.nodes.servos import ServoLoop
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
