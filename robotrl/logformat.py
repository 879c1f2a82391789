"""The bytes of a run's log: segments of records, each checked against all before it. Bytes in, meaning out; it opens no file.

    segment  header | record | record | ... | seal            not sealed yet: zeros, the room that the disk has promised
    header   magic, version, its complement, size, log id, salt, segment number, first sequence, JSON of a `State`, CRC-32
    record   CRC-32, size of what follows the head, sequence, kind, size of the source's name, boot, number | source | payload
    seal     JSON of a `State` and the SHA-256 of all before it, its size, CRC-32, magic

A record's check sum begins with the one of the record before it, the first's with that of the header, in which a random salt is:
what an older segment left on the disk, or a record in another's place, does not pass.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

VERSION = 1
MAGIC, SEALED = b"robotlog", b"sealed\r\n"
MARKS = 64  # lives of sources whose last number is remembered
MAX_RECORD = 4 << 20  # bytes of a source's name and a payload
MAX_HEADER = 1 << 16
HEADER = struct.Struct("<8sHHI16s16sIQ")
HEAD = struct.Struct("<IQBBQQ")
CRC = struct.Struct("<I")
TAIL = struct.Struct("<II8s")
OVERHEAD = CRC.size + HEAD.size


class Kind(IntEnum):
    """What a record tells. Of an ACKED kind each source counts its records 1, 2, 3, and every one of them is there."""

    TRANSITION = 1
    LABEL = 2
    RESET = 3
    CAUSE = 4
    WEIGHTS = 5
    TIMING = 6
    SESSION = 7
    CUT = 8  # the run went back: of the transitions before this one only the first so many count
    EPISODE = 9
    OPERATOR = 10


KINDS = {int(kind): kind for kind in Kind}
ACKED = frozenset((Kind.TRANSITION, Kind.LABEL))
Mark = tuple[int, str, int]  # kind, source, boot


class Record(NamedTuple):
    """One record. `sequence` counts the log's records from 1; `number` those of its kind by this life (`boot`) of its source."""

    sequence: int
    kind: Kind
    source: str
    boot: int
    number: int
    payload: bytes


class Damaged(Exception):
    """What is wrong with a segment's bytes; a few words."""


class Torn(Damaged):
    """A seal of which only a part was written, or that has changed since."""


class Newer(Exception):
    """A segment of a version that is not ours to read."""


@dataclass
class State:
    """What a log knows after some record, so that nobody must read all of it to go on."""

    sequence: int = 0  # of the last record
    marks: dict[Mark, int] = field(default_factory=dict)  # the last number of each life, the one that spoke last at the end
    counts: dict[int, int] = field(default_factory=dict)  # records of each kind

    def take(self, kind: int, source: str, boot: int, number: int) -> None:
        """Count one more record."""
        self.sequence += 1
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.marks.pop((kind, source, boot), None)
        self.marks[kind, source, boot] = number
        if len(self.marks) > MARKS:
            del self.marks[next(iter(self.marks))]

    def copy(self) -> State:
        return State(self.sequence, dict(self.marks), dict(self.counts))

    def plain(self) -> dict[str, object]:
        """Ready for JSON."""
        marks = [[*mark, number] for mark, number in self.marks.items()]
        return {"sequence": self.sequence, "marks": marks, "counts": sorted(self.counts.items())}

    @classmethod
    def of(cls, plain: object) -> State:
        """From `plain`; Damaged when it is none."""
        try:
            assert isinstance(plain, dict)
            marks = {(int(kind), str(source), int(boot)): int(number) for kind, source, boot, number in plain["marks"]}
            return cls(int(plain["sequence"]), marks, {int(kind): int(n) for kind, n in plain["counts"]})
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise Damaged(f"no state: {error!r}") from None


@dataclass(frozen=True)
class Header:
    """How a segment begins. `chain` is the check sum that its first record goes on from."""

    log: bytes  # (16,) the same in all segments of a log
    salt: bytes  # (16,) random
    number: int
    state: State  # after the last record before it
    size: int = 0
    chain: int = 0


def make_header(log: bytes, salt: bytes, number: int, state: State) -> bytes:
    said = json.dumps(state.plain(), separators=(",", ":")).encode()
    size = HEADER.size + len(said) + CRC.size
    fixed = HEADER.pack(MAGIC, VERSION, VERSION ^ 0xFFFF, size, log, salt, number, state.sequence + 1)
    return fixed + said + CRC.pack(zlib.crc32(fixed + said))


