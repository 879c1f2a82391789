"""The twin of a robot on bus servos: one line, its servos and their joints (`robotrl twin --robot so101|omx|dkitty`).

Lines on standard input, one JSON object each: {"place": "stand"}, {"place": [rad, ...]}, {"push": [servo, newton metres]},
{"state": "RESET", "places": [m, ...]} (the guard's, and where a person puts the task's thing),
{"supply_v": 11.0} (0: the power is off), {"fault": "mute", "servo": 3, "for_s": 1}, {"fault": "deaf", "servo": 3},
{"fault": "trip", "servo": 3, "bits": 32}, {"fault": "reboot", "servo": 3}, {"fault": "heat", "servo": 3, "celsius": 79},
{"fault": "rename", "servo": 3, "to": 4}, {"latency_ms": 16}, faults of the wire (sim/faultline.py) and {"fault": "clear"}.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from robotrl import config
from robotrl.clock import Clock, LockstepClock
from robotrl.drivers.port import MemoryPort
from robotrl.sim import faults
from robotrl.sim.dynamixelservo import DynamixelServo
from robotrl.sim.faultline import from_line
from robotrl.sim.feetechservo import FeetechServo
from robotrl.sim.fleets import FLEETS
from robotrl.sim.senses import TrackerSensor
from robotrl.sim.servobus import Chain
from robotrl.tasks.task import task_of

if TYPE_CHECKING:
    from robotrl.sim.studio import Studio

INSIDE = ("trip", "reboot", "heat", "rename", "mute", "deaf")  # faults of a servo, not of the wire


class Table(Protocol):
    """What a task needs beside the arm, and the hands of the person who sets it up."""

    def entered(self, state: str, places: Sequence[float]) -> None:
        """The guard is in another state; `places`: `Task.set_up` of the episode that runs, or of the next."""
        ...


class Hung:
    """For `reach` by sight: what is to be reached, hung up by a person."""

    def __init__(self, places: Sequence[float]) -> None:
        self.goal = tuple(places)

    def entered(self, state: str, places: Sequence[float]) -> None:
        if places:
            self.goal = tuple(places)


def laid(run: config.Run, twin: ServoTwin, seed: int) -> Table | None:
    """What stands on the arm's table, or hangs over it. ConfigError without PyBullet."""
    if run.task.name == "reach" and run.task.pixels.cameras:
        return Hung(task_of(run, seed).set_up(0))
    if run.task.name not in ("stack", "push"):
        return None
    from robotrl.sim.tabletop import table_of  # late: it imports pybullet, which must have been told to be quiet

    return table_of(run, twin, seed)


