"""Who moved the robot, for how long, and what it cost a person: an account of a run, from the guard's word on each new state.

    account = Account()
    account.hear(guard)            every message of `cause`: each new state, with what led to it
    account.figures(now)           run_s, reset_s, wait_s, touches, interventions, failures, led_s

Pure, so the same account comes from a live bus, from a log, and from a rehearsal. A *failure* is what ended a session though
nobody had asked for it; a *touch* is any key by which a person changed the robot's state or who leads it; an *intervention* is a
touch that took the robot's motion from it: a stop, a pause, taking over. While he leads it moves, and not by itself. *Waiting*
counts from the first motion on.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from robotrl.messages import Guard

ENDED_BY_A_PERSON = ("key ", "operator_stop")
LED = "led"
OVER = ("run_over", "session_over", "set_up")  # ends that were asked for, or are by the book


class Figures(NamedTuple):
    """Of a run so far: seconds in which the policy, the reset script, nobody and a person moved it; counts."""

    run_s: float = 0.0
    reset_s: float = 0.0
    wait_s: float = 0.0
    touches: int = 0
    interventions: int = 0
    failures: int = 0
    led_s: float = 0.0

    @property
    def moved_s(self) -> float:
        return self.run_s + self.reset_s + self.led_s

    @property
    def autonomy(self) -> float:
        """The share of its time in which the robot moved by itself; nan before it has moved."""
        return (self.run_s + self.reset_s) / (self.moved_s + self.wait_s) if self.moved_s else math.nan

    @property
    def mtbf_s(self) -> float:
        """Mean time in motion between failures; inf without one."""
        return self.moved_s / self.failures if self.failures else math.inf

    def told(self) -> str:
        """In a line."""
        if not self.moved_s:
            return "the robot has not moved"
        led = f" {self.led_s / 60:.1f} min led by a person," if self.led_s else ""
        between = f"{self.mtbf_s / 60:.1f} min between failures" if self.failures else "no failure"
        return (
            f"{self.run_s / 60:.1f} min by the policy, {self.reset_s / 60:.1f} min of resets,{led} {self.wait_s / 60:.1f} min"
            f" waiting: {self.autonomy:.0%} by itself; {self.touches} touches, {self.interventions} interventions,"
            f" {self.failures} failures, {between}"
        )


class Account:
    """Adds up; times in ns of one machine's clock, which may begin anew with another life of the guard."""

    def __init__(self) -> None:
        self._spent = {"RUN": 0, "RESET": 0, LED: 0, "": 0}  # ns; "" is waiting
        self._touches = self._interventions = self._failures = 0
        self._last: Guard | None = None

    def hear(self, guard: Guard) -> None:
        """A new state, new causes in the old one, or another who leads."""
        last = self._last
        self._spend(guard.t, guard.boot)
        self._last = guard
        if last is not None and last.boot == guard.boot and guard.t < last.t:
            last = None  # another life, in lockstep
        by_hand = guard.trigger.startswith(ENDED_BY_A_PERSON)
        if guard.trigger and by_hand:
            self._touches += 1
            took = guard.trigger.startswith(("operator_stop", "key pause"))
            self._interventions += bool(took and last is not None and last.state in ("RUN", "RESET"))
        self._take_over(last, guard)
        if last is not None and last.session and not guard.session and not by_hand:
            why = guard.trigger or guard.last_cause
            self._failures += not why.startswith(OVER)

    def _take_over(self, last: Guard | None, guard: Guard) -> None:
        """Who leads by hand now, and did not, pressed a key; so did who hands back: the policy goes on under its lease."""
        before = last is not None and last.led
        if guard.led and not before:
            self._touches += 1
            self._interventions += 1
        elif before and last is not None and not guard.led:
            self._touches += (guard.state, guard.epoch) == (last.state, last.epoch)

    def _spend(self, now: int, boot: int) -> None:
        last = self._last
        if last is None or last.boot != boot or now < last.t:
            return
        if (key := _mover(last)) or self._moved:
            self._spent[key] += now - last.t

    @property
    def _moved(self) -> bool:
        return any(spent for key, spent in self._spent.items() if key)

    def figures(self, now: int | None = None) -> Figures:
        """Up to `now` (ns), or up to the last state heard of."""
        spent = dict(self._spent)
        last = self._last
        if now is not None and last is not None and now > last.t and ((key := _mover(last)) or self._moved):
            spent[key] += now - last.t
        run, reset, led, wait = (spent[key] * 1e-9 for key in ("RUN", "RESET", LED, ""))
        return Figures(run, reset, wait, self._touches, self._interventions, self._failures, led)


def _mover(guard: Guard) -> str:
    """Who moves the robot in this state: a key of what was spent."""
    return LED if guard.led else guard.state if guard.state in ("RUN", "RESET") else ""
