"""Faults by name, as a control line of the twin asks for them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from robotrl.sim.faults import (
    Again,
    Babble,
    Corrupt,
    Deaf,
    Delay,
    Drop,
    Fault,
    Freeze,
    Mute,
    Saturate,
    Seconds,
    Silence,
    Twice,
    Unplugged,
)
from robotrl.sim.liars import Skew, mirrored, moved, stuck

WIRES = ("servos", "imu", "tracker")
# The wire meant when none is named; for all others the servos'.
HOME = {
    **dict.fromkeys(("freeze", "saturate", "skew"), "imu"),
    **dict.fromkeys(("lose", "shift", "mirror", "still"), "tracker"),
}


def from_line(line: dict[str, object], rng: np.random.Generator, now: Seconds) -> tuple[str, Fault, float]:
    """Wire, fault and duration (s) that a control line asks for, e.g. {"fault": "mute", "servo": 3, "for_s": 1}.

    Faults: drop (chance), corrupt (rate), delay (seconds), mute, deaf, twice (servo), babble, again (pieces), freeze, saturate,
    skew (roll, pitch), lose, shift (metres), mirror, still, silence, close; `wire` is one of WIRES.
    Raises ValueError naming what is wrong.
    """
    kind = line.get("fault")
    wire = line.get("wire", HOME.get(str(kind), "servos"))
    if wire not in WIRES:
        raise ValueError(f"wire {wire!r}: use {', '.join(WIRES)}")

    def number(key: str, default: float) -> float:
        value = line.get(key, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not value >= 0:
            raise ValueError(f"{key} must be a number, not negative, not {value!r}")
        return float(value)

    makers: dict[object, Callable[[], Fault]] = {
        "drop": lambda: Drop(rng, number("chance", 0.1)),
        "corrupt": lambda: Corrupt(rng, number("rate", 1e-3)),
        "delay": lambda: Delay(now, number("seconds", 0.01)),
        "mute": lambda: Mute(int(number("servo", 1))),
        "deaf": lambda: Deaf(int(number("servo", 1))),
        "twice": lambda: Twice(int(number("servo", 1))),
        "babble": Babble,
        "again": lambda: Again(int(number("pieces", 1))),
        "freeze": Freeze,
        "skew": lambda: Skew(number("roll", 0.0), number("pitch", 0.0)),
        "shift": lambda: moved(number("metres", 1.0)),
        "mirror": mirrored,
        "still": stuck,
        "saturate": Saturate,
        "lose": Silence,
        "silence": Silence,
        "close": Unplugged,
    }
    if kind not in makers:
        raise ValueError(f"fault {kind!r}: use {', '.join(map(str, makers))}, trip, reboot or clear")
    return str(wire), makers[kind](), number("for_s", math.inf)
