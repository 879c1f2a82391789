"""The books of causes to the nanosecond: what is active, latched, forgiven, foremost, and when it may be cleared."""

from __future__ import annotations

import pytest

from robotrl.safety.causes import Budget, Cause, Clear, Inputs, Severity, State, catalogue
from robotrl.safety.ledger import Ledger
from tests.safety.inputs import WELL

S = 10**9
# Shown by flags that the catalogue uses for something else: only these rows are in the ledger of the test that names them.
FLAGS = ("port_lost", "servo_fault", "policy_dead", "reset_dead")


def row(id: str, k: int, action: Severity = Severity.PSTOP, clear: Clear = Clear.OPERATOR, **more: object) -> Cause:
    return Cause(id, 0, FLAGS[k], 0, action, clear, f"note of {id}", **more)  # type: ignore[arg-type]


class Book:
    """A ledger with flags that are set by number."""

    def __init__(self, *rows: Cause, state: State = State.RUN) -> None:
        self.ledger, self.state = Ledger(rows), state

    def at(self, now: int, *shown: int, session: bool = False, state: State | None = None) -> bool:
        inputs = Inputs(**{FLAGS[k]: True for k in shown})  # type: ignore[arg-type]
        return self.ledger.judge(now, state or self.state, 0, session, inputs, set())


def test_nothing_stands_at_first():
    book = Book(row("a", 0))
    assert book.at(0, session=True) is True and book.at(1, session=False) is False
    ledger = book.ledger
    assert (ledger.worst(), ledger.standing(), ledger.foremost(), ledger.refusal(0)) == (Severity.NONE, [], "", "")
    assert ledger.quiet(0, 1.0) and ledger.last == ""


