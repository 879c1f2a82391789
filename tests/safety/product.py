"""Every state x every cause and pair of causes x when a key comes x key x role x nonce: the guard against a model.

    python -m tests.safety.product              the whole product; prints how many there were, and each disagreement
    python -m tests.safety.product --console    a console's keys in answer to what is shown, alone: a twelfth of it

`Model` is written from the state table and the clear rules of the safety facts (3.2), and from the catalogue as test_guard.py
has it; it shares no code with the guard. A key comes in the step that shows the causes, in the next one while they stand, or
after they have been gone for longer than any cool-down. Left out, and tested elsewhere: guard_restart, session_over, pstop_long.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from robotrl.safety.causes import Command
from tests.safety.test_guard import ALL, AUTO, BY_BUDGET, CAUSES, KEYS, ORDER, Bench, at, model

RESETS: dict[str, tuple[dict[str, object], str, str]] = {
    "reset_failed": ({"reset_outcome": "failed"}, "HOLD", "RESET"),
    "set_up": ({"reset_outcome": "asks"}, "HOLD", "RESET"),
}
TABLE = CAUSES | RESETS
FALLS = {"tilt", "episode_fall", "free_fall", "stalled"}
COOLDOWN_S = {"temp_high": 30.0, "temp_over": 60.0}
ANSWER = {"hand_gone": "run", "set_up": "run", "reset_failed": "reset"}  # the key, besides clear, that settles it
STARTS = ("enable", "run", "reset")
BUDGET = 2
STATES = (*ALL.split(), "RESET in a session")
WHEN = ("at once", "standing", "gone")
NAMES = ("enable", "run", "pause", "stop", "clear", "reset", "disable", "beat", "")
ROLES = ("console", "policy", "learner", "")
NONCES = ("shown", "old", "wrong")
CAUSE_SETS = [(a,) for a in TABLE] + [
    (a, b) for a, b in itertools.combinations(TABLE, 2) if not set(TABLE[a][0]) & set(TABLE[b][0])
]  # two that show in one field cannot be there at once
STEP_S, LONG_S = 0.02, 61.0


class Key(NamedTuple):
    name: str
    role: str
    nonce: str  # of NONCES


KEYS_PRESSED = [Key(*key) for key in itertools.product(NAMES, ROLES, NONCES)]


class Model:
    """What the facts say. Times in s."""

    def __init__(self, state: str) -> None:
        self.state, self.session, self.checks = state, False, state not in ("BOOT", "CHECK")
        self.now, self.off_since = 0.0, -1e9
        self.active: set[str] = set()
        self.latched: set[str] = set()
        self.seen: dict[str, float] = {}
        self.spent = {"fall": 0, "hiccup": 0}
        self.began = False  # the script of this reset
        self.entered = 0.0

    def step(self, ids: set[str], key: Key | None = None, dt: float = STEP_S, well: bool = True) -> bool:
        """Causes, then the key, then what follows by itself. `well`: checks pass and nothing moves. True: the key was refused."""
        self.now += dt
        before, shows = self.state, self._shows(ids | ({"operator_stop"} if key is not None and key.name == "stop" else set()))
        self._judge(shows)
        self._go(model(before, self._worst()) if before != "BOOT" or self._worst() == "LOCKOUT" else "BOOT")
        refused = key is not None and key.name != "stop" and not self._obey(key, well)
        if self.state == before:
            self._move_on("episode_fall" in ids, well)
        return refused

    def _shows(self, ids: set[str]) -> set[str]:
        """Those that are judged in this state; and what is worse than a threshold is worse than a lower one."""
        implied = {"temp_over": {"temp_high", "temp_warning"}, "temp_high": {"temp_warning"}, "reset_silent": {"action_stale"}}
        all_of = ids.union(*(implied.get(id, set()) for id in ids))
        resets = set(RESETS) if not self.began else set()
        return {id for id in all_of - resets if self.state in TABLE[id][2].split()}

    def _judge(self, shows: set[str]) -> None:
        new = {id for id in shows - self.active if TABLE[id][1] != "WARN"}
        self.active = shows
        self.seen |= dict.fromkeys(shows, self.now)
        forgiven = self.session and new <= BY_BUDGET
        for id in new if forgiven else ():
            budget = "fall" if id in FALLS else "hiccup"
            forgiven &= self.spent[budget] < BUDGET
            self.spent[budget] += 1
        if not new or forgiven:
            return
        self.session = False
        off = self.state in ("BOOT", "CHECK")  # nothing was on: what is wrong has only to go away
        self.latched |= {id for id in new - AUTO if not off or id == "stop_unconfirmed"}

    def _worst(self) -> str:
        return max(("NONE", *(TABLE[id][1] for id in self.active | self.latched)), key=ORDER.index)

    def _go(self, state: str) -> None:
        if state == self.state:
            return
        powered = ("HOLD", "RUN", "RESET", "STOPPING", "PSTOP")
        if self.state in powered and state not in powered:
            self.off_since = self.now
        self.state, self.entered, self.began = state, self.now, False

    def _obey(self, key: Key, well: bool) -> bool:
        to = KEYS.get((self.state, key.name))
        if key.role != "console" or to is None or (key.nonce != "shown" and key.name != "pause"):
            return False
        settled = {id for id in self.latched - self.active if ANSWER.get(id) == key.name}
        standing = {id for id in self.active | self.latched if TABLE[id][1] != "WARN"}
        if key.name in STARTS and standing - settled:
            return False
        if key.name == "clear":
            fresh = any(self.now - self.seen[id] < max(1.0, COOLDOWN_S.get(id, 0.0)) for id in self.latched)
            if not well or "stop_unconfirmed" in self.latched or self.latched & self.active or fresh:
                return False
            settled = set(self.latched)
        self.latched -= settled
        self.session = key.name == "run"
        if self.session:
            self.spent = dict.fromkeys(self.spent, 0)
        self._go(to)
        return True

    def _move_on(self, fell: bool, well: bool) -> None:
        worst = ORDER.index(self._worst())
        if self.state == "BOOT":
            self._go("CHECK")
        elif self.state == "CHECK" and self.checks and worst <= ORDER.index("WARN"):
            self._go("READY")
        elif self.state == "RUN" and fell:
            self._go("RESET")
        elif self.state == "STOPPING" and (well or self.now - self.entered >= 0.3):
            latched = any(ORDER.index(TABLE[id][1]) >= ORDER.index("STOPPING") for id in self.latched)
            self._go("PSTOP" if latched else "HOLD" if worst < ORDER.index("STOPPING") else "STOPPING")
        elif self.session and well and self._rests() and worst <= ORDER.index("WARN") and self._quiet():
            self._go("RESET")

    def _rests(self) -> bool:
        return self.state == "HOLD" or (self.state == "RELAX" and self.now - self.off_since - STEP_S >= 1.0)

    def _quiet(self) -> bool:
        return all(self.now - t >= 0.2 for id, t in self.seen.items() if TABLE[id][1] != "WARN")


class Pair(NamedTuple):
    bench: Bench
    model: Model
    old: int  # a nonce that was shown, too long ago


def begun(state: str) -> Pair:
    """Guard and model in a state, come there the way a run does, and there for longer than a nonce is good."""
    bench, told = at({"RESET in a session": "RUN", "STOPPING": "HOLD"}.get(state, state)), Model(state.split()[0])
    told.session = state in ("RUN", "RESET in a session")
    if "session" in state:
        bench.step(episode_ended="time")
        bench.step(2)  # for the lease
    if told.state == "RESET":
        bench.step(reset_outcome="running")
        told.began = True
    if state in ("BOOT", "CHECK"):
        bench.base = bench.base._replace(checks_passed=False)
    stood = {"PSTOP": "operator_stop", "RELAX": "operator_stop", "LOCKOUT": "stop_unconfirmed"}
    if state in stood:
        told.seen[stood[state]] = told.now
        told.latched = {stood[state]}
    if state == "BOOT":
        return Pair(bench, told, 0)  # its first step is the one in which the key comes
    old = bench.out.nonce
    bench.now += 6 * 10**9
    told.now += 6.0
    bench.step()
    if state == "STOPPING":
        bench.base = bench.base._replace(frame_error_rate=0.02, still=False)
        bench.step()
        told.active, told.seen, told.entered = {"frame_errors"}, {"frame_errors": told.now}, told.now
    assert bench.state() == told.state and bench.out.nonce != old
    return Pair(bench, told, old)


def after(state: str, ids: tuple[str, ...], when: str) -> Pair:
    """Both, up to the step of the key."""
    bench, told, old = begun(state)
    changes, shown = played(ids)
    stands = {"frame_errors"} if state == "STOPPING" else set()
    if when != "at once":
        bench.step(**changes)
        told.step(shown | stands, well=state != "STOPPING")
    if when == "gone":
        bench.base = bench.base._replace(frame_error_rate=0.0, still=True)
        for dt in (STEP_S, STEP_S, LONG_S, STEP_S, STEP_S):
            bench.now += round((dt - STEP_S) * 1e9)
            bench.step()
            told.step(set(), dt=dt)
    return Pair(bench, told, old)


def played(ids: tuple[str, ...]) -> tuple[dict[str, object], set[str]]:
    return {k: v for id in ids for k, v in TABLE[id][0].items()}, set(ids)


def pressed(pair: Pair, state: str, ids: tuple[str, ...], when: str, key: Key) -> str:
    """Both take the key; where they disagree, or ''."""
    bench, told, old = pair
    changes, shown = played(ids) if when != "gone" else ({}, set())
    nonces = {"shown": bench.out.nonce if bench.out else 0, "old": old, "wrong": 31337}
    command = Command(key.name, key.role, nonces[key.nonce])
    stands = state == "STOPPING" and when != "gone"
    out = bench.step(**changes | {"commands": (*changes.get("commands", ()), command)})  # type: ignore[misc]
    refused = told.step(shown | ({"frame_errors"} if stands else set()), key, well=not stands)
    theirs, ours = (str(out.state), out.session, bool(out.refused)), (told.state, told.session, refused)
    return "" if theirs == ours else f"{state}, {' + '.join(ids)} {when}, {key}: the guard {theirs}, the facts {ours}"


def twin(pair: Pair) -> Pair:
    """A copy, quickly: rows, inputs and what is shown are never changed."""
    bench, told = _copy(pair.bench), _copy(pair.model)
    bench.guard = guard = _copy(bench.guard)
    guard.ledger = ledger = _copy(guard.ledger)
    guard._nonces = dict(guard._nonces)
    ledger.active, ledger.latched = set(ledger.active), set(ledger.latched)
    ledger._since, ledger._seen = dict(ledger._since), dict(ledger._seen)
    ledger.spent = {name: list(times) for name, times in ledger.spent.items()}
    told.latched, told.seen, told.spent = set(told.latched), dict(told.seen), dict(told.spent)
    return Pair(bench, told, pair.old)


def _copy(of: Any) -> Any:
    new = object.__new__(type(of))
    new.__dict__.update(of.__dict__)
    return new


def disagreements(state: str, ids: tuple[str, ...], when: str, keys: list[Key]) -> Iterator[str]:
    pair = after(state, ids, when)
    for key in keys:
        if found := pressed(twin(pair), state, ids, when, key):
            yield found


def sampled(seed: int, places: int, keys: int) -> list[tuple[str, tuple[str, ...], str, list[Key]]]:
    """So many places of the product, and so many keys in each, by a seed."""
    rng = random.Random(seed)
    return [(rng.choice(STATES), rng.choice(CAUSE_SETS), rng.choice(WHEN), rng.sample(KEYS_PRESSED, keys)) for _ in range(places)]


def main(argv: list[str]) -> int:
    alone = [key for key in KEYS_PRESSED if (key.role, key.nonce) == ("console", "shown")]
    keys = alone if "--console" in argv else KEYS_PRESSED
    began, found, count = time.monotonic(), 0, 0
    for state, when in itertools.product(STATES, WHEN):
        for ids in CAUSE_SETS:
            for line in disagreements(state, ids, when, keys):
                found += 1
                if found <= 50:
                    print(line, flush=True)
            count += len(keys)
        print(f"{state}, {when}: {count} so far, {found} disagree, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{len(STATES)} states x {len(CAUSE_SETS)} causes and pairs x {len(WHEN)} times x {len(keys)} keys = {count}")
    print(f"{found} disagree")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
