"""A line of Dynamixel X servos, byte for byte: Protocol 2.0, every instruction (hardware facts 4.1; e-Manual, Protocol 2.0).

In a sync or bulk read each servo waits for the one named before it, so one that is silent silences all behind it (safety facts,
fault 5). Servos with one number speak at once: the line shows a 1 only where all of them do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from robotrl.clock import Clock
from robotrl.sim.dynamixelregisters import CRC, INSTRUCTION, LENGTH, OK
from robotrl.sim.dynamixelservo import DynamixelServo
from robotrl.sim.dynamixelwire import BROADCAST, Ear, Packet, fast_status, status
from robotrl.sim.halfduplex import HalfDuplex
from robotrl.sim.servofaults import ServoFaults, together

PING, READ, WRITE, REG_WRITE, ACTION, FACTORY_RESET, REBOOT, CLEAR, BACKUP = 1, 2, 3, 4, 5, 6, 8, 0x10, 0x20
SYNC_READ, SYNC_WRITE, FAST_SYNC_READ, BULK_READ, BULK_WRITE, FAST_BULK_READ = 0x82, 0x83, 0x8A, 0x92, 0x93, 0x9A
MAY_WRITE = (WRITE, REG_WRITE, ACTION, FACTORY_RESET, CLEAR, BACKUP)

Asked = tuple[int, int, int]  # id, address, length


class DynamixelBus(HalfDuplex):
    """FarEnd of the servo port. With a `clock`, bytes take their time on the wire."""

    def __init__(self, servos: Sequence[DynamixelServo], clock: Clock | None = None, latency_ns: int = 0) -> None:
        super().__init__(clock, servos[0].baud, latency_ns)
        self.servos = list(servos)
        self.faults = ServoFaults()
        self._ear = Ear()

    def _packets(self, data: bytes) -> Iterator[tuple[int, Packet]]:
        return self._ear.packets(data)

    def _servo_ns(self) -> int:
        return round(self.servos[0].now * 1e9)

    def _forget(self) -> None:
        self._ear.forget()

    def _listening(self) -> list[DynamixelServo]:
        return [s for s in self.servos if self._listens(s)]

    def _listens(self, s: DynamixelServo) -> bool:
        return s.hears and self.hears(s.baud) and not self.faults.mute(s.id, s.now)

    def _named(self, servo: int) -> list[DynamixelServo]:
        return [s for s in self.servos if s.id == servo and self._listens(s)]

    def _obey(self, packet: Packet) -> None:
        listening = self._listening()
        if not packet.sound:
            self._answer([s for s in listening if s.id == packet.id], lambda _: (CRC, b""), 2)
            return
        for servo in listening:
            servo.heard()
        act = _FOR_MANY.get(packet.instruction)
        if act is not None:
            if packet.id == BROADCAST:
                act(self, packet.params)
            return
        self._one(packet, listening)

    # ---- instructions to one servo, or to all without an answer

    def _one(self, packet: Packet, listening: list[DynamixelServo]) -> None:
        broadcast = packet.id == BROADCAST
        meant = [s for s in listening if broadcast or s.id == packet.id]
        shadows = [s for s in listening if s.registers.get("shadow_id") == packet.id and s.id != packet.id]
        if packet.instruction == PING:
            for group in _by_id(meant):
                self._answer(group, lambda s: (OK, s.ping()), 0)
            return
        for servo in shadows:
            self._do(servo, packet)
        if broadcast:
            if packet.instruction != READ:
                for servo in meant:
                    self._do(servo, packet)
            return
        if packet.instruction == REBOOT:  # the answer goes out before the servo does
            self._answer(meant, lambda _: (OK, b""), 2)
            for servo in meant:
                servo.boot()
            return
        self._answer(meant, lambda s: self._do(s, packet), 1 if packet.instruction == READ else 2)

    def _do(self, servo: DynamixelServo, packet: Packet) -> tuple[int, bytes]:
        """Error number and data of one instruction."""
        params, kind = packet.params, packet.instruction
        if kind in MAY_WRITE and self.faults.deaf(servo.id, servo.now):
            return OK, b""
        if kind == READ:
            return servo.read(*_address_length(params)) if len(params) == 4 else (LENGTH, b"")
        if kind in (WRITE, REG_WRITE):
            if len(params) < 3:
                return LENGTH, b""
            write = servo.write if kind == WRITE else servo.reg_write
            return write(int.from_bytes(params[:2], "little"), params[2:]), b""
        if kind == ACTION:
            return servo.action(), b""
        if kind == FACTORY_RESET:
            return servo.factory_reset(params[0] if params else -1, packet.id == BROADCAST), b""
        if kind == REBOOT:
            servo.boot()
            return OK, b""
        if kind == CLEAR:
            return servo.clear(params), b""
        if kind == BACKUP:
            return servo.backup(params) if params else LENGTH, b""
        return INSTRUCTION, b""

    def _answer(self, group: list[DynamixelServo], of: Callable[[DynamixelServo], tuple[int, bytes]], level: int) -> bool:
        """Let servos of one number do something and say what came of it; False when none of them speaks."""
        said = []
        for servo in group:
            name, quiet, delay = servo.id, servo.level < level, servo.delay_ns  # as they were before it
            error, data = of(servo)
            if not quiet:
                said.append((delay, status(name, error | servo.alert, data)))
        if said:
            self._say(min(delay for delay, _ in said), together([data for _, data in said]))
        return bool(said)

    # ---- instructions to many

    def _sync_read(self, params: bytes) -> None:
        self._read_in_turn(_sync(params))

    def _bulk_read(self, params: bytes) -> None:
        self._read_in_turn(_bulk(params))

    def _read_in_turn(self, asked: list[Asked]) -> None:
        for servo, address, length in asked:
            if not self._answer(self._named(servo), lambda s, at=address, size=length: s.read(at, size), 1):  # type: ignore[misc]
                return  # the rest wait for it

    def _fast_sync_read(self, params: bytes) -> None:
        self._read_at_once(_sync(params))

    def _fast_bulk_read(self, params: bytes) -> None:
        self._read_at_once(_bulk(params))

    def _read_at_once(self, asked: list[Asked]) -> None:
        parts, delay = [], 0
        for servo, address, length in asked:
            group = [s for s in self._named(servo) if s.level and s.registers.get("firmware") >= s.model.fastest_fw]
            if not group:
                break
            error, data = group[0].read(address, length)
            parts.append((servo, error | group[0].alert, data or bytes(length)))
            delay = max(delay, group[0].delay_ns)
        if parts:
            self._say(delay, fast_status(parts, [length for _, _, length in asked]))

    def _sync_write(self, params: bytes) -> None:
        address, size = _address_length(params[:4]) if len(params) >= 4 else (0, 0)
        if not size:
            return
        for at in range(4, len(params) - size, size + 1):
            self._write(params[at], address, params[at + 1 : at + 1 + size])

    def _bulk_write(self, params: bytes) -> None:
        at = 0
        while len(params) - at >= 5:
            address, size = _address_length(params[at + 1 : at + 5])
            if len(params) - at - 5 < size:
                return
            self._write(params[at], address, params[at + 5 : at + 5 + size])
            at += 5 + size

    def _write(self, servo: int, address: int, data: bytes) -> None:
        for s in self.servos:
            meant = servo == s.id or servo == s.registers.get("shadow_id")
            if meant and self._listens(s) and not self.faults.deaf(s.id, s.now):
                s.write(address, data)


_FOR_MANY: dict[int, Callable[[DynamixelBus, bytes], None]] = {
    SYNC_READ: DynamixelBus._sync_read,
    SYNC_WRITE: DynamixelBus._sync_write,
    FAST_SYNC_READ: DynamixelBus._fast_sync_read,
    BULK_READ: DynamixelBus._bulk_read,
    BULK_WRITE: DynamixelBus._bulk_write,
    FAST_BULK_READ: DynamixelBus._fast_bulk_read,
}


def _by_id(servos: list[DynamixelServo]) -> list[list[DynamixelServo]]:
    return [[s for s in servos if s.id == name] for name in sorted({s.id for s in servos})]


def _address_length(params: bytes) -> tuple[int, int]:
    return int.from_bytes(params[:2], "little"), int.from_bytes(params[2:4], "little")


def _sync(params: bytes) -> list[Asked]:
    """Who is asked for what; nobody where the parameters are no such thing."""
    return [(servo, *_address_length(params)) for servo in params[4:]] if len(params) > 4 else []


def _bulk(params: bytes) -> list[Asked]:
    if len(params) % 5:
        return []
    return [(params[at], *_address_length(params[at + 1 : at + 5])) for at in range(0, len(params), 5)]
