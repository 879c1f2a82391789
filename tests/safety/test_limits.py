"""The gate's limits at their limits: what is just enough, and what is just not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from robotrl.safety.limits import INWARD_RAD_S, READING_MAX, WIRE_MARGIN, GateLimits, PairSum, legged_limits

ROOMY = GateLimits((0.0,) * 4, (1.0,) * 4, (0.5,) * 4, (0.5,) * 4)
LEAST = 4e-5  # rad: the margin kept free at both ends of a range, twice


def with_joint(field: str, joint: int, value: float) -> dict[str, tuple[float, ...]]:
    return {field: tuple(value if i == joint else v for i, v in enumerate(getattr(ROOMY, field)))}


def test_margin_covers_the_rounding_of_a_target_to_float32_revolutions():
    """An angle is at most 16 revolutions of 2 pi; float32 has 24 bits, so half of its last one is 2**-24 of them."""
    assert 16 * 2 * math.pi * 2**-24 < WIRE_MARGIN == 1e-5
    assert READING_MAX == 100.0 < 16 * 2 * math.pi


def test_defaults_are_what_the_facts_ask():
    assert (ROOMY.pairs, ROOMY.valid_ns, ROOMY.stale_cycles) == ((), 75_000_000, 3)
    assert ROOMY.opening_rad == 0.035 >= math.radians(2) - 1e-4  # row 53
    assert ROOMY.inward == 0.01 == INWARD_RAD_S / 50
    assert ROOMY.joints == 4


@pytest.mark.parametrize("joint", range(4))
@pytest.mark.parametrize("field", ["slew", "lead"])
def test_slew_and_lead_of_every_joint_need_to_be_more_than_the_margins(field, joint):
    with pytest.raises(ValueError, match=f"joint {joint} needs a range, a slew and a lead"):
        replace(ROOMY, **with_joint(field, joint, LEAST))
    replace(ROOMY, **with_joint(field, joint, LEAST * (1 + 1e-9)))
    replace(ROOMY, **with_joint(field, joint, 100.0))
    for beyond in (math.nextafter(100.0, math.inf), math.nan, math.inf):
        with pytest.raises(ValueError, match=f"joint {joint} needs finite angles within 100"):
            replace(ROOMY, **with_joint(field, joint, beyond))


@pytest.mark.parametrize("joint", range(4))
def test_range_of_every_joint_needs_to_be_more_than_the_margins(joint):
    replace(ROOMY, **with_joint("position_max", joint, LEAST * (1 + 1e-9)))
    for low, high in ((0.0, LEAST), (1.0, 1.0), (2.0, 1.0)):
        with pytest.raises(ValueError, match=f"joint {joint} needs a range"):
            replace(ROOMY, **with_joint("position_min", joint, low), **with_joint("position_max", joint, high))
    replace(ROOMY, **with_joint("position_min", joint, -100.0), **with_joint("position_max", joint, 100.0))
    replace(ROOMY, **with_joint("position_min", joint, -2.0), **with_joint("position_max", joint, -1.0))
    for field, beyond in (("position_min", -100.00001), ("position_max", 100.00001)):
        with pytest.raises(ValueError, match=f"joint {joint} needs finite angles"):
            replace(ROOMY, **with_joint(field, joint, beyond))


@pytest.mark.parametrize("field", ["position_max", "slew", "lead"])
@pytest.mark.parametrize("size", [3, 5])
def test_every_table_has_one_value_a_joint(field, size):
    with pytest.raises(ValueError, match="one value a joint"):
        replace(ROOMY, **{field: (1.0,) * size})


def test_no_joints_are_no_robot():
    with pytest.raises(ValueError, match="one value a joint"):
        GateLimits((), (), (), ())


@pytest.mark.parametrize(
    ("field", "enough", "not_enough"),
    [
        ("opening_rad", [5e-324, 100.0], [0.0, -0.1, 100.00001, math.nan]),
        ("valid_ns", [1], [0, -1]),
        ("stale_cycles", [0, 1], [-1]),
    ],
)
def test_the_rest_at_its_limit(field, enough, not_enough):
    for value in enough:
        assert getattr(replace(ROOMY, **{field: value}), field) == value
    for value in not_enough:
        with pytest.raises(ValueError, match="opening_rad and valid_ns must be above zero, stale_cycles not below"):
            replace(ROOMY, **{field: value})


@pytest.mark.parametrize("margin", [1e-5, 0.002])
def test_what_is_outside_comes_in_by_more_than_the_margin(margin):
    for value in (math.nextafter(margin, 1.0), 100.0):
        assert replace(ROOMY, margin=margin, inward=value).inward == value
    for value in (margin, 0.0, -0.1, 100.00001, math.nan):
        with pytest.raises(ValueError, match="inward must be above the margin"):
            replace(ROOMY, margin=margin, inward=value)


@pytest.mark.parametrize("pairs", [[(0, 3)], [(3, 0), (1, 2)]])
def test_pairs_of_known_joints_each_in_one(pairs):
    assert len(replace(ROOMY, pairs=tuple(PairSum(a, b, 0.0, 1.0) for a, b in pairs)).pairs) == len(pairs)


@pytest.mark.parametrize("pairs", [[(0, 4)], [(4, 0)], [(-1, 2)], [(0, -1)], [(1, 1)], [(0, 1), (2, 0)], [(0, 1), (1, 2)]])
def test_pairs_of_unknown_or_shared_joints_are_refused(pairs):
    with pytest.raises(ValueError, match="unknown joint, or a joint is in two pairs"):
        replace(ROOMY, pairs=tuple(PairSum(a, b, 0.0, 1.0) for a, b in pairs))


def test_the_sum_of_a_pair_needs_room_for_the_margins_of_two_joints():
    good = PairSum(0, 1, 0.0, 2 * LEAST * (1 + 1e-9))
    replace(ROOMY, pairs=(good,))
    for bad in ((0.0, 2 * LEAST), (1.0, 0.0), (-math.inf, 1.0), (0.0, math.inf), (0.0, math.nan)):
        with pytest.raises(ValueError, match="sum of a pair"):
            replace(ROOMY, pairs=(good, PairSum(2, 3, *bad)))


def test_legs_have_their_motors_in_neighbours():
    """The gap between the links of a leg, 2 pi less the sum of its motors, keeps `gap_min` from both its ends."""
    limits = legged_limits(8, 0.4, 3.6, 0.8, 1.6, 0.1)
    assert [(pair.first, pair.second) for pair in limits.pairs] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    for pair in limits.pairs:
        assert 2 * math.pi - pair.high == pytest.approx(0.1) and pair.low == 0.1
    tables = (limits.position_min, limits.position_max, limits.slew, limits.lead)
    assert tables == ((0.4,) * 8, (3.6,) * 8, (0.8,) * 8, (1.6,) * 8)
    assert [(pair.first, pair.second) for pair in legged_limits(5, 0.4, 3.6, 0.8, 1.6, 0.1).pairs] == [(0, 1), (2, 3)]
    assert legged_limits(1, 0.4, 3.6, 0.8, 1.6, 0.1).pairs == ()
    assert limits.inward == 0.01 and legged_limits(8, 0.4, 3.6, 0.8, 1.6, 0.1, 0.02).inward == 0.02
