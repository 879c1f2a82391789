"""Row 3: goals are read back. One that was lost is a bad frame; a second writer stops the robot. Over both protocols' bytes."""

from __future__ import annotations

import numpy as np
import pytest

from robotrl.drivers.goalcheck import GoalCheck
from robotrl.drivers.servo_line import TURNS
from tests.nodes.armrig import ArmRig


@pytest.fixture(params=("so101", "omx", "dkitty"))
def arm(request, tmp_path):
    rig = ArmRig(request.param, tmp_path).running()
    for _ in range(2 * TURNS):
        rig.step()
    assert rig.chain.frame_errors == 0
    return rig


def test_goals_that_arrive_are_no_errors_whatever_is_asked_for(arm):
    ends = arm.joints.position
    for number in range(60):
        arm.wish = tuple(at + 0.01 * (number % 20) for at in ends)
        arm.step()
    assert arm.chain.frame_errors == 0 and arm.guard.state == "RUN"


def test_a_goal_that_was_lost_is_one_bad_frame_and_stops_nobody(arm, monkeypatch):
    """In each turn but the one before a look, the next goal hides it."""
    began, lost, write = arm.joints.position, [], arm.chain._port.write

    def losing(data):
        if b"\x83" in data[:8] and arm.loop.tick in lost:  # a synchronous write
            return
        write(data)

    monkeypatch.setattr(arm.chain._port, "write", losing)
    for number in range(4 * TURNS + TURNS):
        if number % (TURNS + 1) == 2:
            lost.append(arm.loop.tick + 1)
        arm.wish = tuple(at + 0.01 * number for at in began)
        arm.step()
    assert len(lost) == TURNS and arm.chain.frame_errors == 1 and arm.guard.state == "RUN"


def test_a_second_writer_is_known_within_a_second_and_stops_the_robot(arm):
    arm.until(lambda: arm.guard.state == "RUN")
    other = arm.twin.bus.servos[-1]

    def step():
        arm.step()
        other.registers.put("goal_position", other.registers.get("goal_position") + 5)

    for _ in range(50):
        step()
    assert arm.chain.frame_errors > 0.01 * 50 * 2 * len(arm.run.robot.servos.ids)
    for _ in range(75):
        step()
    assert any("frame_errors" in str(c) for c in arm.guard.causes) and "STOPPING" in arm.states


def test_a_look_by_itself():
    check, led = GoalCheck(3, 0.01), np.ones(3, bool)
    goals = np.array([0.1, 0.2, 0.3])
    assert check.look((0, 1, 2), goals, led) == 0, "nothing was sent yet"
    check.sent(goals, ())
    assert check.look((0, 1, 2), goals + 0.004, led) == 0
    assert check.look((0, 1, 2), goals + 0.006, led) == 1, "one frame for all"
    assert check.look((2, 0), goals[[2, 0]] + 0.006, led[:2]) == 2 * TURNS
    assert check.look((0, 1, 2), goals + 0.006, np.array([True, False, False])) == TURNS, "who is not led goes by none"
    check.sent(goals + 1, (1,))
    assert check.look((0, 1, 2), np.array([1.1, 0.2, 1.3]), led) == 0, "one was sent nothing"
    check.forget()
    assert check.look((0, 1, 2), goals + 5, led) == 0
