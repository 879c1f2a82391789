"""The guard against the facts over the product of states, causes, times, keys, roles and nonces: a part of it, drawn by a seed.

The whole of it, which is too long for here: python -m tests.safety.product
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from robotrl.safety import guard, halt, ledger
from robotrl.safety.causes import Clear, Command, Severity, State
from robotrl.safety.guard import Powers
from tests.safety import onpaper, product
from tests.safety.product import ANSWERS, WHEN, Key, found

CLEAR = Key("clear", "console", "shown")


def test_the_product_has_every_cause_that_comes_from_without():
    assert len(product.STATES) == 17 and len(product.KEYS_PRESSED) == 9 * 4 * 3
    assert {id for ids in product.CAUSE_SETS for id in ids} == set(product.TABLE)
    assert len(product.ORDERED) == len(product.TABLE) * (len(product.TABLE) - 1)
    assert {id for ids in product.DELAYED for id in ids} == set(product.TABLE)


def test_debounces_and_graces_on_paper_are_those_of_the_table():
    """In steps: the first in which they count."""
    for row in product.ROWS:
        assert math.ceil(round(row.debounce_s / 0.02, 6)) == onpaper.DEBOUNCE.get(row.id, 0), row.id
        assert round(row.grace_s * onpaper.SECOND) == onpaper.GRACE.get(row.id, 0), row.id


@pytest.mark.parametrize("state", product.STATES)
def test_every_start_is_the_same_on_paper(state):
    assert [product.begun(state, delays).wrong for delays in (False, True)] == ["", ""]


@pytest.mark.parametrize("state", product.STATES)
def test_every_cause_with_a_key_of_a_console(state):
    """Of each cause when it stands and when it is gone, one key each by a seed, and the key that clears."""
    keys = random.Random(state)
    assert (
        found((state, (id,), when, [keys.choice(ANSWERS), CLEAR]) for id in product.TABLE for when in ("standing", "gone")) == []
    )


@pytest.mark.parametrize(("when", "places", "keys"), [(WHEN[:3], 250, 12), (WHEN[3:5], 250, 9), (WHEN[5:], 60, 9)])
def test_pairs_of_causes_with_any_key_of_anybody(when, places, keys):
    assert found(product.sampled(1, places, keys, when)) == []


def test_a_fall_that_no_budget_forgives_is_latched_whatever_ends_the_session_beside_it():
    falls = [ids for ids in product.CAUSE_SETS if "operator_absent" in ids and set(ids) & onpaper.FALLS]
    assert len(falls) == 4 and found(("RUN", ids, when, ANSWERS) for ids in falls for when in ("at once", "standing")) == []


HALF = (State.HOLD, State.HOLD, State.HOLD, State.STOPPING, State.STOPPING, State.RELAX, State.LOCKOUT)


def by_keys_alone(self, now, inputs):
    """A PSTOP holds nothing."""
    return self._halt.step(now, any(command.name == "stop" for command in inputs.commands), inputs.lowering)


def by_time(self, now, inputs):
    """RELAX ends when its time is over, whatever the driver was told last."""
    self._stop = self._stage(now)
    return MOVE_ON(self, now, inputs)


def to_the_latest(self, rows, now, state, session):
    """What comes while something is latched is not latched too."""
    kept = set(self.latched)
    goes_on = ENTER(self, rows, now, state, session)
    self.latched = kept or self.latched
    return goes_on


def early(self, now):
    return STAGE(self, now + 20_000_000)


def at_once(self, inputs):
    """A lease under the number of the one before."""
    self._granted |= bool(guard.POWERS[self.state].holder)
    return False


def altered(rows, name, **changes):
    return tuple(replace(row, **changes) if row.id == name else row for row in rows)


def unlimped(self, now, inputs):
    raised = RAISED(self, now, inputs)
    self._limp = False
    return raised


MOVE_ON, STAGE, RAISED = guard.Guard._move_on, guard.Guard._stage, guard.Guard._raised
ENTER, STANDING, REFUSAL = ledger.Ledger._enter, ledger.Ledger.standing, ledger.Ledger.refusal
SERVO, TILT = ("servo_fault",), ("tilt", "learner_gone")
TOGETHER, AFTER, BESIDE, COUNTS = "standing", *WHEN[3:]
STAGES = {True: "", False: "damp"}


def attr(owner, name, value):
    return lambda m: m.setattr(owner, name, value)


def item(table, key, value):
    return lambda m: m.setitem(table, key, value)


def unasked(name, role, nonce):
    return Command(name, "console", nonce)


def not_warned(self):
    return [row for row in STANDING(self) if row.action > Severity.WARN]


def if_one_is_gone(self, now):
    return "" if self.latched - self.active else REFUSAL(self, now)


G, L, H = guard.Guard, ledger.Ledger, halt.Halt
STOP, LONE = ("operator_stop", "learner_gone"), ("learner_gone",)
UNLATCHED = altered(product.QUICK, "console_silent", clear=Clear.AUTO)
UNSTARTED = tuple(row for row in product.QUICK if row.id != "guard_restart")
SOON, LATE = (altered(product.ROWS, "tilt", debounce_s=s) for s in (0.08, 0.12))
YOUNG = altered(product.ROWS, "stalled", grace_s=1.98)
# What is wrong with the guard, and one place and field in which it shows.
WRONG = {
    "a key does more": (item(guard.AFTER_COMMAND, (State.PSTOP, "disable"), State.HOLD), "PSTOP", SERVO, TOGETHER, "state"),
    "a key does less": (item(guard.AFTER_COMMAND, (State.PSTOP, "clear"), State.PSTOP), "PSTOP", SERVO, "gone", "state"),
    "no wait before a clear": (attr(L, "refusal", lambda *_: ""), "HOLD", SERVO, TOGETHER, "refused"),
    "less than the worst cause": (item(guard.AFTER_CAUSE, State.HOLD, HALF), "HOLD", SERVO, TOGETHER, "state"),
    "nonces for ever": (attr(guard, "NONCE_NS", 10**15), "READY", LONE, "gone", "refused"),
    "nobody asks who": (attr(product, "Command", unasked), "READY", LONE, "gone", "refused"),
    "no torque for a ramp": (item(guard.POWERS, State.STOPPING, Powers()), "RUN", ("nan_action",), "at once", "torque"),
    "torque in RELAX": (item(guard.POWERS, State.RELAX, Powers(True)), "HOLD", ("imu_stale",), "at once", "torque"),
    "who resets is said to act": (item(guard.POWERS, State.RESET, Powers(True, "policy")), "RESET", LONE, "at once", "holder"),
    "a lease of an old number": (attr(G, "_lease", at_once), "RUN", ("episode_fall",), "at once", "holder"),
    "limp at once": (attr(G, "_stage", lambda s, _: "" if s._torque else "off"), "HOLD", ("imu_stale",), "at once", "stop"),
    "damped for ever": (attr(G, "_stage", lambda s, _: STAGES[s._torque]), "READY", SERVO, TOGETHER, "stop"),
    "damped by a period less": (attr(G, "_stage", early), "RUN", TILT, AFTER, "stop"),
    "a stop key lets it down": (attr(H, "step", lambda *_: False), "RELAX on its way down", STOP[:1], TOGETHER, "hold"),
    "PSTOP lets it down": (attr(G, "_hold", by_keys_alone), "PSTOP after a restart", SERVO, "standing", "hold"),
    "held in spite of disable": (attr(H, "forget", lambda _: None), "RELAX on its way down", STOP, AFTER, "hold"),
    "held, and nothing to hold": (attr(halt, "LOWERS_NS", 10**12), "READY", STOP, AFTER, "hold"),
    "warnings are not told": (attr(L, "standing", not_warned), "HOLD", ("temp_warning",), TOGETHER, "causes"),
    "not latched while it stands": (attr(product, "QUICK", UNLATCHED), "PSTOP", ("console_silent",), TOGETHER, "latched"),
    "moved, and not said why": (attr(G, "_cause", lambda *_: ""), "HOLD", SERVO, "at once", "explained"),
    "RELAX ends by the clock": (attr(G, "_move_on", by_time), "RUN", TILT, "gone", "state"),
    "RELAX ends by it, a cause after": (attr(G, "_move_on", by_time), "RUN", TILT, AFTER, "state"),
    "the second is not latched": (attr(L, "_enter", to_the_latest), "HOLD", ("servo_fault", "port_lost"), AFTER, "latched"),
    "cleared when one is gone": (attr(L, "refusal", if_one_is_gone), "HOLD", ("servo_fault", "port_lost"), BESIDE, "refused"),
    "too quick to believe": (attr(product, "ROWS", SOON), "RUN", ("tilt",), COUNTS, "state"),
    "too slow to believe": (attr(product, "ROWS", LATE), "RUN", ("tilt",), COUNTS, "state"),
    "no time to begin": (attr(product, "ROWS", YOUNG), "RUN", ("stalled",), COUNTS, "state"),
    "a session for ever": (attr(guard, "SESSION_NS", 10**18), "RUN for 4 hours", LONE, "at once", "state"),
    "held for ever": (attr(guard, "PSTOP_NS", 10**18), "PSTOP for 10 minutes", LONE, "at once", "state"),
    "a restart is forgotten": (attr(product, "QUICK", UNSTARTED), "PSTOP after a restart", LONE, "at once", "causes"),
    "a limp robot is put on": (attr(G, "_raised", unlimped), "PSTOP after a restart, limp", LONE, "gone", "torque"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_guard_that_is_wrong_disagrees(monkeypatch, wrong):
    change, state, ids, when, field = WRONG[wrong]
    place = (state, ids, when, product.KEYS_PRESSED)
    product.begun.cache_clear()
    assert found([place]) == []
    product.begun.cache_clear()
    change(monkeypatch)
    told = found([place])
    product.begun.cache_clear()
    assert any(f"; {field} " in "; " + line.rpartition(": ")[2] for line in told), told
