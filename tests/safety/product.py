"""Every state x every cause and pair of causes x when a key comes x key x role x nonce: the guard against the facts on paper.

    python -m tests.safety.product [--console] [--start NAME ...] [--jobs N] [--out FILE]

Causes of a pair come together and go together, or one after the other; a key comes in the step that shows them, in the next one,
or once they are gone (`WHEN`). These have neither debounce nor grace; the last pass has the real ones, in a state just entered,
and a key in the step before a cause counts and in the one in which it does. What `FIELDS` names is compared after every step.
It prints how many combinations there were, and each disagreement; exit code 1 when there is one.

Left out: two at once of those that show in one field, for a joint has one temperature and a reset one outcome (one after the
other they are here); a restart with causes kept from the life before, which is a set that one starts with (test_guard_exact).
"""

from __future__ import annotations

import argparse
import functools
import itertools
import random
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from robotrl import rundir
from robotrl.safety.causes import Command
from robotrl.safety.guard import Guard
from tests.safety.forked import forked
from tests.safety.inputs import WELL
from tests.safety.onpaper import DEBOUNCE, GRACE, SECOND, TABLE, Key, Paper
from tests.safety.test_guard import ALL, QUICK, ROWS, T

STATES = (
    *ALL.split(), "RESET in a session", "RUN for 4 hours", "PSTOP for 10 minutes", "PSTOP after a restart",
    "PSTOP after a restart, limp", "RELAX on its way down", "PSTOP held by its driver",
)  # fmt: skip
WHEN = ("at once", "standing", "gone", "one after the other", "the other stands", "as it begins to count")
NAMES = ("enable", "run", "pause", "stop", "clear", "reset", "disable", "beat", "")
ROLES = ("console", "policy", "learner", "")
NONCES = ("shown", "old", "wrong")
KEYS_PRESSED = [Key(*key) for key in itertools.product(NAMES, ROLES, NONCES)]
ANSWERS = [key for key in KEYS_PRESSED if (key.role, key.nonce) == ("console", "shown")]
# For the last three times and the last six starts: who presses, and in answer to what, is there in full for the others.
FEWER = ANSWERS + [
    key for key in KEYS_PRESSED if key.name in ("clear", "run") and (key.role == "console") is not (key.nonce == "shown")
]
CAUSE_SETS = [(a,) for a in TABLE] + [
    (a, b) for a, b in itertools.combinations(TABLE, 2) if not set(TABLE[a][0]) & set(TABLE[b][0])
]  # two that show in one field cannot be there at once
ORDERED = list(itertools.permutations(TABLE, 2))
DELAYED = [ids for ids in CAUSE_SETS if any(id in DEBOUNCE or id in GRACE for id in ids)]
SETS = dict.fromkeys(WHEN[:3], CAUSE_SETS) | dict.fromkeys(WHEN[3:5], ORDERED) | {WHEN[5]: DELAYED}
FIELDS = ("state", "session", "refused", "torque", "holder", "stop", "hold", "causes", "latched", "explained")
LONG = 61 * SECOND  # longer than any cool-down
NOBODY: frozenset[str] = frozenset()
WAY_DOWN_S = 10  # of the arm that is still on it when the key comes


class Pair:
    """A guard and its paper, a clock, and a node that persists epochs. `wrong`: where they first disagreed, on the way here."""

    def __init__(self, start: str, delays: bool) -> None:
        restarted, damp_s = "restart" in start, WAY_DOWN_S if "way" in start else 1
        nonces = itertools.count(1000)
        self.guard = Guard(ROWS if delays else QUICK, lambda: next(nonces), damp_s=damp_s, restarted=restarted)
        self.paper = Paper(delays=delays, damp=damp_s * SECOND, restarted=restarted)
        self.now, self.epoch, self.shown, self.old = 10**12, 7, 0, 0  # the nonce on the screen, and one from too long ago
        self.base, self.robot = WELL, {"reset_outcome": "", "episode_ended": ""}
        self.wrong = ""
        self.set()

    def set(self, **robot: Any) -> None:
        """How the robot is from now on."""
        self.base = self.base._replace(**robot)
        told = ("still", "checks_passed", "torque_on", "lowering", "holding")
        self.robot = self.robot | {name: getattr(self.base, name) for name in told}

    def step(self, ids: frozenset[str] = NOBODY, key: Key | None = None, dt: int = 1, **changes: Any) -> str:
        """Both take a step in which these causes show; where they then disagree, or ''."""
        self.now += dt * T
        fields = fields_of(ids)
        commands = fields.get("commands", ())
        if key is not None:
            commands += (Command(key.name, key.role, {"shown": self.shown, "old": self.old, "wrong": 31337}[key.nonce]),)
        before = self.guard.state
        out = self.guard.step(self.now, self.base._replace(**fields | changes | {"epoch": self.epoch, "commands": commands}))
        self.paper.step(ids, self.robot | changes if changes else self.robot, key, dt)
        self.epoch += out.next_epoch
        self.shown = out.nonce
        explained = bool(out.trigger) is (out.state is not before)
        latched = self.guard.ledger.latched
        told = (str(out.state), out.session, bool(out.refused), out.torque, out.holder, out.stop, out.hold, set(out.causes))
        theirs, ours = (*told, latched, explained), self.paper.sight()
        if theirs == ours:
            return ""
        found = [f"{name} {_told(a)}, on paper {_told(b)}" for name, a, b in zip(FIELDS, theirs, ours, strict=True) if a != b]
        self.wrong = self.wrong or "; ".join(found)
        return "; ".join(found)

    def twin(self) -> Pair:
        """A copy, quickly: rows, inputs and what is shown are never changed."""
        new = _copy(self)
        new.guard = guard = _copy(self.guard)
        guard.ledger, guard._halt, guard._nonces = ledger, halt, _ = _copy(guard.ledger), _copy(guard._halt), dict(guard._nonces)
        halt._awake = _copy(halt._awake)
        ledger.active, ledger.latched, ledger.spent = set(ledger.active), set(ledger.latched), dict(ledger.spent)
        ledger._since, ledger._seen = dict(ledger._since), dict(ledger._seen)
        new.paper = paper = _copy(self.paper)
        paper.seen, paper.spent = dict(paper.seen), dict(paper.spent)
        return new


