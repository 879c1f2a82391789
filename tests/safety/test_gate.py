"""The gate: what it refuses, and that no target leaves range, slew or lead, rounded as on the wire."""

from __future__ import annotations

import math
import random
import struct
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robotrl.safety.gate import Gate
from robotrl.safety.limits import GateLimits, PairSum, legged_limits
from tests.safety import inputs
from tests.safety.inputs import Permit

T = 20_000_000
LIMITS = legged_limits(8, 0.4, 3.6, 0.8, 1.6, 0.1)
STAND = (1.5,) * 8
FRESH = (0,) * 8
RUN = Permit()
EDGE = [
    math.nan,
    math.inf,
    -math.inf,
    -0.0,
    0.0,
    5e-324,
    -5e-324,
    1e-38,
    1.7e308,
    -1.7e308,
    3.4e38,
    1e30,
    10**400,
]
EDGE += [0.4, 3.6, 0.4 - 1e-12, 3.6 + 1e-12, math.pi, 2 * math.pi, True, "1", None, 7]


@dataclass(frozen=True)
class Action(inputs.Action):
    target: object = STAND
    t: object = T


def opened(at: tuple[float, ...] = STAND, permit: Permit = RUN) -> Gate:
    gate = Gate(LIMITS)
    assert gate.permit(permit, 0)
    assert gate.decide(0, None, at, FRESH).target is not None
    return gate


def test_closed_until_a_permit_comes():
    verdict = Gate(LIMITS).decide(0, Action(t=0), STAND, FRESH)
    assert (verdict.target, verdict.writer, verdict.refused) == (None, "", "no permit")


@pytest.mark.parametrize(("age_ns", "open_"), [(60_000_000, True), (60_000_001, False)])
def test_permit_runs_out_after_60_ms(age_ns, open_):
    gate = opened()
    assert (gate.decide(age_ns, Action(t=age_ns), STAND, FRESH).target is not None) is open_


def test_between_two_cycles_it_shuts_when_the_permit_has_run_out_and_not_before():
    gate = opened()
    assert gate.open_until == 60_000_000 and not gate.lapse(60_000_000)
    assert gate.lapse(60_000_001) and gate.open_until is None
    assert not gate.lapse(60_000_002)  # once
    assert gate.permit(Permit(t=4 * T), 4 * T) and gate.open_until is None  # only a cycle, which has read the joints, opens
    assert gate.decide(4 * T, None, STAND, FRESH).target == STAND


@pytest.mark.parametrize("permit", [Permit(torque=False, t=T), Permit(state="READY", t=T)])
def test_between_two_cycles_it_shuts_for_a_permit_without_torque(permit):
    gate = opened()
    assert gate.permit(permit, T) and gate.lapse(T)


@pytest.mark.parametrize("stamp", [0, T])
def test_permit_that_was_long_on_its_way_is_not_fresh(stamp):
    gate = Gate(LIMITS)
    gate.permit(Permit(t=stamp), 10 * T)
    assert gate.decide(10 * T, None, STAND, FRESH).target is None


@pytest.mark.parametrize(
    "permit",
    [
        Permit(torque=False),
        Permit(state="READY"),
        Permit(state="RELAX"),
        Permit(state="LOCKOUT"),
        Permit(state="BOOT"),
        Permit(state="nonsense"),
        Permit(torque=1),
        Permit(epoch=True),
        Permit(speed_scale=math.nan),
        Permit(speed_scale=1.5),
        Permit(speed_scale=-0.1),
        Permit(t=0.5),
    ],
)
def test_permit_that_gives_no_torque_or_is_malformed(permit):
    gate = Gate(LIMITS)
    gate.permit(permit, 0)
    assert gate.decide(0, Action(t=0), STAND, FRESH).target is None


@pytest.mark.parametrize("state", ["HOLD", "STOPPING", "PSTOP"])
def test_states_that_hold_use_no_action_even_if_the_permit_names_a_holder(state):
    gate = opened(permit=Permit(state=state))
    verdict = gate.decide(T, Action((2.0,) * 8), STAND, FRESH)
    assert verdict.refused == "holder" and verdict.held and verdict.target == pytest.approx(STAND)


def test_lower_epoch_is_refused_for_ever():
    gate = opened(permit=Permit(epoch=5))
    assert not gate.permit(Permit(epoch=4), T)
    assert gate.counts["permit epoch"] == 1
    assert gate.decide(T, Action(epoch=4), STAND, FRESH).refused == "epoch"
    gate.permit(Permit(epoch=6, t=2 * T), 2 * T)
    assert gate.decide(2 * T, Action(epoch=5, t=2 * T), STAND, FRESH).refused == "epoch"
    assert gate.decide(2 * T, Action(epoch=6, t=2 * T), STAND, FRESH).refused == ""


