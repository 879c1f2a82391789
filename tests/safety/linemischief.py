"""What is done to a line of bus servos, and what more than the state must hold there."""

from __future__ import annotations

from tests.safety.linescene import LineScene
from tests.safety.mischief import Act


def mute(place: int = -1) -> Act:
    return lambda s: s.tell({"fault": "mute", "servo": s.middle if place < 0 else s.ids[place]})


def silent_watchdog(s: LineScene, onset: int) -> str:
    """Whoever was under torque has been stopped by its own watchdog."""
    led = [v.id for v in s.servos if v.registers.get("torque") and v.registers.get("bus_watchdog") != -1]
    return f"servos {led}: led by nobody, and their watchdog did not act" if led else ""
