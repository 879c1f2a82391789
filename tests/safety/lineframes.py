"""Packets of Dynamixel 2.0 and frames of Feetech STS, found in bytes as the makers' pages have them (hardware facts 4.1, 5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

STATUS = 0x55


class Frame(NamedTuple):
    servo: int
    word: int  # the instruction; in an answer the error byte
    params: bytes


def crc16(data: bytes) -> int:
    """Polynomial 0x8005 from 0, most significant bit first."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        crc = (crc << 8 ^ CRC[crc >> 8]) & 0xFFFF
    return crc


def _of_byte(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = crc << 1 ^ (0x8005 if crc & 0x8000 else 0)
    return crc & 0xFFFF


CRC = [_of_byte(byte) for byte in range(256)]


def dynamixel(data: bytes, answers: bool) -> Iterator[Frame | None]:
    """The sound packets in `data`, and None for each stretch that is none. `answers`: of status packets."""
    at = lost = 0
    while at < len(data):
        size = int.from_bytes(data[at + 5 : at + 7], "little")
        whole = data[at : at + 7 + size]
        sound = whole[:4] == b"\xff\xff\xfd\x00" and size >= 3 and len(whole) == 7 + size
        if not sound or crc16(whole[:-2]) != int.from_bytes(whole[-2:], "little") or (whole[7] == STATUS) != answers:
            at, lost = at + 1, lost + 1
            continue
        if lost:
            yield None
        body = whole[7:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")[answers:]
        yield Frame(whole[4], body[0], body[1:])
        at, lost = at + len(whole), 0
    if lost:
        yield None


def feetech(data: bytes, answers: bool) -> Iterator[Frame | None]:
    """As above; nothing in these frames tells a question from an answer."""
    at = lost = 0
    while at < len(data):
        whole = data[at : at + 4 + data[at + 3]] if len(data) > at + 3 else b""
        sound = whole[:2] == b"\xff\xff" and len(whole) >= 6 and len(whole) == 4 + whole[3]
        if not sound or sum(whole[2:]) & 0xFF != 0xFF:
            at, lost = at + 1, lost + 1
            continue
        if lost:
            yield None
        yield Frame(whole[2], whole[4], whole[5:-1])
        at, lost = at + len(whole), 0
    if lost:
        yield None