REFUSALS = [
    ("no action", None),
    ("holder", Action(source="reset")),
    ("holder", Action(source="")),
    ("epoch", Action(epoch=0)),
    ("epoch", Action(epoch=2)),
    ("epoch", Action(epoch=True)),
    ("seq", Action(seq=-1)),
    ("seq", Action(seq=False)),
    ("age", Action(t=T - 75_000_001)),
    ("age", Action(t=T - 11, valid_ns=10)),
    ("age", Action(t=T - 75_000_001, valid_ns=10**12)),
    ("age", Action(t=1.0)),
    ("age", Action(valid_ns=math.nan)),
    ("age", Action(valid_ns=-1)),
    ("future", Action(t=T + 1_000_001)),
    ("shape", Action(STAND[:7])),
    ("shape", Action((*STAND, 1.0))),
    ("shape", Action("12345678")),
    ("shape", Action(None)),
    ("shape", Action((True, *STAND[:7]))),
    ("shape", Action(("1", *STAND[:7]))),
    ("non-finite", Action((math.nan, *STAND[:7]))),
    ("non-finite", Action((*STAND[:7], math.inf))),
    ("non-finite", Action((10**400, *STAND[:7]))),
    ("wild", Action((1e30, *STAND[:7]))),
    ("", Action(t=T - 75_000_000)),
    ("", Action(t=T + 1_000_000)),
    ("", Action(list(STAND))),
    ("", Action((2, *STAND[:7]))),
]


@pytest.mark.parametrize(("why", "action"), REFUSALS)
def test_each_refusal_has_its_name_and_counter_and_holds_the_goal(why, action):
    gate = opened()
    before = gate.counts[why]
    verdict = gate.decide(T, action, STAND, FRESH)
    assert verdict.refused == why
    assert verdict.held is bool(why) and verdict.writer == ("hold" if why else "policy")
    assert not why or (gate.counts[why] == before + 1 and verdict.target == pytest.approx(STAND))


def test_refusals_come_in_their_order():
    """An action wrong in every way is refused for the first; mended one by one it is refused for the next."""
    mend = [
        ("holder", {"source": "policy"}),
        ("epoch", {"epoch": 1}),
        ("seq", {"seq": 0}),
        ("age", {"t": T + 10**9}),
        ("future", {"t": T}),
        ("shape", {"target": (math.nan,) * 8}),
        ("non-finite", {"target": STAND}),
    ]
    action = Action((1.0,), -1, "x", 0, -(10**9))
    for why, change in mend:
        assert opened().decide(T, action, STAND, FRESH).refused == why
        action = replace(action, **change)
    assert opened().decide(T, action, STAND, FRESH).refused == ""


def test_duplicate_is_used_once_and_reordered_never():
    gate = opened()
    used = [gate.decide(T, Action(seq=s), STAND, FRESH).writer for s in (4, 4, 3, 5)]
    assert used == ["policy", "hold", "hold", "policy"]


def test_two_actions_without_numbers_in_a_row_are_a_cause():
    gate = opened()
    bad, good = (math.nan,) * 8, STAND
    causes = [gate.decide(T, Action(x, seq=i), STAND, FRESH).cause for i, x in enumerate([bad, good, bad, bad, good])]
    assert causes == ["", "", "", "nan_action", ""]


def test_first_target_is_near_the_present_angle():
    gate = Gate(LIMITS)
    gate.permit(Permit(), 0)
    verdict = gate.decide(0, Action((3.0,) * 8, t=0), STAND, FRESH)
    assert verdict.writer == "policy"
    assert max(abs(a - b) for a, b in zip(verdict.target, STAND, strict=True)) <= 0.035
    gate.permit(Permit(torque=False, t=T), T)
    gate.decide(T, None, STAND, FRESH)
    gate.permit(Permit(t=2 * T), 2 * T)
    again = gate.decide(2 * T, None, (2.5,) * 8, FRESH)
    assert again.target == pytest.approx((2.5,) * 8)  # the old goal is forgotten when torque goes off


def test_speed_scale_scales_the_slew():
    steps = {}
    for scale in (1.0, 0.5):
        gate = opened(permit=Permit(speed_scale=scale))
        steps[scale] = gate.decide(T, Action((3.0,) * 8), STAND, FRESH).target[0] - 1.5
    assert steps[1.0] == pytest.approx(0.8, abs=1e-4) and steps[0.5] == pytest.approx(0.4, abs=1e-4)


