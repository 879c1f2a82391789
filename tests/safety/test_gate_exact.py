"""The gate in numbers that can be reckoned by hand: each rule alone, to the last margin of 1e-5 rad."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import pytest

from robotrl.safety.gate import Gate, Verdict
from robotrl.safety.limits import GateLimits, PairSum
from tests.safety import inputs
from tests.safety.inputs import Permit

T = 20_000_000
M = 1e-5  # rad kept free inside every limit
RANGE, SLEW, LEAD = 1, 2, 4
FREE = GateLimits((0.0, 10.0), (8.0, 12.0), (50.0, 50.0), (90.0, 90.0), opening_rad=50.0)
AT = (4.0, 11.0)


@dataclass(frozen=True)
class Action(inputs.Action):
    target: object = AT


def opened(limits: GateLimits = FREE, at: tuple[float, ...] = AT, **permit: object) -> Gate:
    gate = Gate(limits)
    assert gate.permit(Permit(**permit), 0)
    assert gate.decide(0, None, at, (0,) * len(at)).target == pytest.approx(at, abs=1e-12)
    return gate


def asked(gate: Gate, *target: float, at: tuple[float, ...] = AT, missed: tuple[int, ...] = (0, 0), seq: int = 0) -> Verdict:
    return gate.decide(0, Action(target, seq), at, missed)


# what is said


def test_a_verdict_says_all_of_it():
    gate = Gate(FREE)
    assert gate.decide(0, None, AT, (0, 0)) == Verdict(None, "", (0, 0), "no permit", False, "")
    gate.permit(Permit(), 0)
    assert gate.decide(0, None, AT, (1, 0)) == Verdict(None, "", (0, 0), "no reading", False, "")
    assert gate.decide(0, None, AT, (0, 0)) == Verdict(AT, "hold", (0, 0), "no action", True, "")
    assert gate.decide(0, Action((5.0, 11.5)), AT, (0, 0)) == Verdict((5.0, 11.5), "policy", (0, 0), "", False, "")
    assert dict(gate.counts) == {"no permit": 1, "no reading": 1, "no action": 1}


def test_reset_writes_in_reset_alone():
    gate = opened(state="RESET", holder="reset")
    assert gate.decide(0, Action(source="reset"), AT, (0, 0)).writer == "reset"
    assert gate.decide(0, Action(seq=1), AT, (0, 0)).refused == "holder"
    assert opened(state="RUN", holder="reset").decide(0, Action(source="reset"), AT, (0, 0)).refused == "holder"
    assert opened(state="RESET", holder="policy").decide(0, Action(source="reset"), AT, (0, 0)).refused == "holder"
    assert opened(holder="").decide(0, Action(), AT, (0, 0)).refused == "holder"


@pytest.mark.parametrize("state", ["HOLD", "STOPPING", "PSTOP"])
@pytest.mark.parametrize("name", ["", "_", "hold", "policy"])
def test_nobody_writes_in_a_state_that_has_no_writer(state, name):
    gate = opened(state=state, holder=name)
    assert gate.decide(0, Action((5.0, 11.0), source=name), AT, (0, 0)) == Verdict(AT, "hold", (0, 0), "holder", True, "")


# permits


@pytest.mark.parametrize(
    "bad",
    [
        {"epoch": 1.0},
        {"epoch": True},
        {"torque": 1},
        {"state": None},
        {"state": b"RUN"},
        {"speed_scale": "1"},
        {"speed_scale": True},
        {"speed_scale": 1.0000001},
        {"speed_scale": -1e-9},
        {"speed_scale": math.nan},
        {"t": 0.0},
        {"t": True},
    ],
)
def test_a_malformed_permit_is_counted_and_changes_nothing(bad):
    gate = opened()
    until = gate.open_until
    assert gate.permit(Permit(**({"t": T} | bad)), T) is False
    assert gate.counts["permit malformed"] == 1 and gate.counts["permit epoch"] == 0
    assert gate.open_until == until and gate.decide(until, None, AT, (0, 0)).target is not None


def test_a_gate_that_was_shut_forgets_permit_and_goal():
    gate = opened()
    gate.decide(0, Action((5.0, 11.0)), AT, (0, 0))
    gate.shut()
    assert gate.open_until is None and gate.lapse(0) is False, "nothing is left to lapse"
    assert gate.decide(0, Action((5.0, 11.0), 1), AT, (0, 0)) == Verdict(None, "", (0, 0), "no permit", False, "")
    assert gate.permit(Permit(), 0) and gate.decide(0, None, AT, (0, 0)).target == AT, "not where it was to go"


@pytest.mark.parametrize("scale", [0, 0.0, 0.5, 1, 1.0])
def test_scales_that_are_taken(scale):
    assert Gate(FREE).permit(Permit(speed_scale=scale), 0)


def test_permit_counts_from_its_stamp_or_its_arrival_whichever_is_earlier():
    for stamp, now, until in ((0, 5 * T, 60_000_000), (9 * T, 5 * T, 5 * T + 60_000_000)):
        gate = Gate(FREE)
        gate.permit(Permit(t=stamp), now)
        assert gate.decide(until, None, AT, (0, 0)).target is not None and gate.open_until == until
        assert gate.decide(until + 1, None, AT, (0, 0)).target is None and gate.open_until is None


def test_epochs_begin_where_the_guard_begins_and_only_rise():
    """A guard that never granted a lease says -1."""
    assert not Gate(FREE).permit(Permit(epoch=-2), 0)
    gate = Gate(FREE)
    assert gate.permit(Permit(epoch=-1), 0)
    gate.decide(0, None, AT, (0, 0))
    assert gate.decide(0, Action(epoch=-1, seq=-1), AT, (0, 0)).refused == "seq"
    assert gate.decide(0, Action((math.nan, 11.0), epoch=-1), AT, (0, 0)).cause == ""
    assert gate.decide(0, Action((math.nan, 11.0), epoch=-1, seq=1), AT, (0, 0)).cause == "nan_action"
    assert gate.permit(Permit(epoch=0), 0) and gate.permit(Permit(epoch=0), 0) and not gate.permit(Permit(epoch=-1), 0)
    assert gate.counts["permit epoch"] == 1


def test_what_was_seen_is_remembered_through_permits_of_its_epoch_and_no_others():
    gate = opened()
    nan = (math.nan, 11.0)
    assert gate.decide(0, Action(nan, seq=5), AT, (0, 0)).refused == "non-finite"
    gate.permit(Permit(), 0)
    assert gate.decide(0, Action(seq=5), AT, (0, 0)).refused == "seq"
    assert gate.decide(0, Action(nan, seq=6), AT, (0, 0)).cause == "nan_action"
    gate.permit(Permit(epoch=2), 0)
    assert gate.decide(0, Action(nan, epoch=2), AT, (0, 0)) == Verdict(AT, "hold", (0, 0), "non-finite", True, "")


@pytest.mark.parametrize("state", ["HOLD", "PSTOP", "STOPPING"])
def test_bad_actions_are_forgotten_once_nobody_drives(state):
    """The next run begins under the old epoch for a cycle: what was judged before would stop it again."""
    gate = opened()
    nan = (math.nan, 11.0)
    assert gate.decide(0, Action(nan, seq=5), AT, (0, 0)).cause == ""
    assert gate.decide(0, Action(nan, seq=6), AT, (0, 0)).cause == "nan_action"
    gate.permit(Permit(state=state, holder=""), 0)
    assert gate.decide(0, None, AT, (0, 0)).cause == ""
    gate.permit(Permit(), 0)
    assert gate.decide(0, None, AT, (0, 0)).cause == ""
    assert [gate.decide(0, Action(nan, seq=seq), AT, (0, 0)).cause for seq in (7, 8)] == ["", "nan_action"]


# actions


def test_an_action_may_ask_for_less_time_and_never_for_more():
    for valid_ns, age, refused in ((10, 10, ""), (10, 11, "age"), (0, 75_000_000, ""), (10**9, 75_000_001, "age")):
        gate, now = Gate(FREE), 10**9
        gate.permit(Permit(t=now), now)
        assert gate.decide(now, Action(t=now - age, valid_ns=valid_ns), AT, (0, 0)).refused == refused


@pytest.mark.parametrize(
    ("value", "refused"),
    [
        (-80.0, ""),  # ten times its range of 8 below 0
        (math.nextafter(-80.0, -math.inf), "wild"),
        (88.0, ""),
        (math.nextafter(88.0, math.inf), "wild"),
        (sys.float_info.max, "wild"),
        (-sys.float_info.max, "wild"),
        (int(sys.float_info.max), "wild"),
        (math.inf, "non-finite"),
        (-math.inf, "non-finite"),
        (10**309, "non-finite"),
        (-(10**309), "non-finite"),
    ],
)
def test_how_far_outside_is_no_attempt_at_a_target(value, refused):
    assert asked(opened(), value, 11.0).refused == refused
    assert asked(opened(), 4.0, {-80.0: -10.0, 88.0: 32.0}.get(value, value)).refused in (refused, "wild" if not refused else "")


def test_wild_ranges_are_each_joints_own():
    """Joint 1 has a range of 2 from 10: -10 and 32 are its ends."""
    for value, refused in ((-10.0, ""), (-10.00001, "wild"), (32.0, ""), (32.00001, "wild")):
        assert asked(opened(), 4.0, value).refused == refused


def test_two_bad_actions_in_a_row_are_a_cause_whatever_comes_between_that_is_none():
    gate, bad = opened(), (1e9, 11.0)
    said = [asked(gate, *bad, seq=0).cause, asked(gate, 1.0, seq=1).cause, gate.decide(0, None, AT, (0, 0)).cause]
    said += [asked(gate, *bad, seq=2).cause, gate.decide(0, None, AT, (0, 0)).cause, asked(gate, *AT, seq=3).cause]
    said += [asked(gate, *bad, seq=4).cause]
    assert said == ["", "", "", "nan_action", "nan_action", "", ""]


# readings


@pytest.mark.parametrize(("angle", "believed"), [(100.0, True), (-100.0, True), (100.00001, False), (-100.00001, False)])
def test_angles_of_more_than_16_revolutions_are_not_believed(angle, believed):
    limits = GateLimits((-100.0,) * 2, (100.0,) * 2, (1.0,) * 2, (1.0,) * 2)
    gate = Gate(limits)
    gate.permit(Permit(), 0)
    assert (gate.decide(0, None, (angle, 0.0), (0, 0)).target is not None) is believed


@pytest.mark.parametrize(
    ("position", "missed"), [((4.0,), (0, 0)), (AT, (0,)), ((4.0, 11.0, 1.0), (0, 0, 0)), ((True, 11.0), (0, 0))]
)
def test_readings_of_another_shape_are_none(position, missed):
    gate = Gate(FREE)
    gate.permit(Permit(), 0)
    assert gate.decide(0, None, position, missed).refused == "no reading"


def test_lead_is_from_the_last_angle_that_was_believed():
    limits = GateLimits((0.0,) * 2, (8.0,) * 2, (50.0,) * 2, (1.0,) * 2, opening_rad=50.0)
    gate = opened(limits, (4.0, 4.0))
    verdict = asked(gate, 6.0, 2.0, at=(4.5, 4.5))
    assert verdict.target == pytest.approx((5.5 - M, 3.5 + M), abs=1e-9) and verdict.clamped == (LEAD, LEAD)
    verdict = asked(gate, 8.0, 0.0, at=(9.0, 9.0), missed=(1, 1), seq=1)
    assert verdict.target == pytest.approx((5.5 - M, 3.5 + M), abs=1e-9) and verdict.clamped == (LEAD | RANGE, LEAD | RANGE)


def test_lead_is_each_joints_own():
    limits = GateLimits((0.0,) * 3, (8.0,) * 3, (50.0,) * 3, (1.0, 2.0, 0.5), opening_rad=50.0)
    for want, sign in ((8.0, 1), (0.0, -1)):
        gate = opened(limits, (4.0,) * 3)
        got = gate.decide(0, Action((want,) * 3), (4.0,) * 3, (0, 0, 0)).target
        assert got == pytest.approx([4.0 + sign * (lead - M) for lead in (1.0, 2.0, 0.5)], abs=1e-9)


# limits


def test_targets_end_a_margin_inside_the_range():
    verdict = asked(opened(), -1.0, 13.0)
    assert verdict.target == pytest.approx((M, 12.0 - M), abs=1e-9) and verdict.clamped == (RANGE, RANGE)
    assert asked(opened(), M, 12.0 - M).clamped == (0, 0)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.0, 4e-5])
def test_a_step_is_a_margin_less_than_the_slew(scale):
    limits = GateLimits((0.0,) * 2, (8.0,) * 2, (0.25, 0.5), (90.0,) * 2, opening_rad=50.0)
    verdict = asked(opened(limits, (4.0, 4.0), speed_scale=scale), 8.0, 0.0, at=(4.0, 4.0))
    steps = [max(0.0, slew * scale - M) for slew in (0.25, 0.5)]
    assert verdict.target == pytest.approx((4.0 + steps[0], 4.0 - steps[1]), abs=1e-9)
    assert verdict.clamped == (RANGE | SLEW, RANGE | SLEW)


@pytest.mark.parametrize(("slew", "scale", "step"), [(1.0, 1.0, 0.035), (0.04, 0.5, 0.02), (0.02, 1.0, 0.02)])
def test_the_first_step_is_the_least_of_opening_and_slew(slew, scale, step):
    limits = GateLimits((0.0,) * 2, (8.0,) * 2, (slew,) * 2, (90.0,) * 2)
    gate = Gate(limits)
    gate.permit(Permit(speed_scale=scale), 0)
    first = asked(gate, 7.0, 1.0, at=(4.0, 4.0))
    assert first.target == pytest.approx((4.0 + step - M, 4.0 - step + M), abs=1e-9) and first.clamped == (SLEW, SLEW)
    second = asked(gate, 7.0, 1.0, at=(4.0, 4.0), seq=1)
    assert second.target[0] - first.target[0] == pytest.approx(slew * scale - M, abs=1e-9)


def test_it_opens_where_the_servos_are_held_and_only_opens_there():
    gate = Gate(GateLimits((0.0,) * 2, (8.0,) * 2, (1.0,) * 2, (2.0,) * 2))
    gate.permit(Permit(), 0)
    assert gate.decide(0, None, (4.0, 4.0), (0, 0), (4.5, 3.5)).target == (4.5, 3.5)
    assert gate.decide(0, None, (4.0, 4.0), (0, 0), (5.0, 5.0)).target == (4.5, 3.5), "it is open"
    assert gate.lapse(60_000_001) and gate.permit(Permit(), 0)
    assert gate.decide(0, None, (4.0, 4.0), (0, 0)).target == (4.0, 4.0), "not told, it opens where the joints are"


def test_where_the_servos_are_held_it_still_begins_with_a_small_step_and_stays_near_the_joints():
    gate = Gate(GateLimits((0.0,) * 2, (8.0,) * 2, (1.0,) * 2, (2.0,) * 2))
    gate.permit(Permit(), 0)
    first = gate.decide(0, Action((7.0, 3.0)), (4.0, 7.0), (0, 0), (4.5, 3.0))
    assert first.target == pytest.approx((4.5 + 0.035 - M, 3.0 + 0.035 - M), abs=1e-9), "the second joint was pushed away"
    assert first.clamped == (LEAD | SLEW, LEAD | SLEW)


@pytest.mark.parametrize(("at", "wanted", "end"), [(9.0, 9.5, 9.0), (9.0, 3.0, 3.0), (-1.0, -2.0, -1.0), (-1.0, 3.0, 3.0)])
def test_from_outside_only_inwards(at, wanted, end):
    """Torque came on out of range: the target may come in, and goes no farther out."""
    limits = GateLimits((0.0,) * 2, (8.0,) * 2, (50.0,) * 2, (2.0,) * 2, opening_rad=50.0)
    gate = Gate(limits)
    gate.permit(Permit(), 0)
    got = asked(gate, wanted, 4.0, at=(at, 4.0)).target[0]
    lead = min(max(end, at - 2.0 + M), at + 2.0 - M)
    edge = {9.5: 8.0 - M, -2.0: M}.get(wanted, lead)  # what asks to go out is first brought to the near end
    assert got == pytest.approx(edge, abs=1e-9)


@pytest.mark.parametrize(("at", "sign"), [(9.0, -1), (-1.0, 1)])
@pytest.mark.parametrize("state", ["RUN", "HOLD", "STOPPING", "PSTOP"])
def test_from_outside_by_itself_only_slowly(state, at, sign):
    """Nobody's action is used: by `inward` less the margin a cycle, in the first one too, and at the end exactly to it."""
    limits = GateLimits((0.0,) * 2, (8.0,) * 2, (50.0,) * 2, (2.0,) * 2, opening_rad=50.0, inward=0.3)
    gate = Gate(limits)
    gate.permit(Permit(state=state), 0)
    for k, way in enumerate((1, 2, 3)):
        refused = gate.decide(0, None if k % 2 else Action((4.0, 4.0), k, "nobody"), (at, 4.0), (0, 0))
        assert refused == Verdict((pytest.approx(at + sign * way * (0.3 - M)), 4.0), "hold", (RANGE, 0), refused.refused, True)
    last = gate.decide(0, None, (at, 4.0), (0, 0))
    assert last.target == (pytest.approx(8.0 - M if sign < 0 else M, abs=1e-12), 4.0) and last.clamped == (RANGE, 0)
    assert gate.decide(0, None, (at, 4.0), (0, 0)) == Verdict(last.target, "hold", (0, 0), "no action", True)


