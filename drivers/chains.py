"""The chain that a robot's servos need, and what all of them can do: `Chain`. Who drives a robot asks here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from robotrl import config
from robotrl.clock import Clock
from robotrl.drivers import chain
from robotrl.drivers.port import Port
from robotrl.messages import Joints

USB_BAUD = 115200  # a moteus adapter has no baud rate; something must be said


class Chain(Protocol):
    """Many servos on one port; see `chain.Chain` for what each call promises. `rebooted`: those that must be set up anew."""

    checksum: bool
    frame_errors: int
    late_replies: int
    round_trip_ns: int
    rebooted: tuple[int, ...]

    @property
    def frozen(self) -> bool: ...

    def read(self, tick: int, patience_ns: int = 0) -> Joints: ...
    def write(self, targets: Sequence[float], but: Sequence[int] = ()) -> tuple[float, ...]: ...
    def damp(self) -> None: ...
    def stop(self) -> None: ...
    def stop_all(self) -> None: ...
    def confirmed_off(self, patience_ns: int = 0) -> bool: ...
    def clear(self) -> tuple[int, ...]: ...
    def forgive(self) -> None: ...
    def configure(self) -> None: ...
    def adopt(self) -> None: ...
    def check(self, set_up: bool = True) -> list[str]: ...


def chain_of(port: Port, robot: config.Robot, clock: Clock, checksum: bool = False, starts: bool = True) -> Chain:
    """ValueError for wiring that cannot be. `checksum` is a moteus adapter's; without `starts` no bus servo that is off is
    switched on: for who stops a robot."""
    if robot.servos.protocol == "moteus":
        return chain.Chain(port, robot.servos, clock, checksum, robot.limits.temp_c)
    from robotrl.drivers.servo_chain import ServoChain  # late: it needs NumPy, and the rescue of a Minitaur does not

    return ServoChain(port, robot, clock, starts)


def baud_of(servos: config.Servos) -> int:
    """At which the port is to be opened."""
    return USB_BAUD if servos.protocol == "moteus" else servos.baud