def test_clamp_bits_say_which_rule_bit():
    limits = replace(LIMITS, pairs=())
    gate = Gate(limits)
    gate.permit(Permit(), 0)
    at = (1.5, 1.5, 3.4, 1.5, 1.5, 1.5, 1.5, 1.5)
    gate.decide(0, None, at, FRESH)
    far = (1.5, 1.5, 3.4, 0.0, 1.5, 1.5, 1.5, 1.5)  # joint 3 was pushed to 0: its band ends at 1.6
    verdict = gate.decide(T, Action((1.6, 3.0, 4.0, 2.0, 1.5, 1.5, 1.5, 1.5)), far, FRESH)
    assert verdict.clamped == (0, 2, 1, 4, 0, 0, 0, 0)


def test_unread_joint_is_lead_by_its_last_angle_for_three_cycles_and_then_keeps_its_goal():
    gate = opened()
    moved = []
    for k in range(1, 7):
        gate.permit(Permit(t=k * T), k * T)
        want = (1.5 + 0.1 * k,) * 8
        missed = (k, *FRESH[1:])
        verdict = gate.decide(k * T, Action(want, seq=k, t=k * T), STAND, missed)
        moved.append(verdict.target[0])
    assert moved[:3] == pytest.approx([1.6, 1.7, 1.8]) and moved[3:] == pytest.approx([1.8] * 3)
    assert verdict.target[1] == pytest.approx(2.1)


@pytest.mark.parametrize("position", [(math.nan, *STAND[:7]), (1e6, *STAND[:7]), STAND[:7], (None, *STAND[:7])])
def test_never_opens_without_a_believable_reading_of_every_joint(position):
    gate = Gate(LIMITS)
    gate.permit(Permit(), 0)
    verdict = gate.decide(0, None, position, FRESH)
    assert verdict.target is None and verdict.refused == "no reading"
    assert gate.decide(0, None, STAND, (1, *FRESH[1:])).target is None


def test_full_stretch_still_swings():
    """At the pair's end a leg can move sideways: both joints give way alike."""
    top = 2 * math.pi - 0.1
    gate = opened((top / 2,) * 8)
    verdict = gate.decide(T, Action((3.4, 3.0) * 4), (top / 2,) * 8, FRESH)
    assert verdict.target[0] + verdict.target[1] <= top
    assert verdict.target[0] - verdict.target[1] == pytest.approx(0.4, abs=1e-3)


@pytest.mark.parametrize("state", ["HOLD", "STOPPING", "PSTOP"])
@pytest.mark.parametrize(
    "leg", [(5.0, 1.0), (-1.2, 1.0), (-1.2, -1.2), (0.5, -0.5), (3.5, 3.5), (3.9, 3.0), (-2.0, 9.0), (0.3, 6.5)]
)
def test_where_nobody_drives_what_is_outside_comes_in_slowly_and_all_the_way(state, leg):
    """Out of range, or a leg folded or stretched too far, or both: never a quick step by itself (0.5 rad/s at 50 Hz)."""
    gate, at = Gate(LIMITS), leg * 4
    for k in range(1200):
        gate.permit(Permit(state=state, holder="", t=k * T), k * T)
        before, at = at, gate.decide(k * T, None, at, FRESH).target
        assert max(abs(a - b) for a, b in zip(at, before, strict=True)) <= 0.01
    assert all(0.4 <= a <= 3.6 for a in at) and all(0.1 <= at[i] + at[i + 1] <= 2 * math.pi - 0.1 for i in (0, 2, 4, 6))
    assert before == at, "and there it stands"


def test_an_action_that_is_used_comes_in_as_fast_as_it_may_and_one_that_is_refused_does_not():
    gate, at, steps = Gate(LIMITS), (5.0, 1.0) * 4, []
    for k, source in enumerate(("policy", "policy", "nobody", "policy")):
        gate.permit(Permit(t=k * T), k * T)
        before, at = at, gate.decide(k * T, Action((2.0,) * 8, k, source, t=k * T), at, FRESH).target
        steps.append(before[0] - at[0])
    assert steps == pytest.approx([0.035, 0.8, 0.01, 0.8], abs=2e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"slew": (0.1,) * 7},
        {"slew": (0.0,) * 8},
        {"lead": (math.nan,) * 8},
        {"position_max": (0.4,) * 8},
        {"position_min": (-math.inf,) * 8},
        {"pairs": (PairSum(0, 8, 0, 1),)},
        {"pairs": (PairSum(0, 1, 0, 1), PairSum(1, 2, 0, 1))},
        {"pairs": (PairSum(0, 1, 1, 1),)},
        {"valid_ns": 0},
        {"opening_rad": math.nan},
        {"inward": 1e-5},
    ],
)
def test_limits_that_hold_nothing_are_refused(change):
    with pytest.raises(ValueError, match="gate limits"):
        replace(LIMITS, **change)