def test_slew_and_lead_still_bound_what_comes_in_by_itself():
    limits = GateLimits((0.0,) * 2, (8.0,) * 2, (1.0, 50.0), (2.0,) * 2, inward=0.3)
    gate = Gate(limits)
    gate.permit(Permit(speed_scale=0.1, state="PSTOP"), 0)
    first = gate.decide(0, None, (9.0, 4.0), (0, 0)).target
    assert first == pytest.approx((9.0 - 0.035 + M, 4.0)), "the opening"
    second = gate.decide(0, None, (9.0, 4.0), (0, 0)).target
    assert second == pytest.approx((first[0] - 0.1 + M, 4.0)), "a tenth of the slew"
    pushed = gate.decide(0, None, (9.0, 7.0), (0, 0))
    assert pushed.target[1] == pytest.approx(5.0 + M) and pushed.clamped[1] == LEAD, "a joint that is pushed leads, at once"


def test_a_joint_pushed_out_leads_its_target_to_the_end_of_the_range_and_no_farther():
    limits = GateLimits((0.0,) * 2, (8.0,) * 2, (50.0,) * 2, (1.0,) * 2, opening_rad=50.0)
    verdict = asked(opened(limits, (7.5, 0.5)), 7.0, 1.0, at=(10.0, -2.0))
    assert verdict.target == pytest.approx((8.0 - M, M), abs=1e-9) and verdict.clamped == (LEAD | RANGE, LEAD | RANGE)


