"""Sessions: what was said on the bus, as MCAP files that Foxglove opens; `robotrl play` feeds them back (docs/sessions.md).

A run has `sessions/0001.mcap`, `0002.mcap`, …: one channel a topic, JSON with the message's schema, every field as it was
sent. Times of a file are those of capture; the day they fall on is read once, when the file is begun, so that they never jump.
A chunk holds a second and is handed to the system whole: a file whose writer was killed opens to its last chunk.
"""

from __future__ import annotations

import json
import math
import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from mcap import records
from mcap.exceptions import EndOfFile, InvalidMagic, McapError
from mcap.stream_reader import StreamReader
from mcap.writer import Writer
from zstandard import ZstdError

from robotrl import foxglove
from robotrl.complaint import Complaint
from robotrl.messages import Message, Picture
from robotrl.topics import TOPICS

CHUNK = 1 << 20  # bytes: a chunk is ended by its second, or by this
ROTATE = 128 << 20  # bytes of a file, after which the next is begun
FORMAT = "1"  # of what the files hold; a newer one is refused
RECORD_MAX = 1 << 28  # bytes: no record is longer
FLOOR = 256 << 20  # bytes that are left free: the disk is the replay's before it is ours


class SessionError(Complaint):
    """A session cannot be written or read: which, why, what to do; one line."""


class Session:
    """One file being written. OSError from any call when the disk takes no more; what was flushed before stays readable."""

    def __init__(self, path: Path, about: Mapping[str, str]) -> None:
        """`about`: what the file says of itself, text by name."""
        self.path = path
        self._file: BinaryIO = open(path, "xb")  # noqa: SIM115
        self.size = 0
        try:
            self._begin(about)
        except OSError:  # it is tried again each second: none of the files that were not begun may stay
            self.abandon()
            path.unlink(missing_ok=True)
            raise

    def _begin(self, about: Mapping[str, str]) -> None:
        self._writer = Writer(self._file, chunk_size=CHUNK)
        self._writer.start("", "robotrl")
        self._day = time.clock_gettime_ns(time.CLOCK_REALTIME) - time.monotonic_ns()
        self._writer.add_metadata("session", {**about, "format": FORMAT, "unix_minus_monotonic_ns": str(self._day)})
        self._channels = {
            topic: self._channel(topic) for topic, entry in TOPICS.items() if entry.recorded and entry.type is not Picture
        }
        self._pictures = self._writer.register_schema(foxglove.NAME, "jsonschema", json.dumps(foxglove.SCHEMA).encode())
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
        if isinstance(message, Picture):
            topic, message = f"{topic}/{message.camera}", foxglove.compressed(message, t)
            if topic not in self._channels:  # one a camera: Foxglove shows a channel as one
                self._channels[topic] = self._writer.register_channel(topic, "json", self._pictures)
        self._writer.add_message(self._channels[topic], t, self._encode(message), t, message.seq & 0xFFFFFFFF)

    def attach(self, name: str, t: int, data: bytes) -> None:
        """A file of its own within this one; `t` monotonic, ns."""
        self._writer.add_attachment(t + self._day, t + self._day, name, "application/octet-stream", data)

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


@dataclass(frozen=True)
class Attached:
    """A file within a session."""

    name: str
    data: bytes