def test_a_row_that_still_waits_holds_up_no_other():
    book = Book(row("slow", 0, debounce_s=1.0), row("quick", 1))
    book.at(0, 0, 1)
    assert book.ledger.active == {"quick"}
    book.at(S - 1, 0, 1)
    assert book.ledger.active == {"quick"}
    book.at(S, 0, 1)
    assert book.ledger.active == {"slow", "quick"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_what_a_budget_would_forgive_is_latched_where_another_ends_the_session_in_the_same_step(order):
    """Whichever row of the table comes first."""
    rows = row("fall", 0, Severity.RELAX, budget=Budget("fall", 5, 600.0)), row("absent", 1, Severity.HOLD, Clear.AUTO)
    book = Book(*(rows[k] for k in order))
    assert book.at(0, 0, 1, session=True) is False and book.ledger.latched == {"fall"}
    assert book.at(S - 1, 1) is False and book.ledger.refusal(S - 1) == "fall has not been gone for 1 s"
    alone = Book(*(rows[k] for k in order))
    assert alone.at(0, 0, session=True) is True and alone.ledger.latched == set()


def test_a_break_begins_the_debounce_anew_and_ends_the_activity():
    book = Book(row("a", 0, Severity.HOLD, Clear.AUTO, debounce_s=1.0), row("b", 1, Severity.HOLD, Clear.AUTO))
    book.at(0, 0, 1)
    book.at(S // 2, 1)
    book.at(S, 0, 1)
    assert book.ledger.active == {"b"}
    book.at(2 * S - 1, 0)
    assert book.ledger.active == set()
    book.at(2 * S, 0)
    assert book.ledger.active == {"a"} and book.ledger.worst() is Severity.HOLD
    book.at(2 * S + 1)
    assert book.ledger.active == set() and book.ledger.worst() is Severity.NONE


def test_a_warning_ends_no_session_and_is_no_last_cause():
    book = Book(row("warn", 0, Severity.WARN, Clear.AUTO), row("latched", 1, Severity.WARN))
    assert book.at(0, 0, 1, session=True) is True
    assert book.ledger.active == {"warn", "latched"} and not book.ledger.latched and book.ledger.last == ""
    assert book.ledger.worst() is Severity.WARN and book.ledger.quiet(0, 1.0)


@pytest.mark.parametrize("action", [Severity.HOLD, Severity.STOPPING, Severity.PSTOP, Severity.RELAX])
@pytest.mark.parametrize("clear", [Clear.AUTO, Clear.OPERATOR, Clear.OPERATOR_COOLDOWN])
def test_more_than_a_warning_ends_the_session_and_all_but_auto_latches(action, clear):
    if action >= Severity.PSTOP and clear is Clear.AUTO:
        return
    book = Book(row("a", 0, action, clear))
    assert book.at(0, 0, session=True) is False
    book.at(1)
    assert book.ledger.latched == (set() if clear is Clear.AUTO else {"a"}) and book.ledger.last == "a"
    assert book.ledger.worst() is (Severity.NONE if clear is Clear.AUTO else action)
    assert not book.ledger.active


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("clear", [Clear.OPERATOR, Clear.OPERATOR_COOLDOWN, Clear.RESTART])
def test_at_the_start_only_what_needs_a_restart_latches(state, clear):
    """In BOOT and CHECK nothing is on: what is wrong there only has to go away."""
    book = Book(row("a", 0, Severity.PSTOP, clear), state=state)
    book.at(0, 0)
    book.at(1)
    counts = state not in (State.BOOT, State.CHECK) or clear is Clear.RESTART
    assert book.ledger.latched == ({"a"} if counts else set()) and book.ledger.last == ("a" if counts else "")


def test_at_the_start_what_has_to_go_away_hides_nothing_that_needs_a_restart():
    book = Book(row("a", 0), row("b", 1, Severity.LOCKOUT, Clear.RESTART), row("c", 2), state=State.CHECK)
    book.at(0, 0, 1, 2)
    assert book.ledger.active == {"a", "b", "c"} and book.ledger.latched == {"b"} and book.ledger.last == "b"


def test_a_harmless_cause_at_the_start_is_no_last_cause_either():
    book = Book(row("a", 0, Severity.HOLD, Clear.AUTO), state=State.CHECK)
    assert book.at(0, 0, session=True) is False
    assert book.ledger.active == {"a"} and book.ledger.last == ""


def test_a_budget_forgives_inside_a_session_only():
    book = Book(row("a", 0, Severity.RELAX, budget=Budget("falls", 1, 10.0)))
    assert book.at(0, 0, session=False) is False and book.ledger.latched == {"a"}
    assert book.ledger.spent == {}, "what was not asked for was not spent"
    book = Book(row("a", 0, Severity.RELAX, budget=Budget("falls", 1, 10.0)))
    assert book.at(0, 0, session=True) is True and not book.ledger.latched
    assert book.ledger.last == "a" and book.ledger.active == {"a"} and book.ledger.spent == {"falls": [0]}
    book.at(1, 0, session=True)
    assert book.ledger.spent == {"falls": [0]}, "one that goes on is one"


@pytest.mark.parametrize(("apart", "forgiven"), [(10 * S - 1, False), (10 * S, True)])
def test_a_budget_heals_when_its_time_is_over(apart, forgiven):
    book = Book(row("a", 0, Severity.RELAX, budget=Budget("falls", 1, 10.0)))
    book.at(7, 0, session=True)
    book.at(8, session=True)
    assert book.at(7 + apart, 0, session=True) is forgiven


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_budget_forgives_as_often_as_it_says(count):
    book = Book(row("a", 0, Severity.RELAX, budget=Budget("falls", count, 100.0)))
    said = []
    for k in range(count + 2):
        said.append(book.at(2 * k * S, 0, session=True))
        book.at((2 * k + 1) * S, session=True)
    assert said == [True] * count + [False] * 2


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_of_equals_the_foremost_is_the_one_that_came_last(first, second):
    book = Book(row("a", 0), row("b", 1), row("c", 2, Severity.STOPPING))
    number = {"a": 0, "b": 1}
    book.at(0, number[first])
    book.at(1, number[first], number[second])
    book.at(2, 0, 1, 2)
    assert book.ledger.foremost() == second
    assert [r.id for r in book.ledger.standing()] == ["a", "b", "c"]


def test_what_is_seen_is_before_what_is_only_latched():
    book = Book(row("a", 0), row("b", 1))
    book.at(0, 0)
    book.at(1, 1)  # a is gone and latched
    assert book.ledger.foremost() == "b"
    book = Book(row("a", 0), row("b", 1))
    book.at(0, 0)
    book.at(0, 1)
    assert book.ledger.latched == {"a", "b"} and book.ledger.foremost() == "b", "also in the first moment there is"


def test_it_is_quiet_when_nothing_stands_or_stood_of_late():
    book = Book(row("hold", 0, Severity.HOLD, Clear.AUTO), row("warn", 1, Severity.WARN, Clear.AUTO), row("stop", 2))
    book.at(0, 0)
    assert not book.ledger.quiet(0, 0.2) and not book.ledger.quiet(10 * S, 0.2), "it stands"
    book.at(1, 1)
    assert not book.ledger.quiet(S // 5 - 1, 0.2)
    assert book.ledger.quiet(S // 5, 0.2), "warnings do not count"
    book.at(2, 2)
    book.at(3)
    assert not book.ledger.quiet(100 * S, 0.2), "latched stands"


@pytest.mark.parametrize(
    ("clear", "cooldown_s", "wait_s"),
    [(Clear.OPERATOR, 0.0, 1), (Clear.OPERATOR, 5.0, 1), (Clear.OPERATOR_COOLDOWN, 0.5, 1), (Clear.OPERATOR_COOLDOWN, 5.0, 5)],
)
def test_clear_waits_1_s_or_the_cooldown_to_the_nanosecond(clear, cooldown_s, wait_s):
    book = Book(row("a", 0, Severity.RELAX, clear, cooldown_s=cooldown_s))
    book.at(0, 0)
    assert book.ledger.refusal(0) == "a is still there: note of a"
    book.at(100, 0)
    book.at(101)
    assert book.ledger.refusal(100 + wait_s * S - 1) == f"a has not been gone for {wait_s} s"
    assert book.ledger.refusal(100 + wait_s * S) == ""


def test_what_needs_a_restart_is_never_cleared_and_is_said_first_by_name():
    book = Book(row("b", 0, Severity.LOCKOUT, Clear.RESTART), row("a", 1))
    book.at(0, 0)
    book.at(1)
    assert book.ledger.refusal(100 * S) == "b needs a restart after inspection"
    book.at(200 * S, 1)
    assert book.ledger.refusal(200 * S) == "a is still there: note of a"
    book.at(201 * S)
    assert book.ledger.refusal(300 * S) == "b needs a restart after inspection"


def test_the_guards_own_causes_are_taken_from_it():
    ledger = Ledger(catalogue())
    assert ledger.judge(0, State.RUN, 0, True, WELL, {"operator_stop"}) is False
    assert ledger.active == ledger.latched == {"operator_stop"} and ledger.last == "operator_stop"
    ledger.judge(1, State.PSTOP, 0, False, WELL, set())
    assert ledger.active == set() and ledger.latched == {"operator_stop"}


@pytest.mark.parametrize(
    ("action", "clear", "refused"),
    [
        *((action, Clear.AUTO, action >= Severity.PSTOP) for action in Severity),
        *(
            (action, clear, action is Severity.LOCKOUT)
            for action in Severity
            for clear in (Clear.OPERATOR, Clear.OPERATOR_COOLDOWN)
        ),
        *((action, Clear.RESTART, False) for action in Severity),
    ],
)
def test_a_row_whose_parts_contradict_each_other_is_refused(action, clear, refused):
    if refused:
        with pytest.raises(ValueError, match="cause a"):
            row("a", 0, action, clear)
    else:
        assert row("a", 0, action, clear).states == frozenset(State)
