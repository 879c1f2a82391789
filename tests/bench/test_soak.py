"""The soak for a few virtual minutes: its faults leave a cause each, its control no stop, and it can tell when they do not."""

from __future__ import annotations

import math

import pytest

from bench import soak


def test_every_fault_leaves_a_cause_and_no_goal_breaks_a_rule(monkeypatch):
    monkeypatch.setattr(soak, "EVERY_S", 2.0)
    said = soak.soak(0.03, 0, faults=True)
    assert said["violations"] == said["without_cause"] == 0, said
    assert said["faults"] > 10 and said["with a cause due"] > 3 and said["goals"] > 1000


def test_without_faults_nothing_stops():
    said = soak.soak(0.02, 0, faults=False)
    assert said["causes"] == {} and said["violations"] == 0 and said["share_of_states"]["RUN"] > 0.8


def test_a_detector_that_is_gone_is_missed(monkeypatch):
    """Without the rows of the servo bus some fault of it has no cause."""
    scene = soak.Soak(0, True)
    scene.without(*{id for row in scene.rows for id in row.causes})
    scene.next_at = 5.0
    monkeypatch.setattr(soak, "EVERY_S", 1.0)
    while scene.rig.seconds < 40:
        scene.step()
    scene.rig.close()
    assert scene.missing


def blocked_late(*gone: str, at_step: int) -> soak.Soak:
    """A joint that is blocked from this step of an episode of 500 on, until the fault is over."""
    scene = soak.Soak(0, True)
    scene.without(*gone)
    scene.rows, scene.next_at = [row for row in scene.rows if row.name == "a joint is blocked"], math.inf
    while scene.rig.pilot._steps != at_step:
        scene.step()
    scene.next_at = scene.rig.seconds
    while not scene.counts["faults"] or scene.row is not None:
        scene.step()
        scene.next_at = math.inf
    scene.rig.close()
    return scene


def test_a_fault_that_an_episodes_end_cut_short_is_owed_no_cause():
    scene = blocked_late(at_step=430)
    assert not scene.missing and scene.counts[soak.ENDED] == 1


def test_the_same_fault_earlier_in_the_episode_is():
    assert blocked_late("stalled", at_step=200).missing
    whole = blocked_late(at_step=200)
    assert whole.stops["stalled"] and not whole.missing and not whole.counts[soak.ENDED]


def told(faults=(), control=(), violations=(0, 0), without_cause=0):
    """Two runs of two parts each, as `shared` tells of them."""
    part = {"with a cause due": 100, soak.ENDED: 3, "causes": {}}
    return (
        {"violations": violations[0], "without_cause": without_cause, "parts": [part, part | dict(faults)]},
        {"violations": violations[1], "without_cause": 0, "parts": [{"causes": {}}, {"causes": dict(control)}]},
    )


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        (told(), ""),
        (told(control={"clamped": 4, "temp_warning": 1}), ""),
        (told(control={"tilt": 1}), "1 stops without a fault: tilt"),
        (told(violations=(1, 0)), "1 goals that broke a rule"),
        (told(violations=(0, 2)), "2 goals that broke a rule"),
        (told(without_cause=3), "3 faults without the cause"),
        (told(faults={soak.ENDED: 4}), "7 of 200 faults ended before they were due"),
    ],
)
def test_each_thing_that_may_be_wrong_fails_the_soak_alone(runs, says):
    found = soak.complaints(*runs)
    assert len(found) == bool(says) and all(line.startswith(says) for line in found), found
