"""A stop key that holds an arm on its way down: for how long, and when there is nothing to hold."""

from __future__ import annotations

import pytest

from robotrl.safety.halt import Halt

S, MS = 10**9, 10**6
NOW = 50 * S


def passes(halt, now, ns, lowering=False):
    """Steps of 20 ms until `now` + `ns`; what the last one says."""
    held = True
    for t in [*range(now + 20 * MS, now + ns, 20 * MS), now + ns]:
        held = halt.step(t, False, lowering)
    return held


def test_nobody_has_pressed():
    halt = Halt()
    assert [halt.step(NOW + n, False, lowering) for n in range(3) for lowering in (True, False)] == [False] * 6


@pytest.mark.parametrize("lowering", [True, False])
def test_a_key_holds_at_once_and_until_it_is_forgotten(lowering):
    halt = Halt()
    assert halt.step(NOW, True, lowering) is True and passes(halt, NOW, 200 * MS)
    halt.forget()
    assert halt.step(NOW + 200 * MS, False, True) is False


def test_the_driver_has_200_ms_to_say_that_it_lowers_and_is_believed_for_as_long():
    halt = Halt()
    halt.step(NOW, True, False)
    assert passes(halt, NOW, 200 * MS) and not halt.step(NOW + 200 * MS + 1, False, False)
    assert not halt.step(NOW + 200 * MS + 2, False, True), "what is over does not come back"
    halt.step(NOW + S, True, False)
    assert halt.step(NOW + S + 100 * MS, False, True) and passes(halt, NOW + S + 100 * MS, 200 * MS)
    assert not halt.step(NOW + S + 300 * MS + 1, False, False)


def test_a_word_from_before_the_key_counts_for_nothing_more():
    halt = Halt()
    halt.step(NOW, False, True)
    assert halt.step(NOW + S, True, False) and passes(halt, NOW + S, 200 * MS)


def test_a_step_that_comes_late_counts_for_40_ms_of_silence():
    """All stood still together: a suspended machine, a paused container. The driver's word is no older than ours."""
    halt = Halt()
    halt.step(NOW, True, True)
    late = [halt.step(NOW + n * S, False, False) for n in range(1, 6)]
    assert late == [True] * 5 and halt.step(NOW + 6 * S, False, True)
    late = [halt.step(NOW + n * S, False, False) for n in range(7, 13)]
    assert late == [True] * 5 + [False]
    halt.step(NOW + 20 * S, True, True)
    late = [halt.step(NOW + 20 * S + n * 40 * MS, False, False) for n in range(1, 7)]
    assert late == [True] * 5 + [False]


def test_ten_minutes_and_another_key_begins_them_anew():
    halt = Halt()
    halt.step(NOW, True, True)
    assert passes(halt, NOW, 600 * S, True)
    assert halt.step(NOW + 600 * S, True, True) and passes(halt, NOW + 600 * S, 600 * S, True)
    assert halt.step(NOW + 1200 * S + 1, False, True) is False


def test_a_standstill_takes_nothing_of_the_ten_minutes():
    halt = Halt()
    halt.step(NOW, True, True)
    assert halt.step(NOW + 900 * S, False, True) and passes(halt, NOW + 900 * S, 600 * S - 40 * MS, True)
    assert halt.step(NOW + 1500 * S - 40 * MS + 1, False, True) is False
