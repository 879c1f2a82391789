"""What is in a run's log, for whoever only reads it; and how a log that was cut off, or is damaged, is made whole again.

    for record in read(run_dir / "log", said := []): ...

A reader changes nothing. `recover` is the writer's: a segment that has no seal, for the power went, or that is not as it was
sealed, is written anew as far as it is whole, beside itself, and put in its own place by one rename. So is the last one in any
case: after a disk has failed to keep a page, what is read of it may be what the disk does not have. Nothing is thrown away: what
was torn off stays as NUMBER.torn until the log is next closed, a damaged segment as NUMBER.damaged.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from robotrl.complaint import Complaint
from robotrl.logformat import (
    MAX_HEADER,
    Damaged,
    Header,
    Newer,
    Record,
    State,
    Torn,
    make_seal,
    read_header,
    read_records,
    sealed,
)

LARGEST = 64 << 20  # bytes of a segment that are read; ours are a quarter of it
THREADS = 2  # that hash segments on opening; each holds one in memory
TORN, DAMAGED, PART = ".torn", ".damaged", ".part"


class LogError(Complaint):
    """What is wrong with a log, where, and what to do; one line."""


@dataclass(frozen=True)
class Segment:
    """A segment file whose header is whole."""

    path: Path
    header: Header


@dataclass(frozen=True)
class Stray:
    """A file in the place of a segment's whose records nobody can read: `damaged` if it may be one of ours."""

    path: Path
    line: str
    damaged: bool


@dataclass(frozen=True)
class Examined:
    """A segment's bytes, where its whole records end, the state after them, and what is wrong with it ("" for nothing)."""

    data: bytes
    end: int
    state: State
    why: str
    sealed: bool


@dataclass
class Whole:
    """A log after `recover`: what it knows, which log it is, the number of its next segment."""

    state: State
    log: bytes
    next: int


def read(directory: Path, said: list[str], after: int = 0) -> Iterator[Record]:
    """All whole records in order, those whose sequence is `after` or lower left out; one segment in memory at a time.

    What is missing goes into `said`, a line each. LogError for a log that cannot be read, or of a newer robotrl.
    """
    segments, strays, _ = survey(directory)
    said += [stray.line for stray in strays]
    reached = 0
    for i, segment in enumerate(segments):
        if i + 1 < len(segments) and segments[i + 1].header.state.sequence <= after:
            continue
        found, header = examined(segment, last=i + 1 == len(segments)), segment.header
        said += missing(segment, max(reached, after), found)
        for record, _ in read_records(found.data, header.size, found.end, header.chain, header.state.sequence):
            if record.sequence > after:
                yield record
        reached = max(reached, found.state.sequence)


def examined(segment: Segment, last: bool) -> Examined:
    """Read a segment."""
    return examine(segment.header, _bytes(segment.path, LARGEST), last)


def examine(header: Header, data: bytes, last: bool) -> Examined:
    """Judge a segment's bytes. The last one may lack its seal, or a part of it: it is being written, or the power went."""
    try:
        if (seal := sealed(data)) is not None:
            return Examined(data, seal[1], seal[0], "", True)
        why = "" if last else "it was never sealed"
    except Damaged as error:
        why = "" if last and isinstance(error, Torn) else str(error)
    state, end = header.state.copy(), header.size
    for record, after in read_records(data, header.size, len(data), header.chain, header.state.sequence):
        state.take(record.kind, record.source, record.boot, record.number)
        end = after
    return Examined(data, end, state, why, False)


def _state(segment: Segment) -> State | None:
    """After a segment that is as it was sealed; None after another, and after the last one nobody asks."""
    found = examined(segment, last=False)
    return found.state if found.sealed else None


def missing(segment: Segment, reached: int, found: Examined | None) -> list[str]:
    """A line for a hole before a segment, one for what is wrong with it."""
    lines, before = [], segment.header.state.sequence
    if before > reached:
        lines.append(f"{segment.path.parent}: records {reached + 1} to {before} are missing; restore them from a copy")
    if found is not None and found.why:
        lines.append(f"{segment.path}: {found.why}: whole up to record {found.state.sequence}; restore it from a copy")
    return lines


