"""What every node's process shares: its run, its door to the bus, a beat, a period with absolute deadlines, and a clean end.

A node ends when it is told to (SIGTERM) or when the manager is gone: its standard input is a pipe that the manager holds.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robotrl import rundir
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.messages import Beat

MCL_CURRENT_AND_FUTURE = 1 | 2
BEAT_NS = 100_000_000


@dataclass
class Lateness:
    """What the clock did: each period's lateness in us, and how many periods were skipped."""

    late_us: list[float]
    overruns: int = 0


class Node:
    """One process of a run. `source` is its name in `topics.py`."""

    def __init__(self, directory: Path, source: str) -> None:
        self.directory, self.source = directory, source
        self.run = rundir.load(directory)
        self.clock = WallClock()
        self.bus = Bus(bus_directory(directory), source, self.clock)
        self.stopping = False
        self.progress = 0
        self.lateness = Lateness([])
        self._watch_input = not sys.stdin.closed and not os.isatty(0)
        self._beat = self.bus.publisher("beat") if source in _BEATERS else None
        self._beat_due = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def beat(self, note: str = "") -> None:
        """Count one finished loop and say so ten times a second."""
        self.progress += 1
        now = self.clock.now()
        if self._beat is not None and now >= self._beat_due:
            self._beat_due = now + BEAT_NS
            self._beat.send(Beat(progress=self.progress, note=note))

    def orphaned(self) -> bool:
        """True once the manager's end of our standard input has closed."""
        if not self._watch_input or not select.select([0], [], [], 0)[0]:
            return False
        return os.read(0, 4096) == b""

    def every(self, period_ns: int) -> Iterator[int]:
        """Yield the loop's number once a period, at absolute deadlines. A missed period is skipped and counted, never caught up."""
        deadline = self.clock.now()
        number = 0
        while not self.stopping:
            now = self.clock.now()
            late = now - deadline
            self.lateness.late_us.append(max(0, late) * 1e-3)
            yield number
            number += 1
            deadline += period_ns
            behind = self.clock.now() - deadline
            if behind > 0:
                skipped = behind // period_ns + 1
                self.lateness.overruns += int(skipped)
                deadline += skipped * period_ns
            if number % 25 == 0 and self.orphaned():
                self.stopping = True
            self.clock.sleep_until(deadline)

    def close(self) -> None:
        self.bus.close()


_BEATERS = frozenset(("policy", "learner", "reset", "imu", "tracker", "recorder"))


def bus_directory(directory: Path) -> Path:
    """Where a live run's sockets are; a directory that does not exist when it is not live."""
    try:
        return Path(json.loads((directory / "bus.json").read_text())["directory"])
    except (OSError, ValueError, KeyError):
        return directory / "no-bus"


def real_time(priority: int) -> str:
    """Ask for SCHED_FIFO and locked memory; returns "" or one line that says what was refused and how to allow it."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError:
        try:
            os.nice(-10)
        except OSError:
            pass
        return "no real-time priority: the servo loop will be late under load; allow it: LimitRTPRIO=20 (docs/hardware.md)"
    if ctypes.CDLL(None, use_errno=True).mlockall(MCL_CURRENT_AND_FUTURE) != 0:
        return "memory not locked: allow it: LimitMEMLOCK=infinity (docs/hardware.md)"
    return ""
