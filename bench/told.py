"""A recorded history in order: what the host wrote to the servos, what it was told, what was said on the bus, who lived when.

Plain Python, and nothing of the product's: the motors' wire is taken apart by the reader of its family.
"""

from __future__ import annotations

import bisect
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from dynamixelwire import DynamixelWire
from feetechwire import FeetechWire
from moteuswire import MoteusWire
from wirelines import Line as Line
from wirelines import Reading, Robot, Wire, whole

WIRES: dict[str, Callable[[Robot], Wire]] = {"moteus": MoteusWire, "feetech": FeetechWire, "dynamixel": DynamixelWire}
MS = 1_000_000
_XYZ = rb" (-?\d+\.\d+)" * 3
PICTURE = re.compile(rb"pose (\d+) (\d+)" + _XYZ + rb" \S+ \S+ \S+ \*[0-9A-F]{2}")  # running number, age in us, x y z


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


class History:
    """All of one run. Raises KeyError for records that are none."""

    def __init__(self, records: Iterable[dict[str, Any]]) -> None:
        ordered = sorted(records, key=lambda record: record["t"])
        by: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for record in ordered:
            by[record["k"]].append(record)
        self.robot = Robot.of(by["begin"][0]["config"])
        self.begun, self.end = by["begin"][0]["t"], ordered[-1]["t"]
        self.wire: Wire = WIRES[self.robot.protocol](self.robot)
        self.lines = self.wire.lines([(r["t"], r["v"].encode("latin-1")) for r in by["in"]])
        self.cycles = [line for line in self.lines if line.cycle]
        wires = [r for r in by["out"] if r.get("wire", "servos") == "servos"]
        self.readings = self.wire.readings([(r["t"], r["v"].encode("latin-1")) for r in wires])
        pictures = [(r["t"], r["v"].encode("latin-1")) for r in by["out"] if r.get("wire") == "tracker"]
        self.pictures = [(t, found) for t, text in whole(pictures, at_end=True) for found in [PICTURE.search(text)] if found]
        self.imu_bytes = [r["t"] for r in by["out"] if r.get("wire") == "imu"]
        self.modes = [(r["t"], r["v"]) for r in by["modes"]]
        self.places = [(r["t"], r["v"]) for r in by["at"]]  # of an arm's joints, rad, in truth
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

    def ended_between(self, since: int, until: int, *names: str) -> bool:
        """Did a process of one of these names die then?"""
        return any(life.name in names and since <= life.died <= until for life in self.lives)

    def _lives(self, born: list[dict[str, Any]], died: list[dict[str, Any]]) -> list[Life]:
        ends = {r["pid"]: r["t"] for r in died}
        return [Life(r["name"], r["pid"], r["at"], ends.get(r["pid"], self.end)) for r in born]

    @staticmethod
    def _until(done: dict[str, Any], undone: list[dict[str, Any]]) -> int:
        return next((r["t"] for r in undone if r["t"] >= done["t"] and r["deed"] == done["deed"]), done["t"])


def read(path: Path) -> History:
    """A history from its file, one JSON object a line; a last line that was cut off is left out."""
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return History(records)
