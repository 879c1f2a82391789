"""Who each servo is: firmware version and the serial number of its board, asked for by register, and compared with the record.

moteus reference, registers 0x101 (firmware, major << 16 | minor << 8 | micro), 0x120-0x122 (serial number).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from robotrl.calibration.store import CalibrationError, Commissioning
from robotrl.clock import Clock
from robotrl.complaint import command
from robotrl.drivers import moteus
from robotrl.drivers.port import DeviceError, Lines, Port
from robotrl.drivers.tables import Width

FIRMWARE, SERIAL = 0x101, 0x120
HOST = 0x10  # our number on the bus here: a late reply to the servo loop's queries carries another
ANSWER_NS = 20_000_000
TRIES = 3


@dataclass(frozen=True)
class Identity:
    """`firmware` as major.minor.micro, `serial` as 24 hexadecimal digits."""

    firmware: str
    serial: str


def identify(port: Port, ids: Sequence[int], clock: Clock, checksum: bool = False) -> list[Identity]:
    """One Identity a servo, in the order of `ids`. DeviceError names the servo that does not say."""
    query = moteus.make_read(FIRMWARE, Width.INT32) + moteus.make_read(SERIAL, Width.INT32, 3)
    lines, found = Lines(), []
    for servo in ids:
        for _ in range(TRIES):
            port.write(moteus.make_send((0x80 | HOST) << 8 | servo, query, checksum))
            if values := _answer(port, lines, servo, clock):
                break
        else:
            raise DeviceError(f"{port.name}: servo {servo} does not say who it is; check its id, cable and power")
        found.append(Identity(_version(values[FIRMWARE]), "".join(f"{values[SERIAL + i]:08x}" for i in range(3))))
    return found


def recognise(port: Port, record: Commissioning, clock: Clock) -> None:
    """Ask each servo for its board's serial number: are these the servos that `record` was made with?

    CalibrationError names the first that is not, DeviceError one that does not say. Moves nothing.
    """
    for servo, was, now in zip(record.ids, record.boards, identify(port, record.ids, clock), strict=True):
        if now.serial != was:
            raise CalibrationError(
                f"servo {servo} on {port.name} is board {now.serial}, this robot was commissioned with {was}: another robot, or"
                f" a new controller; correct servos.port, or make it again: {command('calibrate homing')}, then commission"
            )


def _answer(port: Port, lines: Lines, servo: int, clock: Clock) -> dict[int, int]:
    """The registers of the servo's reply, empty when none came in time."""
    deadline = clock.now() + ANSWER_NS
    while data := port.read(deadline):
        for line in lines.feed(data):
            match moteus.parse_line(line):
                case moteus.Received(can_id=can_id, frame=frame) if can_id == servo << 8 | HOST:
                    values = _registers(frame)
                    if FIRMWARE in values and {SERIAL, SERIAL + 1, SERIAL + 2} <= values.keys():
                        return values
        if clock.now() >= deadline:
            break
    return {}


def _registers(frame: bytes) -> dict[int, int]:
    try:
        parts = moteus.decode(frame)
    except moteus.FrameError:
        return {}
    # Integers that happen to be the lowest read as nan, floats may be anything; they are no valid identity.
    return {
        part.register + i: int(value) & 0xFFFFFFFF
        for part in parts
        if part.op == "reply"
        for i, value in enumerate(part.values)
        if math.isfinite(value)
    }


def _version(word: int) -> str:
    return f"{word >> 16}.{word >> 8 & 0xFF}.{word & 0xFF}"
