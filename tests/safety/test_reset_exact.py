"""The reset script to the nanosecond: which stages an attempt has, when each ends, what it still lacks."""

from __future__ import annotations

import dataclasses
import math

import pytest

from robotrl.safety.reset import ResetScript, ResetStep, Stage, _between

S = 10**9
HALF = S // 2
RIGHT = Stage("right", (2.0, 2.0), 0.5, 0.5, math.pi)
UP = Stage("up", (0.0, 0.0), 0.5, 0.5, math.pi)
RISE = Stage("rise", (1.0, 2.0), 0.5, 0.25, 0.9)
STAND = Stage("stand", (1.5, 1.5), 0.5, 0.25, 0.3)


def script(stand=(RISE, STAND), right=(RIGHT,), up=((UP,),), **options) -> ResetScript:
    return ResetScript(stand, right, up, **options)


def stages(reset: ResetScript, at: tuple[float, ...], tilt: float, attempt: int = 1, now: int = 0) -> list[str]:
    """The stages of one attempt of a robot whose joints follow at once and whose tilt is allowed after the first step."""
    names, step = [], reset.step(now, at, tilt, 0.0)
    while step.outcome == "running" and step.attempt == attempt and len(names) < 20:
        names.append(step.stage)
        now += HALF
        step = reset.step(now, reset._stages[reset._index].target, 0.0, 0.0)
    return list(dict.fromkeys(names))


@pytest.mark.parametrize(
    ("at", "tilt", "names"),
    [
        (RISE.target, 0.0, "rise stand"),
        (RISE.target, 0.3, "rise stand"),
        (RISE.target, -0.3, "rise stand"),
        (RISE.target, 0.30001, "right up rise stand"),
        (RISE.target, -0.30001, "right up rise stand"),
        ((2.0, 2.0), 0.0, "rise stand"),  # 1 rad from the first stand stage, as far as may be
        ((2.00001, 2.0), 0.0, "up rise stand"),
        ((1.0, 3.00001), 0.0, "up rise stand"),
        ((1.0, 0.99999), 0.0, "up rise stand"),
        ((0.0, 1.0), 0.0, "rise stand"),
    ],
)
def test_an_attempt_has_the_stages_it_needs(at, tilt, names):
    assert stages(script(), at, tilt) == names.split()


def test_pitch_counts_as_roll_does():
    assert script().step(0, RISE.target, 0.0, 0.5).stage == script().step(0, RISE.target, 0.0, -0.5).stage == "right"
    assert script().step(0, RISE.target, 0.1, -0.2).stage == "rise"


def test_an_attempt_after_one_that_failed_gets_up_first():
    reset = script(attempts=2, patience_s=0.5)
    reset.step(0, RISE.target, 0.0, 0.0)
    assert (reset.step(S - 1, (1.3, 2.0), 0.0, 0.0).stage, reset.step(S, (1.3, 2.0), 0.0, 0.0).stage) == ("rise", "up")
    assert reset.step(S, RISE.target, 0.0, 0.0).attempt == 2


LEFT = Stage("left", (1.0, 1.0), 0.5, 0.5, math.pi)


@pytest.mark.parametrize(("at", "first"), [(STAND.target, "stand up left up left"), ((9.0, 9.0), "up left up left up")])
def test_each_attempt_gets_up_in_the_next_way(at, first):
    reset, now, seen = script((STAND,), (), ((UP,), (LEFT, UP)), attempts=5), 0, []
    step = reset.step(now, at, 0.0, 0.0)
    while step.outcome == "running":
        if step.attempt > len(seen):
            seen.append(step.stage)
        now += HALF
        step = reset.step(now, (9.0, 9.0), 0.0, 0.0)
    assert seen == first.split()


def test_a_way_is_played_from_its_first_stage_to_its_last():
    reset = script((STAND,), (), ((LEFT, UP, RISE), (UP,)))
    assert stages(reset, (9.0, 9.0), 0.0) == ["left", "up", "rise", "stand"]


# times


