"""What the nemesis does, and when: a schedule is drawn by its seed, played on a live run, and written down as JSON.

A deed is {"at": s, "do": what, ...}. `kill` NAME: kill -9; `stop` NAME for_s: SIGSTOP, then SIGCONT; `pause` for_s: every process
of the run at once; `suspend` s: the machine was asleep for so long, which no clock shows that messages are stamped by; `clock` s:
somebody sets the wall clock; `full` for_s: no file can grow; `wire`: a line to the twin, as sim/faultline.py has them. Nothing
here needs root.
"""

from __future__ import annotations

import heapq
import json
import math
import os
import random
import resource
import signal
import struct
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

Deed = dict[str, Any]

NAMES = ("recorder", "guard", "rescue", "servos", "imu", "tracker", "reset", "policy", "learner", "operator")
CAMERAS = ("camera1", "camera2", "camera3", "camera4")
ENDING = ("manager", "twin")  # with whom a run ends, by design: nothing would be left to play on
KINDS = {"kill": 7, "stop": 7, "wire": 6, "clock": 2, "full": 2, "pause": 1, "suspend": 1}
# On the wire: what, and what it says besides. Nothing that only a person's hand at the plug could end.
WIRES: tuple[tuple[str, dict[str, tuple[float, float]]], ...] = (
    ("drop", {"chance": (0.01, 0.6)}),
    ("corrupt", {"rate": (1e-5, 1e-2)}),
    ("delay", {"seconds": (0.002, 0.1)}),
    ("mute", {"servo": (1, 8)}),
    ("silence", {}),
    ("babble", {}),
    ("again", {"pieces": (1, 4)}),
    ("twice", {"servo": (1, 8)}),
    ("trip", {"servo": (1, 8)}),
    ("reboot", {"servo": (1, 8)}),
    ("freeze", {}),
    ("saturate", {}),
    ("skew", {"roll": (0.1, 1.0), "pitch": (0.1, 1.0)}),
    ("lose", {}),
    ("shift", {"metres": (0.1, 3.0)}),
    ("still", {}),
)
ANY_WIRE = ("drop", "corrupt", "delay", "silence")
LASTING = frozenset(("trip", "reboot"))  # no duration: what has happened has happened
ON_A_BUS = (
    "drop",
    "corrupt",
    "delay",
    "mute",
    "silence",
    "babble",
    "again",
    "trip",
    "reboot",
)  # of the same, on bus servos' line
SENSED = {"imu": ("freeze", "saturate", "skew"), "tracker": ("lose", "shift", "still")}
HEALS_S = (0.3, 2.0)  # until a person has switched a bus servo that tripped off and on: nothing else ends that


class Target(NamedTuple):
    """What deeds may fall upon: processes by name, servos by number, faults of which wires."""

    names: tuple[str, ...] = NAMES
    servos: tuple[int, ...] = tuple(range(1, 9))
    wires: tuple[str, ...] = ("servos", "imu", "tracker")
    bus: bool = False  # of bus servos

    @classmethod
    def of(cls, config: dict[str, Any]) -> Target:
        robot = config["robot"]
        wires = ("servos", *robot.get("senses", ("imu", "tracker")))
        return cls(names(config), tuple(robot["servos"]["ids"]), wires, robot["servos"].get("protocol", "moteus") != "moteus")

    def faults(self) -> list[tuple[str, dict[str, tuple[float, float]]]]:
        absent = {fault for wire, faults in SENSED.items() if wire not in self.wires for fault in faults}
        return [row for row in WIRES if row[0] not in absent and (not self.bus or row[0] in (*ON_A_BUS, *SENSED))]


EVERYTHING = Target()


def names(config: dict[str, Any]) -> tuple[str, ...]:
    """Every process of such a run, by its name in the tree, but those that end it."""
    asked = {
        "classifier": config["task"]["reward"] == "classifier",
        "teleop": bool(config["takeover"]["device"]),
        "gateway": bool(config["network"]["listen"]),
    }
    cameras = CAMERAS[: len(config["robot"]["cameras"])]
    absent = {"imu", "tracker"} - set(config["robot"].get("senses", ("imu", "tracker")))
    plain = (name for name in NAMES if name not in absent)
    return (*plain, *cameras, *(name for name, wanted in asked.items() if wanted))


def draw(seed: int, seconds: float, deeds: int, whom: Target = EVERYTHING) -> list[Deed]:
    """So many deeds within so many seconds, upon what there is, by the seed alone."""
    rng = random.Random(seed)
    out = []
    for at in sorted(rng.uniform(0, seconds) for _ in range(deeds)):
        out.append({"at": round(at, 4), **_deed(rng, whom)})
    return out


def _log(rng: random.Random, low: float, high: float) -> float:
    return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.3g}")