# pairs

PAIRED = GateLimits(
    (-5.0,) * 4, (5.0,) * 4, (50.0,) * 4, (90.0,) * 4, (PairSum(0, 1, 0.0, 2.0), PairSum(2, 3, -2.0, 0.0)), opening_rad=50.0
)
HERE = (0.5, 0.5, -0.5, -0.5)


def paired(*target: float, at: tuple[float, ...] = HERE, missed: tuple[int, ...] = (0,) * 4) -> Verdict:
    gate = opened(PAIRED, at)
    return gate.decide(0, Action(target), at, missed)


def test_what_is_too_much_for_a_pair_is_shared():
    """Sum 3 where 2 is allowed: each gives way by half of 1, and by the two margins of two joints."""
    verdict = paired(2.0, 1.0, -2.0, -2.0)
    assert verdict.target == pytest.approx((1.5 - M, 0.5 - M, -1.0 + M, -1.0 + M), abs=1e-9)
    assert verdict.clamped == (RANGE,) * 4
    verdict = paired(-2.0, 1.0, 1.0, 0.5)
    assert verdict.target == pytest.approx((-1.5 + M, 1.5 + M, 0.25 - M, -0.25 - M), abs=1e-9)
    verdict = paired(1.0, 0.9, -1.0, -0.9)
    assert verdict.target == (1.0, 0.9, -1.0, -0.9) and verdict.clamped == (0,) * 4


