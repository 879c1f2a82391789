"""Whole writes the servo bus has seen before, so that a host's every cycle is not taken apart line by line again.

A host asks all servos with the same bytes each time, and sends goals in lines that differ in the goals' digits alone. Only what
went through `MoteusBus` line by line once is remembered, and only where bytes take no time and carry no checksum.
"""

from __future__ import annotations

import binascii
import math
import struct
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robotrl.sim import firmware as fw
from robotrl.sim.fdcanusb import LONGEST_FRAME
from robotrl.sim.layouts import Plan, Reply

DIGITS = 8  # hexadecimal ones of a single-precision number
CACHE = 1024  # writes remembered

Spoken = Callable[[NDArray[np.float32]], bytes]  # the servos' telemetry (n, 16) to what they say


class Goal(NamedTuple):
    """One line of a write that moves servos."""

    servo: int
    at: int  # where in the write its digits begin
    row: list[float]  # the command after its position
    rest: list[float]  # and after its velocity


class Blocks:
    """Memory of whole writes. `address` and `plan` take a line's identifier and its frame apart, as in `MoteusBus`.

    `chorus` makes, of a host and a reply, what says the answers of some servos.
    """

    def __init__(
        self, address: Callable[[bytes], Any], plan: Callable[[bytes], Any], chorus: Callable[[list[int], int, Reply], Spoken]
    ) -> None:
        self._address, self._plan, self._chorus = address, plan, chorus
        self.queries: dict[bytes, Spoken] = {}  # by the whole write: what answers it
        self._goals: dict[tuple[bytes, ...], list[Goal]] = {}  # by all text but the digits
        self._cut = struct.Struct("")  # a write into that text and the digits, by turns
        self._floats = struct.Struct("")

    def remember(self, data: bytes, known: dict[bytes, tuple[int, int, int, Plan]]) -> None:
        """Keep a write that asked all its servos the same, or that did nothing but give position commands.

        `known`: single lines of queries, as size, servo, host, plan.
        """
        *lines, rest = data.split(b"\n")
        if rest or not lines:
            return
        asked = [known[line] for line in lines if line in known]
        if len(asked) == len(lines):
            _, _, host, plan = asked[0]
            alike = all(query[2] == host and query[3] is plan for query in asked)
            if alike and plan.reply is not None and plan.reply.bulk and len(self.queries) < CACHE:
                self.queries[data] = self._chorus([servo for _, servo, _, _ in asked], host, plan.reply)
            return
        goals, at = [], 0
        for line in lines:
            goal = self._goal(line, at)
            if goal is None:
                return
            goals.append(goal)
            at += len(line) + 1
        self._keep_goals(data, goals)

    def _goal(self, line: bytes, at: int) -> Goal | None:
        """What to remember of a line that begins `at` in its write and gives one servo a position; None for another."""
        words = line.split(b" ")
        if len(words) != 4 or words[:2] != [b"can", b"send"] or words != line.split():
            return None  # the last: other white space parts words too, and some of it lines
        try:
            (servos, _, wanted), frame = self._address(words[2]), bytes.fromhex(words[3].decode())
        except ValueError:
            return None
        if len(servos) != 1 or wanted or not 0 < len(frame) <= LONGEST_FRAME:
            return None
        plan, values, streams = self._plan(frame)
        if streams is not None or plan.goal_at < 0 or plan.actions or values[plan.mode] != fw.POSITION:
            return None
        row = row_of(plan, values)
        return Goal(servos[0], at + len(line) - len(words[3]) + 2 * plan.goal_at, row[fw.V :], row[fw.FF :])

    def _keep_goals(self, data: bytes, goals: list[Goal]) -> None:
        """Keep this write by what stands around its goals' digits."""
        ends = [0, *(end for goal in goals for end in (goal.at, goal.at + DIGITS)), len(data)]
        cut = struct.Struct("".join(f"{b - a}s" for a, b in pairwise(ends)))
        if cut.format != self._cut.format or len(self._goals) >= CACHE:
            self._goals.clear()
            self._cut, self._floats = cut, struct.Struct(f"<{len(goals)}f")
        self._goals[cut.unpack(data)[0::2]] = goals

    def goals(self, data: bytes) -> list[tuple[Goal, float]] | None:
        """Each command in this write, and its position; None where it has another layout than one remembered."""
        if len(data) != self._cut.size:
            return None
        pieces = self._cut.unpack(data)
        known = self._goals.get(pieces[0::2])
        if known is None:
            return None
        try:
            values = self._floats.unpack(binascii.unhexlify(b"".join(pieces[1::2])))
        except ValueError:  # digits that are none
            return None
        # one NaN object: lists of it compare equal
        return [(goal, value if value == value else math.nan) for goal, value in zip(known, values, strict=True)]


def row_of(plan: Plan, values: tuple[Any, ...]) -> list[float]:
    """The command in a frame of this layout: its values over the defaults."""
    row = list(fw.DEFAULTS)
    for column, place, scale, nan in plan.values:
        value = values[place]
        if scale:
            row[column] = math.nan if value == nan else value * scale
        else:
            row[column] = value if value == value else math.nan  # one NaN object: lists of it compare equal
    return row
