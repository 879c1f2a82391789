"""A recorded history in order: what the host wrote to the servos, what it was told, what was said on the bus, who lived when.

Plain Python, and nothing of the product's: lines are taken apart by what the moteus reference says of them.
"""

from __future__ import annotations

import bisect
import json
import math
import re
import struct
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

MS = 1_000_000
TAIL = rb"(?:50)*(?: \*[0-9A-F]{2})?"  # padding of the frame, and a check sum where the adapter has asked for one
F32 = rb"([0-9a-f]{8})"
# Mode 10 and a position | position nan, velocity 0, kp scale 0: brakes and goes nowhere | mode 0 | the state is asked for |
# console text and polls | a number that is none, by which a line of one who died in the midst of it is ended
LINES = (
    ("goal", re.compile(rb"can send 00([0-9a-f]{2}) 01000a0d20" + F32 + rb"02237f7f0d25" + F32 + rb"0e27" + F32 * 2 + TAIL)),
    ("damp", re.compile(rb"can send 00([0-9a-f]{2}) 01000a0e200000c07f000000000223007f0d25[0-9a-f]{8}0e27[0-9a-f]{16}" + TAIL)),
    ("stop", re.compile(rb"can send 00([0-9a-f]{2}) 010000" + TAIL)),
    ("ask", re.compile(rb"can send ([c-f][0-9a-f])([0-9a-f]{2}) 11001f01110a130d" + TAIL)),
    ("talk", re.compile(rb"can send [08]0([0-9a-f]{2}) 4[02][0-9a-f]*" + TAIL)),
)
ALL = 0x7F
_XYZ = rb" (-?\d+\.\d+)" * 3
PICTURE = re.compile(rb"pose (\d+) (\d+)" + _XYZ + rb" \S+ \S+ \S+ \*[0-9A-F]{2}")  # running number, age in us, x y z
REPLY = re.compile(rb"rcv ([0-9a-fA-F]{1,8}) ([0-9a-fA-F]{50,})\b")


class Line(NamedTuple):
    """One line from the host, when its first byte came; `angle` in the robot's rad, `host` of a question."""

    t: int
    kind: str  # goal, damp, stop, ask, talk, cut, or "" for what is none of these
    servo: int = 0
    angle: float = math.nan
    host: int = -1
    text: str = ""


class Reading(NamedTuple):
    """What a servo said, as it reached the host."""

    t: int
    servo: int
    host: int
    angle: float
    mode: int


class Heard(NamedTuple):
    """A message, and when a bystander had it."""

    t: int
    source: str
    m: dict[str, Any]


class Life(NamedTuple):
    name: str
    pid: int
    born: int
    died: int


class Deed(NamedTuple):
    t: int
    until: int  # when it was undone; of what is not undone, when it was done
    deed: dict[str, Any]


@dataclass
class Robot:
    """What its configuration says: rad, rad/s, s."""

    ids: list[int]
    sign: list[int]
    offset: list[float]
    low: float
    high: float
    slew: float
    lead: float
    gap_min: float
    period_s: float
    watchdog_s: float

    @classmethod
    def of(cls, config: dict[str, Any]) -> Robot:
        servos, limits, period = config["robot"]["servos"], config["robot"]["limits"], 1 / config["task"]["rate_hz"]
        return cls(
            servos["ids"], servos["sign"], servos["offset"], limits["position_min"], limits["position_max"],
            limits["slew_rad_s"] * period, limits["lead_rad"], limits["gap_min"], period, servos["watchdog_s"],
        )  # fmt: skip

    def angle(self, servo: int, turns: float) -> float:
        i = self.ids.index(servo)
        return self.sign[i] * (turns * 2 * math.pi - self.offset[i])