# any input


def wire(x: float) -> float:
    """What a servo decodes: float32 revolutions (struct refuses what float32 cannot hold)."""
    return struct.unpack("<f", struct.pack("<f", x / (2 * math.pi)))[0] * 2 * math.pi


def outside(x: float, low: float, high: float) -> float:
    return max(low - x, x - high, 0.0)


def may_come_in(limits: GateLimits, goal, i) -> bool:
    """Is the joint, or its leg, so near the end that a margin kept free may lead it in, or beyond it?"""
    legs = [pair for pair in limits.pairs if i in (pair.first, pair.second)]
    joints = {i, *(j for pair in legs for j in (pair.first, pair.second))}
    near = any(outside(goal[j], limits.position_min[j] + 2e-5, limits.position_max[j] - 2e-5) > 0 for j in joints)
    return near or any(outside(goal[p.first] + goal[p.second], p.low + 4e-5, p.high - 4e-5) > 0 for p in legs)


def check(limits: GateLimits, goal, target, present, known, scale, most=math.inf, driven=True):
    """The promises of gate.py, restated on the wire. `known[i]`: present[i] may be used. A step is `most` rad at most.

    `driven`: an action is used. Else a target is led by nothing but a joint that was pushed away, and what is outside comes in.
    """
    sent = [wire(x) for x in target]
    tiny = 2e-6  # two roundings, where two sent values are compared with each other
    for i, x in enumerate(sent):
        low, high, slew, lead = limits.position_min[i], limits.position_max[i], limits.slew[i], limits.lead[i]
        assert math.isfinite(x)
        assert abs(x - goal[i]) <= slew * scale + (tiny if scale * slew < 1e-5 else 0.0)
        # A joint that stood on its limit when torque came on, and may not move, stays there but for the rounding.
        on_the_edge = outside(goal[i], low + tiny, high - tiny) > 0
        assert outside(x, low, high) <= outside(goal[i], low, high) + tiny * on_the_edge
        if not driven and (not known[i] or outside(goal[i], present[i] - lead, present[i] + lead) == 0):
            assert abs(x - goal[i]) <= (limits.inward if may_come_in(limits, goal, i) else tiny)
        if known[i]:
            band = (present[i] - lead, present[i] + lead)
            if outside(goal[i], *band) == 0:
                assert outside(x, *band) <= tiny
            elif i not in {j for pair in limits.pairs for j in (pair.first, pair.second)}:
                allowed = (min(low + 1e-5, goal[i]), max(high - 1e-5, goal[i]))
                best = min(max(goal[i], band[0]), band[1])
                best = min(max(best, allowed[0]), allowed[1])
                assert abs(x - goal[i]) >= min(min(slew * scale, most) - 2e-5, abs(best - goal[i])) - 2e-5
    for pair in limits.pairs:
        total, before = sent[pair.first] + sent[pair.second], goal[pair.first] + goal[pair.second]
        assert outside(total, pair.low, pair.high) <= outside(before, pair.low, pair.high) + tiny * (
            outside(before, pair.low, pair.high) > 0
        )


def drive(limits: GateLimits, cycles) -> int:
    """Play cycles (permit or None, target, position, missed) through one gate; check each target.

    In every other cycle in which all have answered they say that they still go by the last target.
    """
    last: list[float] | None = None
    gate, goal, present, unread, written = Gate(limits), None, [0.0] * limits.joints, [99] * limits.joints, 0
    scale = 1.0
    for k, (permit, target, position, missed) in enumerate(cycles, 1):
        now = k * T
        if permit is not None and gate.permit(replace(permit, t=now), now):
            scale = permit.speed_scale
        right = len(position) == len(missed) == limits.joints
        for i in range(limits.joints):
            p = position[i] if right else math.nan
            good = right and missed[i] == 0 and type(p) in (int, float) and -100 <= p <= 100
            present[i], unread[i] = (float(p), 0) if good else (present[i], unread[i] + 1)
        action = Action(target, seq=k, t=now, epoch=1)
        held = tuple(last) if last is not None and not any(unread) and k % 2 else None
        verdict = gate.decide(now, action, position, missed, held)
        if verdict.target is None:
            goal = None
            continue
        assert len(verdict.target) == limits.joints == len(verdict.clamped)
        base = list(held or present) if goal is None else goal
        most = limits.opening_rad if goal is None else math.inf
        known = [u <= limits.stale_cycles for u in unread]
        check(limits, base, verdict.target, present, known, scale, most, verdict.writer != "hold")
        if goal is None:
            assert all(abs(wire(a) - b) <= limits.opening_rad for a, b in zip(verdict.target, base, strict=True))
        last = goal = [wire(x) for x in verdict.target]
        written += 1
    return written


