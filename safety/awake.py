"""The time of a stop: where all stood still together, nobody was late. Stdlib only; no clock."""

from __future__ import annotations

LONGEST_STEP_NS = 40_000_000  # that one step counts for at most; two of the guard's periods


class Awake:
    """Counts the time between steps, and no more than `most` of each (ns): a suspended machine, a paused container.

    By any other clock a stop that a standstill interrupts is over when it goes on, and the arm is let go on its way down.
    """

    def __init__(self, most: int = LONGEST_STEP_NS) -> None:
        self.now = 0
        self._most = most
        self._before: int | None = None

    def step(self, now: int) -> int:
        """How long it has been awake (ns) at `now` (ns, of a clock that never goes back); 0 in the first step."""
        if self._before is not None:
            self.now += min(now - self._before, self._most)
        self._before = now
        return self.now
