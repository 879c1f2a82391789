"""A servo's registers: where each lies, what may be written to it, how its number is spelt in bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Register:
    address: int
    size: int  # bytes, little-endian
    name: str
    default: int = 0
    writable: bool = True
    low: int | None = None
    high: int | None = None
    rom: bool = False  # survives a loss of power
    signed: bool = False  # two's complement
    sign_bit: int = 0  # sign and magnitude, the sign in this bit; 0: none

    def decode(self, data: bytes | bytearray) -> int:
        value = int.from_bytes(data, "little", signed=self.signed)
        if self.sign_bit and value >> self.sign_bit & 1:
            return -(value & ((1 << self.sign_bit) - 1))
        return value & ((1 << self.sign_bit) - 1) if self.sign_bit else value

    def encode(self, value: int) -> bytes:
        """What does not fit ends at the end of the range, as a measurement does."""
        bits = 8 * self.size
        if self.sign_bit:
            magnitude = min(abs(value), (1 << self.sign_bit) - 1)
            value = magnitude | (value < 0) << self.sign_bit
        elif self.signed:
            value = max(-(1 << bits - 1), min((1 << bits - 1) - 1, value))
        else:
            value = max(0, min((1 << bits) - 1, value))
        return value.to_bytes(self.size, "little", signed=self.signed)

    def allows(self, value: int) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


class Table:
    """All registers of a model. `at[address]` is the register that owns a byte, None in a gap."""

    def __init__(self, registers: Iterable[Register]) -> None:
        self.registers = sorted(registers, key=lambda r: r.address)
        self.named = {r.name: r for r in self.registers}
        self.size = max(r.address + r.size for r in self.registers)
        self.at: list[Register | None] = [None] * self.size
        for r in self.registers:
            for byte in range(r.address, r.address + r.size):
                if self.at[byte] is not None:
                    raise ValueError(f"registers {r.name} and {self.at[byte]} both own byte {byte}")
                self.at[byte] = r


class RegisterFile:
    """One servo's registers; `get` and `put` by name, in register units, whatever the host may write."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.raw = bytearray(table.size)
        self._plain = {r.name: (r.address, r.address + r.size, r.signed) for r in table.registers if not r.sign_bit}
        for r in table.registers:
            self.put(r.name, r.default)

    def get(self, name: str) -> int:
        plain = self._plain.get(name)  # asked for thousands of times a second
        if plain is not None:
            return int.from_bytes(self.raw[plain[0] : plain[1]], "little", signed=plain[2])
        r = self.table.named[name]
        return r.decode(self.raw[r.address : r.address + r.size])

    def put(self, name: str, value: int) -> None:
        r = self.table.named[name]
        self.raw[r.address : r.address + r.size] = r.encode(value)

    def has(self, name: str) -> bool:
        return name in self.table.named
