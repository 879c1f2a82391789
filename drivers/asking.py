"""One question at a time to the servos of a bus: ping, read a register, write one. For handshakes and tools, not for a cycle.

Dynamixel and Feetech speak differently and are asked the same way: the module of the codec is handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from robotrl.clock import Clock
from robotrl.drivers import dynamixel, feetech
from robotrl.drivers.feetech_sts import STS3215
from robotrl.drivers.handshake import Present
from robotrl.drivers.port import Port
from robotrl.drivers.tables import Item

PATIENCE_NS = 20_000_000  # for one answer: an adapter whose timer nobody has set holds it back for 16 ms
TRIES = 3  # of a question, each with twice the patience: on a busy machine an answer may come too late
SETTLE_READS = 4
READS_MAX = 64  # a babbling line ends a question even where the clock stands still
RUN = 24  # bytes: registers that lie closer together are asked for at once


class Status(Protocol):
    """An answer of either family."""

    @property
    def id(self) -> int: ...
    @property
    def error(self) -> int: ...
    @property
    def params(self) -> bytes: ...


class Asking:
    """`family` is "dynamixel" or "feetech". `garbled` counts frames that were not sound. PortError when the port is lost."""

    def __init__(self, port: Port, clock: Clock, family: str, patience_ns: int = PATIENCE_NS) -> None:
        self.garbled = 0
        self.round_trip_ns = 0  # of the last question that was answered
        self._port, self._clock, self._patience = port, clock, patience_ns
        self._dynamixel = family == "dynamixel"
        self._codec = dynamixel if self._dynamixel else feetech
        self._pong = 3 if self._dynamixel else 0  # bytes of an answer to a ping

    def ping(self, servo: int, tries: int = TRIES) -> Present | None:
        """Who that is, None where nobody answers. A Feetech servo says its model and firmware when it is read."""
        answer = next((a[0] for n in range(tries) if (a := self._ask(self._codec.make_ping(servo), servo, self._pong, n))), None)
        if answer is None:
            return None
        if self._dynamixel:
            return Present(servo, int.from_bytes(answer.params[:2], "little"), answer.params[2])
        S = STS3215
        said = self.read(servo, (S.FIRMWARE_MAJOR, S.FIRMWARE_MINOR, S.MODEL_NUMBER))
        if S.MODEL_NUMBER not in said:
            return None
        return Present(servo, said[S.MODEL_NUMBER], said[S.FIRMWARE_MAJOR] * 256 + said[S.FIRMWARE_MINOR])

    def read(self, servo: int, items: Sequence[Item]) -> dict[Item, int]:
        """Steps of the registers that were answered."""
        out: dict[Item, int] = {}
        for run in _runs(items):
            start = run[0].address
            length = max(i.address + i.size for i in run) - start
            if data := self.bytes_at(servo, start, length):
                out |= {i: i.decode(data[i.address - start : i.address - start + i.size]) for i in run}
        return out

    def write(self, servo: int, address: int, data: bytes) -> Status | None:
        """The servo's answer; None where it gave none. What is written may be written twice."""
        packet = self._codec.make_write(servo, address, data)
        return next((answers[0] for n in range(TRIES) if (answers := self._ask(packet, servo, 0, n))), None)

    def bytes_at(self, servo: int, address: int, length: int) -> bytes:
        """What stands there; nothing where it was not answered."""
        for n in range(TRIES):
            if answers := self._ask(self._codec.make_read(servo, address, length), servo, length, n):
                return answers[0].params
        return b""

    def set(self, servo: int, item: Item, steps: int) -> bool:
        """Write a register and read it back; whether it then says so."""
        for _ in range(TRIES):  # the answer to a write may be lost, and what was written be there
            self.write(servo, item.address, item.encode(steps))
            if self.read(servo, (item,)).get(item) == steps:
                return True
        return False

    def tell(self, packet: bytes) -> None:
        """Send what nobody answers."""
        self._port.write(packet)

    def _ask(self, packet: bytes, servo: int, size: int, before: int) -> Sequence[Status]:
        """Answers of `servo` with `size` bytes, as soon as there is one; none once its time is up. `before`: tries so far."""
        for _ in range(SETTLE_READS):
            if not self._port.read(self._clock.now()):
                break
        parser = dynamixel.Parser(64 + size * 2) if self._dynamixel else feetech.Parser((servo,), size + 6, exact=True)
        sent = self._clock.now()
        self._port.write(packet)
        deadline, found = sent + (self._patience << before), []
        for _ in range(READS_MAX):
            data = self._port.read(deadline)
            if not data:
                break
            found += [s for s in parser.feed(data) if s.id == servo and len(s.params) == size]
            if found:
                self.round_trip_ns = self._clock.now() - sent
                break
        self.garbled += parser.errors
        return found


def _runs(items: Sequence[Item]) -> list[list[Item]]:
    """Registers by address, those near each other together."""
    out: list[list[Item]] = []
    for item in sorted(set(items)):
        if out and item.address + item.size - out[-1][0].address <= RUN:
            out[-1].append(item)
        else:
            out.append([item])
    return out
