"""A second reader of a run's log, written from the description of its bytes; it shares no code with `robotrl/log*.py`.

It believes nothing: each record's check sum, number and place are verified, and each seal's hash.
"""

from __future__ import annotations

import binascii
import hashlib
import itertools
import json
from pathlib import Path
from typing import NamedTuple


class Seen(NamedTuple):
    """One record: sequence, kind (1: transition, 2: label, ...), source, boot, number, payload."""

    sequence: int
    kind: int
    source: str
    boot: int
    number: int
    payload: bytes


def little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def segment(data: bytes) -> tuple[list[Seen], bool]:
    """Whole records of a segment, and whether it is sealed with a hash that holds."""
    if data[:8] != b"robotlog" or little(data[8:10]) != 1:
        return [], False
    size = little(data[12:16])
    if not 72 <= size <= len(data) or binascii.crc32(data[: size - 4]) != little(data[size - 4 : size]):
        return [], False
    at, chain, sequence = size, little(data[size - 4 : size]), little(data[52:60])
    found = []
    while at + 34 <= len(data):
        length = little(data[at + 4 : at + 8])
        body = data[at + 34 : at + 34 + length]
        whole = len(body) == length and binascii.crc32(data[at + 4 : at + 34] + body, chain) == little(data[at : at + 4])
        if not whole or little(data[at + 8 : at + 16]) != sequence:
            break
        kind, named = data[at + 16], data[at + 17]
        boot, number = little(data[at + 18 : at + 26]), little(data[at + 26 : at + 34])
        found.append(Seen(sequence, kind, body[:named].decode(), boot, number, body[named:]))
        chain, sequence, at = little(data[at : at + 4]), sequence + 1, at + 34 + length
    seal = data[at:]
    if seal[-8:] != b"sealed\r\n" or little(seal[-16:-12]) != len(seal) - 16:
        return found, False
    said = seal[:-16]
    if binascii.crc32(said) != little(seal[-12:-8]):
        return found, False
    return found, json.loads(said)["sha256"] == hashlib.sha256(data[:at]).hexdigest()


def records(directory: Path) -> list[Seen]:
    """All whole records of all segments, in order of the segments' names."""
    out: list[Seen] = []
    for path in sorted(directory.glob("*.log")):
        out += segment(path.read_bytes())[0]
    return out


def faults(seen: list[Seen]) -> dict[str, int]:
    """Doubled and reordered records, and, of kinds that are acknowledged, those left out before one that is there."""
    doubled = len(seen) - len({record[1:5] for record in seen})
    last: dict[tuple[int, str, int], int] = {}
    reordered = lost = 0
    for record in seen:
        before = last.get(record[1:4], 0)
        reordered += record.number < before
        if record.kind in (1, 2):
            lost += max(0, record.number - before - 1)
        last[record[1:4]] = max(before, record.number)
    reordered += sum(b.sequence <= a.sequence for a, b in itertools.pairwise(seen))
    return {"lost": lost, "doubled": doubled, "reordered": reordered}