@pytest.mark.parametrize(("want", "ends", "moved"), [((-1.0, 2.5), (0.5, 1.5 - 2 * M), 1), ((2.5, -1.0), (1.5 - 2 * M, 0.5), 0)])
def test_when_one_of_a_pair_may_not_move_the_other_stops_at_the_sum(want, ends, moved):
    """The sum asked for is allowed, but one joint has not been read for long and stays."""
    gate = opened(PAIRED, HERE)
    unread = (1, 0, 0, 0) if moved else (0, 1, 0, 0)
    for _ in range(3):
        gate.decide(0, None, HERE, unread)
    verdict = gate.decide(0, Action((*want, -0.5, -0.5)), HERE, unread)
    assert verdict.target == pytest.approx((*ends, -0.5, -0.5), abs=1e-9)
    assert verdict.clamped[moved] == RANGE and verdict.clamped[1 - moved] == LEAD | RANGE and verdict.clamped[2:] == (0, 0)


def test_the_lower_end_of_a_sum_holds_alike():
    gate = opened(PAIRED, HERE)
    for _ in range(3):
        gate.decide(0, None, HERE, (0, 0, 1, 0))
    verdict = gate.decide(0, Action((0.5, 0.5, 1.0, -2.9)), HERE, (0, 0, 1, 0))
    assert verdict.target == pytest.approx((0.5, 0.5, -0.5, -1.5 + 2 * M), abs=1e-9)