class Reading:
    """One session read from its beginning as far as it is whole. SessionError when it is none, or of another format.

    `about`: what it says of itself. `cut`: why it ends before its end; empty when it does not.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.cut = path, ""
        self.about: dict[str, str] = {}
        self._decode = {topic: msgspec.json.Decoder(entry.type).decode for topic, entry in TOPICS.items()}
        self._records = self._sound()
        for record in self._records:
            if isinstance(record, records.Metadata) and record.name == "session":
                self.about = record.metadata
                break
            if isinstance(record, records.Message | records.Footer):
                break
        if self.about.get("format") != FORMAT:
            other = self.about.get("format")
            found = f"of format {other}, not {FORMAT}" if other is not None else "no session of this project's"
            why = f", or cut off in its first line ({self.cut})" if self.cut else ""
            raise SessionError(f"{path}: {found}{why}; give a file that robotrl has recorded")

    def __iter__(self) -> Iterator[tuple[str, Message] | Attached]:
        """Topic and message, and the attached files, in the order in which they were written."""
        topics: dict[int, str] = {}
        for record in self._records:
            match record:
                case records.Channel():
                    topics[record.id] = record.topic
                case records.Attachment():
                    yield Attached(record.name, record.data)
                case records.Message() if (topic := topics.get(record.channel_id, "").partition("/")[0]) in TOPICS:
                    try:
                        message = self._message(topic, record.data)
                    except msgspec.DecodeError as error:  # no chunk's sum was there to tell: a record that is none
                        self.cut = f"damaged: {topic}: {error}"
                        return
                    yield topic, message

    def _message(self, topic: str, data: bytes) -> Message:
        """JSON has no nan: null stands for it."""
        try:
            message: Message = self._decode[topic](data)
        except msgspec.ValidationError:
            try:
                message = msgspec.convert(_with_nan(msgspec.json.decode(data)), TOPICS[topic].type)
            except msgspec.ValidationError as error:
                why = f"{self.path}: {topic}: {error}; it was recorded by another version, play it by that"
                raise SessionError(why) from None
        return message

    def _sound(self) -> Iterator[Any]:
        """The records up to the first that is damaged."""
        try:
            with open(self.path, "rb") as file:
                messages = indexed = 0
                for record in StreamReader(file, validate_crcs=True, record_size_limit=RECORD_MAX).records:
                    messages += isinstance(record, records.Message)
                    indexed += len(record.records) if isinstance(record, records.MessageIndex) else 0
                    if indexed > messages:  # behind each chunk its index: a chunk whose first byte is damaged is passed over
                        self.cut = "damaged: a chunk is missing"
                        return
                    yield record
        except InvalidMagic:
            if not self.about:
                raise SessionError(f"{self.path}: no MCAP file; give a file that robotrl has recorded") from None
            self.cut = "its last bytes are damaged"
        except (EndOfFile, struct.error):
            self.cut = "its writer was stopped before its end"
        except (McapError, ZstdError, ValueError, KeyError, OverflowError, MemoryError, zlib.error) as error:
            self.cut = f"damaged: {' '.join(str(error).split())[:200]}"
        except OSError as error:
            raise SessionError(f"{self.path}: cannot be read: {error.strerror}") from None


def _with_nan(value: Any) -> Any:
    if value is None:
        return math.nan
    if isinstance(value, list):
        return [_with_nan(v) for v in value]
    return {k: _with_nan(v) for k, v in value.items()} if isinstance(value, dict) else value


def files(path: Path) -> list[Path]:
    """The sessions that `path` names, in order: a file, a folder of them, or a run directory. SessionError when there is none."""
    if path.is_file():
        return [path]
    folder = path / "sessions" if (path / "sessions").is_dir() else path
    found = sorted(folder.glob("*.mcap"))
    if not found:
        raise SessionError(f"{path}: no session here; runs on the wall clock record theirs in RUN_DIR/sessions")
    return found


def schema_of(kind: type[Message]) -> dict[str, Any]:
    """The JSON schema of a message as far as Foxglove can read one: it follows no references, and knows no lists of lists.

    What it cannot be told is left out, and shown by it as it is (foxglove/studio, packages/mcap-support/src/parseJsonSchema.ts).
    """
    schema = msgspec.json.schema(kind)
    plain = _plain(schema, schema["$defs"])
    assert plain is not None
    return plain


def _plain(schema: dict[str, Any], known: Mapping[str, Any], item: bool = False) -> dict[str, Any] | None:
    """A part of a schema, None for what cannot be told; an `item` of a list holds its bytes as text."""
    schema = known[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if schema.get("type") == "object":
        parts = {name: _plain(part, known) for name, part in schema.get("properties", {}).items()}
        told = {name: part for name, part in parts.items() if part is not None}
        required = [name for name in schema.get("required", ()) if name in told]
        return {**schema, "properties": told, "required": required}
    if schema.get("type") == "array":
        kinds = schema.get("prefixItems") or [schema.get("items")]
        inner = _plain(kinds[0], known, item=True) if all(kind == kinds[0] for kind in kinds) and kinds[0] else None
        return None if inner is None or item else {"type": "array", "items": inner}
    return (
        {name: value for name, value in schema.items() if not (item and name == "contentEncoding")} if "type" in schema else None
    )


class Sessions:
    """A run's sessions: writes into the newest file, begins the next where one is full, and waits where the disk is.

    Never raises for the disk: `trouble` says what is wrong, empty while all is well.
    """

    def __init__(self, directory: Path, about: Mapping[str, str], rotate: int = ROTATE, floor: int = FLOOR) -> None:
        self.directory, self.about, self.rotate, self.floor = directory, about, rotate, floor
        self.trouble = ""
        self.unwritten = 0  # messages that came while there was no file
        self._open: Session | None = None
        self._attached: dict[str, tuple[Path, int]] = {}

    def write(self, topic: str, message: Message) -> None:
        if self._open is None:
            self.unwritten += 1
            return
        try:
            self._open.write(topic, message)
        except OSError as error:
            self._failed(error)

    def attach(self, name: str, t: int, data: bytes) -> None:
        """A small file into the newest session; each file has the same one once."""
        if self._open is None or self._attached.get(name) == (mark := (self._open.path, zlib.crc32(data))):
            return
        try:
            self._open.attach(name, t, data)
            self._attached[name] = mark
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
