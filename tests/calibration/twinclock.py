"""A clock for tools that wait on a twin."""

from __future__ import annotations

from typing import Any


class TwinClock:
    """The twin's virtual time: whoever waits carries its physics along."""

    def __init__(self, twin: Any) -> None:
        self.twin = twin

    def now(self) -> int:
        now: int = self.twin.clock.now()
        return now

    def sleep_until(self, deadline: int) -> None:
        self.twin.advance(max(0, deadline - self.now()) * 1e-9)
