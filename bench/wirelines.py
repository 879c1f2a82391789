"""What any motors' wire says, taken apart: lines from the host, readings that reached it, and the robot whose numbers these are.

Plain Python, and nothing of the product's. Each family's reader (`moteuswire.py`, `feetechwire.py`, `dynamixelwire.py`) was
written from what its maker says of the bytes, and gives the same kinds of lines.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

Chunks = list[tuple[int, bytes]]  # pieces as they passed, each with its time (ns)


class Line(NamedTuple):
    """One word from the host to one servo, when its first byte came; `angle` in the robot's rad."""

    t: int
    kind: str  # goal, on (torque), damp, stop, ask, talk, cut (of one who died), torn, or "" for what is none of these
    servo: int = 0
    angle: float = math.nan
    host: int = -1  # of a question: by which its answer is known
    text: str = ""
    cycle: bool = False  # a question with which a driver's cycle begins
    speed: float = 0.0  # rad/s that a goal carries with it; 0 where it carries none


class Reading(NamedTuple):
    """What a servo said, as it reached the host."""

    t: int
    servo: int
    host: int
    angle: float
    mode: int  # 0 no torque, 10 it goes by goals, 11 its watchdog has stopped it


@dataclass
class Robot:
    """What its configuration says: rad, rad/s, s."""

    ids: list[int]
    sign: list[int]
    offset: list[float]
    gear: list[float]
    low: list[float]
    high: list[float]
    slew: float
    lead: float
    gap_min: float  # of a leg's two motors; 0 of a robot that has none such
    period_s: float
    watchdog_s: float
    protocol: str
    stow: list[float]  # where an arm is lowered to before it is let go; of others nothing
    stop_s: float  # for which it is lowered at most
    speed: float  # that a goal may carry

    @classmethod
    def of(cls, config: dict[str, Any]) -> Robot:
        robot, period = config["robot"], 1 / config["task"]["rate_hz"]
        servos, limits, n = robot["servos"], robot["limits"], len(robot["servos"]["ids"])
        legs = robot.get("kind", "minitaur") == "minitaur"
        low, high = ([limits[f"position_{end}"]] * n if legs else limits[f"joint_{end}"] for end in ("min", "max"))
        stow = list(robot["stow"]) if robot.get("stop_profile") == "stow" else []
        return cls(
            servos["ids"], servos["sign"], servos["offset"], servos.get("gear") or [1.0] * n, low, high,
            limits["slew_rad_s"] * period, limits["lead_rad"], limits["gap_min"] if legs else 0.0, period, servos["watchdog_s"],
            servos.get("protocol", "moteus"), stow, robot.get("stop_damp_s", 0.0), servos.get("velocity_limit", math.inf),
        )  # fmt: skip

    def angle(self, servo: int, horn: float) -> float:
        """Of a joint, by its motor's angle (rad from the encoder's zero)."""
        i = self.ids.index(servo)
        return self.sign[i] * (horn - self.offset[i]) / self.gear[i]


class Wire(Protocol):
    """A family's reader."""

    def lines(self, chunks: Chunks) -> list[Line]: ...
    def readings(self, chunks: Chunks) -> list[Reading]: ...
    def follows(self, one: Line, two: Line) -> bool:
        """May this question begin the cycle after that one's, of one hand alone? Or somebody has taken the port anew."""
        ...


class Bytes:
    """Pieces in a row, and when each byte passed."""

    def __init__(self, chunks: Chunks) -> None:
        self.data = b"".join(data for _, data in chunks)
        self._starts = list(accumulate((len(data) for _, data in chunks), initial=0))
        self._times = [t for t, _ in chunks]

    def time(self, at: int) -> int:
        return self._times[bisect.bisect_right(self._starts, at, hi=len(self._times)) - 1]


def packets(chunks: Chunks, ends: Callable[[bytes, int], int]) -> Iterable[tuple[int, bytes, bool]]:
    """Each sound packet, and what lies between two in one piece, with its time; `ends`: where one from here ends, 0: none."""
    line, at = Bytes(chunks), 0
    while at < len(line.data):
        end = ends(line.data, at)
        until = end or next((k for k in range(at + 1, len(line.data)) if ends(line.data, k)), len(line.data))
        yield line.time(at), line.data[at:until], bool(end)
        at = until


def whole(chunks: Chunks, at_end: bool) -> Iterable[tuple[int, bytes]]:
    """The lines of text that the pieces make, each with the time of the piece in which it began, or ended."""
    rest, began = b"", 0
    for t, data in chunks:
        for part in data.splitlines(keepends=True):
            began = began if rest else t
            rest += part
            if rest.endswith((b"\n", b"\r")):
                yield (t if at_end else began), rest.rstrip()
                rest = b""
