"""The log of a node, as its manager has it: what the node says reaches the person, whatever has become of the disk.

A rescue's call to cut the power is said on a full disk too: behind the log's end there are blocks that are no other file's. Where
there are none the node speaks into memory, and of its words only the log has none. Who empties the log, or removes it, to make
room, takes nothing from what is said after.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from robotrl.rundir import FULL

ROOM = 1 << 16  # bytes behind the end of a log: some hundred lines; chosen
KEEP_SIZE = 1  # of fallocate(2): a log's text ends where it ended
BLOCK = 512  # of stat(2)


class NodeLog:
    """`fd` is what the node writes to. OSError where there is none to write to, for another reason than a full disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(exist_ok=True)  # a person made room
            self.fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.fd = os.memfd_create(path.name)
        else:
            if not self._reserve():
                os.close(self.fd)
                self.fd = os.memfd_create(path.name)
        self._begin = self._read = os.fstat(self.fd).st_size

    def whole_lines(self) -> str:
        """Those that were written since the last call."""
        size = os.fstat(self.fd).st_size
        if size == self._read:
            return ""
        if size < self._read:  # emptied
            self._begin = self._read = 0
        text = os.pread(self.fd, size - self._read, self._read)
        text = text[: text.rfind(b"\n") + 1]
        self._read += len(text)
        self._reserve()
        return text.decode(errors="replace")

    def last_line(self) -> str:
        """Of this life of the node, without a traceback's indentation; "" where it has said nothing."""
        size = os.fstat(self.fd).st_size
        begin = min(self._begin, size)
        lines = os.pread(self.fd, size - begin, begin).decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def close(self) -> None:
        os.close(self.fd)

    def _reserve(self) -> bool:
        """Have half of ROOM at least behind the end; false where a full disk has none. Not every kind of disk can keep any."""
        found = os.fstat(self.fd)
        if found.st_blocks * BLOCK - found.st_size >= ROOM // 2:
            return True
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.fallocate64(self.fd, KEEP_SIZE, ctypes.c_int64(found.st_size), ctypes.c_int64(ROOM)) != 0
        return not failed or ctypes.get_errno() not in FULL
