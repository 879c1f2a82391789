"""Codec of Feetech's SCS protocol as STS servos speak it: instruction frames out, status frames in. Pure: bytes in, values out.

A frame is FF FF, id, length, instruction or error byte, parameters, and the inverted low byte of the sum from the id on; there is
no stuffing, and the sum misses swapped bytes and one in sixteen double bit errors: what it lets through needs a second look at
the values. A servo answers a frame whose sum is wrong with nothing, as far as is known. An echo of our own frames cannot be told
from an answer; adapters that echo must be kept from it. Source: Feetech, "Servo SCS Communication Protocol", 2 to 4. Registers:
`feetech_sts.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from enum import IntEnum
from typing import NamedTuple

from robotrl.drivers.feetech_sts import STS3215

HEADER = b"\xff\xff"
BROADCAST = 0xFE  # not answered, but for a ping
ID_MAX = 253
LENGTH_MAX = 246  # frames of 250 bytes: the most that the maker's own SDK sends
ERROR_MAX = 0x7F
_EMPTY = 6  # bytes of a status frame without parameters


class Instruction(IntEnum):
    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    ACTION = 0x05
    RECOVERY = 0x06
    REBOOT = 0x08
    BACKUP = 0x09
    RESET = 0x0A
    CALIBRATE = 0x0B
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


class Status(NamedTuple):
    """A status frame. `error` holds the bits of `feetech_sts.Error`; it says how the servo is, not what became of the frame."""

    id: int
    error: int
    params: bytes = b""


def checksum(data: bytes) -> int:
    """Of everything from the id to the last parameter."""
    return ~sum(data) & 0xFF


def make_frame(servo: int, instruction: int, params: bytes = b"") -> bytes:
    """Any instruction frame. ValueError for an id that no servo has, or more than LENGTH_MAX bytes."""
    if not (0 <= servo <= ID_MAX or servo == BROADCAST):
        raise ValueError(f"servo id {servo}; ids are 0 to {ID_MAX}, {BROADCAST} is all servos")
    if len(params) + 2 > LENGTH_MAX:
        raise ValueError(f"frame of {len(params) + 6} bytes; {LENGTH_MAX + 4} at most: name fewer servos or registers at a time")
    body = b"%c%c%c%b" % (servo, len(params) + 2, instruction, params)
    return b"%b%b%c" % (HEADER, body, checksum(body))


def make_ping(servo: int) -> bytes:
    """Answered also to a broadcast, by all at once: only with one servo on the bus."""
    return make_frame(servo, Instruction.PING)


def make_read(servo: int, address: int, length: int) -> bytes:
    return make_frame(servo, Instruction.READ, bytes((address, length)))


def make_write(servo: int, address: int, data: bytes) -> bytes:
    return make_frame(servo, Instruction.WRITE, bytes((address,)) + data)


def make_reg_write(servo: int, address: int, data: bytes) -> bytes:
    """A write that waits for `make_action`."""
    return make_frame(servo, Instruction.REG_WRITE, bytes((address,)) + data)


def make_action(servo: int = BROADCAST) -> bytes:
    return make_frame(servo, Instruction.ACTION)


def make_recovery(servo: int) -> bytes:
    """All registers but the id as they were backed up, or came; EPROM must be unlocked."""
    return make_frame(servo, Instruction.RECOVERY)


def make_backup(servo: int) -> bytes:
    """Keep the registers for `make_recovery`; EPROM must be unlocked."""
    return make_frame(servo, Instruction.BACKUP)


def make_reboot(servo: int) -> bytes:
    """Not answered; the servo is mute for up to 1.8 s. Torque must be off."""
    return make_frame(servo, Instruction.REBOOT)


def make_reset(servo: int) -> bytes:
    """Reset the servo's state and its count of turns."""
    return make_frame(servo, Instruction.RESET)


def make_calibrate(servo: int, position: int | None = None) -> bytes:
    """Make the present position the middle, or the one given (ticks, 0 to 4095); STS firmware 3.10 on."""
    params = b"" if position is None else STS3215.GOAL_POSITION.encode(position)
    return make_frame(servo, Instruction.CALIBRATE, params)


def make_lock(servo: int, locked: bool) -> bytes:
    """While unlocked, what is written to EPROM outlives power-off."""
    return make_write(servo, STS3215.LOCK.address, bytes((locked,)))


def make_sync_read(address: int, length: int, servos: Iterable[int]) -> bytes:
    """One status frame of each servo, in this order."""
    return make_frame(BROADCAST, Instruction.SYNC_READ, bytes((address, length, *servos)))


def make_sync_write(address: int, length: int, rows: bytes) -> bytes:
    """`rows`: id and `length` bytes of each servo. Not answered. ValueError when `rows` does not come out even."""
    if not rows or len(rows) % (1 + length):
        raise ValueError(f"sync write of {len(rows)} bytes; a row is 1 id and {length} bytes")
    return make_frame(BROADCAST, Instruction.SYNC_WRITE, bytes((address, length)) + rows)


class Parser:
    """Finds status frames in a byte stream, torn, merged or damaged. Takes any bytes, raises nothing.

    The sum is weak and a header may stand in data, so the more is known of what must come, the less passes for sound: frames have
    `servos` ids (any, where none is named) and up to `longest` bytes; with `exact` that many, or none but an error byte. `errors`
    counts frames that began and were not sound.
    """

    def __init__(self, servos: Collection[int] = (), longest: int = LENGTH_MAX + 4, exact: bool = False) -> None:
        self.errors = 0
        self.pending = b""  # of a frame that has not ended
        self._servos = frozenset(servos or range(ID_MAX + 1))
        self._sizes: Collection[int] = (_EMPTY, longest) if exact else range(_EMPTY, longest + 1)

    def reset(self) -> None:
        """Drop what waits for its end."""
        self.pending = b""

    def feed(self, data: bytes) -> list[Status]:
        """The status frames that `data` completes, in order. A sound frame later on ends the wait for an unfinished one."""
        buffer, at, out = self.pending + data, 0, []
        waits = len(buffer)  # where the first unfinished frame begins
        while (at := buffer.find(HEADER, at)) >= 0:
            end = self._end(buffer, at)
            if end > len(buffer):
                waits = min(waits, at)
                at += len(HEADER)  # an id is never FF
            elif end and checksum(buffer[at + 2 : end - 1]) == buffer[end - 1]:
                self.errors += waits < len(buffer)
                out.append(Status(buffer[at + 2], buffer[at + 4], buffer[at + 5 : end - 1]))
                at, waits = end - 1, len(buffer)  # a lost last byte may have been made up for by the next header's first
            else:
                self.errors += bool(end)
                at += 1
        self.pending = buffer[waits:] or (HEADER[:1] if buffer.endswith(HEADER[:1]) else b"")
        return out

    def _end(self, buffer: bytes, at: int) -> int:
        """Where the frame at `at` ends, 0 if none begins so; as long as its length is unknown, beyond any buffer."""
        head = buffer[at + 2 : at + 5]
        if (head and head[0] not in self._servos) or (len(head) == 3 and head[2] > ERROR_MAX):
            return 0
        if len(head) < 2:
            return sys.maxsize
        size = 4 + head[1]
        return at + size if size in self._sizes else 0
