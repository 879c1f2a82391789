"""A line of Feetech STS servos, byte for byte (hardware facts 5).

FF FF | id | length | instruction | parameters | sum; the answer has the error byte where the instruction was. Nothing is stuffed,
and a sum of eight bits lets one in sixteen two-bit errors through: what is heard wrong is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from robotrl.clock import Clock
from robotrl.sim.feetechservo import FeetechServo
from robotrl.sim.halfduplex import HalfDuplex
from robotrl.sim.servofaults import ServoFaults, together

PING, READ, WRITE, REG_WRITE, ACTION, RESTORE, REBOOT, BACKUP, RESET, CALIBRATE = 1, 2, 3, 4, 5, 6, 8, 9, 0x0A, 0x0B
SYNC_READ, SYNC_WRITE = 0x82, 0x83
BROADCAST = 0xFE
HEADER = b"\xff\xff"


class Packet(NamedTuple):
    id: int
    instruction: int
    params: bytes


def checked(body: bytes) -> bytes:
    """A frame around id, length and the rest: header before, sum behind."""
    return HEADER + body + bytes((~sum(body) & 0xFF,))


def status(servo: int, error: int, data: bytes = b"") -> bytes:
    return checked(bytes((servo, len(data) + 2, error)) + data)


class Ear:
    """Finds frames in bytes that come in any pieces; one with a wrong sum is passed over."""

    def __init__(self) -> None:
        self._held = b""

    def forget(self) -> None:
        self._held = b""

    def packets(self, data: bytes) -> Iterator[tuple[int, Packet]]:
        """Each packet with the number of bytes of `data` that it took to end it."""
        held, before, at = self._held + data, len(self._held), 0
        while (found := held.find(HEADER, at)) >= 0 and len(held) - found >= 4:
            at = found
            servo, length = held[at + 2], held[at + 3]
            if servo == 0xFF or length < 2:
                at += 1
                continue
            end = at + 4 + length
            if len(held) < end:
                break
            frame = held[at:end]
            if frame[-1] != ~sum(frame[2:-1]) & 0xFF:
                at += 1
                continue
            self._held = rest = held[end:]
            yield end - before, Packet(servo, frame[4], frame[5:-1])
            if self._held != rest:  # somebody talked into what follows
                return
            at = end
        self._held = held[at:] if found >= 0 else held[max(at, len(held) - held.endswith(b"\xff")) :]


class FeetechBus(HalfDuplex):
    """FarEnd of the servo port. With a `clock`, bytes take their time on the wire."""

    def __init__(self, servos: Sequence[FeetechServo], clock: Clock | None = None, latency_ns: int = 0) -> None:
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

    def _listening(self) -> list[FeetechServo]:
        return [s for s in self.servos if s.hears and self.hears(s.baud) and not self.faults.mute(s.id, s.now)]

    def _obey(self, packet: Packet) -> None:
        kind, params = packet.instruction, packet.params
        listening = self._listening()
        if kind == SYNC_READ:
            if packet.id == BROADCAST and len(params) > 2:
                self._sync_read(listening, params)
        elif kind == SYNC_WRITE:
            if packet.id == BROADCAST and len(params) > 2:
                self._sync_write(listening, params)
        else:
            meant = [s for s in listening if packet.id in (s.id, BROADCAST)]
            answered = packet.id != BROADCAST or kind == PING  # all at once then: only a servo alone is understood
            self._answer(meant, lambda s: self._do(s, kind, params), not answered, kind in (PING, READ))

    def _do(self, servo: FeetechServo, kind: int, params: bytes) -> bytes | None:
        """The answer's data; None where there is no answer."""
        if kind == PING:
            return b""
        if kind == READ:
            return servo.read(params[0], params[1]) if len(params) == 2 else None
        if self.faults.deaf(servo.id, servo.now):
            return b""
        if kind in (WRITE, REG_WRITE):
            if len(params) < 2:
                return None
            (servo.write if kind == WRITE else servo.reg_write)(params[0], params[1:])
            return b""
        if kind == REBOOT:
            servo.boot()
            return None
        plain = {
            ACTION: servo.action,
            RESTORE: servo.factory_reset,
            RESET: servo.reset_state,
            CALIBRATE: servo.calibrate,
            BACKUP: lambda: None,
        }
        if kind not in plain:
            return None
        plain[kind]()
        return b""

    def _answer(self, group: list[FeetechServo], of: Callable[[FeetechServo], bytes | None], silent: bool, always: bool) -> bool:
        """Let servos do something and say what came of it, all at once; False when none of them speaks."""
        said = []
        for servo in group:
            name, delay, speaks = servo.id, servo.delay_ns, not silent and (always or servo.level > 0)  # as before it
            data = of(servo)
            if data is not None and speaks:
                said.append((delay, status(name, servo.status, data)))
        if said:
            self._say(min(delay for delay, _ in said), together([data for _, data in said]))
        return bool(said)

    def _sync_read(self, listening: list[FeetechServo], params: bytes) -> None:
        """In the order asked for, each behind the one before it: who is silent silences the rest."""
        address, length = params[0], params[1]
        for name in params[2:]:
            group = [s for s in listening if s.id == name]
            if not self._answer(group, lambda s: s.read(address, length), False, True):
                return

    def _sync_write(self, listening: list[FeetechServo], params: bytes) -> None:
        address, size = params[0], params[1]
        for at in range(2, len(params) - size, size + 1):
            for servo in listening:
                if servo.id == params[at] and not self.faults.deaf(servo.id, servo.now):
                    servo.write(address, params[at + 1 : at + 1 + size])
