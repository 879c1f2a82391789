"""Commissioning of robots with bus servos, over the twin's bytes: arms from their stow pose, D'Kitty with its legs free."""

from __future__ import annotations

import dataclasses
import math

import pytest

from robotrl.calibration import commission, measure, store
from robotrl.calibration.slow import SlowChain
from robotrl.calibration.store import CalibrationError
from robotrl.clock import LockstepClock
from robotrl.drivers.chains import chain_of
from robotrl.drivers.identity import asked, firmware
from robotrl.sim.gearmotor import Law
from robotrl.sim.servotwin import ServoTwin
from tests.calibration.twinclock import TwinClock
from tests.nodes.armrig import run_of

ARMS = ("so101", "omx")


class Stand:
    """A twin, its robot as the tool has it, and its calibration."""

    def __init__(self, name: str, folder) -> None:
        self.twin = ServoTwin(name, clock=LockstepClock())
        robot = dataclasses.replace(run_of(name, folder).robot, serial="a1")
        self.clock, self.port, self.folder = TwinClock(self.twin), self.twin.ports()["servos"], folder
        n = len(robot.servos.ids)
        self.path = store.path_of(store.Calibration, robot, folder)
        pose = self.pose = robot.stow or (0.0,) * n
        self.lay(pose)
        store.write(
            store.Calibration(
                store.SCHEMA, robot.name, robot.kind, "a1", store.today(), robot.servos.ids, robot.servos.sign,
                robot.servos.offset, pose, (0.0,) * n, asked(self.port, robot.servos, self.clock),
            ),
            self.path,
        )  # fmt: skip
        robot = store.calibrated(robot, folder)
        self.robot = dataclasses.replace(robot, servos=dataclasses.replace(robot.servos, power=commission.POWER))
        self.chain = SlowChain(chain_of(self.port, self.robot, self.clock), self.robot)

    def lay(self, pose) -> None:
        self.twin.joints.put(pose)
        self.twin.advance(0.02)

    def commission(self, seen=lambda i, way: True, say=lambda line: None):
        return commission.commission(
            self.chain, self.robot, self.clock, firmware(self.port, self.robot.servos, self.clock), self.path, seen, say
        )


@pytest.fixture
def stand(request, tmp_path):
    out = Stand(request.param, tmp_path)
    yield out
    out.twin.close()


@pytest.mark.parametrize("stand", [*ARMS, "dkitty"], indirect=True)
def test_a_sound_robot_gets_its_record_and_lies_where_it_lay(stand):
    asked_of, said, before = [], [], tuple(stand.twin.joints.angle)
    record = stand.commission(lambda i, way: asked_of.append((i, way)) or True, said.append)
    n = len(stand.robot.servos.ids)
    assert asked_of == list(enumerate(measure.ways(stand.robot, stand.pose))) and record.seen == "operator"
    if stand.robot.servos.protocol == "feetech":
        assert record.trip_s == () and "watchdog: these servos have none" in said
    else:
        assert len(record.trip_s) == n and all(0.09 <= trip <= 0.13 for trip in record.trip_s)
    assert all(0.5 * measure.STEP_RAD < moved < 1.5 * measure.STEP_RAD for moved in record.moved)
    assert 0.0 < record.stop_s < 1.0 and all(0.0 <= rad < 0.25 for rad in record.stop_rad) and max(record.stop_rad) > 0.005
    assert stand.chain.confirmed_off() and all(len(f) for f in record.firmware)
    assert tuple(stand.twin.joints.angle) == pytest.approx(before, abs=0.3 if stand.robot.stow else 0.6)
    store.write(record, store.path_of(store.Commissioning, stand.robot, stand.folder))
    assert store.commissioned(stand.robot, stand.folder) == record


@pytest.mark.parametrize("stand", ARMS, indirect=True)
def test_an_arm_that_does_not_lie_in_its_stow_pose_is_led_nowhere(stand):
    stand.lay([q + 0.5 * (i == 1) for i, q in enumerate(stand.pose)])
    with pytest.raises(CalibrationError, match=r"servo \d+ is \+0\.\d+ rad from the stow pose; lay the arm by hand"):
        stand.commission()
    assert stand.chain.confirmed_off()


@pytest.mark.parametrize("stand", ["omx"], indirect=True)
@pytest.mark.parametrize(("watchdog_s", "says"), [(math.inf, "did not stop it within 0.5 s"), (0.3, "tripped after 0.3")])
def test_a_dynamixel_whose_watchdog_trips_never_or_late_is_not_commissioned(stand, monkeypatch, watchdog_s, says):
    servo = stand.twin.bus.servos[2]
    read = servo._read_settings
    longer = lambda now: dataclasses.replace(now, watchdog_s=watchdog_s) if now.watchdog_s > 0 else now  # noqa: E731
    monkeypatch.setattr(servo, "_read_settings", lambda: longer(read()))
    with pytest.raises(CalibrationError, match=f"servo 13: watchdog .*{says}"):
        stand.commission()
    assert stand.chain.confirmed_off()


@pytest.mark.parametrize("stand", ["so101"], indirect=True)
def test_a_person_who_saw_it_turn_the_other_way_is_believed(stand):
    with pytest.raises(CalibrationError, match=r"servo 4 turned the wrong way; turn sign\[3\]"):
        stand.commission(lambda i, way: i != 3)
    assert stand.chain.confirmed_off()


@pytest.mark.parametrize("stand", ["so101"], indirect=True)
def test_a_joint_that_does_not_go_is_named(stand, monkeypatch):
    servo = stand.twin.bus.servos[4]
    monkeypatch.setattr(servo, "law", lambda dt: Law(0.0, 50.0))
    with pytest.raises(CalibrationError, match=rf"servo {servo.id} went [+-]0\.0\d+ rad when sent"):
        stand.commission()
    assert stand.chain.confirmed_off()
