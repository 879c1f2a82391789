"""The guard against the facts over the product of states, causes, times, keys, roles and nonces: a part of it, drawn by a seed.

The whole of it, which is too long for here: python -m tests.safety.product
"""

from __future__ import annotations

import pytest

from robotrl.safety import guard, ledger
from robotrl.safety.causes import Command, State
from tests.safety import product

CONSOLE = [key for key in product.KEYS_PRESSED if key.role == "console" and key.nonce == "shown"]


def found(places):
    return [line for place in places for line in product.disagreements(*place)]


def test_the_product_has_every_cause_that_comes_from_without():
    assert len(product.STATES) == 11 and len(product.KEYS_PRESSED) == 9 * 4 * 3
    assert {id for ids in product.CAUSE_SETS for id in ids} == set(product.TABLE)


@pytest.mark.parametrize("state", product.STATES)
def test_every_cause_with_a_key_of_a_console(state):
    """Of each cause when it stands and when it is gone, one key each by a seed, and the key that clears."""
    keys = product.random.Random(state)
    places = [
        (state, (id,), when, [keys.choice(CONSOLE), product.Key("clear", "console", "shown")])
        for id in product.TABLE
        for when in ("standing", "gone")
    ]
    assert found(places) == []


def test_pairs_of_causes_with_any_key_of_anybody():
    assert found(product.sampled(1, 300, 12)) == []


def test_a_fall_that_no_budget_forgives_is_latched_whatever_ends_the_session_beside_it():
    falls = [ids for ids in product.CAUSE_SETS if "operator_absent" in ids and set(ids) & product.FALLS]
    assert len(falls) == 4 and found([("RUN", ids, when, CONSOLE) for ids in falls for when in ("at once", "standing")]) == []


HALF = (State.HOLD, State.HOLD, State.HOLD, State.STOPPING, State.STOPPING, State.RELAX, State.LOCKOUT)
WRONG = {  # what is wrong with the guard, and one place where it shows
    "a key does more": (lambda m: m.setitem(guard.AFTER_COMMAND, (State.PSTOP, "disable"), State.HOLD), "PSTOP", "disable"),
    "a key does less": (lambda m: m.delitem(guard.AFTER_COMMAND, (State.PSTOP, "clear")), "PSTOP", "clear"),
    "no wait before a clear": (lambda m: m.setattr(ledger.Ledger, "refusal", lambda self, now: ""), "HOLD", "clear"),
    "less than the worst cause": (lambda m: m.setitem(guard.AFTER_CAUSE, State.HOLD, HALF), "HOLD", "pause"),
    "nonces for ever": (lambda m: m.setattr(guard, "NONCE_NS", 10**15), "READY", "enable"),
    "nobody asks who": (
        lambda m: m.setattr(product, "Command", lambda name, role, n: Command(name, "console", n)),
        "READY",
        "enable",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_guard_that_is_wrong_disagrees(monkeypatch, wrong):
    change, state, name = WRONG[wrong]
    keys = [key for key in product.KEYS_PRESSED if key.name == name]
    places = [(state, (id,), when, keys) for id in ("servo_fault", "temp_warning") for when in product.WHEN]
    assert found(places) == []
    change(monkeypatch)
    with pytest.raises(AssertionError):  # by the model, or by the bench, to which every change of state is explained
        assert found(places) == []
