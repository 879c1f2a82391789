"""With what a person leads an arm: a device that says where to, or that it is gone. `opened` by its name.

A plug-in is an entry point of the group `robotrl.teleoperators`: a callable of a path and a clock that returns a `Teleoperator`
(docs/takeover.md). It runs in the teleop node's process alone: what it raises ends the intervention, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Protocol, cast

from robotrl import config
from robotrl.clock import Clock
from robotrl.complaint import Complaint

GROUP = "robotrl.teleoperators"
STILL = (0.0,) * 6


class HandLost(Complaint):
    """The device is gone, or has been silent for too long: nobody leads. A few words."""


@dataclass(frozen=True)
class Reading:
    """Where to: shares of the top speed, or joint angles. What it was when it was read; it is not to be kept."""

    twist: tuple[float, ...] = STILL  # (6,) each within [-1, 1], base frame: along x, y, z, about x, y, z
    angles: tuple[float, ...] = ()  # (n,) rad, the arm's joints; empty: the twist counts
    moved: bool = False  # a person has just moved the device


class Teleoperator(Protocol):
    """One device. It keeps nothing back: what it does not hear of any more, it does not say."""

    def read(self, now: int) -> Reading:
        """At `now` (ns), without waiting. HandLost, or any error, when it is gone or has been silent for too long."""
        ...

    def hear(self, key: str, now: int) -> None:
        """A key of the operator's console, or "" for its heartbeat: what a keyboard is led by; others take no notice."""
        ...

    def close(self) -> None: ...


def opened(run: config.Run, clock: Clock) -> Teleoperator:
    """The device that `run.takeover` names. Complaint for one that is not there, or that nobody knows."""
    settings = run.takeover
    if settings.device == "keyboard":
        from robotrl.drivers.keypad import Keypad

        return Keypad(clock, settings.silent_s)
    if settings.device == "joystick":
        from robotrl.drivers.joystick import Joystick

        return Joystick(settings.path, settings.deadman)
    if settings.device == "leader":
        from robotrl.drivers.leader import Leader

        return Leader.opened(run.robot, settings, clock)
    found = {entry.name: entry for entry in metadata.entry_points(group=GROUP)}
    if settings.device not in found:
        known = ", ".join(["keyboard", "joystick", "leader", *sorted(found)])
        raise Complaint(f"takeover.device: no {settings.device!r} here; there are {known}")
    make = cast(Callable[[str, Clock], Teleoperator], found[settings.device].load())
    return make(settings.path, clock)
