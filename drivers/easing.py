"""Which servos do without their peak torque: who has used it too long, until he asks for less, and who is hot."""

from __future__ import annotations

import math
from collections.abc import Sequence

from robotrl import config

WARM_C = 10.0  # below the temperature that stops the robot: from there on none is heated by peaks (safety facts, row 6)
GAP_S = 0.1  # between two readings: more of it nobody knows


class Easing:
    """The rule by which the motors shut themselves off, sooner: time above the continuous torque counts only while it is not
    interrupted (hardware facts 1.3). Heat that builds up over many short peaks is the temperature limit's business.

    `servos`: by place, those that are eased now.
    """

    def __init__(self, wiring: config.Servos, stop_c: float = math.inf) -> None:
        """`stop_c`: the temperature that stops the robot."""
        self.servos: tuple[int, ...] = ()
        self._limit, self._peak_s = wiring.continuous_torque, wiring.peak_s
        self._strain = [0.0] * len(wiring.ids)  # s above the continuous torque without a break
        self._warm_c = stop_c - WARM_C
        self._at: int | None = None

    def read(self, now: int, torque: Sequence[float], temp_c: Sequence[float] = ()) -> None:
        """Take a reading (ns, Nm, degrees)."""
        passed = 0.0 if self._at is None else min(GAP_S, (now - self._at) * 1e-9)
        self._at = now
        for i, nm in enumerate(torque):
            strained = abs(nm) > self._limit - 0.05  # the limit itself, as it reads back: it still asks for all it gets
            self._strain[i] = self._strain[i] + passed if strained else 0.0
        warm = {i for i, celsius in enumerate(temp_c) if celsius > self._warm_c}
        self.servos = tuple([i for i, s in enumerate(self._strain) if s >= self._peak_s or i in warm])
