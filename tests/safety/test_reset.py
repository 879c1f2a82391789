"""The reset script: smooth targets, honest tests, an end to its patience."""

from __future__ import annotations

import dataclasses
import itertools
import math
from itertools import pairwise

import pytest

from robotrl.safety.reset import ResetScript, Stage

T = 20_000_000
FOLD = Stage("fold", (0.5, 2.5), 0.5, 0.2, math.pi)
ROLL = Stage("roll", (2.5, 0.5), 0.4, 0.2, math.pi)
STAND = Stage("stand", (1.5, 1.5), 0.6, 0.1, 0.3)
LYING = (3.0, 0.5)


class Robot:
    """Joints that follow their target at once, a body that turns upright after a given number of `roll` stages."""

    def __init__(self, script, at=LYING, tilt=2.0, needs_rolls=1, stuck=False):
        self.script, self.at, self.tilt, self.needs, self.stuck = script, at, tilt, needs_rolls, stuck
        self.now, self.steps = 5 * 10**9, []

    def play(self, seconds: float):
        for _ in range(round(seconds / 0.02)):
            step = self.script.step(self.now, self.at, self.tilt, 0.0)
            if self.steps and self.steps[-1].stage == "roll" and step.stage != "roll":
                self.needs -= 1
            if step.stage == "stand" and self.needs <= 0:
                self.tilt = 0.0
            if step.target is not None and not self.stuck:
                self.at = step.target
            self.steps.append(step)
            self.now += T
        return self.steps[-1]


def script(**options):
    return ResetScript((STAND,), (FOLD, ROLL), **options)


def test_rights_itself_stands_and_is_verified():
    robot = Robot(script())
    assert robot.play(4.0).outcome == "done"
    assert list(dict.fromkeys(s.stage for s in robot.steps)) == ["fold", "roll", "stand"]
    assert robot.steps[-1].target == STAND.target and robot.steps[-1].attempt == 1


def test_upright_robot_only_stands():
    robot = Robot(script(), tilt=0.1, needs_rolls=0)
    assert robot.play(2.0).outcome == "done"
    assert {s.stage for s in robot.steps} == {"stand"}


def test_targets_start_at_the_present_pose_and_never_jump():
    robot = Robot(script(attempts=3), needs_rolls=2, at=LYING)
    robot.play(8.0)
    targets = [s.target for s in robot.steps]
    assert targets[0] == LYING and robot.steps[-1].outcome == "done" and robot.steps[-1].attempt == 2
    fastest = max(abs(x - y) for a, b in pairwise(targets) for x, y in zip(a, b, strict=True))
    assert fastest <= 1.5 * 2.5 / 0.4 * 0.02 + 1e-9  # the steepest slope of the curve


def test_retries_then_fails_and_stays_failed():
    robot = Robot(script(attempts=3), needs_rolls=99)
    last = robot.play(12.0)
    assert (last.outcome, last.attempt) == ("failed", 3) and "tilted by 2.00" in last.reason
    robot.tilt = 0.0
    assert robot.play(3.0).outcome == "failed"
    began = sum(b.attempt != a.attempt for a, b in pairwise(robot.steps))
    assert began == 2


def test_on_its_back_with_nothing_to_turn_it_over_it_fails_at_once_and_holds_still():
    over = Robot(ResetScript((STAND,), get_up=((FOLD,),)), tilt=1.1, needs_rolls=99)
    last = over.play(0.4)
    assert (last.outcome, last.attempt) == ("failed", 1) and "nothing here turns it over" in last.reason
    until = next(k for k, step in enumerate(over.steps) if step.outcome == "failed")
    assert until == 16  # 0.3 s after the first step: a robot that rolls over its back is given that long
    assert over.play(1.0).target == over.steps[until - 1].target
    leaning = Robot(ResetScript((STAND,), get_up=((FOLD,),)), tilt=0.9, needs_rolls=99)
    assert leaning.play(1.0).outcome == "running"
    passing = Robot(ResetScript((STAND,), get_up=((FOLD,),)), needs_rolls=99)
    for passing.tilt in (1.1, 0.9, 1.1):
        assert passing.play(0.2).outcome == "running"
    assert Robot(script(), tilt=2.0, needs_rolls=99).play(1.0).outcome == "running", "there are stages that turn it over"


def test_stuck_joint_is_named():
    robot = Robot(script(attempts=1), stuck=True)
    assert robot.play(4.0).outcome == "failed" and "fold: a joint is" in robot.steps[-1].reason


def test_must_hold_before_it_is_done():
    robot = Robot(script(settle_s=0.2, patience_s=5.0), at=STAND.target, tilt=0.0, needs_rolls=0)
    robot.play(0.7)
    for _ in range(20):  # wobbles: never good for 0.2 s
        robot.tilt = 0.5 if robot.tilt == 0.0 else 0.0
        robot.needs = 1
        assert robot.play(0.1).outcome == "running"
    robot.tilt = 0.0
    assert robot.play(0.4).outcome == "done"


@pytest.mark.parametrize(
    ("position", "roll"), [((math.nan, 1.0), 0.0), ((1.0,), 0.0), ((1.5, 1.5), math.nan), ((1.5, 1.5), math.inf)]
)
def test_no_readings_no_motion_and_in_time_failed(position, roll):
    blind = script(patience_s=1.0)
    first = blind.step(0, position, roll, 0.0)
    assert (first.target, first.outcome) == (None, "running")
    assert blind.step(10**9 + 1, position, roll, 0.0).outcome == "failed"


