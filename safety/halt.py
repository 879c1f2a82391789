"""A stop key while an arm is on its way down: it is held where it is. Stdlib only; no clock."""

from __future__ import annotations

from robotrl.safety.awake import Awake

HELD_NS = 600_000_000_000  # as a PSTOP: then it is lowered all the same
LOWERS_NS = 200_000_000  # from the key, or from the driver's last word, for the driver to say that it lowers an arm


class Halt:
    """From a stop key on until `forget`, for HELD_NS at most, and only while there is an arm to hold. Times in ns, awake."""

    def __init__(self) -> None:
        self._pressed: int | None = None
        self._heard = 0  # then, or when the driver last said that it lowers an arm
        self._awake = Awake()

    def forget(self) -> None:
        self._pressed = None

    def step(self, now: int, pressed: bool, lowering: bool) -> bool:
        """Is it to be held in this step? `pressed`: a stop key was; `lowering`: the driver's word."""
        awake = self._awake.step(now)
        if pressed:
            self._pressed = awake
        if pressed or lowering:
            self._heard = awake
        if self._pressed is None:
            return False
        if awake - self._pressed > HELD_NS or awake - self._heard > LOWERS_NS:
            self._pressed = None
        return self._pressed is not None
