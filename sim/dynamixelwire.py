"""Dynamixel Protocol 2.0 as a servo sees it: instruction packets in, status packets out (hardware facts 4.1).

FF FF FD 00 | id | length | instruction | parameters | crc, the length counting all behind it. Within instruction and parameters
each FF FF FD has an FD put behind it, which length and CRC count.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

HEADER = b"\xff\xff\xfd\x00"
BROADCAST = 0xFE
STATUS = 0x55
LONGEST = 1024  # bytes behind the length; more is a length that was damaged
POLYNOMIAL = 0x8005


class Packet(NamedTuple):
    id: int
    instruction: int
    params: bytes
    sound: bool  # the CRC is right


def crc16(data: bytes, crc: int = 0) -> int:
    """CRC-16, polynomial 0x8005, start 0, most significant bit first; `crc` carries on from before."""
    for byte in data:
        crc = (crc << 8 & 0xFF00) ^ _TABLE[crc >> 8 ^ byte]
    return crc


def _shifted(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = (crc << 1 ^ POLYNOMIAL if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


_TABLE = tuple(_shifted(byte) for byte in range(256))


def sealed(data: bytes) -> bytes:
    """`data` and its CRC."""
    return data + crc16(data).to_bytes(2, "little")


def status(servo: int, error: int, params: bytes = b"") -> bytes:
    """A status packet, stuffed and sealed."""
    body = (bytes((STATUS, error)) + params).replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")
    return sealed(HEADER + bytes((servo,)) + (len(body) + 2).to_bytes(2, "little") + body)


def fast_status(parts: list[tuple[int, int, bytes]], lengths: list[int]) -> bytes:
    """What servos say in turn to a fast read, as one packet: (id, error, data) each; `lengths` bytes were asked for.

    Not stuffed. Each servo puts the CRC of all that was said before behind its data. Fewer parts than lengths make a packet that
    is cut short.
    """
    size = 1 + sum(length + 4 for length in lengths)
    out = HEADER + bytes((BROADCAST,)) + size.to_bytes(2, "little") + bytes((STATUS,))
    for servo, error, data in parts:
        out = sealed(out + bytes((error, servo)) + data)
    return out


class Ear:
    """Finds instruction packets in bytes that come in any pieces."""

    def __init__(self) -> None:
        self._held = b""

    def forget(self) -> None:
        self._held = b""

    def packets(self, data: bytes) -> Iterator[tuple[int, Packet]]:
        """Each packet with the number of bytes of `data` that it took to end it."""
        held = self._held + data
        before, at = len(self._held), 0
        while True:
            found = held.find(HEADER[:3], at)
            if found < 0:
                start = 2 if held.endswith(b"\xff\xff") else held.endswith(b"\xff")  # of a header, perhaps
                at = max(at, len(held) - start)
                break
            at = found
            if len(held) - at < 7:
                break
            size = int.from_bytes(held[at + 5 : at + 7], "little")
            if held[at + 3] or held[at + 4] in (0xFD, 0xFF) or not 3 <= size <= LONGEST:
                at += 1
                continue
            end = at + 7 + size
            if len(held) < end:
                break
            whole = held[at:end]
            sound = crc16(whole[:-2]) == int.from_bytes(whole[-2:], "little")
            body = whole[7:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")
            self._held = held[end:]
            yield end - before, Packet(whole[4], body[0], body[1:], sound)
            if self._held != held[end:]:  # somebody talked into what follows
                return
            at = end if sound else at + 1
        self._held = held[at:]