@pytest.mark.parametrize("bad", [((math.nan, 1.5), 0.0, 0.0), ((1.5, 1.5), math.nan, 0.0), ((1.5, 1.5), 0.0, math.nan)])
def test_readings_lost_on_the_way_never_pass(bad):
    one = ResetScript((STAND,), attempts=1)
    for k in range(200):
        step = one.step(k * T, *(((1.5, 1.5), 0.0, 0.0) if k == 0 else bad))
        assert step.outcome != "done" and all(map(math.isfinite, step.target))
    assert step.outcome == "failed"


def test_each_next_attempt_gets_up_in_the_next_way():
    ways = [(dataclasses.replace(FOLD, name=name, tolerance=9.0),) for name in "abc"]
    stuck = Robot(ResetScript((STAND,), get_up=ways, attempts=5), at=(0.0, 0.0), tilt=0.0, needs_rolls=0, stuck=True)
    assert stuck.play(20.0).outcome == "failed"
    played = [name for name, _ in itertools.groupby(s.stage for s in stuck.steps)]
    assert played == [stage for name in "abcab" for stage in (name, "stand")]
    upright = Robot(ResetScript((STAND,), get_up=ways), at=STAND.target, tilt=0.4, needs_rolls=99)
    upright.play(10.0)
    assert upright.steps[0].stage == "a", "tilted"
    near = Robot(ResetScript((STAND,), get_up=ways), at=(1.2, 1.2), tilt=0.0, needs_rolls=0, stuck=True)
    near.play(10.0)
    assert list(dict.fromkeys(s.stage for s in near.steps)) == ["stand", "a", "b"], "near a stand it only stands at first"


BOW = Stage("bow", (2.0, 2.0), 0.5, 9.0, math.pi)
RISE = Stage("rise", (3.0, 3.0), 0.5, 0.5, 0.3)


class Held:
    """Joints that follow at once, but the second one: until it is let go it stays where it is."""

    def __init__(self, script, held_s):
        self.script, self.let_go, self.at, self.now, self.steps = script, held_s, (1.0, 1.0), 0, []

    def play(self, seconds):
        for _ in range(round(seconds / 0.02)):
            step = self.script.step(self.now, self.at, 0.0, 0.0)
            free = self.now * 1e-9 >= self.let_go
            self.at = (step.target[0], step.target[1] if free else self.at[1])
            self.steps.append(step)
            self.now += T
        return self.steps[-1]


def test_a_joint_that_lags_holds_up_the_others_and_they_go_on_together():
    held = Held(ResetScript((dataclasses.replace(RISE, seconds=1.0),), wait_s=0.4), held_s=0.7)
    held.play(0.7)
    waiting = {step.target for step in held.steps[-10:]}
    assert len(waiting) == 1 and 0.6 < held.at[0] - 1.0 < 0.75, "none is more than a step farther than the lag that is borne"
    assert held.play(1.2).outcome == "done" and held.steps[-1].attempt == 1
    unwaiting = Held(ResetScript((dataclasses.replace(RISE, seconds=1.0),)), held_s=0.7)
    unwaiting.play(0.7)
    assert unwaiting.at[0] > 2.5


def test_a_joint_that_is_held_for_longer_ends_the_attempt_before_the_others_have_gone_on():
    held = Held(ResetScript((RISE,), get_up=((dataclasses.replace(BOW, target=(1.0, 1.0)),),), wait_s=0.4, attempts=2), 99.0)
    last = held.play(4.0)
    assert (last.outcome, last.attempt) == ("failed", 2) and "held 0.70 rad behind" in last.reason
    assert max(step.target[0] for step in held.steps) < 1.75
    first = [step for step in held.steps if step.attempt == 1 and step.stage == "rise"]
    assert len(first) == pytest.approx((0.4 + 0.18) / 0.02, abs=3), "0.4 s after it began to lag"


def test_a_stage_that_asks_nothing_of_the_joints_goes_on_after_the_wait():
    held = Held(ResetScript((STAND,), get_up=((BOW,),), wait_s=0.4), 99.0)
    held.at = (-1.0, 1.0)
    held.play(1.2)
    bow = [step for step in held.steps if step.stage == "bow"]
    assert len(bow) * 0.02 == pytest.approx(0.5 + 0.4, abs=0.03) and bow[-1].attempt == 1


def test_a_throw_waits_for_nobody():
    throw = dataclasses.replace(BOW, name="throw")
    held = Held(ResetScript((STAND,), (throw,), wait_s=0.4), 99.0)
    for _ in range(40):
        step = held.script.step(held.now, (1.0, 1.0), 2.0, 0.0)
        held.steps.append(step)
        held.now += T
    assert sum(step.stage == "throw" for step in held.steps) == pytest.approx(25, abs=1)


@pytest.mark.parametrize("bad", [(math.nan, 1, 1), (1, 0, 1), (1, 1, -1), (1, 1, math.inf)])
def test_stage_that_cannot_pass_is_refused(bad):
    with pytest.raises(ValueError, match="reset stage x"):
        Stage("x", (1.0,), *bad)


def test_scripts_that_make_no_sense_are_refused():
    for stand, right, attempts in (((), (), 1), ((STAND,), (Stage("x", (1.0,), 1, 1, 1),), 1), ((STAND,), (), 0)):
        with pytest.raises(ValueError, match="a reset needs"):
            ResetScript(stand, right, attempts=attempts)
