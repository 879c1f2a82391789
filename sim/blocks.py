"""Whole writes the servo bus has seen before, so that a host's every cycle is not taken apart line by line again.

A host asks all servos with the same bytes each time, and sends goals in lines that differ in the goals' digits alone. Only what
went through `MoteusBus` line by line once is remembered, and only where bytes take no time and carry no checksum.
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

from robotrl.sim import firmware as fw
from robotrl.sim.registers import Plan

DIGITS = 8  # hexadecimal ones of a single-precision number
CACHE = 256  # writes remembered


class Queries(NamedTuple):
    """A write that asks servos, in this order, all the same."""

    servos: tuple[int, ...]
    host: int
    plan: Plan


class Goal(NamedTuple):
    """One line of a write that moves servos."""

    servo: int
    at: int  # where in the write its digits begin
    row: list[float]  # the command but for its position


class Blocks:
    """Memory of whole writes."""

    def __init__(self) -> None:
        self.queries: dict[bytes, Queries] = {}
        self._goals: dict[bytes, list[Goal]] = {}  # by all text but the digits
        self._digits: list[slice] = []
        self._between: list[slice] = []
        self._floats = struct.Struct("")

    def keep_goals(self, data: bytes, goals: list[Goal]) -> None:
        """Remember this write, by what stands around its goals' digits."""
        digits = [slice(goal.at, goal.at + DIGITS) for goal in goals]
        if digits != self._digits or len(self._goals) >= CACHE:
            self._goals.clear()
            ends = [0, *(end for cut in digits for end in (cut.start, cut.stop)), None]
            self._digits, self._between = digits, [slice(a, b) for a, b in zip(ends[::2], ends[1::2], strict=True)]
            self._floats = struct.Struct(f"<{len(digits)}f")
        self._goals[self._around(data)] = goals

    def goals(self, data: bytes) -> list[tuple[int, list[float]]] | None:
        """Servo and row of each command in this write; None where it has another layout than one remembered."""
        known = self._goals.get(self._around(data)) if self._goals else None
        if known is None:
            return None
        try:
            values = self._floats.unpack(bytes.fromhex(b"".join([data[cut] for cut in self._digits]).decode()))
        except (ValueError, struct.error):  # digits that are none
            return None
        out = []
        for goal, value in zip(known, values, strict=True):
            row = goal.row.copy()
            row[fw.P] = value if value == value else math.nan  # one NaN object: lists of it compare equal
            out.append((goal.servo, row))
        return out

    def _around(self, data: bytes) -> bytes:
        return b"".join([data[part] for part in self._between])
