"""What a policy that is killed leaves to its next life: the transitions for which no acknowledgement had come.

They stand in a file beside the bus's sockets, which outlives the process and not the run; nobody syncs it, for a power cut may
take what is not acknowledged. The next life reads it and sends them again, as its forerunner's.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from robotrl.messages import Transition

HEAD = struct.Struct("<II")  # size and CRC-32 of what follows
SUFFIX = ".unkept"
_ENCODE, _DECODE = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Transition).decode


class Estate:
    """This life's file. `add` and `clear` take 50 us together; a disk that is full is said once, and costs nothing more."""

    def __init__(self, directory: Path, boot: int, say: Callable[[object], None]) -> None:
        """`directory`: of the bus's sockets."""
        self._path, self._say = directory / f"{boot:016x}{SUFFIX}", say
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._empty = True

    def add(self, message: Transition) -> None:
        if self._fd < 0:
            return
        data = _ENCODE(message)
        self._empty = False
        try:
            whole = os.write(self._fd, HEAD.pack(len(data), zlib.crc32(data)) + data) == HEAD.size + len(data)
            why = "" if whole else "disk full"
        except OSError as error:
            why = error.strerror or str(error)
        if why:
            self._say(f"{self._path}: {why}: a kill of this process would now cost what the recorder has not acknowledged")
            self._empty = True  # it could not be kept up to date
            self.close()

    def clear(self) -> None:
        """All of it is acknowledged."""
        if not self._empty and self._fd >= 0:
            os.ftruncate(self._fd, 0)
            self._empty = True

    def close(self) -> None:
        """The end: what is not acknowledged stays, for a life that is begun after an end that was not meant."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if self._empty:
                with contextlib.suppress(FileNotFoundError):  # the manager has removed the directory
                    self._path.unlink()


def left(directory: Path, boot: int) -> list[tuple[int, list[Transition], Path]]:
    """Of each life before this one what it left, as far as it is whole: its boot, its transitions in order, the file."""
    found = []
    for path in sorted(directory.glob(f"*{SUFFIX}"), key=lambda p: p.stat().st_mtime_ns):
        if (life := int(path.stem, 16)) != boot:
            found.append((life, _read(path.read_bytes()), path))
    return found


def _read(data: bytes) -> list[Transition]:
    made: list[Transition] = []
    at = 0
    while at + HEAD.size <= len(data):
        size, crc = HEAD.unpack_from(data, at)
        said = data[at + HEAD.size : at + HEAD.size + size]
        if len(said) != size or zlib.crc32(said) != crc:  # it was killed in the midst of it
            break
        made.append(_DECODE(said))
        at += HEAD.size + size
    return made
