"""Homing against stops, over the twin's bytes and through guard and gate: zeros exact to the tick; what is amiss is named."""

from __future__ import annotations

import dataclasses
import importlib
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from robotrl import config
from robotrl.calibration import stops
from robotrl.calibration.store import CalibrationError
from robotrl.messages import Joints, Permit

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch):
    """bench/calibration.py, which homes arms of the twin whose encoders are turned at random."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    before = set(sys.modules)
    yield importlib.import_module("calibration")
    for name in set(sys.modules) - before:
        if name in ("calibration", "optics"):
            del sys.modules[name]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(stops, "SPEED", 2.0)
    monkeypatch.setattr(stops, "STILL_S", 0.2)


def test_the_twins_zero_is_found_to_the_tick(bench, quick, monkeypatch):
    """One joint, without a body; `robotrl bench calibration` homes all of an SO-101 and an OpenManipulator-X, in PyBullet."""
    from robotrl.sim import fleets

    monkeypatch.setattr(fleets.Fleet, "turned", lambda self: (self.apart(), ""))
    done = bench.zeros(3, "so101", (stops.Step(5),), lying=0.1)
    assert done["failed"] == "" and done["ticks"] == [0]
    assert done["spread_deg"] < 0.2


@pytest.mark.parametrize(("kind", "joint"), [(kind, step.joint) for kind in stops.PLANS for step in stops.PLANS[kind].steps])
def test_what_is_in_a_joints_way_is_taken_for_no_stop(bench, quick, monkeypatch, kind, joint):
    """A box or a cable, 14 degrees before its lower stop: every joint has a second one, which says so."""
    from robotrl.sim import fleets

    def turned(self):
        joints = self.apart()
        joints.load_nm[:] = 0.0  # limp, each stays where the hand has put it
        joints.lower[joint] = self.joints[joint].stops[0] + 0.25
        return joints, ""

    monkeypatch.setattr(fleets.Fleet, "turned", turned)
    step = next(step for step in stops.PLANS[kind].steps if step.joint == joint)
    done = bench.zeros(3, kind, (step,), lying=0.1)
    assert "the way between its stops is 14." in done["failed"] and done["ticks"] == []


def test_each_of_an_openmanipulators_zeros_is_found_by_two_stops(bench, quick):
    """In its body's physics: it must get to both."""
    for step in stops.PLANS["omx"].steps:
        done = bench.zeros(3, "omx", (step,), lying=0.1)
        assert (done["failed"], done["ticks"]) == ("", [0]) and done["spread_deg"] < 0.2, step


# ---- the script alone, on joints that go where they are sent, but for their stops


ROBOT = replace(config.load(ROOT / "launch" / "arm.toml").robot, serial="arm1")
N = len(ROBOT.servos.ids)


class Bench:
    """Joints in truth and as `laid` sees them, `shift` (n,) rad apart. `low`, `high`: their stops; `stuck` goes nowhere."""

    def __init__(self, shift=(0.0,) * N):
        horns = [o + s * q for o, s, q in zip(ROBOT.servos.offset, ROBOT.servos.sign, stops.PLANS["so101"].rest, strict=True)]
        self.robot = stops.laid(ROBOT, [h + s for h, s in zip(horns, shift, strict=True)], 0.4)
        self.offset = [h - s * q for h, s, q in zip(horns, ROBOT.servos.sign, stops.PLANS["so101"].rest, strict=True)]
        self.homer = stops.Homer(self.robot)
        self.low, self.high = list(ROBOT.limits.stop_min), list(ROBOT.limits.stop_max)
        self.at = [q + s for q, s in zip(stops.PLANS["so101"].rest, shift, strict=True)]
        self.stuck, self.reversed, self.tick = -1, -1, 0
        self.shift = shift
        self.asked = []

    def joints(self):
        nothing = (0.0,) * N
        seen = [round((a - s) / stops.TICK) * stops.TICK for a, s in zip(self.at, self.shift, strict=True)]
        self.tick += 1
        return Joints(
            tick=self.tick, t=self.tick * 20_000_000, position=tuple(seen), velocity=nothing, torque=nothing, temp_c=nothing,
            voltage=nothing, mode=(10,) * N, fault=(0,) * N, missed=(0,) * N,
        )  # fmt: skip

    def run(self, cycles=20_000):
        permit = Permit(source="guard", t=0, epoch=1, state="RUN", holder="policy", torque=True, speed_scale=1.0)
        while cycles and self.homer.found is None and not self.homer.failed:
            cycles -= 1
            action = self.homer.cycle(self.joints(), permit)
            if action is None:
                break
            self.asked.append(action.target)
            ends = zip(self.robot.limits.joint_min, action.target, self.robot.limits.joint_max, strict=True)
            for i, target in enumerate(min(high, max(low, target)) for low, target, high in ends):  # as the gate does
                way = -1 if i == self.reversed else 1
                to = self.at[i] + way * (target + self.shift[i] - self.at[i])
                if i != self.stuck:
                    self.at[i] = min(self.high[i], max(self.low[i], to))
        return self.homer


def test_all_six_joints_wherever_it_lies(quick):
    shift = (0.2, 0.03, -0.1, 0.25, -0.3, 0.1)
    bench = Bench(shift)
    homer = bench.run()
    assert homer.failed == "" and homer.found.by_hand == ()
    # `offset` of the truth: where the horn is at the joint's zero.
    assert [round(f / stops.TICK) for f in homer.found.offset] == [round(o / stops.TICK) for o in bench.offset]
    assert homer.found.moved == pytest.approx((stops.WIGGLE_RAD,) * N, abs=0.002)
    assert bench.at == pytest.approx(ROBOT.stow, abs=0.01)
    assert homer.doing == "done"