class History:
    """All of one run. Raises KeyError for records that are none."""

    def __init__(self, records: Iterable[dict[str, Any]]) -> None:
        ordered = sorted(records, key=lambda record: record["t"])
        by: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for record in ordered:
            by[record["k"]].append(record)
        self.robot = Robot.of(by["begin"][0]["config"])
        self.begun, self.end = by["begin"][0]["t"], ordered[-1]["t"]
        self.lines = self._lines([(r["t"], r["v"].encode("latin-1")) for r in by["in"]])
        wires = [r for r in by["out"] if r.get("wire", "servos") == "servos"]
        self.readings = self._readings([(r["t"], r["v"].encode("latin-1")) for r in wires])
        pictures = [(r["t"], r["v"].encode("latin-1")) for r in by["out"] if r.get("wire") == "tracker"]
        self.pictures = [(t, found) for t, text in whole(pictures, at_end=True) for found in [PICTURE.search(text)] if found]
        self.imu_bytes = [r["t"] for r in by["out"] if r.get("wire") == "imu"]
        self.modes = [(r["t"], r["v"]) for r in by["modes"]]
        self.bus: dict[str, list[Heard]] = defaultdict(list)
        for r in by["bus"]:
            self.bus[r["topic"]].append(Heard(r["t"], r["source"], r["m"]))
        self.lives = self._lives(by["born"], by["died"])
        undone = by["undone"]
        self.deeds = [Deed(r["t"], self._until(r, undone), r["deed"]) for r in by["deed"]]
        self.late = [(r["t"], r["ns"]) for r in by["late"]]
        self._late_t, self._latest = [t for t, _ in self.late], max((ns for _, ns in self.late), default=0)
        self.weights, self.ended = by["weight"], by["ended"]
        self.kept, self.recovered = by["kept"], by["recovered"]  # the log and its index; the replay
        self.logged = {line for r in by["log"] for line in r["lines"]}
        self.goals: dict[int, list[Line]] = defaultdict(list)
        self.by_servo: dict[int, list[Reading]] = defaultdict(list)
        for reading in self.readings:
            self.by_servo[reading.servo].append(reading)
        self.permits = sorted(self.bus["permit"], key=lambda heard: heard.m["t"])
        self.permit_t = [heard.m["t"] for heard in self.permits]

    def lateness(self, since: int, until: int) -> int:
        """By how much somebody who only looked was late between the two, ns: a busy machine."""
        low, high = bisect.bisect_left(self._late_t, since), bisect.bisect_right(self._late_t, until + self._latest)
        return sum(ns for t, ns in self.late[low:high] if t - ns <= until)

    def done(self, *what: str) -> list[Deed]:
        return [deed for deed in self.deeds if deed.deed["do"] in what]

    def during(self, t: int, *what: str, name: str = "", after_ms: float = 0.0) -> bool:
        """Was such a deed under way at `t`, or until so many ms before?"""
        deeds = [d for d in self.done(*what) if d.deed.get("name", name) in ("", name)]
        return any(d.t <= t <= d.until + after_ms * MS for d in deeds)

    def permits_between(self, since: int, until: int) -> list[Heard]:
        """By the stamp of the guard."""
        return self.permits[bisect.bisect_left(self.permit_t, since) : bisect.bisect_right(self.permit_t, until)]

    def permit_before(self, t: int) -> Heard | None:
        at = bisect.bisect_right(self.permit_t, t)
        return self.permits[at - 1] if at else None

    def last_readings(self, servo: int, t: int, window: int) -> list[Reading]:
        """What reached the host of a servo in the `window` ns before `t`."""
        found = self.by_servo[servo]
        low = bisect.bisect_left(found, t - window, key=lambda r: r.t)
        return found[low : bisect.bisect_right(found, t, key=lambda r: r.t)]

    def _lines(self, chunks: list[tuple[int, bytes]]) -> list[Line]:
        return [line for t, text in whole(chunks, at_end=False) for line in self._line(t, text)]

    def _line(self, t: int, text: bytes) -> list[Line]:
        if text.endswith(b"!"):
            return [Line(t, "cut")]
        for kind, pattern in LINES:
            if not (found := pattern.fullmatch(text)):
                continue
            if kind == "ask":
                return [Line(t, kind, int(found[2], 16), host=int(found[1], 16) & 0x7F)]
            servo = int(found[1], 16)
            if kind == "goal":
                return [Line(t, kind, servo, self.robot.angle(servo, number(found[2])) if servo in self.robot.ids else math.nan)]
            return [Line(t, kind, each) for each in (self.robot.ids if servo == ALL else [servo])]
        if (again := text.rfind(b"can send ")) > 0 and text[again:].startswith(b"can send c0%02x " % self.robot.ids[0]):
            return self._line(t, text[again:])  # a write that the line had no room for, and the first question after it
        return [Line(t, "", text=text.decode("latin-1"))] if text.strip() else []

    def _readings(self, chunks: list[tuple[int, bytes]]) -> list[Reading]:
        out = []
        for t, text in whole(chunks, at_end=True):
            for found in REPLY.finditer(text):
                data = bytes.fromhex(found[2][: len(found[2]) // 2 * 2].decode())
                address = int(found[1], 16)
                servo = address >> 8 & 0x7F
                heads = data[0:2], data[3:5], data[17:19], data[20:22]
                if heads != (b"\x21\x00", b"\x2f\x01", b"\x21\x0a", b"\x23\x0d") or servo not in self.robot.ids:
                    continue
                (mode,), (turns,) = struct.unpack("<b", data[2:3]), struct.unpack("<f", data[5:9])
                out.append(Reading(t, servo, address & 0x7F, self.robot.angle(servo, turns), mode))
        return out

    def _lives(self, born: list[dict[str, Any]], died: list[dict[str, Any]]) -> list[Life]:
        ends = {r["pid"]: r["t"] for r in died}
        return [Life(r["name"], r["pid"], r["at"], ends.get(r["pid"], self.end)) for r in born]

    @staticmethod
    def _until(done: dict[str, Any], undone: list[dict[str, Any]]) -> int:
        return next((r["t"] for r in undone if r["t"] >= done["t"] and r["deed"] == done["deed"]), done["t"])


def number(digits: bytes) -> float:
    return float(struct.unpack("<f", bytes.fromhex(digits.decode()))[0])


def whole(chunks: list[tuple[int, bytes]], at_end: bool) -> Iterable[tuple[int, bytes]]:
    """The lines that the pieces make, each with the time of the piece in which it began, or ended."""
    rest, began = b"", 0
    for t, data in chunks:
        for part in data.splitlines(keepends=True):
            began = began if rest else t
            rest += part
            if rest.endswith((b"\n", b"\r")):
                yield (t if at_end else began), rest.rstrip()
                rest = b""


def read(path: Path) -> History:
    """A history from its file, one JSON object a line; a last line that was cut off is left out."""
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return History(records)
