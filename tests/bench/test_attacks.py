"""What `robotrl bench attacks` complains of."""

from __future__ import annotations

import json
import sys

import pytest

from bench import attacks

SOUND = {"attack": "connects", "tries": 9, "stops": 50, "stops_through": 50, "p50_ms": 0.4, "max_ms": 60.0, "delivered": 0}


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        ({}, []),
        ({"delivered": 1}, ["connects: 1 messages delivered"]),
        ({"stops_through": 49}, ["connects: 1 of 50 stops lost"]),
        ({"stops_through": 0, "p50_ms": None, "max_ms": None}, ["connects: 50 of 50 stops lost"]),
        ({"max_ms": 60.1}, ["connects: a stop after 60.1 ms, not 60"]),
    ],
)
def test_what_got_in_was_lost_or_came_late_is_said_and_fails(spoilt, says, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(attacks, "attacks", lambda args, hostile: {"connects": None})
    monkeypatch.setattr(attacks, "measured", lambda *_: SOUND | spoilt)
    monkeypatch.setattr(sys, "argv", ["attacks", "--out", str(tmp_path / "out.json")])
    assert attacks.main() == bool(says)
    assert capsys.readouterr().out.splitlines()[1:] == says
    kept = json.loads((tmp_path / "out.json").read_text())
    assert kept["attacks"] == [SOUND | spoilt] and "commit" in kept["built_from"]