@pytest.mark.parametrize(("sign", "outer", "sum_low", "sum_high"), [(1, 2.0, 0.0, 2.0), (-1, -2.0, -2.0, 0.0)])
def test_a_sum_that_is_outside_comes_in_and_goes_no_farther_out(sign, outer, sum_low, sum_high):
    """Torque came on at (2, 1), a sum of 3 where 2 are allowed, or at (-2, -1)."""
    limits = GateLimits(
        (-5.0,) * 2, (5.0,) * 2, (0.1 + M,) * 2, (90.0,) * 2, (PairSum(0, 1, sum_low, sum_high),), opening_rad=50.0
    )
    here = (outer, outer / 2)

    def turned(*target: float) -> tuple[float, ...]:
        return tuple(sign * v for v in target)

    gate = Gate(limits)
    gate.permit(Permit(), 0)
    verdict = gate.decide(0, Action(here), here, (0, 0))
    assert turned(*verdict.target) == pytest.approx((1.9, 0.9), abs=1e-9) and verdict.clamped == (RANGE | SLEW,) * 2
    for k in range(1, 4):  # joint 0 is not heard of any more; at the fourth time it stays
        verdict = gate.decide(0, Action(turned(1.9, 0.1), k), here, (1, 0))
    before = turned(*verdict.target)
    assert sum(before) > 2.3
    verdict = gate.decide(0, Action(turned(-1.0, 2.9), 9), here, (1, 0))
    assert turned(*verdict.target) == pytest.approx(before, abs=1e-9), "joint 1 alone would lead out"
    verdict = gate.decide(0, Action(turned(1.0, 0.0), 10), here, (1, 0))
    assert turned(*verdict.target) == pytest.approx((before[0], before[1] - 0.1), abs=1e-9)


