"""The processes of a run killed and stopped at random, a hundred times each; `robotrl bench kills` does it a thousand times each.

Where it would take longer than SECONDS, on a busy machine, it ends there and judges what was done by then.
"""

from __future__ import annotations

import math

import pytest

from tests.logwitness import Seen, faults

KILLS, STOPS, SECONDS, LEAST = 100, 10, 90.0, 3  # of each process; at least, in that time, with fourteen others on two cores


@pytest.fixture
def kills(script):
    return script("kills")


def test_what_was_given_is_there_whoever_is_killed_or_stopped(kills, tmp_path):
    """All five beside each other, the servo driver on its wire with its rescue."""
    found = kills.campaign(tmp_path, KILLS, 0, seconds=SECONDS, stops=STOPS)
    done = {name: found["deeds"][f"kill {name}"] for name in kills.WHO}
    assert found["seconds"] >= SECONDS or set(done.values()) == {KILLS}
    assert min(done.values()) >= LEAST and sum(n for deed, n in found["deeds"].items() if deed.startswith("stop")) >= LEAST
    counts = ("lives_that_drove", "transitions", "labels", "labels_bound", "acknowledged")
    assert all(found[name] > (0 if name == "lives_that_drove" else LEAST) for name in counts), found
    assert {name: found[name] for name in kills.BAD} == dict.fromkeys(kills.BAD, 0)


def test_the_verdict_finds_what_is_lost_and_what_is_there_twice():
    one = Seen(1, 1, "policy", 5, 1, b"")
    assert faults([one, one._replace(sequence=2, number=2)]) == {"lost": 0, "doubled": 0, "reordered": 0}
    assert faults([one, one._replace(sequence=2, number=4)])["lost"] == 2
    assert faults([one, one._replace(sequence=2)])["doubled"] == 1
    assert faults([one._replace(number=2), one._replace(sequence=2)])["reordered"] == 1
    assert faults([one._replace(sequence=3), one._replace(sequence=2, number=2)])["reordered"] == 1


@pytest.mark.parametrize(
    ("off", "drove", "bad"), [((), 150, 1), ((120,), 150, 0), ((120,), 110, 1), ((160,), 150, 1), ((), math.inf, 0)]
)
def test_a_driver_that_drives_motors_which_were_never_off_is_found(kills, off, drove, bad):
    """The life before it drove them from 10 on, and said its last word at 100."""
    modes = [(0, (0, 0)), (9, (10, 10)), (115, (10, 0)), *((t, (0, 0)) for t in off), (151, (10, 10))]
    assert kills.driven_on([[10, 100], [drove, 200]], modes) == bad
    assert kills.driven_on([[math.inf, 8], [drove, 200]], modes) == 0, "before which nobody had driven them"
