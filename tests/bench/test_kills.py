"""The processes of a run killed at random, five times each; `robotrl bench kills` does it a thousand times each."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.logwitness import Seen, faults

KILLS = 5  # of each kind; bench/kills.py does a thousand
BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def kills(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)
    yield __import__("kills")
    for name in {"kills", "zygote"} & set(sys.modules) - before:
        del sys.modules[name]


def test_what_was_acknowledged_is_there_whoever_is_killed(kills, tmp_path):
    """Learner and driver too, all five beside each other."""
    found = kills.campaign(tmp_path, KILLS, 0)
    assert found["kills"] == dict.fromkeys(kills.WHO, KILLS)
    assert found["transitions"] > KILLS and found["labels"] > KILLS and found["acknowledged"] > 2 * KILLS
    wrong = ("acknowledged_and_lost", "left_out", "doubled", "reordered", "differ_in_replay")
    assert {name: found[name] for name in wrong} == dict.fromkeys(wrong, 0)


def test_the_verdict_finds_what_is_lost_and_what_is_there_twice():
    one = Seen(1, 1, "policy", 5, 1, b"")
    assert faults([one, one._replace(sequence=2, number=2)]) == {"lost": 0, "doubled": 0, "reordered": 0}
    assert faults([one, one._replace(sequence=2, number=4)])["lost"] == 2
    assert faults([one, one._replace(sequence=2)])["doubled"] == 1
    assert faults([one._replace(number=2), one._replace(sequence=2)])["reordered"] == 1
    assert faults([one._replace(sequence=3), one._replace(sequence=2, number=2)])["reordered"] == 1
