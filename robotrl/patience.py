"""A reader's patience with those who send what is refused: who sends too much of it in too short a time is out for a while.

A rate and no sum, and forgiven: who is refused now and then in a long run, for whatever reason, is no flood.
"""

from __future__ import annotations

from collections import deque

REJECTS, WITHIN_NS = 100, 10_000_000_000  # refused in so short a time, and he who sent them is out
OUT_NS = 10_000_000_000


class Patience:
    """`out`: who is, and until when, ns."""

    def __init__(self) -> None:
        self.out: dict[str, int] = {}
        self._refused: dict[str, deque[int]] = {}  # of each source: when, the last REJECTS

    def lost(self, source: str, now: int) -> bool:
        """Something of `source`'s was refused at `now`: is he out for it?"""
        times = self._refused.setdefault(source, deque(maxlen=REJECTS))
        times.append(now)
        if len(times) < REJECTS or now - times[0] > WITHIN_NS:
            return False
        times.clear()
        self.out[source] = now + OUT_NS
        return True

    def forgive(self, now: int) -> list[str]:
        """Who is out no more."""
        back = [source for source, until in self.out.items() if now >= until]
        for source in back:
            del self.out[source]
        return back
