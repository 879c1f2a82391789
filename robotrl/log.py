"""A run's log: append-only, one writer. What it has acknowledged survives kill -9 and a power cut.

    log = Log.open(run_dir / "log")
    log.append(Kind.LABEL, "console", boot, number, payload)       microseconds; the disk is another thread's business
    log.acked(Kind.LABEL, "console", boot)                         up to this number it may be forgotten elsewhere

RUN_DIR/log/ holds segments 00000001.log, 00000002.log, ... (`robotrl/logformat.py`), sealed one after the other. What is appended
while one group is being synced is the next group. A segment's room is asked for before it is used, so a full disk is met between
two segments: then nothing is acknowledged until there is room. The first failure to write or sync is final: of what such a disk
has lost the next call would not know.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import threading
import time
from collections import deque
from enum import Enum
from pathlib import Path

from robotrl.logformat import ACKED, MAX_RECORD, Kind, Mark, make_header, make_record, make_seal
from robotrl.logread import PART, TORN, LogError, recover, sync, write_at
from robotrl.rundir import FULL

SEGMENT = 16 << 20  # bytes
GROUP_S = 0.02  # between two syncs (safety facts 3.5)
RETRY_S = 1.0  # between two looks whether a full disk has room again
SEAL_ROOM = 8192  # bytes, more than a seal needs
MAX_WAITING = 8 << 20  # bytes that wait for the disk; beyond them nothing more is taken


class Took(Enum):
    """What became of a record that was given to `append`."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # it was here before: acknowledged again, not stored again
    GAP = "gap"  # one before it has not come: send that first
    REFUSED = "refused"  # the log cannot take it now; `trouble` says why, or what waits for the disk is too much


