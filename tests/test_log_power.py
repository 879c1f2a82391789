"""The power goes between any two calls of the log's writer: whatever the disk had not been told to keep may be missing or torn.

The calls are recorded as they are really made. A crash state is what was synced, and of the rest: nothing, all, all but one call,
one call alone, or the last one torn after every `TEAR`-th byte (every truncation of a segment is another test's); of names (made,
renamed, removed) any first part of what was done, or all but one.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from robotrl.log import Log
from robotrl.logformat import Kind
from robotrl.logread import recover
from tests import logwitness
from tests.test_log import BOOT, killed, no_disk, payload, quick

__all__ = ["no_disk", "quick"]

SEGMENT = 420
TEAR = 6


@dataclass
class Inode:
    """A file: what is on the disk, and calls since that it need not have yet."""

    kept: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes]] = field(default_factory=list)  # bytes at a place; at -1: the new size


@dataclass
class Disk:
    """A directory's files by name: as on the disk, and the renaming since."""

    names: dict[str, Inode]
    pending: list[tuple[str, str, Inode | None]] = field(default_factory=list)  # removed name, added name, what it names

    def now(self, without: int = -1, upto: int | None = None) -> dict[str, Inode]:
        """The names after the first `upto` calls, but for one of them."""
        names = dict(self.names)
        for gone, new, inode in (call for i, call in enumerate(self.pending[:upto]) if i != without):
            names.pop(gone, None)
            if inode is not None:
                names[new] = inode
        return names


def applied(kept: bytearray, calls: list[tuple[int, bytes]]) -> bytes:
    data = bytearray(kept)
    for at, what in calls:
        if at < 0:
            size = int.from_bytes(what, "little")
            data = data[:size].ljust(size, b"\0")
        else:
            data = data.ljust(at + len(what), b"\0")
            data[at : at + len(what)] = what
    return bytes(data)


def leftovers(inode: Inode) -> list[bytes]:
    """What may be in a file after the power went, the likeliest first."""
    calls = inode.pending
    variants = [calls, [], *(calls[:i] + calls[i + 1 :] for i in range(len(calls))), *([call] for call in calls)]
    if calls and calls[-1][0] >= 0:
        at, what = calls[-1]
        variants += [[*calls[:-1], (at, what[:cut])] for cut in range(1, len(what), TEAR)]
        variants += [[*calls[:-1], (at + cut, what[cut:])] for cut in range(1, len(what), 8 * TEAR)]
    return list(dict.fromkeys(applied(inode.kept, calls) for calls in variants))


def crash_states(disk: Disk) -> list[dict[str, bytes]]:
    """Names after any first part of the calls, or all but one; one file at a time in each variant, the others all or nothing."""
    states = []
    count = len(disk.pending)
    for names in (*(disk.now(upto=upto) for upto in range(count + 1)), *(disk.now(without) for without in range(count))):
        for others in (0, 1):
            base = {name: (found := leftovers(inode))[min(others, len(found) - 1)] for name, inode in names.items()}
            states.append(base)
            for name, inode in names.items():
                states += [base | {name: variant} for variant in leftovers(inode)[1:]]
    return states


class Recorder:
    """Stands in the place of the calls by which the log writes, and makes them; `look` is told of the disk before each."""

    CALLS = ("open", "pwrite", "fsync", "fdatasync", "rename", "link", "unlink", "ftruncate", "posix_fallocate")

    def __init__(self, directory: Path, look) -> None:
        self.directory, self.look = directory, look
        self.disk = Disk({p.name: Inode(bytearray(p.read_bytes())) for p in directory.iterdir()})
        self.files: dict[int, Inode | None] = {}  # by descriptor; None: the directory
        self.real = {name: getattr(os, name) for name in self.CALLS}

    def open(self, path, flags, *rest, **words):
        fd = self.real["open"](path, flags, *rest, **words)
        path = Path(path)
        self.files.pop(fd, None)
        if path == self.directory:
            self.files[fd] = None
        elif path.parent == self.directory and flags & os.O_CREAT:
            self.look(self.disk)
            self.files[fd] = inode = Inode()
            self.disk.pending.append(("", path.name, inode))
        return fd

    def pwrite(self, fd, data, at):
        self.look(self.disk)
        self.files[fd].pending.append((at, bytes(data)))
        return self.real["pwrite"](fd, data, at)

    def posix_fallocate(self, fd, at, size):
        self.ftruncate(fd, size)

    def ftruncate(self, fd, size):
        self.look(self.disk)
        self.files[fd].pending.append((-1, size.to_bytes(8, "little")))
        self.real["ftruncate"](fd, size)

    def fsync(self, fd):
        self.look(self.disk)
        if (inode := self.files[fd]) is None:
            self.disk = Disk(self.disk.now())
        else:
            inode.kept, inode.pending = bytearray(applied(inode.kept, inode.pending)), []

    fdatasync = fsync

    def rename(self, old, new):
        self.look(self.disk)
        self.disk.pending.append((Path(old).name, Path(new).name, self.disk.now()[Path(old).name]))
        self.real["rename"](old, new)

    def link(self, old, new):
        self.look(self.disk)
        self.disk.pending.append(("", Path(new).name, self.disk.now()[Path(old).name]))
        self.real["link"](old, new)

    def unlink(self, path):
        self.look(self.disk)
        self.disk.pending.append((Path(path).name, "", None))
        self.real["unlink"](path)


