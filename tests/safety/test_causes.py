"""The table of causes: well formed, complete, and open to rows that are not written yet."""

from __future__ import annotations

import itertools

import pytest

from robotrl.safety.causes import Budget, Cause, Clear, Inputs, Severity, State, catalogue
from robotrl.safety.fitting import changed
from robotrl.safety.guard import Guard
from robotrl.safety.ledger import Ledger

OWN = {"guard_restart", "operator_stop", "session_over", "pstop_long"}


def test_every_signal_is_an_input_and_only_the_guards_own_have_none():
    known = set(Inputs._fields) | {"episode_fall", "reset_failed", "reset_asks"}
    assert {row.signal for row in catalogue()} - known == {""}
    assert {row.id for row in catalogue() if not row.signal} == OWN


def test_rows_asked_for_are_there_with_their_action():
    wanted = {1: 4, 2: 4, 3: 3, 7: 4, 8: 4, 9: 4, 15: 5, 17: 2, 23: 2, 33: 1, 34: 2, 37: 2, 38: 3, 41: 2, 43: 4, 44: 2}
    wanted |= {4: 4, 49: 4, 52: 1, 59: 5}  # 59: PSTOP in the catalogue; who learns lies on folded legs
    wanted |= {51: 3, 58: 5, 61: 2, 62: 4, 63: 6, 36: 4}
    for number, action in wanted.items():
        assert {int(row.action) for row in catalogue() if row.row == number} == {action}, number
    assert {1, 3, 5} == {int(row.action) for row in catalogue() if row.row == 6}
    assert {2, 4} == {int(row.action) for row in catalogue() if row.row == 35}  # late and back; dead and started again
    assert {2, 5} == {int(row.action) for row in catalogue() if row.row == 16}


def test_each_note_tells_the_operator_something():
    assert all(len(row.note) > 5 for row in catalogue())


def test_every_input_but_the_commands_and_notes_is_judged_by_some_row():
    judged = {row.signal for row in catalogue()}
    free = {"epoch", "commands", "checks_passed", "check_note", "still", "torque_on", "lowering", "holding"}
    free |= {"episode_ended", "reset_outcome"}  # judged as episode_fall and reset_failed
    assert set(Inputs._fields) - judged == free


@pytest.mark.parametrize(
    ("action", "clear"), [(Severity.PSTOP, Clear.AUTO), (Severity.RELAX, Clear.AUTO), (Severity.LOCKOUT, Clear.OPERATOR)]
)
def test_row_that_would_let_a_latched_stop_go_is_refused(action, clear):
    with pytest.raises(ValueError, match="cause x"):
        Cause("x", 0, "still", 0, action, clear, "note")


def test_two_rows_of_one_id_are_refused():
    with pytest.raises(ValueError, match="one id"):
        Ledger((*catalogue(), catalogue()[0]))


def test_changed_row_and_unknown_row():
    rows = changed(catalogue(), "console_silent", above=5.0)
    assert next(row for row in rows if row.id == "console_silent").above == 5.0
    with pytest.raises(ValueError, match="no cause 'x'"):
        changed(rows, "x", above=1.0)


def test_thresholds_come_from_the_arguments():
    rows = {row.id: row for row in catalogue(temp_c=60.0, tilt_rad=0.3, tilt_s=0.2, falls=99)}
    assert (rows["temp_over"].above, rows["tilt"].above, rows["tilt"].debounce_s) == (60.0, 0.3, 0.2)
    assert rows["tilt"].budget == rows["episode_fall"].budget == Budget("fall", 99, 600.0)


def test_a_new_row_joins_without_code():
    """A row of the catalogue that is not there yet, on an input that is: the guard obeys it."""
    row = Cause("human_asleep", 99, "human_age_s", 30.0, Severity.STOPPING, Clear.OPERATOR, "wake up")
    nonces = itertools.count(1)
    guard = Guard((*catalogue(), row), lambda: next(nonces))
    out = guard.step(1, Inputs(human_age_s=31.0))
    assert "human_asleep" in out.causes


def test_budget_is_a_sliding_window_and_shared_by_name():
    shared = Budget("b", 2, 10.0)
    rows = tuple(
        Cause(id, 0, signal, 0, Severity.RELAX, Clear.OPERATOR, "note", budget=shared)
        for id, signal in (("one", "port_lost"), ("two", "servo_fault"))
    )
    ledger, second = Ledger(rows), 10**9

    def occurs(t: float, **shows: bool) -> bool:
        forgiven = ledger.judge(int(t * second), State.RUN, 0, True, Inputs(**shows), set())
        ledger.judge(int(t * second) + 1, State.RUN, 0, True, Inputs(), set())
        return forgiven

    assert [occurs(0, port_lost=True), occurs(1, servo_fault=True), occurs(2, port_lost=True)] == [True, True, False]
    assert ledger.latched == {"one"}
    assert occurs(12.5, servo_fault=True) and ledger.latched == {"one"}


def test_standing_causes_are_listed_most_severe_first():
    ledger = Ledger(catalogue())
    bad = Inputs(learner_gone=True, port_lost=True, frame_error_rate=1.0)
    ledger.judge(0, State.READY, 0, False, bad, set())
    ledger.judge(2 * 10**9, State.READY, 0, False, bad, set())
    actions = [row.action for row in ledger.standing()]
    assert actions == sorted(actions, reverse=True) and len(set(actions)) == 4
