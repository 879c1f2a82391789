"""What every node's process shares: its run, its door to the bus, a beat, a period with absolute deadlines, and a clean end.

A node ends when it is told to (SIGTERM) or when the manager is gone: its standard input is a pipe that the manager holds.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from robotrl import aloud, rundir
from robotrl.bus import Bus
from robotrl.clock import WallClock, suspended_ns
from robotrl.lateness import Lateness
from robotrl.messages import Beat
from robotrl.realtime import real_time
from robotrl.rundir import bus_directory

PR_SET_TIMERSLACK = 29
BEAT_NS = 100_000_000
ORPHAN_NS = 100_000_000  # how often a node looks whether the manager is still there
SPIN_NS = 200_000  # at real-time priority: the kernel wakes us that much early, and the deadline is met by looking at the clock
SLACK_NS = 5_000_000  # so much time before the next period leaves room to collect garbage
COLLECT_EVERY = 50  # periods
SUSPENDED_NS = 60_000_000  # a machine that was suspended for so long: no permit would have outlived it


class Node:
    """One process of a run. `source` is its name in `topics.py`."""

    def __init__(self, directory: Path, source: str) -> None:
        self.directory, self.source = directory, source
        self.stopping = False
        self._orphaned = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self.run = rundir.load(directory)
        self.clock = WallClock()
        self.bus = Bus(bus_directory(directory), source, self.clock)
        self.progress = 0
        self.lateness = Lateness()
        self.due = 0  # when the next period begins; set by `every`
        self._paced = self._spin = False
        self._looked = 0  # when we last looked for the manager
        self._suspended = suspended_ns()
        self._watch_input = sys.stdin is not None and not sys.stdin.closed and not os.isatty(0)
        self._beat = self.bus.publisher("beat") if source in _BEATERS else None
        self._beat_due = 0

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def say(self, what: object) -> None:
        """A line for the person who started the run: it goes to the node's log, and from there to his screen."""
        aloud.say(f"{self.source}: {what}", sys.stderr)

    def refuse(self, why: object) -> int:
        """End before anything was begun: the last line of the log is `why`, which the manager says for us. The exit code."""
        aloud.say(why, sys.stderr)
        self.close()
        return 2

    def beat(self, note: str = "") -> None:
        """Count one finished loop and say so ten times a second."""
        self.progress += 1
        now = self.clock.now()
        if self._beat is not None and now >= self._beat_due:
            self._beat_due = now + BEAT_NS
            self._beat.send(Beat(progress=self.progress, note=note))

    def orphaned(self) -> bool:
        """True once the manager's end of our standard input has closed."""
        if not self._orphaned and self._watch_input and select.select([0], [], [], 0)[0]:
            self._orphaned = os.read(0, 4096) == b""
        return self._orphaned

    def hurry(self, priority: int, lock: bool = False) -> str:
        """Go before everything that is not the robot, where the run asks for it; what was refused, or ""."""
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)  # ns; the default of 50 us is lateness of our own making
        return real_time(priority, lock) if self.run.real_time else ""

    def pace(self, priority: int) -> None:
        """From now on periods are kept as exactly as this user may ask for: SCHED_FIFO, locked memory, no garbage collection
        but in a period's slack. Without the right to it, or where the run does not ask for it, this is said and no error."""
        self._paced = True
        if refused := self.hurry(priority, lock=True):
            self.say(refused)
        self._spin = os.sched_getscheduler(0) == os.SCHED_FIFO
        gc.collect()
        gc.freeze()
        gc.disable()

    def every(self, period_ns: int, ended: Callable[[], bool] | None = None) -> Iterator[int]:
        """Yield the loop's number once a period, at absolute deadlines, until `ended` (default: told to stop, or orphaned).

        A missed period is skipped and counted, never caught up.
        """
        ended = ended or self.over
        deadline = self.clock.now()
        number = 0
        while not ended():
            if self._paced:
                self.lateness.add(max(0, self.clock.now() - deadline) * 1e-3)
            self.due = deadline + period_ns
            yield number
            number += 1
            deadline += period_ns
            left = deadline - self.clock.now()
            if left < 0:
                skipped = -left // period_ns + 1
                self.lateness.overruns += int(skipped)
                deadline += skipped * period_ns
            elif self._paced and left > SLACK_NS and number % COLLECT_EVERY == 0:
                gc.collect(0)
            self._sleep_until(deadline)

    def over(self) -> bool:
        """Told to stop, or orphaned (looked at ten times a second)."""
        now = self.clock.now()
        if now >= self._looked + ORPHAN_NS:
            self._looked = now
            self.stopping = self.stopping or self.orphaned()
        return self.stopping

    def suspended(self) -> bool:
        """Was the machine suspended since this was last asked? No clock of ours shows it, and no message has aged."""
        before, self._suspended = self._suspended, max(self._suspended, suspended_ns())
        return self._suspended - before > SUSPENDED_NS

    def _sleep_until(self, deadline: int) -> None:
        self.clock.sleep_until(deadline - SPIN_NS if self._spin else deadline)
        while self._spin and time.monotonic_ns() < deadline:
            pass

    def abandon(self) -> None:
        """Remove what the manager would have removed: for the last node of a run whose manager was killed. Where somebody has
        gone on with the run meanwhile what is his stays."""
        shutil.rmtree(self.bus.directory, ignore_errors=True)
        if bus_directory(self.directory) == self.bus.directory:
            (self.directory / "bus.json").unlink(missing_ok=True)

    def close(self) -> None:
        self.bus.close()


_BEATERS = frozenset(("policy", "learner", "reset", "imu", "tracker", "recorder", "classifier"))
