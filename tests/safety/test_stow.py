"""The stow to its bounds: how long it holds, how far it goes a step, when torque may go off. And limits and causes of arms."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from robotrl import config
from robotrl.nodes.powerdown import gate_limits
from robotrl.safety.causes import catalogue
from robotrl.safety.fitting import without
from robotrl.safety.limits import GateLimits, jointed_limits
from robotrl.safety.stow import Stow

MS = 1_000_000
LIMITS = jointed_limits((-1.0, -0.5), (1.0, 0.9), slew=0.1, lead=0.5, margin=0.002)
POSE = (0.4, -0.3)
HERE = (0, 0)
LAUNCH = Path(__file__).resolve().parents[2] / "launch"
ARMS = {"so101": "reach.toml", "omx": "reach_omx.toml"}


def test_each_joint_of_an_arm_has_its_own_range_and_all_have_one_slew_and_lead():
    assert GateLimits((-1.0, -0.5), (1.0, 0.9), (0.1, 0.1), (0.5, 0.5), margin=0.002) == LIMITS
    assert LIMITS.margin == 0.002 and LIMITS.pairs == () and LIMITS.inward == 0.01
    assert jointed_limits((-1.0,), (1.0,), slew=0.1, lead=0.5, margin=0.002, inward=0.02).inward == 0.02


@pytest.mark.parametrize("start", [0, 7000 * MS])
def test_it_holds_where_the_joints_are_for_300_ms_then_goes_half_as_fast_as_a_policy_may(start):
    stow, at = Stow(LIMITS, POSE), (0.0, 0.0)
    for now in (0, 150 * MS, 300 * MS - 1):
        assert stow.step(start + now, at, HERE) == at
    first = stow.step(start + 300 * MS, at, HERE)
    assert first == pytest.approx((0.05 - 0.002, 0.002 - 0.05))  # the margin is kept free of the slew too
    assert stow.step(start + 320 * MS, at, HERE) == pytest.approx((0.1 - 0.004, 0.004 - 0.1))


def test_told_to_hold_it_stays_where_it_has_led_the_joints_and_goes_on_300_ms_after_the_last_such_word():
    stow, at = Stow(LIMITS, POSE), (0.0, 0.0)
    stow.step(0, at, HERE)
    there = stow.step(300 * MS, at, HERE)
    for now in (310 * MS, 400 * MS, 690 * MS):
        assert stow.step(now, at, HERE, hold=True) == there
    assert stow.step(990 * MS - 1, at, HERE) == there
    assert stow.step(990 * MS, at, HERE) == pytest.approx((there[0] + 0.048, there[1] - 0.048))


def test_what_was_near_before_it_was_told_to_hold_is_looked_at_anew():
    stow = Stow(LIMITS, POSE)
    assert stow.step(0, POSE, HERE) and stow.step(300 * MS, POSE, HERE)
    assert stow.step(310 * MS, POSE, HERE, hold=True)
    assert stow.step(610 * MS, POSE, HERE) and stow.step(810 * MS - 1, POSE, HERE)
    assert stow.step(810 * MS, POSE, HERE) is None


def test_of_each_joint_whose_target_is_known_that_is_held_and_the_others_where_they_are():
    stow = Stow(LIMITS, POSE, (0.1, None))
    assert stow.step(0, (0.07, 0.06), HERE) == (0.1, 0.06)


@pytest.mark.parametrize(
    ("lags", "after", "goes_on"),
    [(0.0, 200 * MS, True), (0.0, 200 * MS - 1, False), (0.149, 200 * MS, True), (-0.149, 200 * MS, True),
     (0.151, 900 * MS, False), (-0.151, 900 * MS, False)],
)  # fmt: skip
def test_where_no_joint_finds_a_way_within_the_workspace_it_binds_no_more_after_200_ms(lags, after, goes_on):
    """All are where they are led, but for the last, which may hold something: a hand that is in the way is no edge."""
    limits = jointed_limits((-1.0, -0.5), (1.0, 0.9), slew=0.1, lead=0.5, margin=0.002, outside=lambda q: max(0.0, q[0] - 0.2))
    stow, now, last, before = Stow(limits, POSE), 300 * MS, 0, ()
    led = stow.step(0, (0.0, 0.4), HERE)
    while led != before:
        before, led = led, stow.step(now, (led[0] - lags, 0.4), HERE)
        last, now = last if led == before else now, now + 20 * MS
    assert led[0] == pytest.approx(0.2, abs=0.01)
    stow.step(last + after, (led[0] - lags, 0.4), HERE)
    assert (stow.step(last + after, (led[0] - lags, 0.4), HERE)[0] > led[0]) is goes_on


def test_who_has_sunk_is_led_on_from_where_he_is_and_no_other():
    stow = Stow(LIMITS, POSE)
    stow.step(0, (0.0, 0.0), HERE)
    stow.step(300 * MS, (0.0, 0.0), HERE)
    for who, there in ((0, (-0.1, 0.02)), (1, (-0.1, -0.02))):
        before = list(stow._goal)
        stow.sunk((who,), there)
        before[who] = there[who]
        assert stow._goal == before


@pytest.mark.parametrize("unread", [3, 4, 9])
def test_a_joint_that_nobody_hears_is_not_led_on_because_another_is_found_limp(unread):
    """Each opening of a gate takes all for read; only one that was read three cycles ago at most is led on."""
    stow, at = Stow(LIMITS, POSE), (0.0, 0.0)
    stow.step(0, at, HERE)
    before = stow.step(300 * MS, at, HERE)
    for k in range(1, 4):
        stow.sunk([0], at)
        target = stow.step((300 + 20 * k) * MS, at, (0, unread))
        assert (target[1] == before[1]) is (unread > LIMITS.stale_cycles)
    assert target[0] == pytest.approx(0.035 - 0.002), "who is limp is led from where it is"


def test_it_holds_where_the_servos_are_held_where_that_is_known():
    stow, hangs = Stow(LIMITS, POSE, (0.1, 0.2)), (0.07, 0.06)
    for now in (0, 150 * MS, 300 * MS - 1):
        assert stow.step(now, hangs, HERE) == (0.1, 0.2)
    assert stow.step(300 * MS, hangs, HERE) == pytest.approx((0.1 + 0.048, 0.2 - 0.048))


def test_a_joint_that_does_not_answer_when_it_begins_holds_nobody_up():
    stow = Stow(LIMITS, POSE)
    assert stow.step(0, (0.2, 0.1), (9, 0)) == (0.2, 0.1)


@pytest.mark.parametrize("away", [0.0999, -0.0999])
def test_torque_may_go_off_after_200_ms_near_the_pose_and_not_while_it_holds(away):
    stow = Stow(LIMITS, POSE)
    there = (POSE[0] + away, POSE[1])
    for now in (0, 100 * MS, 299 * MS, 300 * MS, 499 * MS, 500 * MS - 1):
        assert stow.step(now, there, HERE) is not None
    assert stow.step(500 * MS, there, HERE) is None


@pytest.mark.parametrize("joint", [0, 1])
@pytest.mark.parametrize("away", [0.1, -0.1])
def test_and_not_while_one_joint_is_as_far_off_as_that(joint, away):
    stow = Stow(LIMITS, (0.0, 0.0))
    off = tuple(away * (i == joint) for i in range(2))
    assert all(stow.step(now * MS, off, HERE) is not None for now in range(0, 3000, 20))


def test_the_200_ms_begin_anew_when_it_was_not_near_in_between():
    stow, away = Stow(LIMITS, POSE), (POSE[0] + 0.2, POSE[1])
    stow.step(0, POSE, HERE)
    assert stow.step(300 * MS, POSE, HERE) is not None and stow.step(480 * MS, away, HERE) is not None
    assert stow.step(490 * MS, POSE, HERE) is not None and stow.step(690 * MS - 1, POSE, HERE) is not None
    assert stow.step(690 * MS, POSE, HERE) is None


def played(name: str, answers, cycles: int):
    """A stop of a robot's own from `home`, of joints that follow at once and are heard where `answers(cycle, joint)`. What was to
    be written in each cycle, None once torque may go off, and which joints were left out."""
    robot = config.load(LAUNCH / ARMS[name]).robot
    stow, at, out = Stow(gate_limits(robot, 0.02), robot.stow), list(robot.home), []
    seen, missed = [math.nan] * len(at), [3] * len(at)
    for cycle in range(cycles):
        for i in range(len(at)):
            heard = answers(cycle, i)
            seen[i], missed[i] = (at[i], 0) if heard else (seen[i], missed[i] + 1)
        target = stow.step(cycle * 20 * MS, tuple(seen), tuple(missed))
        out.append((target, stow.unheard))
        if target is None:
            break
        for i in range(len(at) if target else 0):
            at[i] = target[i] if i not in stow.unheard else at[i]
    return robot, at, out


@pytest.mark.parametrize("name", ARMS)
def test_a_joint_that_is_never_heard_is_told_nothing_and_the_others_are_lowered_until_time_is_up(name):
    for mute in (1, 4):
        robot, at, out = played(name, lambda _, joint, mute=mute: joint != mute, 250)
        assert len(out) == 250 and all(target and left == (mute,) for target, left in out), "no reading is no done"
        others = [i for i in range(len(at)) if i != mute]
        assert [at[i] for i in others] == pytest.approx([robot.stow[i] for i in others], abs=0.01)
        assert at[mute] == robot.home[mute]


@pytest.mark.parametrize("name", ARMS)
def test_a_joint_whose_first_answer_is_lost_is_led_from_where_it_then_is(name):
    for late in (1, 4):
        robot, at, out = played(name, lambda cycle, joint, late=late: joint != late or cycle >= 40, 300)
        (before, _), (first, left) = out[39:41]
        assert left == () and first[late] == pytest.approx(robot.home[late], abs=0.036)
        step = [abs(a - b) for i, (a, b) in enumerate(zip(first, before, strict=True)) if i != late]
        assert max(step) <= 0.5 * robot.limits.slew_rad_s * 0.02 + 1e-9, "nobody's target jumps"
        assert out[-1][0] is None and at == pytest.approx(robot.stow, abs=0.1)


@pytest.mark.parametrize("name", ARMS)
def test_of_an_arm_of_which_nothing_is_known_it_says_neither_a_target_nor_done(name):
    robot, _, out = played(name, lambda *_: False, 250)
    assert out == [((), tuple(range(len(robot.stow))))] * 250


@pytest.mark.parametrize(("angle", "count"), [(0.0, 1), (math.nan, 0), (100.1, 0)], ids=["silent", "nan", "wild"])
def test_a_joint_that_falls_silent_on_the_way_is_led_for_three_more_cycles_and_then_left_where_it_was_led(angle, count):
    """Which of the two says so: a count of missed cycles, or an angle that is none."""
    stow = Stow(LIMITS, (0.4, 0.4))
    stow.step(0, (0.0, 0.0), HERE)
    led = [stow.step((300 + 20 * k) * MS, (0.0, angle), (0, k * count)) for k in range(1, 6)]
    assert [first for first, _ in led] == pytest.approx([0.048 * k for k in (1, 2, 3, 4, 5)])
    assert [second for _, second in led] == pytest.approx([0.048 * k for k in (1, 2, 3, 3, 3)])
    assert stow.step(420 * MS, (0.0, 0.0), HERE)[1] == pytest.approx(4 * 0.048), "heard again, it is led on"


@pytest.mark.parametrize("angle", [100.0, -100.0])
def test_an_angle_of_16_revolutions_is_still_heard(angle):
    stow = Stow(LIMITS, POSE)
    assert stow.step(0, (0.2, angle), HERE)[0] == 0.2 and stow.unheard == ()


def test_an_angle_that_no_joint_has_is_not_heard():
    stow = Stow(LIMITS, POSE)
    for wrong in (math.nan, math.inf, -100.1):
        assert stow.step(0, (0.2, wrong), HERE) == pytest.approx((0.2, POSE[1])) and stow.unheard == (1,)
    assert stow.step(20 * MS, (0.2, 0.1), HERE) == pytest.approx((0.2, 0.1)) and stow.unheard == ()
    assert stow.step(320 * MS, (math.nan, 0.1), HERE) is not None


@pytest.mark.parametrize(
    ("absent", "gone"),
    [
        ("imu", {"imu_stale", "imu_frozen", "imu_implausible", "attitude", "tilt", "free_fall"}),
        ("tracker", {"attitude", "tracker_frozen", "tracker_jump", "tracker_gone", "tracker_dead"}),
        ("camera", {"camera_frozen", "camera_late", "camera_blind", "camera_gone"}),
        ("noise", {"servo_frozen"}),
        ("learner", {"learner_gone"}),
        ("arm", {"oscillation"}),
        ("workspace", {"workspace"}),
    ],
)
def test_for_what_a_robot_lacks_nobody_is_missed(absent, gone):
    rows = catalogue(temp_c=70.0, tilt_rad=0.5, tilt_s=0.1, falls=2)
    left = {row.id for row in without(rows, [absent])}
    assert {row.id for row in rows} - left == gone
