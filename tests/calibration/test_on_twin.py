"""The tools against the twin: the real chain and codecs, over bytes, in virtual time."""

from __future__ import annotations

import math
from dataclasses import replace

import pybullet
import pytest

from robotrl import config
from robotrl.calibration import commission, homing, measure, store
from robotrl.clock import LockstepClock
from robotrl.drivers.chain import Chain
from robotrl.drivers.identity import asked, firmware
from robotrl.sim.twin import Twin
from tests.calibration.twinclock import TwinClock


def on_a_stand(twin: Twin) -> None:
    """The torso held a metre above the ground, legs hanging."""
    body, client = twin.world.model.body, twin.world._client
    turn = pybullet.getBasePositionAndOrientation(body, physicsClientId=client)[1]
    pybullet.resetBasePositionAndOrientation(body, (0, 0, 1), turn, physicsClientId=client)
    pybullet.createConstraint(
        body, -1, -1, -1, pybullet.JOINT_FIXED, (0, 0, 0), (0, 0, 0), (0, 0, 1), (0, 0, 0, 1), turn,
        physicsClientId=client,
    )  # fmt: skip


@pytest.fixture
def twin():
    run = config.Run(twin=replace(config.Twin(), randomise=False))
    out = Twin(run, 0, LockstepClock())
    on_a_stand(out)
    yield out
    out.close()


@pytest.fixture
def twin_clock(twin):
    return TwinClock(twin)


def test_homing_and_commissioning_work_on_the_twin(twin, twin_clock, robot, tmp_path):
    port = twin.ports()["servos"]
    chain = Chain(port, robot.servos, twin_clock)
    pybullet.setGravity(0, 0, 0, physicsClientId=twin.world._client)  # a jig carries the legs
    for _ in range(25):  # until they are still
        chain.damp()
        twin_clock.sleep_until(twin_clock.now() + 20_000_000)
    record = homing.measure(chain, robot, tuple(twin.world.angle), twin_clock)
    assert record.offset == pytest.approx((0.0,) * 8, abs=0.02)
    record = replace(
        record, pose=(homing.JIG_RAD,) * 8, identity=asked(port, robot.servos, twin_clock)
    )  # the jig's pose: where the motors are tried
    pybullet.setGravity(0, 0, -9.81, physicsClientId=twin.world._client)
    path = store.path_of(store.Calibration, robot, tmp_path)
    store.write(record, path)
    robot = store.calibrated(robot, tmp_path)
    assert len(set(record.identity)) == 8
    chain = Chain(port, robot.servos, twin_clock)
    made = commission.commission(chain, robot, twin_clock, firmware(port, robot.servos, twin_clock), path)
    assert all(0.09 <= trip <= 0.13 for trip in made.trip_s)
    assert all(0.5 * measure.STEP_RAD < moved < 1.5 * measure.STEP_RAD for moved in made.moved)
    assert made.stop_s < 1.0 and math.isfinite(made.stop_s)
    assert chain.confirmed_off()