def survey(directory: Path) -> tuple[list[Segment], list[Stray], int]:
    """Segments in order; files that stand in the place of one; the highest number taken. LogError: unreadable, or newer."""
    found: list[Segment] = []
    strays: list[Stray] = []
    highest = 0
    for path in sorted(p for p in directory.glob("[0-9]*") if p.name[:8].isdecimal()):
        highest = max(highest, int(path.name[:8]))
        if path.suffix != ".log":
            continue
        try:
            header = read_header(_bytes(path, MAX_HEADER))
        except Damaged as error:
            strays.append(Stray(path, f"{path}: {error}: none of its records can be read; restore it from a copy", True))
        except Newer as error:
            raise LogError(f"{path}: {error}; use that version, or another run directory") from None
        else:
            if header is None or header.number != int(path.name[:8]):
                what = "no segment of a log" if header is None else f"this is segment {header.number}, under another's name"
                strays.append(Stray(path, f"{path}: {what}, left as it is; see where it comes from, and move it away", False))
            else:
                found.append(Segment(path, header))
    ours = Counter(segment.header.log for segment in found).most_common(1)
    for segment in [s for s in found if s.header.log != ours[0][0]]:
        found.remove(segment)
        strays.append(Stray(segment.path, f"{segment.path}: of another run's log, left as it is; move it away", False))
    return found, strays, highest


def recover(directory: Path, said: list[str]) -> Whole:
    """Make every segment whole, once, and say what was done. LogError where the disk does not let us; the log is as it was."""
    try:
        segments, strays, highest = survey(directory)
        for part in directory.glob("*" + PART):  # a write that was cut off
            part.unlink()
        for stray in strays:
            said.append(stray.line)
            if stray.damaged:
                os.rename(stray.path, kept := free(stray.path.with_suffix(DAMAGED)))
                said[-1] += f"; it is kept as {kept.name}"
        with ThreadPoolExecutor(THREADS) as pool:
            states = [*pool.map(_state, segments[:-1]), None]
        state = State()
        for segment, known in zip(segments, states, strict=False):
            found = examined(segment, segment is segments[-1]) if known is None else None
            said += missing(segment, state.sequence, found)
            if found is not None:
                said += _mend(segment, found)
            state = known or (found.state if found is not None else state)
        sync(directory)  # before anything else gets a name in it
    except OSError as error:
        raise LogError(f"{error.filename or directory}: {error.strerror}; see the disk and whose the files are") from None
    return Whole(state, segments[0].header.log if segments else os.urandom(16), highest + 1)


def _mend(segment: Segment, found: Examined) -> list[str]:
    """Put the whole part of a segment, sealed, in its place; what was done with the rest."""
    lines = []
    path, whole = segment.path, found.data[: found.end]
    aside = path.with_suffix(PART)
    write_synced(aside, whole + make_seal(found.state, hashlib.sha256(whole).digest()))
    if found.why:
        os.link(path, kept := free(path.with_suffix(DAMAGED)))
        lines.append(f"{path}: damaged, it is kept as {kept.name}")
    elif not found.sealed and (rest := found.data[found.end :].rstrip(b"\0")):
        torn = path.with_suffix(TORN)
        write_synced(torn, rest)
        lines.append(f"{path}: {len(rest)} bytes after record {found.state.sequence} were torn off, and are kept as {torn.name}")
    os.rename(aside, path)
    return lines


def write_synced(path: Path, data: bytes) -> None:
    """A file on the disk; its name is not until its directory is synced."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        write_at(handle, data, 0)
        os.fsync(handle)
    finally:
        os.close(handle)


def write_at(handle: int, data: bytes | bytearray, at: int) -> None:
    """All of it, however often the system must be asked."""
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, at)
        view, at = view[written:], at + written


def sync(directory: Path) -> None:
    """The names in a directory onto the disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def free(path: Path) -> Path:
    """`path`, or the first of `path`.2, .3 ... that is not taken."""
    taken, found = 1, path
    while found.exists():
        taken += 1
        found = path.with_name(f"{path.name}.{taken}")
    return found


def _bytes(path: Path, most: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except OSError as error:
        raise LogError(f"{path}: {error.strerror}; see the disk and whose the file is") from None
