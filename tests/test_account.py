"""A run's account by hand: who moved the robot, for how long, and what it cost a person."""

from __future__ import annotations

import math

import pytest

from robotrl.account import Account, Figures
from robotrl.messages import Guard

SECOND = 1_000_000_000
# seconds, state, what led to it, and whether a session is open from then on
TALE = (
    (0, "CHECK", "started", False),
    (5, "READY", "checks passed", False),
    (10, "HOLD", "key enable (console)", False),
    (12, "RESET", "key reset (console)", False),
    (20, "HOLD", "reset done", False),
    (21, "RUN", "key run (console)", True),
    (51, "RESET", "episode ended: time", True),
    (55, "RUN", "reset done", True),
    (95, "RELAX", "episode_fall", True),  # its budget forgives it
    (97, "RESET", "the session goes on after episode_fall", True),
    (101, "RUN", "reset done", True),
    (121, "PSTOP", "servo_lost", False),
    (181, "HOLD", "key clear (console)", False),
    (182, "RUN", "key run (console)", True),
    (192, "PSTOP", "operator_stop (viewer)", False),
    (200, "HOLD", "key clear (console)", False),
    (201, "RUN", "key run (console)", True),
    (211, "HOLD", "key pause (console)", False),
    (221, "RELAX", "run_over", False),
)


def told(t, state, trigger, session, boot=1, **kw):
    said = dict(causes=(), last_cause="", epoch=1, holder="", nonce=1) | kw
    return Guard(source="guard", boot=boot, t=t * SECOND, state=state, trigger=trigger, session=session, **said)


def accounted(tale, **kw):
    account = Account()
    for line in tale:
        account.hear(told(*line, **kw))
    return account


def test_a_tale_adds_up():
    """RUN: 30 + 40 + 20 + 10 + 10. RESET: 8 + 4 + 4. Waiting from the first motion, at 12 s, to the end: 209 - 126."""
    figures = accounted(TALE).figures()
    assert figures[:3] == pytest.approx((110.0, 16.0, 83.0))
    assert (figures.touches, figures.interventions, figures.failures) == (9, 2, 1)
    assert figures.autonomy == pytest.approx(126 / 209) and figures.mtbf_s == pytest.approx(126.0)
    assert "60% by itself; 9 touches, 2 interventions, 1 failures" in figures.told()


def test_what_still_lasts_counts_up_to_now():
    account = accounted(TALE[:6])
    assert account.figures(31 * SECOND)[:3] == pytest.approx((10.0, 8.0, 1.0))
    assert account.figures()[:3] == pytest.approx((0.0, 8.0, 1.0)), "and asking changes nothing"


def test_before_it_has_moved_nothing_waits():
    figures = accounted(TALE[:3]).figures(100 * SECOND)
    assert figures[:3] == (0.0, 0.0, 0.0) and math.isnan(figures.autonomy) and math.isinf(figures.mtbf_s)
    assert figures.told() == "the robot has not moved"


@pytest.mark.parametrize("later", [{"boot": 2}, {"boot": 1}])
def test_between_two_lives_of_a_guard_no_time_passes(later):
    """Of another boot, or, in lockstep, of a clock that begins anew."""
    account = accounted(TALE)
    account.hear(told(3, "CHECK", "started", False, **later))
    account.hear(told(4, "HOLD", "key enable (console)", False, **later))
    assert account.figures()[:3] == pytest.approx((110.0, 16.0, 84.0))


@pytest.mark.parametrize(
    ("trigger", "failures"), [("run_over", 0), ("session_over", 0), ("operator_absent", 1), ("reset_failed", 1)]
)
def test_only_what_nobody_asked_for_is_a_failure(trigger, failures):
    assert accounted((*TALE[:6], (30, "HOLD", trigger, False))).figures().failures == failures


def test_causes_that_come_and_go_in_one_state_are_no_touches():
    account = accounted(TALE[:6])
    account.hear(told(25, "RUN", "", True, causes=("learner_gone",)))
    account.hear(told(30, "RUN", "", True))
    assert account.figures() == Figures(9.0, 8.0, 1.0, 3, 0, 0)


def test_what_a_person_led_is_no_autonomy():
    """RUN by the policy: 30 + 10 + 5; led: 20 and 4. He took over twice and handed back once; then his device was gone."""
    tale = [(*line, False) for line in TALE[:6]]
    tale += [(51, "RUN", "", True, True), (71, "RUN", "", True, False), (81, "RUN", "", True, True),
             (85, "HOLD", "hand_gone", False, False),
             (95, "RUN", "key run (console)", True, False), (100, "HOLD", "key pause (console)", False, False)]  # fmt: skip
    account = Account()
    for *line, led in tale:
        account.hear(told(*line, led=led))
    figures = account.figures()
    assert (figures.run_s, figures.reset_s, figures.led_s, figures.wait_s) == pytest.approx((45.0, 8.0, 24.0, 11.0))
    assert (figures.touches, figures.interventions, figures.failures) == (3 + 3 + 2, 2 + 1, 1)
    assert figures.autonomy == pytest.approx(53 / 88) and figures.mtbf_s == pytest.approx(77.0)
    assert "0.4 min led by a person" in figures.told()
    assert accounted(TALE[:6]).figures(31 * SECOND).led_s == 0.0
    account.hear(told(110, "RUN", "key run (console)", True, led=True))
    assert account.figures(120 * SECOND).led_s == pytest.approx(34.0), "what still lasts counts"