class ServoTwin:
    """With a LockstepClock (or none) `advance` moves that clock along with the physics; with another, bytes take their time."""

    def __init__(self, robot: str, seed: int = 0, clock: Clock | None = None, dt: float = 0.002) -> None:
        self.clock = clock or LockstepClock()
        timed = None if isinstance(self.clock, LockstepClock) else self.clock
        fleet = FLEETS[robot]
        self.bus = fleet.line(timed)
        self.joints, says = fleet.turned()
        self.chain = Chain(self.bus.servos, self.joints, dt)
        self.note = f"{robot}: {len(self.bus.servos)} servos; {says}"
        self.wires = {"servos": faults.FaultyWire(self.bus, self.now)}
        self.senses: list[TrackerSensor] = []  # what looks at the table, where something does
        self.table: Table | None = None
        self.studio: Studio | None = None  # where the pictures of its cameras are made, on the wall clock
        self.episode = 0  # how often the guard has reset it
        self._rng = np.random.default_rng(seed)

    @property
    def step_s(self) -> float:
        return self.chain.dt

    def now(self) -> float:
        """Seconds of physics so far."""
        return self.chain.time

    def due(self) -> int | None:
        """When the line will have something for the host (clock, ns)."""
        return self.bus.due()

    def advance(self, seconds: float) -> None:
        self.chain.advance(seconds)
        for sense in self.senses:
            sense.advance()
        if self.studio is not None and self.studio.due(self.chain.time):
            goal, puck = getattr(self.table, "goal", ()), getattr(self.table, "puck", None)
            thing = puck.lies() if puck is not None else ()
            self.studio.take(self.clock.now(), self.episode, self.joints.angle.tolist(), goal, thing)
        if isinstance(self.clock, LockstepClock):
            self.clock.sleep_until(round(self.chain.time * 1e9))

    def ports(self) -> dict[str, MemoryPort]:
        """The near end for lockstep."""
        return {name: MemoryPort(wire, name) for name, wire in self.wires.items()}

    def cameras(self) -> dict[str, str]:
        """Where each camera's pictures are to be had, by "camera." and its name in the robot file."""
        return {f"camera.{name}": url for name, url in self.studio.urls.items()} if self.studio is not None else {}

    def command(self, line: dict[str, Any]) -> None:
        """Do what a control line says. Raises ValueError naming what is wrong with it; then nothing was done."""
        if "state" in line:
            self.episode += line["state"] == "RESET"
            if self.table is not None:
                self.table.entered(str(line["state"]), [_number("places", at, -math.inf) for at in line.get("places", ())])
        elif isinstance(line.get("place"), list) and len(line["place"]) == len(self.joints.angle):
            self.joints.put([_number("place", angle, -math.inf) for angle in line["place"]])
        elif "place" in line:
            pass  # it has no feet to be set on: an arm is screwed down, D'Kitty hangs in its stand
        elif "push" in line:
            push = line["push"]
            if not isinstance(push, list) or len(push) != 2:
                raise ValueError(f"push {push!r}: write [servo, newton metres]")
            newton_metres = _number("push", push[1], -math.inf)
            self.joints.push[[s.id for s in self.bus.servos].index(self._servo(push[0]).id)] = newton_metres
        elif "supply_v" in line:
            self.chain.supply_v = _number("supply_v", line["supply_v"])
        elif "latency_ms" in line:
            self.bus.latency_ns = round(_number("latency_ms", line["latency_ms"]) * 1e6)
        elif line.get("fault") == "clear":
            self.wires["servos"].clear()
            self.bus.faults.end()
        elif line.get("fault") in INSIDE:
            self._inside(str(line["fault"]), self._servo(line.get("servo")), line)
        else:
            name, fault, for_s = from_line(line, self._rng, self.now)
            if name not in self.wires:
                raise ValueError(f"wire {name!r}: this twin has {', '.join(self.wires)}")
            self.wires[name].add(fault, for_s)

    def _servo(self, name: object) -> DynamixelServo | FeetechServo:
        for servo in self.bus.servos:
            if servo.id == name:
                return servo
        raise ValueError(f"servo {name!r}: use one of {', '.join(str(s.id) for s in self.bus.servos)}")

    def _inside(self, fault: str, servo: DynamixelServo | FeetechServo, line: dict[str, Any]) -> None:
        if fault == "trip":
            servo.trip(int(_number("bits", line.get("bits", 32))))
        elif fault == "reboot":
            servo.boot()
        elif fault == "heat":
            servo.celsius = _number("celsius", line.get("celsius", 90.0))
        elif fault == "rename":
            to = int(_number("to", line.get("to")))
            if to > 252:
                raise ValueError(f"to {to}: servos are called 0 to 252")
            servo.registers.put("id", to)
        else:
            self.bus.faults.begin(fault, servo.id, self.now() + _number("for_s", line.get("for_s", math.inf)))

    def close(self) -> None:
        if self.studio is not None:
            self.studio.close()


def _number(key: str, value: object, least: float = 0.0) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value >= least:
        raise ValueError(f"{key} must be a number, at least {least:g}, not {value!r}")
    return float(value)
