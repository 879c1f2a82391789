"""Two clocks with one face: the machine's monotonic clock, and the lockstep clock that moves only when it is told to.

Nothing in the project reads the time of day except to name a run directory, and to say in a session's file when its clock began.
"""

from __future__ import annotations

import time
from typing import Protocol

READS, TOGETHER_NS = 10, 1_000_000


class Clock(Protocol):
    def now(self) -> int:
        """Monotonic time in ns."""
        ...

    def sleep_until(self, deadline: int) -> None:
        """Return at `deadline` (ns) or at once if it has passed."""
        ...


class WallClock:
    """CLOCK_MONOTONIC. `sleep_until` uses the absolute deadline, so that lateness never adds up."""

    def now(self) -> int:
        return time.monotonic_ns()

    def sleep_until(self, deadline: int) -> None:
        left = deadline - time.monotonic_ns()
        if left > 0:
            time.sleep(left * 1e-9)


def suspended_ns() -> int:
    """For how long this machine has been suspended since its start. The monotonic clock stands still meanwhile: whatever waited
    for the robot is as young after hours as it was before."""
    for _ in range(READS):
        before, through, after = time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.monotonic_ns()
        if after - before < TOGETHER_NS:
            break  # or this process had to wait between the two clocks
    return through - after


class LockstepClock:
    """Virtual time in ns, moved by the rehearsal alone."""

    def __init__(self) -> None:
        self._now = 0

    def now(self) -> int:
        return self._now

    def sleep_until(self, deadline: int) -> None:
        self._now = max(self._now, deadline)

    def advance(self, ns: int) -> None:
        self._now += ns