@pytest.mark.parametrize(("sign", "sum_low", "sum_high"), [(1, 0.0, 2.0), (-1, -2.0, 0.0)])
def test_a_sum_that_is_outside_comes_in_slowly_by_itself(sign, sum_low, sum_high):
    """At (2, 1), a sum of 3 where 2 are allowed, each joint goes 0.2 a cycle, until half of what is too much is less."""
    limits = GateLimits(
        (-5.0,) * 2, (5.0,) * 2, (50.0,) * 2, (90.0,) * 2, (PairSum(0, 1, sum_low, sum_high),), opening_rad=50.0, inward=0.2 + M
    )
    gate, here, found = Gate(limits), (2.0 * sign, 1.0 * sign), []
    gate.permit(Permit(state="HOLD"), 0)
    for _ in range(4):
        found.append(gate.decide(0, None, here, (0, 0)))
    assert [v.target for v in found] == [pytest.approx((sign * (2 - by), sign * (1 - by))) for by in (0.2, 0.4, 0.5 + M, 0.5 + M)]
    assert [v.clamped for v in found] == [(RANGE, RANGE)] * 3 + [(0, 0)]


def test_both_of_a_pair_shorten_their_steps_alike():
    """One joint may go 0.6, the other 1.2 of what they ask: beyond the sum both are cut by one factor."""
    limits = GateLimits((-5.0,) * 2, (5.0,) * 2, (0.6 + M, 1.2 + M), (90.0,) * 2, (PairSum(0, 1, 0.0, 2.0),), opening_rad=50.0)
    gate = opened(limits, (0.5, 0.5))
    verdict = gate.decide(0, Action((-0.5, 2.4)), (0.5, 0.5), (0, 0))  # (-0.1, 1.7): sum 1.6, allowed
    assert verdict.target == pytest.approx((-0.1, 1.7), abs=1e-9) and verdict.clamped == (SLEW, SLEW)
    limits = GateLimits((-5.0,) * 2, (5.0,) * 2, (0.3 + M, 1.2 + M), (90.0,) * 2, (PairSum(0, 1, 0.0, 2.0),), opening_rad=50.0)
    gate = opened(limits, (0.8, 0.8))
    verdict = gate.decide(0, Action((-2.0, 3.9)), (0.8, 0.8), (0, 0))  # (0.5, 2.0): sum 2.5; 0.4 of 0.9 are left
    part = (0.4 - 2 * M) / 0.9
    assert verdict.target == pytest.approx((0.8 - 0.3 * part, 0.8 + 1.2 * part), abs=1e-9)
    assert verdict.clamped == (RANGE | SLEW, RANGE | SLEW)
