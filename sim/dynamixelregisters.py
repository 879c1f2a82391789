"""Who may write what to a Dynamixel X, and when: the access rules of its control table (hardware facts 4.1, 4.2)."""

from __future__ import annotations

from collections.abc import Iterator

from robotrl.sim import dynamixeltable as t
from robotrl.sim.controltable import Register, RegisterFile

OK, RESULT_FAIL, INSTRUCTION, CRC, RANGE, LENGTH, LIMIT, ACCESS = range(8)  # numbers in the error byte
GOALS = ("goal_pwm", "goal_current", "goal_velocity", "goal_position")

Change = tuple[Register, int]


class Registers(RegisterFile):
    def __init__(self, model: t.Model) -> None:
        super().__init__(t.table(model))
        self.model = model
        self._slots = {}  # data byte: the indirect address register that says where it points
        for bank, (_, data, count) in enumerate(model.indirect()):
            for i in range(count):
                self._slots[data + i] = f"indirect_address_{bank * count + i}"

    def read(self, address: int, length: int) -> bytes | None:
        """None where the table has no such bytes. Gaps read 0."""
        if length < 1 or address + length > self.table.size:
            return None
        if self._slots.keys().isdisjoint(range(address, address + length)):
            return bytes(self.raw[address : address + length])
        return bytes(self.raw[at] for at in self._pointed(address, length))

    def changes(self, address: int, data: bytes) -> tuple[int, list[Change]]:
        """What writing `data` would change, or an error and nothing: a write is done whole or not at all."""
        if not data:
            return LENGTH, []
        if address + len(data) > self.table.size:
            return ACCESS, []
        out: list[Change] = []
        for start, run in self._runs(address, data):
            error = self._whole(start, run, out)
            if error:
                return error, []
        for register, value in out:
            error = self._permitted(register, value)
            if error:
                return error, []
        return OK, out

    def factory(self, keep: tuple[str, ...]) -> None:
        """Everything as it came, but for the registers named."""
        for r in self.table.registers:
            if r.name not in keep:
                self.put(r.name, r.default)

    def power_cycle(self) -> None:
        """What lies in RAM is as after power was lost."""
        for r in self.table.registers:
            if not r.rom:
                self.put(r.name, r.default)

    def _pointed(self, address: int, length: int) -> Iterator[int]:
        """Where each byte really lies: indirect data point elsewhere."""
        for at in range(address, address + length):
            slot = self._slots.get(at)
            target = at if slot is None else self.get(slot)
            yield at if target in self._slots or target >= self.table.size else target

    def _runs(self, address: int, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Stretches of bytes that lie in a row."""
        start, run = -1, b""
        for at, byte in zip(self._pointed(address, len(data)), data, strict=True):
            if run and at == start + len(run):
                run += bytes((byte,))
                continue
            if run:
                yield start, run
            start, run = at, bytes((byte,))
        yield start, run

    def _whole(self, start: int, run: bytes, out: list[Change]) -> int:
        """Cut a stretch into registers; half of one is an error."""
        at = start
        while at < start + len(run):
            register = self.table.at[at]
            if register is None or not register.writable:
                return ACCESS
            data = run[at - start : at - start + register.size]
            if register.address != at or len(data) < register.size:
                return LENGTH
            out.append((register, register.decode(data)))
            at += register.size
        return OK

    def _permitted(self, register: Register, value: int) -> int:
        if register.rom and self.get("torque"):
            return ACCESS
        if not register.allows(value):
            return RANGE
        tripped = self.get("bus_watchdog") == -1
        if tripped and (register.name in GOALS or (register.name == "bus_watchdog" and value)):
            return RANGE  # goals are read-only until 0 is written
        if register.name == "operating_mode" and value not in self.model.modes:
            return RANGE
        low, high = self._limits(register.name)
        return OK if low <= value <= high else LIMIT

    def _limits(self, name: str) -> tuple[int, int]:
        """Bounds that other registers set."""
        if name in ("goal_pwm", "goal_current", "goal_velocity"):
            most = self.get(name.removeprefix("goal_") + "_limit")
            return -most, most
        if name == "goal_position" and self.get("operating_mode") == t.POSITION:
            return self.get("min_position"), self.get("max_position")
        if name == "homing_offset" and self.get("operating_mode") == t.POSITION:
            return -t.TURN // 4, t.TURN // 4
        return -(1 << 31), 1 << 31
