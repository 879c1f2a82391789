"""The time of a stop, by what it must be."""

from __future__ import annotations

import pytest

from robotrl.safety.awake import LONGEST_STEP_NS, Awake

MS = 1_000_000


@pytest.mark.parametrize("start", [0, 7_000_000 * MS])
def test_it_counts_from_its_first_step_on_and_of_each_step_40_ms_at_most(start):
    awake = Awake()
    steps = [(0, 0), (20, 20), (20, 20), (59, 59), (99, 99), (140, 139), (5_140, 179), (5_160, 199)]
    assert [awake.step(start + at * MS) for at, _ in steps] == [counted * MS for _, counted in steps]
    assert awake.now == 199 * MS and LONGEST_STEP_NS == 40 * MS


def test_a_program_with_longer_periods_says_what_its_longest_step_is():
    awake = Awake(100 * MS)
    awake.step(0)
    assert [awake.step(at * MS) for at in (100, 201, 1_000)] == [100 * MS, 200 * MS, 300 * MS]