def _told(value: Any) -> Any:
    return (", ".join(sorted(value)) or "none") if isinstance(value, (set, frozenset)) else value


def _copy(of: Any) -> Any:
    new = object.__new__(type(of))
    new.__dict__.update(of.__dict__)
    return new


@functools.cache
def fields_of(ids: frozenset[str]) -> dict[str, Any]:
    return {k: v for id in sorted(ids) for k, v in TABLE[id][0].items()}


def only(first: str, then: str) -> frozenset[str]:
    """Both; the second alone where one field shows them."""
    return frozenset((then,) if set(TABLE[first][0]) & set(TABLE[then][0]) else (first, then))


@functools.cache
def begun(start: str, delays: bool = False) -> Pair:
    """Guard and paper where one starts, come there the way a run does; longer ago than a nonce is good, or just now."""
    pair, name = Pair(start, delays), start.split()[0]
    if start in ("BOOT", "CHECK"):
        pair.set(checks_passed=False)
    if start == "PSTOP after a restart, limp":
        pair.set(torque_on=False)
    if start == "BOOT":
        return pair  # its first step is the one in which the key comes
    pair.step()
    if "restart" not in start and start != "CHECK":
        pair.step()
        keys = {"RUN": ("enable", "run"), "RESET": ("enable", "reset"), "READY": (), "RELAX": ("stop",), "LOCKOUT": ()}
        keys |= {"RESET in a session": ("enable", "run"), "RELAX on its way down": ("enable",)}
        stops = ("stop",) if name == "PSTOP" else ()
        for key in keys.get(start, keys.get(name, ("enable", *stops))):
            pair.step(key=Key(key, "console", "shown"))
    for _ in range(2 if name in ("RUN", "RESET") else 0):  # for the lease
        pair.step()
    if start == "LOCKOUT":
        pair.step(frozenset({"stop_unconfirmed"}))
    if name == "RESET":
        for ended in ("time", "", "") if "session" in start else ():
            pair.step(episode_ended=ended)
        pair.step(reset_outcome="running")
    pair.old = 0 if delays else pair.shown
    if "4 hours" in start or "10 minutes" in start:
        pair.step(dt=(4 * 3600 if "hours" in start else 600) * SECOND - (2 if "hours" in start else 0))
    elif not delays:
        pair.step(dt=6 * SECOND)
    if start == "STOPPING":
        pair.set(still=False)
        for _ in range(1 + delays * DEBOUNCE["frame_errors"]):
            pair.step(FRAMES)
    if "held by" in start:
        pair.set(lowering=True, holding=True)
    if "way down" in start:
        pair.set(lowering=True)
        pair.step(frozenset({"imu_stale"}))
    assert pair.guard.state == name and pair.old != pair.shown, start
    return pair


FRAMES = frozenset({"frame_errors"})  # what stands in STOPPING: it clears by itself


def moments(start: str, ids: tuple[str, ...], when: str) -> Iterator[tuple[Pair, frozenset[str]]]:
    """Both up to the step of the key, and the causes that stand in it."""
    pair = begun(start, when == WHEN[5]).twin()
    stands = FRAMES if start == "STOPPING" else NOBODY
    both, a, b = frozenset(ids), frozenset(ids[:1]), frozenset(ids[-1:])
    if when == WHEN[5]:
        yield from counting(pair, both | stands)
        return
    if when == "standing":
        pair.step(both | stands)
    elif when == "gone":
        pair.step(both | stands)
        later(pair, NOBODY)
    elif when == "one after the other":  # B a second after A, which has gone at once
        pair.step(a | stands)
        for dt in (1, 1, 40, 2, 2, 2, 1):
            pair.step(stands, dt=dt)
        pair.step(b | stands)
    elif when == "the other stands":  # B a second after A, and A goes; B never does
        for dt in (1, 1, 47, 1):
            pair.step(a | stands, dt=dt)
        pair.step(only(*ids) | stands)
        later(pair, b)
    yield pair, {"gone": NOBODY, "one after the other": b | stands, "the other stands": b}.get(when, both | stands)


