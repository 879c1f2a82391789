"""Who moved the robot, for how long, and what it cost a person: an account of a run, from the guard's word on each new state.

    account = Account()
    account.hear(guard)            every message of `cause`: each new state, with what led to it
    account.figures(now)           run_s, reset_s, wait_s, touches, interventions, failures

Pure, so the same account comes from a live bus, from a log, and from a rehearsal. A *failure* is what ended a session though
nobody had asked for it; a *touch* is any key by which a person changed the robot's state; an *intervention* is a touch that took
the robot's motion away: a stop, a pause. *Waiting* counts from the first motion on.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from robotrl.messages import Guard

ENDED_BY_A_PERSON = ("key ", "operator_stop")
OVER = ("run_over", "session_over", "set_up")  # ends that were asked for, or are by the book


class Figures(NamedTuple):
    """Of a run so far: seconds in which the policy, the reset script and nobody moved it; counts."""

    run_s: float = 0.0
    reset_s: float = 0.0
    wait_s: float = 0.0
    touches: int = 0
    interventions: int = 0
    failures: int = 0

    @property
    def autonomy(self) -> float:
        """The share of its time in which the robot moved by itself; nan before it has."""
        moved = self.run_s + self.reset_s
        return moved / (moved + self.wait_s) if moved else math.nan

    @property
    def mtbf_s(self) -> float:
        """Mean time in motion between failures; inf without one."""
        return (self.run_s + self.reset_s) / self.failures if self.failures else math.inf

    def told(self) -> str:
        """In a line."""
        if not self.run_s + self.reset_s:
            return "the robot has not moved"
        between = f"{self.mtbf_s / 60:.1f} min between failures" if self.failures else "no failure"
        return (
            f"{self.run_s / 60:.1f} min by the policy, {self.reset_s / 60:.1f} min of resets, {self.wait_s / 60:.1f} min waiting:"
            f" {self.autonomy:.0%} by itself; {self.touches} touches, {self.interventions} interventions,"
            f" {self.failures} failures, {between}"
        )


class Account:
    """Adds up; times in ns of one machine's clock, which may begin anew with another life of the guard."""

    def __init__(self) -> None:
        self._spent = {"RUN": 0, "RESET": 0, "": 0}  # ns; "" is waiting
        self._touches = self._interventions = self._failures = 0
        self._last: Guard | None = None

    def hear(self, guard: Guard) -> None:
        """A new state, or new causes in the old one."""
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
        if last is not None and last.session and not guard.session and not by_hand:
            why = guard.trigger or guard.last_cause
            self._failures += not why.startswith(OVER)

    def _spend(self, now: int, boot: int) -> None:
        last = self._last
        if last is None or last.boot != boot or now < last.t:
            return
        if last.state in ("RUN", "RESET"):
            self._spent[last.state] += now - last.t
        elif self._spent["RUN"] + self._spent["RESET"]:
            self._spent[""] += now - last.t

    def figures(self, now: int | None = None) -> Figures:
        """Up to `now` (ns), or up to the last state heard of."""
        spent = dict(self._spent)
        last = self._last
        if now is not None and last is not None and now > last.t:
            key = last.state if last.state in ("RUN", "RESET") else ""
            if key or spent["RUN"] + spent["RESET"]:
                spent[key] += now - last.t
        run, reset, wait = (spent[key] * 1e-9 for key in ("RUN", "RESET", ""))
        return Figures(run, reset, wait, self._touches, self._interventions, self._failures)