def test_no_target_is_quick_or_far_ahead(quick):
    bench = Bench()
    bench.run()
    slew = 1.01 * stops.SPEED * stops.PERIOD_S
    steps = [max(abs(a - b) for a, b in zip(x, y, strict=True)) for x, y in zip(bench.asked, bench.asked[1:], strict=False)]
    assert max(steps) <= slew + stops.PRESS_RAD * 0.2
    low, high = bench.robot.limits.joint_min, bench.robot.limits.joint_max
    assert all(lo <= t <= hi for target in bench.asked for lo, t, hi in zip(low, target, high, strict=True))


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda b: setattr(b, "stuck", 3), r"wrist_flex went \+0.0 degrees when sent \+2"),
        (lambda b: setattr(b, "reversed", 5), "jaw goes the other way"),
        (lambda b: b.high.__setitem__(3, 1.4), r"wrist_flex: the way between its stops is 14.7 degrees from the model's"),
        (lambda b: b.high.__setitem__(5, 9.0), "jaw found no stop where its upper one must be"),
    ],
)
def test_what_is_amiss_ends_it_and_names_the_joint(quick, break_it, says):
    bench = Bench()
    break_it(bench)
    homer = bench.run()
    assert homer.found is None
    assert re.search(says, homer.failed), homer.failed


def test_without_its_turn_it_asks_nothing_and_a_lost_lease_begins_anew(quick):
    bench = Bench()
    words = {"source": "guard", "t": 0, "torque": True, "speed_scale": 1.0}
    hold = Permit(epoch=1, state="HOLD", holder="", **words)
    first, second = (Permit(epoch=e, state="RUN", holder="policy", **words) for e in (2, 3))
    assert bench.homer.cycle(bench.joints(), hold) is None and bench.homer.cycle(bench.joints(), None) is None
    for _ in range(100):
        assert bench.homer.cycle(bench.joints(), first) is not None
    action = bench.homer.cycle(bench.joints(), second)
    assert action.epoch == 3 and max(abs(a - b) for a, b in zip(action.target, bench.joints().position, strict=True)) < 0.05


# ---- where the encoder begins anew


def test_a_whole_turn_is_taken_off_where_that_fits():
    for turns in (-2, 0, 1):
        offset = [o + 2 * math.pi * turns for o in ROBOT.servos.offset]
        assert stops.fitted(ROBOT, offset) == pytest.approx(ROBOT.servos.offset)


def test_a_range_across_the_encoders_end_is_refused_by_name():
    """Pan at tick 700: its range of 2450 ticks would begin below 0."""
    offset = (700 * stops.TICK, *ROBOT.servos.offset[1:])
    with pytest.raises(CalibrationError, match=r"pan: its zero is tick 700, so its range lies across the encoder's end") as error:
        stops.fitted(ROBOT, offset)
    assert "\n" not in str(error.value)
    edge = replace(ROBOT, limits=replace(ROBOT.limits, joint_min=(-1.0, *ROBOT.lowest[1:])))
    with pytest.raises(CalibrationError, match="turn its horn by some teeth and home it again"):
        stops.fitted(edge, offset)
    edge = replace(edge, limits=replace(edge.limits, stop_min=(), stop_max=()))
    assert stops.fitted(edge, offset)[0] == pytest.approx(700 * stops.TICK)


@pytest.mark.parametrize("end", [1, -1])
def test_a_joint_left_at_its_stop_must_not_read_a_turn_off(end):
    """Limp, it may lie 2 degrees beyond what it is let: across the encoder's end it read a turn off and was led on."""
    limits, last = ROBOT.limits, 4095 if end > 0 else 0
    limit, stop = (ROBOT.highest[0], limits.stop_max[0]) if end > 0 else (ROBOT.lowest[0], limits.stop_min[0])
    at_stop, beside = last * stops.TICK - stop, last * stops.TICK - limit - end * 7 * stops.TICK
    assert stops.fitted(ROBOT, (at_stop, *ROBOT.servos.offset[1:]))[0] == pytest.approx(at_stop)
    with pytest.raises(CalibrationError, match="pan: its zero is tick"):
        stops.fitted(ROBOT, (beside, *ROBOT.servos.offset[1:]))


def test_the_gates_range_ends_where_the_encoder_does():
    """Laid so that the lower stop of pan is beyond the encoder's 0: no target may lead there."""
    horns = [math.pi + q for q in stops.PLANS["so101"].rest]
    horns[0] = 900 * stops.TICK
    blind = stops.laid(ROBOT, horns, 0.4)
    first = ROBOT.servos.sign[0] * (2 * stops.TICK - blind.servos.offset[0])
    assert blind.limits.joint_min[0] == pytest.approx(first)
    assert blind.servos.power == 0.4 and blind.stop_profile == "damp" and not blind.workspace.low


def test_a_robot_without_known_stops_is_refused():
    bare = replace(ROBOT, limits=dataclasses.replace(ROBOT.limits, stop_min=(), stop_max=()))
    with pytest.raises(CalibrationError, match="so101: no stops are known"):
        stops.laid(bare, (math.pi,) * N, 0.4)


def test_the_robot_files_stops_are_the_twins():
    from robotrl import move
    from robotrl.sim.fleets import FLEETS

    for kind in stops.PLANS:
        limits = move.described(ROOT / "launch" / "arm.toml", kind, []).robot.limits
        for joint, low, high in zip(FLEETS[kind].joints, limits.stop_min, limits.stop_max, strict=True):
            assert math.isnan(low) or (low, high) == pytest.approx(joint.stops, abs=1e-4), (kind, joint.servo)