anything = st.one_of(
    st.sampled_from(EDGE),
    st.floats(width=32),
    st.floats(-2, 8),
    st.floats(0.3, 3.7),
    st.integers(-(10**30), 10**30),
)
readings = st.one_of(st.floats(0.4, 3.6), st.floats(-3, 9), st.sampled_from([math.nan, math.inf, 1e308, 99.9, -0.0]))
permits = st.one_of(
    st.none(),
    st.builds(Permit, speed_scale=st.sampled_from([1.0, 1.0, 0.5, 0.0, 1e-9])),
    st.builds(Permit, state=st.sampled_from(["RUN", "HOLD", "PSTOP", "READY", ""]), torque=st.booleans()),
)
missing = st.tuples(*[st.sampled_from([0, 0, 0, 0, 1, 5])] * 4)
SMALL = GateLimits((0.4,) * 4, (3.6,) * 4, (0.8, 0.1, 0.8, 0.02), (1.6, 0.3, 1.6, 0.1), (PairSum(0, 1, 0.1, 6.18),))
cycle = st.tuples(
    permits,
    st.one_of(st.tuples(*[st.floats(0.3, 3.7)] * 4), st.tuples(*[anything] * 4), st.lists(anything, max_size=6)),
    st.one_of(st.tuples(*[st.floats(0.3, 3.7)] * 4), st.tuples(*[readings] * 4), st.just((1.0,))),
    st.one_of(st.just((0, 0, 0, 0)), missing),
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(cycle, min_size=1, max_size=12))
def test_any_input_keeps_every_promise(cycles):
    drive(SMALL, [(Permit(), STAND[:4], (1.5,) * 4, (0,) * 4), *cycles])


def test_long_random_play_keeps_every_promise():
    """Many cycles of a robot that is pushed about and a policy that asks for anything; most cycles must write."""
    rng = random.Random(1)
    at = [1.5] * 8
    cycles = []
    for _ in range(3000):
        at = [x + rng.gauss(0, 0.3) if rng.random() < 0.95 else rng.uniform(-4, 10) for x in at]
        at = [min(max(x, -1.0), 5.0) for x in at]
        kind = rng.random()
        if kind < 0.6:
            target = tuple(rng.uniform(0.3, 3.7) for _ in range(8))
        elif kind < 0.8:
            target = tuple(rng.choice((0.4, 3.6, -9.0, 30.0)) for _ in range(8))
        else:
            target = tuple(rng.choice(EDGE) for _ in range(8))
        permit = Permit(speed_scale=rng.choice((1.0, 0.5))) if rng.random() < 0.9 else None
        missed = tuple(rng.choice((0, 0, 0, 0, 0, 0, 0, 1)) for _ in range(8))
        cycles.append((permit, target, tuple(at), missed))
    assert drive(LIMITS, cycles) > 2500


def test_edges_stay_inside_after_rounding_whatever_the_edge():
    """Targets at both ends, for many limits: some round up, some down, all are decoded inside."""
    rng = random.Random(2)
    for _ in range(200):
        low, high = rng.uniform(-50, -40), rng.uniform(40, 50)
        limits = GateLimits((low, low), (high, high), (99.0, 99.0), (99.0, 99.0), opening_rad=99.0)
        gate = Gate(limits)
        gate.permit(Permit(), 0)
        sent = gate.decide(0, Action((low, high), t=0), (0.0, 0.0), (0, 0)).target
        assert low <= wire(sent[0]) <= low + 3e-5 and high - 3e-5 <= wire(sent[1]) <= high


def test_a_gate_that_was_shut_opens_by_another_permit_alone():
    gate = opened()
    gate.shut()
    assert gate.decide(T, Action(t=T), STAND, FRESH).target is None and gate.open_until is None
    assert gate.permit(Permit(t=T), T) and gate.decide(2 * T, None, STAND, FRESH).target is not None