class Log:
    """The one writer of a log directory, from `open`. `said`: what was found on opening, a line each."""

    def __init__(self, directory: Path, lock: int, group_s: float, segment: int) -> None:
        """`open` is the way in."""
        self.directory, self.said = directory, list[str]()
        self.trouble = ""  # why nothing is acknowledged now; "" when all is well
        self.failed = False  # for good
        self._lock_fd, self._group_s, self._size = lock, group_s, segment
        whole = recover(directory, self.said)
        self._log, self._number = whole.log, whole.next
        self._taken, self._durable = whole.state, whole.state.copy()
        self._waiting: deque[tuple[int, bytes, int, int, bytes]] = deque()
        self._bytes = 0  # that wait
        self._closing = False
        self._change = threading.Condition()
        self._fd, self._at, self._chain, self._sha = -1, 0, 0, hashlib.sha256()
        self._written = whole.state.copy()
        try:
            self._begin_segment()
        except OSError as error:
            raise LogError(f"{directory}: cannot be written: {error.strerror}; free space, see whose it is") from None
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, directory: Path, group_s: float = GROUP_S, segment: int = SEGMENT) -> Log:
        """The log in `directory`, made if it is not there, made whole if it was cut off.

        LogError when another process writes it, when it is of a newer robotrl, or when the disk refuses.
        """
        try:
            made = not directory.exists()
            directory.mkdir(parents=True, exist_ok=True)
            if made:
                sync(directory.parent)
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise LogError(f"{directory}: {error.strerror}; check disk and permissions") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(directory, lock, group_s, segment)
        except BlockingIOError:
            os.close(lock)
            raise LogError(f"{directory}: another process is writing it; stop that one first") from None
        except BaseException:
            os.close(lock)
            raise

    @property
    def durable(self) -> int:
        """The sequence up to which all records survive a power cut."""
        return self._durable.sequence

    @property
    def sequence(self) -> int:
        """The sequence of the record taken last."""
        return self._taken.sequence

    def counts(self) -> dict[int, int]:
        """Records of each kind taken so far, ever."""
        return dict(self._taken.counts)

    def acked(self, kind: Kind, source: str, boot: int) -> int:
        """The number up to which this life of a source need keep nothing; 0 for none."""
        return self._durable.marks.get((kind, source, boot), 0)

    def acks(self) -> dict[Mark, int]:
        """The same for all that are remembered, who spoke last at the end."""
        return dict(self._durable.marks)

    def append(self, kind: Kind, source: str, boot: int, number: int, payload: bytes, oldest: int = 0) -> Took:
        """Take a record; it is acknowledged once `acked` has reached its number. Never waits for the disk.

        `number` counts the records of this kind by this life of the source. Of an ACKED kind none may be left out, but those
        before `oldest`, the oldest that the source still has: they were acknowledged to it. ValueError for one too large.
        """
        if len(payload) + len(source) > MAX_RECORD or len(source.encode()) > 255:
            raise ValueError(f"{self.directory}: a record of {len(payload)} bytes from {source!r}; {MAX_RECORD} are the most")
        with self._change:
            last = self._taken.marks.get((kind, source, boot), 0)
            if number <= last:
                return Took.DUPLICATE
            if kind in ACKED and number != last + 1 and number != oldest:
                return Took.GAP
            if self.failed or self._closing or self._bytes > MAX_WAITING:
                return Took.REFUSED
            self._waiting.append((kind, source.encode(), boot, number, payload))
            self._bytes += len(payload) + 64
            self._taken.take(kind, source, boot, number)
            self._change.notify_all()
        return Took.STORED

    def sync(self) -> None:
        """Return once all that was taken is on the disk. LogError when it will not be."""
        with self._change:
            wanted = self._taken.sequence
            self._change.wait_for(lambda: self.durable >= wanted or self.failed or self.trouble)
            if self.durable < wanted:
                raise LogError(f"{self.trouble}; records after {self.durable} are not kept")

    def close(self) -> None:
        """Sync, seal, and let the next writer in. LogError when something that was taken could not be kept."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._thread.join()
        lost = self._taken.sequence - self.durable
        try:
            if not self.failed and not lost and self._fd >= 0:
                self._seal()
                for torn in self.directory.glob("*" + TORN):
                    torn.unlink()
        except OSError as error:
            self._fail(error)
        finally:
            for handle in (self._fd, self._lock_fd):
                if handle >= 0:
                    os.close(handle)
            self._fd = self._lock_fd = -1
        if lost or self.failed:
            raise LogError(f"{self.trouble}; {lost} records after {self.durable} are not kept")

    def _work(self) -> None:
        """The writer's thread: groups onto the disk, one after the other, until told to close and nothing waits."""
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._closing)
                group = list(self._waiting)
                self._waiting.clear()
            if not group:
                return
            begun = time.monotonic()
            try:
                if not self._write(group):
                    return
            except Exception as error:  # of a mistake in our own code, too, nothing may be acknowledged
                self._fail(error)
                return
            with self._change:
                self._durable = self._written.copy()
                self._bytes -= sum(len(record[4]) + 64 for record in group)
                self._change.notify_all()
                left = begun + self._group_s - time.monotonic()
                self._change.wait_for(lambda: self._closing, max(0.0, left))

    def _write(self, group: list[tuple[int, bytes, int, int, bytes]]) -> bool:
        """A group onto the disk; false when there was no room for it before the end."""
        data, at = bytearray(), self._at
        for kind, source, boot, number, payload in group:
            record, chain = make_record(kind, source, boot, number, payload, self._written.sequence + 1, self._chain)
            if at + len(data) + len(record) > self._size and at + len(data) > self._begun:
                self._put(data)
                data = bytearray()
                os.fdatasync(self._fd)  # a seal must not be there before what it seals: that would look like damage
                if not self._roll():
                    return False
                at = self._at
                record, chain = make_record(kind, source, boot, number, payload, self._written.sequence + 1, self._chain)
            data += record
            self._chain = chain
            self._written.take(kind, source.decode(), boot, number)
        self._put(data)
        os.fdatasync(self._fd)
        return True

    def _put(self, data: bytearray) -> None:
        if data:
            write_at(self._fd, data, self._at)
            self._sha.update(data)
            self._at += len(data)

    def _roll(self) -> bool:
        """Seal this segment and begin the next one, as soon as there is room; false when closed before there is."""
        self._seal()
        while True:
            try:
                self._begin_segment()
            except OSError as error:
                if error.errno not in FULL:
                    raise
                with self._change:
                    self.trouble = f"{self.directory}: disk full: nothing more is kept; free some space"
                    self._change.notify_all()
                    if self._change.wait_for(lambda: self._closing, RETRY_S):
                        return False
            else:
                self.trouble = ""
                return True

    def _begin_segment(self) -> None:
        """A new segment with all its room; its name is there once its header is on the disk. OSError, and no trace of it."""
        path = self.directory / f"{self._number:08d}.log"
        aside = path.with_suffix(PART)
        header = make_header(self._log, os.urandom(16), self._number, self._written)
        fd = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            allocate(fd, self._size + SEAL_ROOM)
            write_at(fd, header, 0)
            os.fsync(fd)
            os.rename(aside, path)
            sync(self.directory)
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(aside)
            raise
        self._fd, self._begun, self._at = fd, len(header), len(header)
        self._chain = int.from_bytes(header[-4:], "little")
        self._sha = hashlib.sha256(header)
        self._number += 1

    def _seal(self) -> None:
        """Nothing more is written to this segment; the room it did not need goes back."""
        seal = make_seal(self._written, self._sha.digest())
        write_at(self._fd, seal, self._at)
        os.ftruncate(self._fd, self._at + len(seal))
        os.fsync(self._fd)
        os.close(self._fd)
        self._fd = -1

    def _fail(self, error: Exception) -> None:
        """From here on nothing is taken and nothing acknowledged."""
        why = error.strerror if isinstance(error, OSError) else repr(error)
        with self._change:
            self.failed = True
            self.trouble = f"{self.directory}: the disk failed: {why}: nothing more is kept; see the disk, then resume the run"
            self._waiting.clear()
            self._bytes = 0
            self._change.notify_all()


def allocate(fd: int, size: int) -> None:
    """Ask the disk for all the room, where its file system can promise it. OSError when it has none."""
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
