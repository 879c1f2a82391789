"""A stop key while an arm is on its way down: it is held where it is. Stdlib only; no clock."""

from __future__ import annotations

HELD_NS = 600_000_000_000  # as a PSTOP: then it is lowered all the same
LOWERS_NS = 200_000_000  # from the key, or from the driver's last word, for the driver to say that it lowers an arm
STEP_NS = 40_000_000  # that one step counts for at most: where all stood still together, nobody was silent


class Halt:
    """From a stop key on until `forget`, for HELD_NS at most, and only while there is an arm to hold. Times in ns."""

    def __init__(self) -> None:
        self._pressed: int | None = None
        self._silent = 0  # since then, or since the driver last said that it lowers an arm
        self._before = 0

    def forget(self) -> None:
        self._pressed = None

    def step(self, now: int, pressed: bool, lowering: bool) -> bool:
        """Is it to be held in this step? `pressed`: a stop key was; `lowering`: the driver's word."""
        passed, self._before = min(now - self._before, STEP_NS), now
        self._silent = 0 if pressed or lowering else self._silent + passed
        if pressed:
            self._pressed = now
        if self._pressed is None:
            return False
        if now - self._pressed > HELD_NS or self._silent > LOWERS_NS:
            self._pressed = None
        return self._pressed is not None