def later(pair: Pair, ids: frozenset[str]) -> None:
    """What stood is gone, but for `ids`, for longer than any cool-down, and the robot is still."""
    pair.set(still=True)
    for dt in (1, 1, LONG, 2, 2, 2, 2, 2):
        pair.step(ids, dt=dt)


def counting(pair: Pair, ids: frozenset[str]) -> Iterator[tuple[Pair, frozenset[str]]]:
    """They stand from now on: before the step in which one with a debounce or a grace comes to count, and the one before."""
    age = pair.paper.now - pair.paper.entered
    counts = {DEBOUNCE[id] + 1 for id in ids & DEBOUNCE.keys()} | {max(1, GRACE[id] - age) for id in ids & GRACE.keys()}
    for n in range(1, max(counts) + 1):
        if counts & {n, n + 1}:
            yield pair, ids
        pair.step(ids)


def played(start: str, ids: tuple[str, ...], when: str, keys: list[Key]) -> tuple[int, list[str]]:
    """How many combinations, and where guard and paper disagree: on the way, else with which key."""
    count, found = 0, []
    for pair, stand in moments(start, ids, when):
        count += len(keys)
        lines = [("on the way", pair.wrong)] if pair.wrong else [(str(tuple(k)), pair.twin().step(stand, k)) for k in keys]
        found += [f"{start}, {' + '.join(ids)}, {when}, {key}: {line}" for key, line in lines if line]
    return count, found


def found(places: Iterable[tuple[str, tuple[str, ...], str, list[Key]]]) -> list[str]:
    return [line for place in places for line in played(*place)[1]]


def sampled(
    seed: int, places: int, keys: int, whens: tuple[str, ...] = WHEN
) -> list[tuple[str, tuple[str, ...], str, list[Key]]]:
    """So many places of the product, and so many keys in each, by a seed."""
    rng = random.Random(seed)
    drawn = [(rng.choice(STATES), rng.choice(whens)) for _ in range(places)]
    return [(state, rng.choice(SETS[when]), when, rng.sample(KEYS_PRESSED, keys)) for state, when in drawn]


def part(start: str, when: str, console: bool) -> dict[str, Any]:
    """One start and one time of the key: all of it."""
    began, count = time.process_time(), 0
    lines: list[str] = []
    keys = ANSWERS if console else KEYS_PRESSED if when in WHEN[:3] and start in STATES[:11] else FEWER
    for ids in SETS[when]:
        n, more = played(start, ids, when, keys)
        count, lines = count + n, lines + more
    return {"start": start, "when": when, "combinations": count, "disagree": len(lines), "said": lines[:20],
            "cpu_s": round(time.process_time() - began, 2)}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--console", action="store_true", help="a console's keys in answer to what is shown, alone")
    parser.add_argument("--start", action="append", choices=STATES, help="these starts alone")
    parser.add_argument("--when", action="append", choices=WHEN, help="these times of the key alone")
    parser.add_argument("--jobs", type=int, default=1, help="parts at a time")
    parser.add_argument("--out", type=Path, help="write the result there, with machine and commit")
    args = parser.parse_args(argv)
    began, built = time.perf_counter(), rundir.provenance()
    asked = list(itertools.product(args.start or STATES, args.when or WHEN))
    parts: list[dict[str, Any]] = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for told in pool.map(lambda at: forked(lambda: part(at[0], at[1], args.console)), asked):
            parts.append(told)
            print("\n".join(told["said"]), end="\n" * bool(told["said"]), flush=True)
            n, bad = sum(p["combinations"] for p in parts), sum(p["disagree"] for p in parts)
            print(f"{len(parts)}/{len(asked)}, {told['start']}, {told['when']}: {n} so far, {bad} disagree, "
                  f"{time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)  # fmt: skip
    print(f"{n} combinations, {bad} disagree")
    if args.out is not None:
        counts = {"combinations": n, "starts": len(args.start or STATES), "causes": len(TABLE), "fields": FIELDS,
                  "sets": {when: len(SETS[when]) for when in args.when or WHEN}, "parts": parts}  # fmt: skip
        result = {"built_from": built, "counts": counts, "disagreements": bad}
        seconds = {"seconds": round(time.perf_counter() - began, 1), "cpu_s": round(sum(p["cpu_s"] for p in parts), 1)}
        rundir.write_json(args.out, result | seconds | {"jobs": args.jobs})
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