@pytest.mark.parametrize("start", [0, 7 * S])
def test_a_stage_goes_from_where_the_last_target_was_and_is_judged_at_its_end(start):
    reset = script()
    first = reset.step(start, (0.5, 1.5), 0.0, 0.0)
    assert (first.target, first.stage, first.attempt, first.outcome, first.reason) == ((0.5, 1.5), "rise", 1, "running", "")
    assert reset.step(start + HALF // 4, (9.0, 9.0), 0.0, 0.0).target == pytest.approx((0.5 + 0.5 * 0.15625, 1.5 + 0.5 * 0.15625))
    assert reset.step(start + HALF // 2, (9.0, 9.0), 0.0, 0.0).target == pytest.approx((0.75, 1.75))
    assert reset.step(start + HALF - 1, RISE.target, 0.0, 0.0).stage == "rise"
    passed = reset.step(start + HALF, RISE.target, 0.0, 0.0)
    assert (passed.stage, passed.target, passed.reason) == ("stand", RISE.target, "")
    assert reset.step(start + HALF + HALF // 2, RISE.target, 0.0, 0.0).target == pytest.approx((1.25, 1.75))


@pytest.mark.parametrize(("options", "settle"), [({"settle_s": 0.25}, S // 4), ({}, S // 5), ({"settle_s": 0.0}, 0)])
def test_the_last_stage_must_hold(options, settle):
    reset = script((STAND,), **options)
    reset.step(0, STAND.target, 0.0, 0.0)
    good = reset.step(HALF, STAND.target, 0.0, 0.0)
    assert good.outcome == ("running" if settle else "done")
    if settle:
        assert reset.step(HALF + settle - 1, STAND.target, 0.0, 0.0).outcome == "running"
        assert reset.step(HALF + settle, STAND.target, 0.0, 0.0).outcome == "done"
    assert reset.step(99 * S, (9.0, 9.0), 2.0, 0.0) == reset.step(100 * S, (math.nan,), 2.0, 0.0), "done is done"


def test_a_wobble_begins_the_hold_anew():
    reset = script((STAND,), settle_s=0.25)
    for now, tilt in ((0, 0.0), (HALF, 0.0), (HALF + 1, 0.4), (HALF + 2, 0.0), (HALF + S // 4 + 1, 0.0)):
        assert reset.step(now, STAND.target, tilt, 0.0).outcome == "running"
    assert reset.step(HALF + S // 4 + 2, STAND.target, 0.0, 0.0).outcome == "done"


@pytest.mark.parametrize(
    ("options", "patience", "attempts"), [({"patience_s": 1.0, "attempts": 2}, S, 2), ({}, HALF, 3), ({"attempts": 1}, HALF, 1)]
)
def test_a_stage_that_does_not_pass_in_time_ends_the_attempt_and_the_last_one_the_reset(options, patience, attempts):
    reset, now = script((STAND,), (), (), **options), 0
    reset.step(now, STAND.target, 0.0, 0.0)
    for attempt in range(1, attempts + 1):
        before = reset.step(now + HALF + patience - 1, (1.5, 1.8), 0.0, 0.0)
        assert (before.outcome, before.attempt, before.reason) == (
            "running",
            attempt,
            "stand: a joint is 0.30 rad from its target",
        )
        now += HALF + patience
        after = reset.step(now, (1.5, 1.8), 0.0, 0.0)
    assert (after.outcome, after.attempt) == ("failed", attempts)
    for later in (1, 9 * S):
        assert reset.step(now + later, STAND.target, 0.0, 0.0).outcome == "failed"


def test_a_stage_that_passes_late_but_in_time_goes_on():
    reset = script(patience_s=0.5)
    reset.step(0, RISE.target, 0.0, 0.0)
    assert reset.step(HALF, (9.0, 9.0), 0.0, 0.0).stage == "rise"
    assert reset.step(S - 1, RISE.target, 0.0, 0.0).stage == "stand"
    assert reset.step(S - 1 + HALF - 1, STAND.target, 0.0, 0.0).stage == "stand"


# what a stage lacks


@pytest.mark.parametrize(
    ("at", "tilt", "reason"),
    [
        (STAND.target, 0.0, ""),
        ((1.75, 1.25), 0.3, ""),
        ((1.76, 1.5), 0.0, "stand: a joint is 0.26 rad from its target"),
        ((1.5, 1.24), 0.0, "stand: a joint is 0.26 rad from its target"),
        ((1.25, 1.75), 0.31, "stand: tilted by 0.31 rad"),
        ((1.5, math.nan), 0.0, "no joint angles"),
        ((1.5,), 0.0, "no joint angles"),
        (STAND.target, math.nan, "stand: tilted by inf rad"),
    ],
)
def test_what_a_stage_still_lacks(at, tilt, reason):
    reset = script((STAND,))
    reset.step(0, STAND.target, 0.0, 0.0)
    assert reset.step(HALF, at, tilt, 0.0).reason == reason


# readings that are not there


@pytest.mark.parametrize(
    ("at", "roll", "pitch", "reason"),
    [
        ((1.0,), 0.0, 0.0, "no joint angles"),
        ((1.0, math.inf), 0.0, 0.0, "no joint angles"),
        ((1.0,), math.nan, 0.0, "no joint angles"),
        (RISE.target, math.nan, 0.0, "no tilt"),
        (RISE.target, 0.0, math.inf, "no tilt"),
    ],
)
@pytest.mark.parametrize(("options", "patience"), [({"patience_s": 1.0}, S), ({}, HALF)])
def test_without_readings_it_waits_and_then_fails_for_good(at, roll, pitch, reason, options, patience):
    reset, start = script(**options), 7 * S
    for now, outcome in ((start, "running"), (start + patience, "running"), (start + patience + 1, "failed")):
        step = reset.step(now, at, roll, pitch)
        assert step == ResetStep(None, "rise", 1, outcome, reason)
    late = reset.step(start + 9 * S, RISE.target, 0.0, 0.0)
    assert (late.target, late.outcome) == (None, "failed"), "failed is failed"


def test_a_step_lacks_nothing_unless_it_says_so():
    assert ResetStep(None, "rise", 1, "running").reason == ""


def test_it_begins_with_the_first_readings():
    reset = script(patience_s=0.5)
    reset.step(S, (1.0,), 0.0, 0.0)
    first = reset.step(S + HALF, (0.5, 1.5), 0.0, 0.0)
    assert (first.target, first.outcome, first.reason, first.stage) == ((0.5, 1.5), "running", "", "rise")
    assert reset.step(S + HALF + HALF // 2, (9.0, 9.0), 0.0, 0.0).target == pytest.approx((0.75, 1.75))


# on its side


def test_with_nothing_to_turn_it_over_it_fails_after_300_ms_beyond_1_rad():
    reset = script((STAND,), ())
    reset.step(0, STAND.target, 2.0, 0.0)
    assert reset.step(1, STAND.target, 1.00001, 0.0).outcome == "running"
    assert reset.step(1 + 300_000_000 - 1, STAND.target, 0.0, -1.00001).outcome == "running"
    over = reset.step(1 + 300_000_000, STAND.target, 1.00001, 0.0)
    assert over.outcome == "failed" and over.reason.startswith("tilted by 1.00 rad")


def test_a_robot_that_falls_when_all_is_done_has_not_failed():
    reset = script((STAND,), (), settle_s=0.0)
    reset.step(0, STAND.target, 0.0, 0.0)
    for now, tilt in ((HALF, 0.0), (S, 2.0), (2 * S, 2.0)):
        assert reset.step(now, STAND.target, tilt, 0.0).outcome == "done"


@pytest.mark.parametrize("between", [1.0, 0.0, math.nan])
def test_a_moment_within_1_rad_or_unknown_begins_the_300_ms_anew(between):
    reset = script((STAND,), (), patience_s=9.0)
    for now, tilt in ((0, 0.0), (1, 1.1), (200_000_000, 1.1), (250_000_000, between), (300_000_002, 1.1), (600_000_001, 1.1)):
        assert reset.step(now, STAND.target, tilt, 0.0).outcome == "running"
    assert reset.step(600_000_002, STAND.target, 1.1, 0.0).outcome == "failed"


@pytest.mark.parametrize("tilt", [math.nan, 1.0])
def test_a_tilt_that_is_not_known_or_not_too_much_is_no_reason_to_give_up(tilt):
    reset = script((STAND,), (), patience_s=9.0)
    for now in range(0, 4 * S, 100_000_000):
        assert reset.step(now, STAND.target, 0.0 if not now else tilt, 0.0).outcome == "running"


# parts


def test_the_curve_is_flat_at_both_its_ends():
    """3 x^2 - 2 x^3: 0, 5/32, 1/2, 27/32, 1 at the quarters; outside it stays at its ends."""
    for part, share in ((-1.0, 0.0), (0.0, 0.0), (0.25, 5 / 32), (0.5, 0.5), (0.75, 27 / 32), (1.0, 1.0), (2.0, 1.0)):
        assert _between((0.0, 10.0), (1.0, 6.0), part) == pytest.approx((share, 10.0 - 4.0 * share), abs=1e-12)


@pytest.mark.parametrize(
    "bad",
    [((math.nan,), 1, 1, 1), ((math.inf,), 1, 1, 1), ((1,), 0, 1, 1), ((1,), 1, 0, 1), ((1,), 1, 1, 0), ((1,), math.inf, 1, 1)],
)
def test_a_stage_that_can_never_pass(bad):
    with pytest.raises(ValueError, match="reset stage x: angles must be finite"):
        Stage("x", *bad)
    assert Stage("x", (1.0,), 5e-324, 5e-324, 5e-324).name == "x"


@pytest.mark.parametrize(
    ("args", "options"),
    [
        (((),), {}),
        (((), (RIGHT,)), {}),
        (((STAND,),), {"attempts": 0}),
        (((STAND,), (Stage("x", (1.0,), 1, 1, 1),)), {}),
        (((STAND,), (), ((Stage("x", (1.0,) * 3, 1, 1, 1),),)), {}),
        (((STAND,), (), ((UP,), (UP, Stage("x", (1.0,) * 3, 1, 1, 1)))), {}),
    ],
)
def test_a_script_that_makes_no_sense(args, options):
    with pytest.raises(ValueError, match="a reset needs a stand stage, stages of one size, and at least one attempt"):
        ResetScript(*args, **options)
    assert ResetScript((STAND,), attempts=1).step(0, STAND.target, 0.0, 0.0).attempt == 1


# waiting for a joint that is held

LIFT = Stage("lift", (0.0, 1.0), 1.0, 0.75, 0.9)
LEVEL = (0.0, 0.0)


def lifting(**options: object) -> ResetScript:
    """Begun at 0, both joints at 0: the first is to stay there, the second to go to 1 rad in a second."""
    reset = ResetScript((LIFT,), **{"wait_s": 0.4, "attempts": 2, **options})  # type: ignore[arg-type]
    reset.step(0, LEVEL, 0.0, 0.0)
    return reset


@pytest.mark.parametrize(("behind", "waits"), [(0.6, False), (0.600001, True), (-0.6, False), (-0.600001, True)])
def test_a_joint_is_waited_for_from_just_over_06_rad_on(behind, waits):
    step = lifting().step(3 * S // 10, (behind, 0.0), 0.0, 0.0)
    assert step.target == pytest.approx((0.0, 0.0 if waits else 0.216)), "the one that is free stands still"


def test_it_is_waited_for_to_the_nanosecond_and_the_attempt_ends_where_it_must_arrive():
    for behind, ends in ((0.75, False), (0.750001, True)):
        reset = lifting()
        step = reset.step(4 * S // 10 - 1, (behind, 0.0), 0.0, 0.0)
        assert (step.attempt, step.target) == (1, LEVEL)
        step = reset.step(4 * S // 10, (behind, 0.0), 0.0, 0.0)
        assert (step.attempt, step.reason) == ((2, "lift: a joint is held 0.75 rad behind its target") if ends else (1, ""))
    step = lifting(wait_s=1e-9).step(1, (0.8, 0.0), 0.0, 0.0)
    assert step.attempt == 2, "however short the wait"
    step = lifting(wait_s=0.0).step(S - 1, (9.0, 0.0), 0.0, 0.0)
    assert (step.attempt, step.target) == (1, pytest.approx((0.0, 1.0))), "where nobody waits nobody is in the way"


def test_two_waits_of_a_stage_are_together_as_long_as_one():
    reset = lifting()
    reset.step(3 * S // 10, (0.7, 0.0), 0.0, 0.0)
    assert reset.step(4 * S // 10, LEVEL, 0.0, 0.0).target == pytest.approx((0.0, 0.028))  # 0.1 s of it
    assert reset.step(6 * S // 10, (0.7, 0.0), 0.0, 0.0).target == pytest.approx((0.0, 0.104))  # 0.2 s
    assert reset.step(8 * S // 10, (0.7, 0.0), 0.0, 0.0).target == pytest.approx((0.0, 0.352)), "0.4 s: no more waiting"


def test_each_stage_has_a_wait_of_its_own():
    reset = ResetScript((dataclasses.replace(LIFT, name="first"), LIFT), wait_s=0.4, attempts=2)
    reset.step(0, LEVEL, 0.0, 0.0)
    reset.step(3 * S // 10, (0.7, 0.0), 0.0, 0.0)
    step = reset.step(13 * S // 10, LIFT.target, 0.0, 0.0)
    assert step.stage == "lift"
    step = reset.step(17 * S // 10 - 1, (0.8, 1.0), 0.0, 0.0)
    assert step.attempt == 1 and reset.step(17 * S // 10, (0.8, 1.0), 0.0, 0.0).attempt == 2