def read_header(data: bytes) -> Header | None:
    """The header that `data` begins with; None where these are no bytes of a log's. Damaged, or Newer, as it is."""
    if not MAGIC.startswith(data[:8]):
        return None
    version, complement = (int.from_bytes(data[at : at + 2], "little") for at in (8, 10))
    if len(data) >= 12 and version != VERSION and version ^ complement == 0xFFFF:
        raise Newer(f"of version {version}, this is robotrl of log version {VERSION}")
    if len(data) < HEADER.size:
        raise Damaged("its header is cut short")
    _, _, _, size, log, salt, number, first = HEADER.unpack_from(data)
    if not HEADER.size + CRC.size <= size <= min(len(data), MAX_HEADER):
        raise Damaged("its header is cut short")
    crc = zlib.crc32(data[: size - CRC.size])
    if crc != CRC.unpack_from(data, size - CRC.size)[0]:
        raise Damaged("its header is damaged")
    state = State.of(_json(data[HEADER.size : size - CRC.size]))
    if state.sequence + 1 != first:
        raise Damaged("its header contradicts itself")
    return Header(log, salt, number, state, size, crc)


def make_record(kind: int, source: bytes, boot: int, number: int, payload: bytes, sequence: int, chain: int) -> tuple[bytes, int]:
    """A record's bytes, and the check sum that the next one goes on from."""
    head = HEAD.pack(len(source) + len(payload), sequence, kind, len(source), boot, number)
    crc = zlib.crc32(payload, zlib.crc32(source, zlib.crc32(head, chain)))
    return b"".join((CRC.pack(crc), head, source, payload)), crc


def read_records(data: bytes, at: int, end: int, chain: int, sequence: int) -> Iterator[tuple[Record, int]]:
    """The whole records of `data` from `at` to `end`, each with where it ends; none after the first that is not whole.

    `chain`: check sum, and `sequence`: number, of what came before.
    """
    view, crc32, unpack = memoryview(data), zlib.crc32, HEAD.unpack_from
    while at + OVERHEAD <= end:
        size, seq, kind, named, boot, number = unpack(view, at + 4)
        body = at + OVERHEAD
        after = body + size
        if seq != sequence + 1 or size > MAX_RECORD or named > size or after > end:
            return
        chain = crc32(view[at + 4 : after], chain)
        if chain != CRC.unpack_from(view, at)[0]:
            return
        sequence, at = seq, after
        if (known := KINDS.get(kind)) is None:  # whole, and of nobody's making that we know
            return
        source = str(view[body : body + named], "utf-8", "replace")
        yield Record(seq, known, source, boot, number, bytes(view[body + named : after])), after


def make_seal(state: State, sha256: bytes) -> bytes:
    """What follows a segment's last record once nothing more will; `sha256` of all bytes before it."""
    said = json.dumps(state.plain() | {"sha256": sha256.hex()}, separators=(",", ":")).encode()
    return said + TAIL.pack(len(said), zlib.crc32(said), SEALED)


def read_seal(data: bytes) -> tuple[State, str, int] | None:
    """State, SHA-256 and size of the seal that `data` ends with, None where there is none. Torn where it is not whole."""
    if len(data) < TAIL.size or data[-8:] != SEALED:
        return None
    size, crc, _ = TAIL.unpack(data[-TAIL.size :])
    if not size or size + TAIL.size > len(data):  # of no bytes the check sum is 0, as where only the last ones were written
        raise Torn("its seal is damaged")
    said = data[-TAIL.size - size : -TAIL.size]
    if zlib.crc32(said) != crc:
        raise Torn("its seal is damaged")
    plain = _json(said)
    return State.of(plain), str(plain.get("sha256")), size + TAIL.size


def sealed(data: bytes) -> tuple[State, int] | None:
    """The state in a whole segment's seal and where that begins, None where it has none. Damaged: not as it was written."""
    if (seal := read_seal(data[-MAX_HEADER:])) is None:
        return None
    state, digest, size = seal
    end = len(data) - size
    if hashlib.sha256(memoryview(data)[:end]).hexdigest() != digest:
        raise Damaged("its bytes are not those that were sealed")
    return state, end


def _json(said: bytes) -> dict[str, object]:
    try:
        plain = json.loads(said)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"no JSON: {error}") from None
    if not isinstance(plain, dict):
        raise Damaged("no JSON object")
    return plain
