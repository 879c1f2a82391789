"""`robotrl run --sim`, with a twin whose wires are overheard: what its far end heard and said, stamped, one JSON object a line.

The bench nemesis starts it in the place of the command; every process is the real one, and the twin too, but that its three wires
are written down as their bytes pass: `in`, what the host wrote, before any fault takes hold of it; `out`, what reaches the host,
behind all faults; `modes`, what mode the servos are in, whatever they say. Of the IMU only how many bytes came, and when. And the
scripted operator gives rewards besides (`rewarding.py`).
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
        if data:
            self._tell("out", len(data) if self._name == "imu" else data.decode("latin-1"))
        return data

    def _tell(self, what: str, value: Any) -> None:
        self._ear.write(json.dumps({"t": time.monotonic_ns(), "k": what, "wire": self._name, "v": value}) + "\n")


class OverheardTwin(twin.Twin):
    """The twin; its wires lead past somebody who writes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        ear = open(os.environ["OVERHEARD"], "a", buffering=1)  # noqa: SIM115 - as long as the process
        for name, wire in self.wires.items():
            bank = self.bus.bank if name == "servos" else None
            self.wires[name] = Overheard(name, wire, ear, bank)  # type: ignore[assignment]


def main(argv: list[str]) -> int:
    if argv[:1] == ["twin"]:
        twin.Twin = OverheardTwin  # type: ignore[misc]
        return twin.main(argv[1:])
    TwinProcess.program = (__file__, "twin")
    manager.OPERATOR = processes.OPERATOR = Spec("operator", "bench.rewarding")  # type: ignore[attr-defined]
    return manager.main(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