def _deed(rng: random.Random, whom: Target) -> Deed:
    do = rng.choices(list(KINDS), list(KINDS.values()))[0]
    if do == "kill":
        return {"do": do, "name": rng.choice(whom.names)}
    if do == "stop":
        return {"do": do, "name": rng.choice(whom.names), "for_s": _log(rng, 0.02, 2.0)}
    if do == "pause":
        return {"do": do, "for_s": _log(rng, 0.05, 1.0)}
    if do == "clock":
        return {"do": do, "s": rng.choice((-3600.0, -1.0, 1.0, 3600.0))}
    if do == "suspend":
        return {"do": do, "s": rng.choice((1.0, 60.0, 3600.0))}
    if do == "full":
        return {"do": do, "for_s": _log(rng, 0.1, 2.0)}
    return {"do": do, **_fault(rng, whom)}


def _fault(rng: random.Random, whom: Target) -> Deed:
    fault, fields = rng.choice(whom.faults())
    line: Deed = {"fault": fault}
    for key, (low, high) in fields.items():
        if key == "servo":
            line[key] = whom.servos[rng.randint(0, len(whom.servos) - 1)]
        else:
            line[key] = rng.randint(int(low), int(high)) if key == "pieces" else _log(rng, low, high)
    if fault in ANY_WIRE:
        line["wire"] = rng.choice(("servos", *whom.wires))
    if fault not in LASTING:
        line["for_s"] = _log(rng, 0.03, 2.0)
    return {"line": line, "heals_s": _log(rng, *HEALS_S)} if fault == "trip" and whom.bus else {"line": line}


class Player:
    """Does what a schedule says to the processes in `pids` (name -> pid, alive) and tells `note` when. Ends in all being well."""

    def __init__(self, pids: dict[str, int], skew: Path, note: Callable[..., None]) -> None:
        self._pids, self._skew, self._note = pids, skew, note
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def play(self, schedule: list[Deed], alive: Callable[[], bool]) -> None:
        """Until the last deed is done and undone, or the run has ended."""
        began = time.monotonic()
        for deed in schedule:
            self._later(began + deed["at"], lambda deed=deed: self._do(deed))
        while self._due and alive():
            at, _, act = self._due[0]
            if (left := at - time.monotonic()) > 0:
                time.sleep(min(left, 0.02))
                continue
            heapq.heappop(self._due)
            act()
        for _, _, act in sorted(self._due, key=lambda due: due[:2]):  # of a run that has ended: what was to be undone is
            act()
        self._due.clear()

    def _later(self, at: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (at, next(self._order), act))

    def _do(self, deed: Deed) -> None:
        do, name = deed["do"], deed.get("name", "")
        until = time.monotonic() + deed.get("for_s", deed.get("line", {}).get("for_s", 0.0))
        targets = {"pause": list(self._pids), "full": [n for n in self._pids if n != "twin"]}.get(do, [name])
        whom = {n: self._pids[n] for n in targets if n in self._pids}
        self._note("deed", deed=deed, whom=whom)
        if do == "kill":
            _signal(whom, signal.SIGKILL)
        elif do in ("stop", "pause"):
            _signal(whom, signal.SIGSTOP)
            self._later(until, lambda: self._undone(deed, lambda: _signal(whom, signal.SIGCONT)))
        elif do in ("clock", "suspend"):
            _set(self._skew, do, round(deed["s"] * 1e9))
        elif do == "full":
            _sizes(whom.values(), 0)
            self._later(until, lambda: self._undone(deed, lambda: _sizes(self._pids.values(), resource.RLIM_INFINITY)))
        else:
            self._tell_twin(deed["line"])
            if "for_s" in deed["line"]:
                self._later(until, lambda: self._undone(deed, lambda: None))
            if "heals_s" in deed:
                again = {"fault": "reboot", "servo": deed["line"]["servo"]}
                self._later(time.monotonic() + deed["heals_s"], lambda: self._undone(deed, lambda: self._tell_twin(again)))

    def _undone(self, deed: Deed, act: Callable[[], None]) -> None:
        act()
        self._note("undone", deed=deed)

    def _tell_twin(self, line: Deed) -> None:
        """By its standard input, a pipe, which the kernel lets its user open once more."""
        try:
            with open(f"/proc/{self._pids['twin']}/fd/0", "wb", buffering=0) as pipe:
                pipe.write(json.dumps(line).encode() + b"\n")
        except (KeyError, OSError):
            pass  # it has ended


def _set(skew: Path, do: str, ns: int) -> None:
    """As skew.c has it: the wall clock is set to so much, and the time that the machine was suspended only grows."""
    with open(skew, "r+b") as file:  # in place: all processes have it mapped
        clock, suspended = struct.unpack("qq", file.read(16))
        file.seek(0)
        file.write(struct.pack("qq", *((ns, suspended) if do == "clock" else (clock, suspended + ns))))


def _signal(whom: dict[str, int], number: int) -> None:
    for pid in whom.values():
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def _sizes(pids: Any, limit: int) -> None:
    """The size beyond which no file of these processes may grow: 0 is a full disk, but for what has its place already."""
    for pid in list(pids):
        try:
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (min(limit, hard) if hard >= 0 else limit, hard))
        except (OSError, ValueError):
            pass
