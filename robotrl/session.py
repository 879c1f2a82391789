"""Sessions: what was said on the bus, as MCAP files that Foxglove opens; `robotrl play` feeds them back (docs/sessions.md).

A run has `sessions/0001.mcap`, `0002.mcap`, …: one channel a topic, JSON with the message's schema, every field as it was
sent. Times of a file are those of capture; the day they fall on is read once, when the file is begun, so that they never jump.
A chunk holds a second and is handed to the system whole: a file whose writer was killed opens to its last chunk.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from mcap.writer import Writer

from robotrl.complaint import Complaint
from robotrl.messages import Message
from robotrl.topics import TOPICS

CHUNK = 1 << 20  # bytes: a chunk is ended by its second, or by this
ROTATE = 128 << 20  # bytes of a file, after which the next is begun
FLOOR = 256 << 20  # bytes that are left free: the disk is the replay's before it is ours


class SessionError(Complaint):
    """A session cannot be written or read: which, why, what to do; one line."""


class Session:
    """One file being written. OSError from any call when the disk takes no more; what was flushed before stays readable."""

    def __init__(self, path: Path, about: Mapping[str, str]) -> None:
        """`about`: what the file says of itself, text by name."""
        self.path = path
        self._file: BinaryIO = open(path, "xb")  # noqa: SIM115
        self._writer = Writer(self._file, chunk_size=CHUNK)
        self._writer.start("", "robotrl")
        self._day = time.clock_gettime_ns(time.CLOCK_REALTIME) - time.monotonic_ns()
        self._writer.add_metadata("session", {**about, "unix_minus_monotonic_ns": str(self._day)})
        self._channels = {topic: self._channel(topic) for topic, entry in TOPICS.items() if entry.recorded}
        self._encode = msgspec.json.Encoder().encode
        self.flush()

    def _channel(self, topic: str) -> int:
        kind = TOPICS[topic].type
        schema = json.dumps(schema_of(kind)).encode()
        known = self._writer.register_schema(f"robotrl.{kind.__name__}", "jsonschema", schema)
        return self._writer.register_channel(topic, "json", known)

    def write(self, topic: str, message: Message) -> None:
        """One message, into the chunk that is being filled."""
        t = message.t + self._day
        self._writer.add_message(self._channels[topic], t, self._encode(message), t, message.seq & 0xFFFFFFFF)

    def attach(self, name: str, kind: str, t: int, data: bytes) -> None:
        """A file of its own within this one; `t` monotonic, ns."""
        self._writer.add_attachment(t + self._day, t + self._day, name, kind, data)

    def flush(self) -> None:
        """End the chunk and hand it to the system."""
        self._writer.flush()
        self.size = self._file.tell()

    def finish(self, about: Mapping[str, str]) -> None:
        """The end, with the index by which a reader finds its way at once."""
        self._writer.flush()
        self._writer.add_metadata("end", dict(about))
        self._writer.finish()
        self._file.close()

    def abandon(self) -> None:
        """Close without another word, after the last chunk that went out whole."""
        try:
            os.ftruncate(self._file.fileno(), self.size)
            self._file.raw.close()  # type: ignore[attr-defined]  # what is buffered would fail again
        except OSError:
            pass


def schema_of(kind: type[Message]) -> dict[str, Any]:
    """The JSON schema of a message, flat: Foxglove follows no references."""
    schema = msgspec.json.schema(kind)
    return dict(schema["$defs"][kind.__name__])


class Sessions:
    """A run's sessions: writes into the newest file, begins the next where one is full, and waits where the disk is.

    Never raises for the disk: `trouble` says what is wrong, empty while all is well.
    """

    def __init__(self, directory: Path, about: Mapping[str, str], rotate: int = ROTATE, floor: int = FLOOR) -> None:
        self.directory, self.about, self.rotate, self.floor = directory, about, rotate, floor
        self.trouble = ""
        self.unwritten = 0  # messages that came while there was no file
        self._open: Session | None = None

    @property
    def file(self) -> Session | None:
        return self._open

    def write(self, topic: str, message: Message) -> None:
        if self._open is None:
            self.unwritten += 1
            return
        try:
            self._open.write(topic, message)
        except OSError as error:
            self._failed(error)

    def tend(self) -> None:
        """Once a second: end the chunk; begin a file where there is none, or the next where this one is full."""
        try:
            if self._open is not None:
                self._open.flush()
                if self._open.size >= self.rotate:
                    self._open.finish({"unwritten": str(self.unwritten)})
                    self._open = None
            self._room()
            if self._open is None:
                self._open = self._next()
            self.trouble = ""
        except OSError as error:
            self._failed(error)

    def _room(self) -> None:
        self.directory.mkdir(exist_ok=True)
        disk = os.statvfs(self.directory)
        if disk.f_bavail * disk.f_frsize < self.floor:
            raise OSError(f"less than {self.floor >> 20} MiB are free, which the replay may need")

    def _next(self) -> Session:
        number = max((int(p.stem) for p in self.directory.glob("*.mcap") if p.stem.isdigit()), default=0) + 1
        return Session(self.directory / f"{number:04d}.mcap", self.about)

    def _failed(self, error: OSError) -> None:
        self.trouble = f"{self.directory}: {error.strerror or error}; nothing is recorded until there is room, the robot goes on"
        if self._open is not None:
            self._open.abandon()
            self._open = None

    def close(self) -> None:
        if self._open is not None:
            try:
                self._open.finish({"unwritten": str(self.unwritten)})
            except OSError as error:
                self._failed(error)
