"""What share of its supply each bus servo gets: less where it strains or is hot, little where an arm's joint is blocked."""

from __future__ import annotations

from collections.abc import Sequence

from robotrl import config
from robotrl.drivers.easing import Easing
from robotrl.serialarm import ARMS

SHARE = 0.3  # of the torque, for who presses (safety facts, row 59); an arm's own weight takes less
# Row 59 too. An arm that works, loads and presses on purpose stays below 80 % of its continuous torque where it stands still.
STRAIN, STILL_RAD_S = 0.8, 0.2
AFTER_NS = 600_000_000  # the guard's 0.5 s and its way: who is eased sooner, it would not see. Nor does it count while they start
DIP_NS = 60_000_000  # easing takes a joint's peak for a reading or two, and at little power all its strain; chosen


class Strain:
    """One joint that strains above `limit` Nm, slower than `still` rad/s, `since` when (ns). A dip of `dip_ns` ends nothing."""

    def __init__(self, limit: float, still: float, dip_ns: int = DIP_NS) -> None:
        self._limit, self._still, self._dip_ns = limit, still, dip_ns
        self.forget()

    def forget(self) -> None:
        self.since: int | None = None
        self._last = 0  # reading that showed it

    def take(self, t: int, speed: float, nm: float) -> None:
        """One reading (ns, rad/s, Nm)."""
        if abs(speed) >= self._still:
            self.forget()
        elif abs(nm) > self._limit:
            self.since, self._last = t if self.since is None else self.since, t
        elif t - self._last > self._dip_ns:
            self.forget()


class Pressing:
    """Joints that have strained against something for AFTER_NS without moving. It may be a hand.

    `servos`: by place. They stay until torque is off: who has given way is not to press again because it presses less.
    """

    def __init__(self, wiring: config.Servos) -> None:
        self.servos: tuple[int, ...] = ()
        self._strains = [Strain(STRAIN * wiring.continuous_torque, STILL_RAD_S) for _ in wiring.ids]

    def read(self, now: int, velocity: Sequence[float], torque: Sequence[float]) -> None:
        """Take a reading (ns, rad/s, Nm)."""
        for i, (strain, speed, nm) in enumerate(zip(self._strains, velocity, torque, strict=True)):
            strain.take(now, speed, nm)
            if strain.since is not None and now - strain.since >= AFTER_NS and i not in self.servos:
                self.servos = (*self.servos, i)

    def let_go(self) -> None:
        """Torque is off."""
        self.servos = ()
        for strain in self._strains:
            strain.forget()


class Shares:
    """Of one chain. The guard sees who presses in the same readings (`nodes/motion.py`), and stops the robot."""

    def __init__(self, robot: config.Robot) -> None:
        servos = robot.servos
        self._whole, self._eased = servos.power, servos.power * servos.continuous_torque / servos.max_torque
        self._easing = Easing(servos, robot.limits.temp_c)
        self._pressing = Pressing(servos) if robot.kind in ARMS else None
        self._n = len(servos.ids)

    def read(
        self, now: int, velocity: Sequence[float], torque: Sequence[float], temp_c: Sequence[float], starting: bool = False
    ) -> None:
        """Take a reading (ns, rad/s, Nm, degrees). `starting`: torque is just coming on, and nobody presses yet."""
        self._easing.read(now, torque, temp_c)
        if self._pressing is not None:
            self._pressing.read(now, velocity, torque if not starting else (0.0,) * self._n)

    @property
    def pressing(self) -> tuple[int, ...]:
        """Places of those that have pressed, and are left with little."""
        return self._pressing.servos if self._pressing is not None else ()

    def of_supply(self) -> list[float]:
        """By place, 0 to 1."""
        out = [self._eased if i in self._easing.servos else self._whole for i in range(self._n)]
        for i in self.pressing:
            out[i] = min(out[i], SHARE * self._whole)
        return out

    def let_go(self) -> None:
        """Torque is off."""
        if self._pressing is not None:
            self._pressing.let_go()
