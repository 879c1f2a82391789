"""What the manager sees of a run, and tells the person: progress, causes, who died; until the run ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from robotrl import aloud, config
from robotrl.messages import Drive, Episode, Guard
from robotrl.processes import FRESH_NS, GaveUp, Manager, off
from robotrl.serialarm import ARMS
from robotrl.twinprocess import TwinProcess

SAY_EVERY_S = 5.0
SAME_EVERY_S = 60.0  # when nothing has changed
GRACE_S = 1.0  # after the twin's death: for the guard to say what it makes of it
WAITS = {  # what a state waits for, in the words of the operator's keys
    "READY": "e enables",
    "HOLD": "r runs, R resets",
    "PSTOP": "c clears",
    "RELAX": "c clears",
}
STAGES = {  # of the stop profile
    "damp": "being braked",
    "stow": "being lowered",
    "hold": "held on its way down by a stop key",
    "off": "torque off, not read back",
}
FORGIVEN = frozenset(("tilt", "episode_fall"))  # a robot that learns to walk falls: counted, not announced


class Asked(Protocol):
    """Whether somebody wants the run to end."""

    asked: bool


class Watch:
    """Follows a run until it ends: starts again who died, and tells the person what happens."""

    def __init__(
        self, manager: Manager, run: config.Run, twin: TwinProcess | None, seconds: float, end: Asked, attended: bool = False,
        alive: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """`attended`: a person is at the console, not the script. `alive`: called more than ten times a second."""
        self.alive = alive
        self.held_up = twin if attended else None
        self.manager, self.wanted, self.twin, self.seconds, self.end = manager, run.steps, twin, seconds, end
        self.episode, self.causes = manager.bus.subscriber("episode"), manager.bus.subscriber("cause")
        self.started = time.monotonic()
        self._has_feet = run.robot.kind not in ARMS
        self._due = SAY_EVERY_S
        self._stood: tuple[str | float, ...] = ()  # the state, and places, that the twin's person knows of
        self._judged: Guard | None = None
        self._standing: set[str] = set()  # the causes told of
        self._said = ("", 0.0)  # the last word on how it stands, and when

    def run(self) -> None:
        """Returns when time is up, all steps are done, or the end was asked for. GaveUp when the run cannot go on."""
        also = (self.twin.pidfd,) if self.twin is not None else ()
        while not self.end.asked:
            self.alive()
            for line in (*self.manager.watch(0.05, also), *self.manager.heard()):
                self.tell(line)
            self._tell_causes()
            self._hold_up()
            self._lend_hands()
            if self.twin is not None and self.twin.process.poll() is not None:
                self._await_the_guard()
                raise GaveUp(f"the twin died (exit code {self.twin.process.returncode}); see logs/twin.log")
            now, steps = time.monotonic() - self.started, self._tell_progress()
            if (self.seconds and now > self.seconds) or steps >= self.wanted:
                return

    def tell(self, what: str) -> None:
        aloud.say(f"{time.monotonic() - self.started:6.1f} s  {what}")

    def _lend_hands(self) -> None:
        """Between two episodes somebody puts things back in their places: beside the twin we do."""
        guard, episode = self.manager.guard.latest(), self.episode.latest()
        if self.twin is None or guard is None or episode is None:
            return
        if (stands := (guard.state, *episode.set_up)) != self._stood:
            self._stood = stands
            self.twin.tell(guard.state, episode.set_up)

    def _hold_up(self) -> None:
        """While its torque is off the twin hangs in a stand, where a person is at the console: nobody's hands reach it."""
        guard = self.manager.guard.latest()
        if self.held_up is not None and guard is not None and guard.state == "READY":
            self.held_up.lift()

    def _await_the_guard(self) -> None:
        until = time.monotonic() + GRACE_S
        while time.monotonic() < until:
            self.manager.bus.wait([self.causes], 0.1)
            self.alive()
            self._tell_causes()

    def _tell_causes(self) -> None:
        for guard in self.causes.drain():
            self._tell_cause(guard)
        guard = self.manager.guard.latest()
        # The first `cause` of a guard that was started again reaches nobody.
        if guard is not None and (self._judged is None or guard.boot != self._judged.boot):
            self._tell_cause(guard)

    def _tell_cause(self, guard: Guard) -> None:
        """What unforeseen thing came, once, and where it led; and that it is over."""
        before, self._judged = self._judged, guard
        if guard.state in ("BOOT", "CHECK"):  # what is not there yet at the start is no news
            return
        causes = {c for c in guard.causes if c not in FORGIVEN or not guard.session}
        causes -= {"console_silent"} if "console_dead" in causes else set()  # the dead are silent
        came, gone = [c for c in guard.causes if c in causes - self._standing], sorted(self._standing - causes)
        self._standing = causes
        if came:
            # The note is that of the most severe.
            self.tell(f"{guard.state:<8} {' '.join(came)}" + (f": {guard.note}" if guard.causes[0] in came else ""))
            if "reset_failed" in came and self.held_up is not None and self._has_feet:
                self.tell("the twin is set on its feet while its torque is off: at the console c, d, e, then R")
        elif gone:
            self.tell(f"{guard.state:<8} {' '.join(gone)} is over")
        elif causes and guard.state in ("PSTOP", "LOCKOUT") and (before is None or before.state != guard.state):
            self.tell(f"{guard.state:<8} {guard.trigger}")

    def _tell_progress(self) -> int:
        """Now and then how it stands; returns the transitions so far."""
        episode, guard = self.episode.latest(), self.manager.guard.latest()
        now = time.monotonic() - self.started
        if now >= self._due and guard is not None:
            self._due = now + SAY_EVERY_S
            stands = power(self.manager.drive.latest(), self.manager.clock.now())
            how = f"{guard.state:<8} {standing(guard, episode, self.wanted, stands)}"
            if how != self._said[0] or now >= self._said[1] + SAME_EVERY_S:
                self._said = (how, now)
                self.tell(how)
        return episode.transitions if episode is not None else 0


def power(drive: Drive | None, now: int) -> str:
    """How the motors stand, by the driver's word. What is not read back is not said to be off, nor what moves to be held."""
    if drive is None or now - drive.t >= FRESH_NS:
        return "the servo driver is silent"
    if not drive.present:
        return "the servos' port is lost"
    if off(drive, now):
        return "torque off, read back"
    if drive.stop in STAGES:
        return STAGES[drive.stop]
    return "torque on, held" if drive.gate_open else "torque off, not read back"


def standing(guard: Guard, episode: Episode | None, wanted: int, power: str) -> str:
    """How far the run is, and what it waits for. `power`: how the motors stand."""
    steps = f"step {episode.transitions if episode is not None else 0}/{wanted}"
    if guard.state in WAITS:
        return f"{steps}  {power}; {guard.note or f'at the console: {WAITS[guard.state]}'}"
    if episode is None or episode.episode < 0:
        return f"{steps}  {guard.note or 'no episode yet'}"
    how = f"{episode.speed:.2f} m/s" if episode.speed else f"return {episode.total_return:.1f}"  # an arm gets nowhere
    return f"{steps}  episode {episode.episode}  {how}"
