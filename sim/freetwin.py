"""The twin of a legged robot on bus servos that stands on the ground: its line of servos, an IMU, a pose tracker."""

from __future__ import annotations

from typing import Any

import numpy as np

from robotrl import config
from robotrl.clock import Clock, LockstepClock
from robotrl.drivers.port import MemoryPort
from robotrl.sim import faults
from robotrl.sim.bullet import import_bullet
from robotrl.sim.faultline import from_line
from robotrl.sim.fleets import FLEETS
from robotrl.sim.senses import ImuSensor, TrackerSensor
from robotrl.sim.servobus import Chain
from robotrl.sim.tagcamera import TagCamera


class FreeTwin:
    """As `twin.Twin`, of a robot whose servos are behind gears. Everything random comes from `seed`."""

    camera: TagCamera | None = None  # nobody has drawn it

    def __init__(self, run: config.Run, seed: int, clock: Clock | None = None) -> None:
        try:
            import_bullet()
        except ImportError as error:
            raise config.ConfigError(f"twin: no PyBullet here ({error}); its wheels: CPython 3.11, Linux x86-64") from None
        from robotrl.sim.freebody import FreeBody  # late: it imports pybullet, which must have been told to be quiet

        self.clock = clock or LockstepClock()
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4)]
        fleet = FLEETS[run.robot.kind]
        try:
            self.world = FreeBody(fleet.body, run.twin, run.robot.home, seed)
        except ValueError as error:
            raise config.ConfigError(f"twin: {error}") from None
        self.bus = fleet.line(None if isinstance(self.clock, LockstepClock) else self.clock)
        self.bus.latency_ns = round(run.twin.adapter_s * 1e9)
        self.chain = Chain(self.bus.servos, self.world, run.twin.physics_dt)
        self.imu = ImuSensor(self.world, run.twin, streams[0])
        self.tracker = TrackerSensor(self.world, run.twin, streams[1])
        self.note, self._rng = "", streams[2]
        self._aloft = False  # held, and played its reset
        if run.twin.randomise:
            self.world.randomise(streams[3])
        self.wires = {
            "servos": faults.FaultyWire(self.bus, self.now),
            "imu": faults.FaultyWire(self.imu, self.now),
            "tracker": faults.FaultyWire(self.tracker, self.now),
        }

    @property
    def step_s(self) -> float:
        """Physics step."""
        return self.chain.dt

    def now(self) -> float:
        """Seconds of physics so far."""
        return self.world.time

    def due(self) -> int | None:
        """When the line will have something for the host (clock, ns)."""
        return self.bus.due()

    def advance(self, seconds: float) -> None:
        """Move physics, servos and senses on, and a lockstep clock with them."""
        self.chain.advance(seconds)
        self.imu.advance()
        self.tracker.advance()
        if isinstance(self.clock, LockstepClock):
            self.clock.sleep_until(round(self.world.time * 1e9))

    def ports(self) -> dict[str, MemoryPort]:
        """The near ends for lockstep: servos, imu, tracker."""
        return {name: MemoryPort(wire, name) for name, wire in self.wires.items()}

    def entered(self, state: str) -> None:
        """The guard is in another state. A robot that a person holds is played its reset in the air, and then set on its feet."""
        if self.world.held:
            if self._aloft and state != "RESET":
                self.world.let_go()
            self._aloft = state == "RESET"

    def command(self, line: dict[str, Any]) -> None:
        """Do what a control line says: {"place": "stand"}, {"state": "RESET"}, {"supply_v": 0}, faults; or ValueError."""
        if "state" in line:
            self.entered(str(line["state"]))
        elif "place" in line:
            self.world.place(str(line["place"]))
        elif "supply_v" in line:
            self.chain.supply_v = float(line["supply_v"])
        elif line.get("fault") == "clear":
            for wire in self.wires.values():
                wire.clear()
        else:
            name, fault, for_s = from_line(line, self._rng, self.now)
            self.wires[name].add(fault, for_s)

    def close(self) -> None:
        self.world.close()
