"""A process of its own beside the twin on the wall clock, in which pictures are made: a servo's answer cannot wait for one.

The twin tells it through a pipe, a record of fixed size for each exposure; what the pipe cannot take is a picture that never
came. The pictures are sent as network cameras send them, by sockets in a directory of the room's own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from robotrl import config

CHUNK = 1 << 16
PRIORITY = 5  # below the twin: a camera waits for no scheduler, and takes nothing from the robot's computer


class Room:
    """The twin's end."""

    def __init__(self, module: str, run: config.Run, seed: int) -> None:
        """`module` is started with the directory and the seed; the run comes first through the pipe."""
        self.directory = Path(tempfile.mkdtemp(prefix="robotrl-camera-"))  # 0700
        words = [sys.executable, "-m", module, str(self.directory), str(seed)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(config.to_dict(run)).encode() + b"\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != b"open\n":
            self.close()
            raise config.ConfigError("twin: its camera did not start; its words are above")
        os.set_blocking(self._process.stdin.fileno(), False)
        self.lost = 0  # records that nobody took

    def send(self, record: bytes) -> None:
        """Never blocks."""
        assert self._process.stdin is not None
        try:
            os.write(self._process.stdin.fileno(), record)  # less than a pipe takes whole, or not at all
        except (BlockingIOError, BrokenPipeError):
            self.lost += 1

    def close(self) -> None:
        for end in (self._process.stdin, self._process.stdout):
            if end is not None:
                end.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def run_told(where: str) -> config.Run:
    """In the room: the run, off standard input."""
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(0, 1)
    return config.from_dict(json.loads(line), Path(where))


def newest(size: int) -> Iterator[bytes]:
    """In the room: records, until the twin is gone. Of those that wait the newest: a camera that is behind drops pictures."""
    waiting = b""
    while data := os.read(0, CHUNK):
        waiting += data
        if whole := len(waiting) // size:
            record, waiting = waiting[(whole - 1) * size : whole * size], waiting[whole * size :]
            yield record
