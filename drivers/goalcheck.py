"""Whether bus servos go by the goals they were sent: a goal may be lost, damaged where no sum tells, or somebody else's (row 3).

Nobody answers a synchronous write, so the goal is read back in one of TURNS cycles. A goal that is another once is a lost frame;
of a servo that goes by another goal twice running, all frames between the two looks are held for bad.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robotrl.drivers.servo_line import TURNS, Flags, Floats


class GoalCheck:
    """Of n servos, by place; angles are the horns', rad. `tick` is the least by which two goals differ."""

    def __init__(self, n: int, tick: float) -> None:
        self._half = tick / 2
        self._sent = np.full(n, np.nan)  # nan: nobody knows
        self._astray = np.zeros(n, bool)  # at the last look

    def sent(self, goals: Floats, but: Sequence[int]) -> None:
        """These (n,) have gone out, except those of some places."""
        known = goals.copy()
        known[list(but)] = self._sent[list(but)]
        self._sent = known

    def forget(self) -> None:
        """Something else has been sent that changes goals, or nobody goes by them any more."""
        self._sent = np.full(len(self._sent), np.nan)
        self._astray[:] = False

    def look(self, places: Sequence[int], goals: Floats, led: Flags) -> int:
        """Bad frames by what servos say that they go by; `led`: who goes by a goal at all and has just said so. All (k,)."""
        at = np.asarray(places)
        astray = led & (np.abs(goals - self._sent[at]) > self._half)
        again = astray & self._astray[at]
        self._astray[at] = astray
        return int(again.sum()) * TURNS or int(astray.any())
