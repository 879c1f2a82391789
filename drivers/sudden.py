"""A temperature that jumps is believed the third time running: no metal jumps, but a bit on the wire may."""

from __future__ import annotations

from collections.abc import Sequence

JUMP_C, SUDDEN = 10.0, 3  # farther than a temperature goes between two readings, and how many say so until it is believed; chosen


class Sudden:
    """Of `n` servos: which ones' newest temperatures are not to be believed yet."""

    def __init__(self, n: int) -> None:
        self._jumps = [0 for _ in range(n)]  # readings in a row that are far from what was believed

    def doubted(self, i: int, before: Sequence[float], now: Sequence[float]) -> bool:
        """One reading of servo `i`: deg C, nan where it is not known, beside those that were believed last."""
        if now == before:  # what says the same as before does not jump: nearly always
            self._jumps[i] = 0
            return False
        jumps = any([was == was and not abs(at - was) <= JUMP_C for at, was in zip(now, before, strict=True)])
        self._jumps[i] = self._jumps[i] + 1 if jumps else 0
        return 0 < self._jumps[i] < SUDDEN
