"""A line for whoever looks, come what may: nothing that happens to a disk or a terminal may end, or hold up, a process that holds
a robot.

A terminal that was stopped (Ctrl-S), or a pipe that nobody reads, takes nothing more, and who writes there waits. Here nobody
does: what is not taken at once is kept for the next line or `again`, up to a bound; beyond it lines are lost, and counted.
"""

from __future__ import annotations

import atexit
import os
import select
import stat
import sys
import time
from typing import TextIO

KEPT = 1 << 16  # bytes that wait for a slow reader, beside what the kernel keeps for him; the line that goes beyond is the last
PIECE = 128  # bytes: a terminal that takes any takes so many, each of them a line's end, which it makes two of
LAST_S = 2.0  # for him at the process's end
LOOK_S = 0.02


class _Spout:
    """Where a file descriptor leads, and what has not been taken there yet."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.waiting = bytearray()
        self._lost = 0  # lines

    def say(self, line: bytes) -> None:
        self.push()
        if self._lost or len(self.waiting) > KEPT:
            self._lost += 1
            return
        self.waiting += line
        self.push()

    def push(self) -> None:
        """Write what is taken without waiting; all is lost where nothing ever will be."""
        if not self.waiting:
            return
        try:
            fd = self._own()
            try:
                self._write(fd)
                if self._lost and not self.waiting:
                    self.waiting += b"(here %d lines are lost: nobody read them)\n" % self._lost
                    self._lost = 0
                    self._write(fd)
            finally:
                if fd != self._fd:
                    os.close(fd)
        except BlockingIOError:
            pass
        except OSError:
            self.waiting.clear()
            self._lost = 0

    def _own(self) -> int:
        """A way there of our own, on which a write never waits: to say so of `fd` itself would say it of the shell's, too."""
        try:
            return os.open(f"/proc/self/fd/{self._fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:  # a socket, or a terminal of another user's
            return self._fd

    def _write(self, fd: int) -> None:
        room = select.poll()
        room.register(fd, select.POLLOUT)
        while self.waiting and room.poll(0):
            del self.waiting[: os.write(fd, self.waiting[:PIECE] if fd == self._fd else self.waiting)]


_spouts: dict[int, _Spout] = {}  # by file descriptor


def say(what: object, to: TextIO | None = None) -> None:
    """Print a line to `to` (default: standard output), at once or when it is taken; what cannot be is lost, nothing else is."""
    to = to or sys.stdout
    if to is None:
        return
    try:
        fd = _waits(to)
        if fd is None:
            print(what, file=to, flush=True)
            return
        to.flush()
        _spouts.setdefault(fd, _Spout(fd)).say(f"{what}\n".encode(to.encoding or "utf-8", "backslashreplace"))
    except (OSError, ValueError):
        pass


def again() -> None:
    """Say what waits, as far as it is taken now: for a process that has little to say, now and then."""
    for spout in _spouts.values():
        spout.push()


def finish(seconds: float = LAST_S) -> None:
    """Say what waits, for so long."""
    until = time.monotonic() + seconds
    while any(spout.waiting for spout in _spouts.values()):
        again()
        if time.monotonic() >= until:
            return
        time.sleep(LOOK_S)


def _waits(to: TextIO) -> int | None:
    """The file descriptor behind `to`, if a write there may have to wait for somebody; None: a file, or a thing in memory."""
    try:
        fd = to.fileno()
    except (OSError, ValueError):
        return None
    return None if stat.S_ISREG(os.fstat(fd).st_mode) else fd


atexit.register(finish)
