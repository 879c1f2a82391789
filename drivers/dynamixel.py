"""Codec of Dynamixel Protocol 2.0: instruction packets out, status packets in. Pure: bytes in, values out; no port.

A packet is FF FF FD 00, id, length (2 bytes), instruction, parameters, CRC (2 bytes). Within instruction and parameters FF FF FD
is sent as FF FF FD FD; length and CRC count what is sent. Fast replies are one packet with id FE that several servos write in
turn: an error byte, id, data and CRC each, not stuffed, every CRC running from the packet's first byte. Source: ROBOTIS e-Manual,
"Protocol 2.0" and "CRC Calculation". Registers: `dynamixel_x.py`.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple

HEADER = b"\xff\xff\xfd\x00"
BROADCAST = 0xFE
ID_MAX = 252
PACKET_MAX = 1024  # bytes; the most that the maker's own SDK sends or takes
ALERT = 0x80  # in an error byte: Hardware Error Status(70) is not 0
STATUS = 0x55
_EMPTY = 11  # bytes of a status packet without parameters
_FAST = 8  # bytes of a fast reply before the first error byte
_CLEAR = b"\x01\x44\x58\x4c\x22"  # "Clear": the fixed values of P1 to P5
_BACKUP = b"\x43\x54\x52\x4c"  # "Control Table Backup": P2 to P5


class Instruction(IntEnum):
    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    ACTION = 0x05
    FACTORY_RESET = 0x06
    REBOOT = 0x08
    CLEAR = 0x10
    BACKUP = 0x20
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83
    FAST_SYNC_READ = 0x8A
    BULK_READ = 0x92
    BULK_WRITE = 0x93
    FAST_BULK_READ = 0x9A


class Refusal(IntEnum):
    """Error numbers: why a servo did not do as it was told."""

    NONE = 0
    RESULT_FAIL = 1
    INSTRUCTION = 2
    CRC = 3
    DATA_RANGE = 4
    DATA_LENGTH = 5
    DATA_LIMIT = 6
    ACCESS = 7


class Reset(IntEnum):
    """What a factory reset resets."""

    ALL = 0xFF  # refused when broadcast, from firmware 42 on
    ALL_BUT_ID = 0x01
    ALL_BUT_ID_AND_BAUD = 0x02


class Status(NamedTuple):
    """A status packet. `error` is its byte as sent; of a fast reply (id FE) `params` is the whole packet, for `split_fast`."""

    id: int
    error: int
    params: bytes = b""

    @property
    def alert(self) -> bool:
        """The servo has a hardware error. What it says is valid all the same."""
        return bool(self.error & ALERT)

    @property
    def refusal(self) -> int:
        """A `Refusal`, or a number that the manual does not know."""
        return self.error & ~ALERT


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x8005 if crc & 0x8000 else 0)) & 0xFFFF
        table.append(crc)
    return tuple(table)


_CRC = _crc_table()
_CRC_OF_TWO = array("H", [(crc & 0xFF) << 8 ^ _CRC[crc >> 8 ^ byte] for crc in _CRC for byte in range(256)])


def crc16(data: bytes, crc: int = 0) -> int:
    """CRC-16, polynomial 0x8005, most significant bit first; `crc` continues an earlier part. Two bytes are taken at a time."""
    table, pairs = _CRC_OF_TWO, len(data) // 2
    for two in struct.unpack_from(f">{pairs}H", data):
        crc = table[crc ^ two]
    if len(data) > 2 * pairs:
        crc = (crc & 0xFF) << 8 ^ _CRC[crc >> 8 ^ data[-1]]
    return crc


def make_packet(servo: int, instruction: int, params: bytes = b"") -> bytes:
    """Any instruction packet. ValueError for an id that no servo has, or more than PACKET_MAX bytes."""
    if not (0 <= servo <= ID_MAX or servo == BROADCAST):
        raise ValueError(f"servo id {servo}; ids are 0 to {ID_MAX}, {BROADCAST} is all servos")
    body = (bytes((instruction,)) + params).replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")
    if len(body) + 9 > PACKET_MAX:
        raise ValueError(f"packet of {len(body) + 9} bytes; {PACKET_MAX} at most: name fewer servos or registers at a time")
    packet = b"%b%c%b%b" % (HEADER, servo, (len(body) + 2).to_bytes(2, "little"), body)
    return packet + crc16(packet).to_bytes(2, "little")


def make_ping(servo: int = BROADCAST) -> bytes:
    """Answered with model number (2 bytes) and firmware; a broadcast by every servo in turn."""
    return make_packet(servo, Instruction.PING)


def make_read(servo: int, address: int, length: int) -> bytes:
    return make_packet(servo, Instruction.READ, struct.pack("<HH", address, length))


def make_write(servo: int, address: int, data: bytes) -> bytes:
    return make_packet(servo, Instruction.WRITE, struct.pack("<H", address) + data)


def make_reg_write(servo: int, address: int, data: bytes) -> bytes:
    """A write that waits for `make_action`."""
    return make_packet(servo, Instruction.REG_WRITE, struct.pack("<H", address) + data)


def make_action(servo: int = BROADCAST) -> bytes:
    return make_packet(servo, Instruction.ACTION)


def make_factory_reset(servo: int, what: Reset) -> bytes:
    return make_packet(servo, Instruction.FACTORY_RESET, bytes((what,)))


def make_reboot(servo: int) -> bytes:
    """Torque off, RAM back to its defaults (the watchdog too), and the only way out of a shutdown."""
    return make_packet(servo, Instruction.REBOOT)


def make_clear(servo: int) -> bytes:
    """Count turns from zero again; refused (RESULT_FAIL) while the servo moves."""
    return make_packet(servo, Instruction.CLEAR, _CLEAR)


def make_backup(servo: int) -> bytes:
    """Keep the control table; torque must be off."""
    return make_packet(servo, Instruction.BACKUP, b"\x01" + _BACKUP)


def make_restore(servo: int) -> bytes:
    """Take the kept control table again, and reboot; torque must be off."""
    return make_packet(servo, Instruction.BACKUP, b"\x02" + _BACKUP)


def make_sync_read(address: int, length: int, servos: Iterable[int], fast: bool = False) -> bytes:
    """One status packet of each servo in this order; with `fast` one packet of all."""
    kind = Instruction.FAST_SYNC_READ if fast else Instruction.SYNC_READ
    return make_packet(BROADCAST, kind, struct.pack("<HH", address, length) + bytes(servos))


def make_sync_write(address: int, length: int, rows: bytes) -> bytes:
    """`rows`: id and `length` bytes of each servo. Not answered. ValueError when `rows` does not come out even."""
    if not rows or len(rows) % (1 + length):
        raise ValueError(f"sync write of {len(rows)} bytes; a row is 1 id and {length} bytes")
    return make_packet(BROADCAST, Instruction.SYNC_WRITE, struct.pack("<HH", address, length) + rows)


def make_bulk_read(wanted: Iterable[tuple[int, int, int]], fast: bool = False) -> bytes:
    """`wanted`: id, address, length of each servo, each id once."""
    kind = Instruction.FAST_BULK_READ if fast else Instruction.BULK_READ
    return make_packet(BROADCAST, kind, b"".join(struct.pack("<BHH", *one) for one in wanted))


def make_bulk_write(wanted: Iterable[tuple[int, int, bytes]]) -> bytes:
    """`wanted`: id, address, data of each servo, each id once. Not answered."""
    rows = (struct.pack("<BHH", servo, address, len(data)) + data for servo, address, data in wanted)
    return make_packet(BROADCAST, Instruction.BULK_WRITE, b"".join(rows))


def split_fast(packet: bytes, sizes: Sequence[int]) -> list[Status]:
    """What each servo wrote into a fast reply, `sizes` data bytes each, up to the first wrong CRC or the end of what came."""
    out: list[Status] = []
    at, crc = _FAST, crc16(packet[:_FAST])
    for size in sizes:
        end = at + 2 + size
        crc = crc16(packet[at:end], crc)
        if packet[end : end + 2] != crc.to_bytes(2, "little"):
            return out
        out.append(Status(packet[at + 1], packet[at], packet[at + 2 : end]))
        at, crc = end + 2, crc16(packet[end : end + 2], crc)
    return out


class Parser:
    """Finds status packets in a byte stream, torn, merged or damaged. Takes any bytes, raises nothing.

    Stuffing keeps the header out of a packet, so where one stands within what another's length claims, that one was damaged: the
    first good packet is read whatever came before. `longest` bounds packets and with them what is kept; `fast` lets packets with
    id FE pass, as one Status each. `errors` counts packets that began and were not sound. Instruction packets, as an echo of our
    own, are passed over.
    """

    def __init__(self, longest: int = PACKET_MAX, fast: bool = False) -> None:
        self.errors = 0
        self.pending = b""  # of a packet that has not ended
        self._longest, self._fast = longest, fast

    def reset(self) -> None:
        """Drop what waits for its end."""
        self.pending = b""

    def feed(self, data: bytes) -> list[Status]:
        """The status packets that `data` completes, in order."""
        buffer, at, out = self.pending + data, 0, []
        while (at := buffer.find(HEADER, at)) >= 0:
            end = self._end(buffer, at)
            if not end:
                at += len(HEADER)
            elif later := self._later(buffer, at, end):
                self.errors += 1
                at = later
            elif end > len(buffer):
                break
            elif _sound(buffer, at, end):
                out.append(_status(buffer[at:end]))
                at = end - 3  # a lost last byte may have been made up for by the next header's first
            else:
                self.errors += 1
                at += len(HEADER)
        self.pending = buffer[at:] if at >= 0 else _beginning(buffer)
        return out

    def _end(self, buffer: bytes, at: int) -> int:
        """Where the packet at `at` ends, 0 if no status packet begins so; as long as its length is unknown, beyond any buffer."""
        head = buffer[at + 4 : at + 8]
        if head and head[0] > ID_MAX and not (self._fast and head[0] == BROADCAST):
            return 0
        if len(head) == 4 and head[3] != STATUS:
            return 0
        if len(head) < 3:
            return sys.maxsize
        size = 7 + head[1] + 256 * head[2]
        return at + size if _EMPTY <= size <= self._longest else 0

    def _later(self, buffer: bytes, at: int, end: int) -> int:
        """Where another packet begins within the one from `at` to `end`, which then is none; 0 where none does.

        What looks like a header in the last four bytes is none: parameters may end in FF FF and the CRC be FD 00. A fast reply is
        not stuffed, so there only a whole and sound packet ends the wait for the rest.
        """
        if buffer[at + 4 : at + 5] != b"\xfe":
            return max(buffer.find(HEADER, at + len(HEADER), end - 1), 0)
        while end > len(buffer) and (at := buffer.find(HEADER, at + len(HEADER))) != -1:
            if (inner := self._end(buffer, at)) and _sound(buffer, at, inner):
                return at
        return 0


def _sound(buffer: bytes, at: int, end: int) -> bool:
    return buffer[end - 2 : end] == crc16(buffer[at : end - 2]).to_bytes(2, "little")


def _status(packet: bytes) -> Status:
    if packet[4] == BROADCAST:
        return Status(BROADCAST, packet[8], packet)
    body = packet[8:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")
    return Status(packet[4], body[0], body[1:])


def _beginning(buffer: bytes) -> bytes:
    """The end of `buffer` that may be the beginning of a header."""
    for size in (3, 2, 1):
        if buffer.endswith(HEADER[:size]):
            return HEADER[:size]
    return b""
