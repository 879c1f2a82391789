"""The guard on paper: what the facts say it does, for `product.py`. It shares no code with the guard.

Written from the state table and the clear rules of the safety facts (3.2), from the catalogue as test_guard.py has it, and of an
arm that is held on its way down from docs/console.md. Time is counted in steps of 20 ms.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.safety.test_guard import ALL, AUTO, BY_BUDGET, CAUSES, KEYS, ON, ORDER, model

RESETS: dict[str, tuple[dict[str, object], str, str]] = {
    "reset_failed": ({"reset_outcome": "failed"}, "HOLD", "RESET"),
    "set_up": ({"reset_outcome": "asks"}, "HOLD", "RESET"),
}
BY_TIME: dict[str, tuple[dict[str, object], str, str]] = {  # nothing shows them: the guard knows them of itself
    "guard_restart": ({}, "PSTOP", ALL),
    "session_over": ({}, "HOLD", ALL),
    "pstop_long": ({}, "RELAX", ALL),
}
TABLE = CAUSES | RESETS
KNOWN = TABLE | BY_TIME
RANK = {id: ORDER.index(action) for id, (_, action, _) in KNOWN.items()}
JUDGED = {state: frozenset(id for id in KNOWN if state in KNOWN[id][2].split()) for state in ALL.split()}
LED = {(state, n): model(state, name) for state in ALL.split() for n, name in enumerate(ORDER)}
LED |= {("BOOT", n): "BOOT" for n in range(6)}  # it leaves by itself in the same step
IMPLIED = {"temp_over": {"temp_high", "temp_warning"}, "temp_high": {"temp_warning"}, "reset_silent": {"action_stale"}}
LATCHING = frozenset(KNOWN) - AUTO - {"session_over"}
WARN, HOLD, STOPPING = (ORDER.index(name) for name in ("WARN", "HOLD", "STOPPING"))
POWERED = ON.split()
HOLDERS = {"RUN": "policy", "RESET": "reset"}
FALLS = {"tilt", "episode_fall", "free_fall", "stalled"}
BUDGET = 2
ANSWER = {"hand_gone": "run", "set_up": "run", "reset_failed": "reset"}  # the key, besides clear, that settles it
STARTS = ("enable", "run", "reset")

SECOND = 50  # all below in steps
COOLDOWN = {"temp_high": 30 * SECOND, "temp_over": 60 * SECOND}
DEBOUNCE = {"frame_errors": 50, "let_go": 15, "attitude": 15, "oscillation": 10, "tilt": 5, "workspace": 2, "turned": 5}
GRACE = {"servo_timeout": 10, "action_stale": 25, "reset_silent": 50, "clamped": 50, "stalled": 100}
RAMP, WELL_AGAIN, PSTOP_LONG, SESSION = 15, 10, 600 * SECOND, 4 * 3600 * SECOND
HELD, HEARD, STANDSTILL = 600 * SECOND, 10, 2  # an arm on its way down; a gap between two steps counts as no more than STANDSTILL


class Key(NamedTuple):
    name: str
    role: str
    nonce: str  # "shown", "old" or "wrong"


class Paper:
    """`sight` is what it says of the last step, as `product.sight` has it of the guard."""

    def __init__(self, *, delays: bool = False, damp: int = SECOND, restarted: bool = False) -> None:
        self.debounce, self.grace = (DEBOUNCE, GRACE) if delays else ({}, {})
        self.damp = damp
        self.now, self.entered, self.opened = 0, 0, 0
        self.off_since: int | None = None
        self.state, self.session, self.first = ("PSTOP" if restarted else "BOOT"), False, True
        self.began = restarted  # by hand again: its first cause
        self.limp = False  # PSTOP in which the driver has no torque: it gets none
        self.active: frozenset[str] = frozenset()
        self.latched: frozenset[str] = frozenset()
        self.since: dict[str, int] = {}
        self.seen: dict[str, int] = {}
        self.spent = {"fall": 0, "hiccup": 0}
        self.script = False  # that of this visit to RESET has begun
        self.kept, self.epoch, self.leased = 0, 0, False  # leases: numbered on disk, given, of this visit
        self.torque, self.stop, self.refused = False, "off", False
        self.awake, self.heard, self.pressed = 0, 0, -1
        self.hold = False

    def step(self, ids: frozenset[str], robot: Mapping[str, Any], key: Key | None = None, dt: int = 1) -> None:
        """Causes, then the key, then what follows by itself."""
        self.now += dt
        before, stop = self.state, "operator_stop" in ids or (key is not None and key.name == "stop")
        self.script |= before == "RESET" and self.leased and robot["reset_outcome"] == "running"
        self._judge(self._shows(closed(ids), stop, robot))
        self._go(LED[before, self._worst()])
        self.refused = key is not None and key.name != "stop" and not self._obey(key, robot)
        if self.state == before:
            self._move_on(robot["episode_ended"] or "episode_fall" in ids, robot)
        unseen = "port_lost" in ids or "driver_silent" in ids  # who is not heard may still have an arm on its way
        stands = self.state == "PSTOP" and (robot["holding"] or not robot["lowering"])
        self._say(stop or stands, robot["lowering"], unseen, dt)

    def _shows(self, ids: frozenset[str], stop: bool, robot: Mapping[str, Any]) -> frozenset[str]:
        """Those that are judged in this state, have been there for long enough, and it in the state."""
        ids |= {"operator_stop"} if stop else set()
        ids |= {"session_over"} if self.session and self.now - self.opened > SESSION else set()
        ids |= {"pstop_long"} if self.state == "PSTOP" and self.now - self.entered > PSTOP_LONG else set()
        if self.first:
            self.first, self.entered = False, self.now
            if self.began:
                ids, self.limp = ids | {"guard_restart"}, not robot["torque_on"]
        ids &= JUDGED[self.state]
        if not self.script:  # what is said before is of another one
            ids -= RESETS.keys()
        if not self.debounce:
            return ids
        young = self.now - self.entered
        ids = frozenset(id for id in ids if young >= self.grace.get(id, 0))
        self.since = {id: self.since.get(id, self.now) for id in ids}
        return frozenset(id for id in ids if self.now - self.since[id] >= self.debounce.get(id, 0))

    def _judge(self, shows: frozenset[str]) -> None:
        new = {id for id in shows - self.active if RANK[id] > WARN}
        self.active = shows
        if shows:
            self.seen |= dict.fromkeys(shows, self.now)
        forgiven = self.session and new <= BY_BUDGET
        for id in new if forgiven else ():
            budget = "fall" if id in FALLS else "hiccup"
            forgiven &= self.spent[budget] < BUDGET
            self.spent[budget] += 1
        if not new or forgiven:
            return
        self.session = False
        if self.state in ("BOOT", "CHECK"):  # nothing was on: what is wrong has only to go away
            new &= {"stop_unconfirmed"}
        self.latched |= new & LATCHING

    def _worst(self) -> int:
        return max([RANK[id] for id in self.active | self.latched], default=0)

    def _go(self, state: str) -> None:
        if self.state == "PSTOP" and state not in ("PSTOP", "READY"):
            self.pressed = -1
        if state != self.state:
            self.state, self.entered, self.script, self.leased, self.limp = state, self.now, False, False, False

    def _obey(self, key: Key, robot: Mapping[str, Any]) -> bool:
        to = KEYS.get((self.state, key.name))
        if key.role != "console" or to is None or (key.nonce != "shown" and key.name != "pause"):
            return False
        settled = frozenset(id for id in self.latched - self.active if ANSWER.get(id) == key.name)
        if key.name in STARTS and any(RANK[id] > WARN for id in (self.active | self.latched) - settled):
            return False
        if key.name == "clear":
            fresh = any(self.now - self.seen[id] < COOLDOWN.get(id, SECOND) for id in self.latched)
            if not robot["still"] or "stop_unconfirmed" in self.latched or self.latched & self.active or fresh:
                return False
            settled, to = self.latched, "READY" if self.limp else to  # no key but `enable` puts torque on
        if key.name in ("disable", "enable"):
            self.pressed = -1
        self.latched -= settled
        self.session = key.name == "run"
        if self.session:
            self.spent, self.opened = dict.fromkeys(self.spent, 0), self.now
        self._go(to)
        return True

    def _move_on(self, ended: bool, robot: Mapping[str, Any]) -> None:
        worst = self._worst()
        if self.state == "BOOT":
            self._go("CHECK")
        elif self.state == "CHECK" and robot["checks_passed"] and worst <= WARN:
            self._go("READY")
        elif self.state == "RUN" and ended:
            self._go("RESET")
        elif self.state == "STOPPING" and (robot["still"] or self.now - self.entered >= RAMP):
            latched = any(RANK[id] >= STOPPING for id in self.latched)
            self._go("PSTOP" if latched else "HOLD" if worst < STOPPING else "STOPPING")
        elif self.session and robot["still"] and self._rests() and worst <= WARN and self._quiet():
            self._go("RESET")

    def _rests(self) -> bool:
        """HOLD, or RELAX once it has come to its end: the driver was told "off" before this step, as the table's order has it."""
        return self.state == "HOLD" or (self.state == "RELAX" and self.stop == "off")

    def _quiet(self) -> bool:
        return all(self.now - t >= WELL_AGAIN for id, t in self.seen.items() if RANK[id] > WARN)

    def _say(self, stop: bool, lowers: bool, unseen: bool, dt: int) -> None:
        """What the driver is permitted and told: torque, how it goes off, whose actions, whether an arm stays where it is."""
        torque = self.state in POWERED and not self.limp
        self.hold = self.state != "LOCKOUT" and self._held(stop, lowers or unseen, dt)
        if (self.torque and not torque) or (self.hold and lowers):  # it has all its time again when it goes on
            self.off_since = self.now
        self.torque = torque
        damps = self.off_since is not None and self.now - self.off_since < self.damp and self.state != "LOCKOUT"
        self.stop = "" if torque else "damp" if damps else "off"
        if self.state in HOLDERS and not self.leased:  # a number that is on disk and was never given, or one is asked for
            self.leased = self.kept > self.epoch
            self.epoch = self.kept
            self.kept += not self.leased

    def _held(self, stop: bool, lowers: bool, dt: int) -> bool:
        """From a stop key until `disable`, for ten minutes, and while the driver is known to have an arm on its way."""
        self.awake += min(dt, STANDSTILL)
        if stop:
            self.pressed = self.awake
        if stop or lowers:
            self.heard = self.awake
        if self.awake - self.pressed > HELD or self.awake - self.heard > HEARD:
            self.pressed = -1
        return self.pressed >= 0

    def sight(self) -> tuple[Any, ...]:
        holder = HOLDERS[self.state] if self.leased else ""
        standing = self.active | self.latched
        return (self.state, self.session, self.refused, self.torque, holder, self.stop, self.hold, standing, self.latched, True)


_closed: dict[frozenset[str], frozenset[str]] = {}


def closed(ids: frozenset[str]) -> frozenset[str]:
    """With what they imply: what is worse than a threshold is worse than a lower one."""
    if ids not in _closed:
        _closed[ids] = ids.union(itertools.chain.from_iterable(IMPLIED.get(id, ()) for id in ids))
    return _closed[ids]
