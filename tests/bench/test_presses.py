"""`robotrl bench presses`, a few of them: no false word on the screen, and a verdict that would find one."""

from __future__ import annotations

import pytest


@pytest.fixture
def presses(script):
    return script("presses")


def test_a_few_quick_stops_are_never_said_to_be_confirmed_when_they_are_not(presses):
    found = presses.campaign(8, 3)
    assert found["presses"] == 8 and found["false_confirmed"] == 0 and found["by_state"]["BOOT"] == 1


def test_a_servo_that_has_torque_while_the_screen_says_off_is_found(presses, monkeypatch):
    """Put in by hand."""
    monkeypatch.setattr(presses.Desk, "torque", property(lambda _: True))
    found = presses.campaign(8, 3)
    assert found["false_confirmed"] == found["cycles_by_word"]["OFF, CONFIRMED"] > 0