def crashes(directory: Path, monkeypatch, work) -> dict[tuple[tuple[str, bytes], ...], int]:
    """Every state that a power cut during `work(recorded)` may leave of `directory` -> the most that was promised by then."""
    states: dict[tuple[tuple[str, bytes], ...], int] = {}
    logs: list[Log] = []

    def look(disk: Disk) -> None:
        promised = logs[0].durable if logs else len(logwitness.records(directory))
        for state in crash_states(disk):
            key = tuple(sorted(state.items()))
            states[key] = max(states.get(key, 0), promised)

    recorder = Recorder(directory, look)
    with monkeypatch.context() as patch:
        for name in Recorder.CALLS:
            patch.setattr(os, name, getattr(recorder, name))
        work(logs)
        look(recorder.disk)
    return states


def write(directory: Path, count: int, logs: list[Log], end) -> None:
    """Append so many, by ones and by threes, and `end` the log's life."""
    log = Log.open(directory, group_s=0.0, segment=SEGMENT)
    logs.append(log)
    first = log.durable + 1
    for number in range(first, first + count):
        log.append(Kind.TRANSITION, "policy", BOOT, number, payload(number))
        if number % 4 in (0, 1):
            log.sync()
    log.sync()
    end(log)


def survives(work: Path, state: dict[str, bytes], promised: int) -> None:
    """The log opens, holds at least what was promised, and nothing but what was given to it, in order."""
    work.mkdir()
    for name, data in state.items():
        (work / name).write_bytes(data)
    durable = recover(work, said := []).state.sequence
    assert not list(work.glob("*.damaged*")), said  # a power cut is no damage
    seen = logwitness.records(work)
    assert [r.number for r in seen] == list(range(1, len(seen) + 1)) and len(seen) == durable >= promised, (durable, promised)
    assert all(r.payload == payload(r.number) for r in seen)
    shutil.rmtree(work)


def test_a_power_cut_at_any_moment_of_a_logs_first_life(tmp_path, monkeypatch, no_disk):
    """Begun, rolled from segment to segment, and closed."""
    directory = tmp_path / "log"
    directory.mkdir()
    states = crashes(directory, monkeypatch, lambda logs: write(directory, 9, logs, Log.close))
    for state, promised in states.items():
        survives(tmp_path / "work", dict(state), promised)
    assert len(states) > 150 and len(list(directory.glob("*.log"))) > 1 and max(states.values()) == 9


def test_a_power_cut_while_a_torn_log_is_made_whole(tmp_path, monkeypatch, no_disk):
    directory = tmp_path / "log"
    write(directory, 6, [], killed)
    last = sorted(directory.iterdir())[-1]
    data = last.read_bytes().rstrip(b"\0")
    last.write_bytes(data + b"torn off" + bytes(300))
    states = crashes(directory, monkeypatch, lambda logs: write(directory, 2, logs, killed))
    for state, promised in states.items():
        survives(tmp_path / "work", dict(state), promised)
    assert len(states) > 100 and min(states.values()) == 6


def test_the_model_of_the_disk_forgets_what_was_not_synced(monkeypatch):
    """The judge is judged: a write without a sync may be gone, a renaming without one of its directory too."""
    monkeypatch.setitem(globals(), "TEAR", 1)
    inode = Inode(bytearray(b"old"), [(3, b"new")])
    found = crash_states(Disk({"a": inode}, [("a", "b", inode)]))
    left = {(name, data) for state in found for name, data in state.items()}
    assert left == {(name, data) for name in "ab" for data in (b"old", b"oldn", b"oldne", b"oldnew", b"old\0ew")}
