"""Which servos have used their peak torque too long, and do without it until they ask for less."""

from __future__ import annotations

from collections.abc import Sequence

from robotrl import config

GAP_S = 0.1  # between two readings: more of it nobody knows


class Easing:
    """The rule by which the motors shut themselves off, sooner: time above the continuous torque counts only while it is not
    interrupted (hardware facts 1.3). Heat that builds up over many short peaks is the temperature limit's business.

    `servos`: by place, those that are eased now.
    """

    def __init__(self, wiring: config.Servos) -> None:
        self.servos: tuple[int, ...] = ()
        self._limit, self._peak_s = wiring.continuous_torque, wiring.peak_s
        self._strain = [0.0] * len(wiring.ids)  # s above the continuous torque without a break
        self._at: int | None = None

    def read(self, now: int, torque: Sequence[float]) -> None:
        """Take a reading (ns, Nm)."""
        passed = 0.0 if self._at is None else min(GAP_S, (now - self._at) * 1e-9)
        self._at = now
        for i, nm in enumerate(torque):
            strained = abs(nm) > self._limit - 0.05  # the limit itself, as it reads back: it still asks for all it gets
            self._strain[i] = self._strain[i] + passed if strained else 0.0
        self.servos = tuple(i for i, s in enumerate(self._strain) if s >= self._peak_s)
