"""`robotrl run --sim`, with a twin whose wires are overheard: what its far end heard and said, stamped, one JSON object a line.

The bench nemesis starts it in the place of the command; every process is the real one, and the twin too, but that its three wires
are written down as their bytes pass: `in`, what the host wrote, before any fault takes hold of it; `out`, what reaches the host,
behind all faults; `modes`, what mode the servos are in, whatever they say (of bus servos: whether they have torque); `at`, where
the joints of a robot on bus servos are. Of the IMU only how many bytes came, and when. And the scripted operator gives rewards
besides (`rewarding.py`).
Run: OVERHEARD=FILE python bench/overheard.py RUN.toml --sim ...
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import IO, Any

from robotrl import manager, processes
from robotrl.roster import Spec
from robotrl.sim import twin
from robotrl.sim.faults import Fault, FaultyWire
from robotrl.twinprocess import TwinProcess

LATE_NS = 20_000_000
LOOK_NS = 40_000_000  # how often joints are looked at
ELSEWHERE = 0.01  # rad from where it was seen last


class Torques:
    """Of bus servos what a moteus bank calls their mode, as their registers have it; and their joints' angles, rad."""

    def __init__(self, bus: Any, joints: Any) -> None:
        self._servos, self._joints = bus.servos, joints
        self._seen: list[float] = []
        self._due = 0

    @property
    def mode(self) -> list[int]:
        return [self._mode(servo.registers) for servo in self._servos]

    @staticmethod
    def _mode(registers: Any) -> int:
        """0 no torque, 10 it goes by goals or brakes, 11 its watchdog has stopped it."""
        tripped = registers.has("bus_watchdog") and registers.get("bus_watchdog") == -1
        return 0 if not registers.get("torque") else 11 if tripped else 10

    def moved(self, now: int) -> list[float]:
        """Where they are, if they are to be looked at now and are elsewhere."""
        if now < self._due:
            return []
        self._due, at = now + LOOK_NS, [round(angle, 4) for angle in self._joints.angle.tolist()]
        if self._seen and all(abs(a - b) < ELSEWHERE for a, b in zip(at, self._seen, strict=True)):
            return []
        self._seen = at
        return at


class Overheard:
    """A wire with somebody in front of its faults. The same face as `FaultyWire`."""

    def __init__(self, name: str, wire: FaultyWire, ear: IO[str], bank: Any = None) -> None:
        self._name, self._wire, self._ear, self._bank = name, wire, ear, bank
        self.far = wire.far
        self._modes: list[int] = []
        self._looked = time.monotonic_ns()

    def add(self, fault: Fault, for_s: float = float("inf")) -> Fault:
        return self._wire.add(fault, for_s)

    def clear(self) -> None:
        self._wire.clear()

    def receive(self, data: bytes) -> None:
        if self._bank is not None:
            self._tell("in", data.decode("latin-1"))
        self._wire.receive(data)

    def transmit(self) -> bytes:
        now = time.monotonic_ns()
        if (
            self._bank is not None and now - self._looked > LATE_NS
        ):  # it is asked every 2 ms, unless the machine has no time for us
            self._ear.write(json.dumps({"t": now, "k": "late", "ns": now - self._looked}) + "\n")
        self._looked = now
        data = self._wire.transmit()
        if self._bank is not None and list(self._bank.mode) != self._modes:
            self._modes = [int(mode) for mode in self._bank.mode]
            self._tell("modes", self._modes)
        if isinstance(self._bank, Torques) and (at := self._bank.moved(now)):
            self._tell("at", at)
        if data:
            self._tell("out", len(data) if self._name == "imu" else data.decode("latin-1"))
        return data

    def _tell(self, what: str, value: Any) -> None:
        self._ear.write(json.dumps({"t": time.monotonic_ns(), "k": what, "wire": self._name, "v": value}) + "\n")


def overhear(made: Any) -> Any:
    """A twin whose wires lead past somebody who writes."""
    ear = open(os.environ["OVERHEARD"], "a", buffering=1)  # noqa: SIM115 - as long as the process
    bank = made.bus.bank if isinstance(made, twin.Twin) else Torques(made.bus, made.chain.joints)
    for name, wire in made.wires.items():
        made.wires[name] = Overheard(name, wire, ear, bank if name == "servos" else None)
    return made


def main(argv: list[str]) -> int:
    if argv[:1] == ["twin"]:
        plain = twin.twin_of
        twin.twin_of = lambda args: (overhear((found := plain(args))[0]), *found[1:])
        return twin.main(argv[1:])
    TwinProcess.program = (__file__, "twin")
    manager.OPERATOR = processes.OPERATOR = Spec("operator", "bench.rewarding")  # type: ignore[attr-defined]
    return manager.main(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
