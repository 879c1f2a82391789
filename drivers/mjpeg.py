"""A camera on the network that sends JPEGs one after the other in one HTTP answer: ESP32-CAM, mjpg-streamer, µStreamer, phones.

`http://HOST[:PORT]/PATH`, or `unix:/PATH` for a server on this machine's own socket (µStreamer's `--unix`). The answer is
multipart/x-mixed-replace (RFC 2046, 5.1): a boundary, a few header lines, a JPEG. `X-Timestamp`, where a server sends it, is when
the frame was taken, in s by the server's own clock (mjpg-streamer `output_http`, ESP32 `esp32-camera`): on this machine that is
taken at its word where it can be our monotonic clock, else moved onto it (`camera.ClockMap`).
"""

from __future__ import annotations

import base64
import re
import select
import socket
from typing import NamedTuple
from urllib.parse import urlsplit

from robotrl.clock import Clock
from robotrl.drivers.camera import CameraError, ClockMap, Frame
from robotrl.drivers.port import Port

CONNECT_S = 2.0
HEAD_MAX, JPEG_MAX = 8192, 1 << 23  # bytes: of a header, of a picture
CHUNK = 1 << 18
OURS_NS = 10_000_000_000  # a stamp of a server on this machine that is not older is by our clock
LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,9})[ \t\r]*$", re.IGNORECASE | re.MULTILINE)
STAMP = re.compile(rb"^x-timestamp:[ \t]*(\d{1,10})(?:\.(\d{1,9}))?[ \t\r]*$", re.IGNORECASE | re.MULTILINE)
BOUNDARY = re.compile(rb'^content-type:[ \t]*multipart/x-mixed-replace[ \t]*;[ \t]*boundary="?([^"\r\n;]{1,100})"?', re.I | re.M)


class Part(NamedTuple):
    """A picture and its stamp, ns by the server's clock; -1: it has none."""

    jpeg: bytes
    mark: int


class Parser:
    """The server's answer, in whatever pieces it comes; what is no such answer is a ValueError that says why."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._boundary = b""

    def feed(self, data: bytes) -> list[Part]:
        """The pictures that are now whole, in order."""
        self._held += data
        out: list[Part] = []
        if not self._boundary and not self._head():
            return out
        while (part := self._part()) is not None:
            out.append(part)
        return out

    def _head(self) -> bool:
        """Take the answer's own header off, once it is there."""
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            if len(self._held) > HEAD_MAX:
                raise ValueError("its answer is no HTTP")
            return False
        head = bytes(self._held[:end])
        del self._held[: end + 4]
        status = head.split(b"\r\n", 1)[0].decode("latin-1")
        if not re.match(r"HTTP/1\.[01] 200\b", status):
            raise ValueError(f"it answers {status[:60]!r}")
        found = BOUNDARY.search(head)
        if found is None:
            raise ValueError("its answer is no stream of pictures (multipart/x-mixed-replace)")
        self._boundary = b"--" + found[1].strip().removeprefix(b"--")
        return True

    def _part(self) -> Part | None:
        """The next picture, taken off what is held; None while it is not whole."""
        begin = self._held.find(self._boundary)
        head_end = self._held.find(b"\r\n\r\n", begin) if begin >= 0 else -1
        if head_end < 0:
            if len(self._held) > HEAD_MAX + len(self._boundary):
                raise ValueError("it sends what is no picture")
            return None
        head = bytes(self._held[begin:head_end])
        at = head_end + 4
        length = LENGTH.search(head)
        if length is not None:
            end = at + int(length[1])
            if int(length[1]) > JPEG_MAX:
                raise ValueError(f"a picture of {int(length[1])} bytes")
        else:  # some servers do not say: it ends where the next begins
            end = self._held.find(b"\r\n" + self._boundary, at)
        if end < 0 or end > len(self._held):
            if len(self._held) > JPEG_MAX + HEAD_MAX:
                raise ValueError("a picture without end")
            return None
        jpeg = bytes(self._held[at:end])
        del self._held[:end]
        stamp = STAMP.search(head)
        mark = int(stamp[1]) * 1_000_000_000 + int((stamp[2] or b"").ljust(9, b"0")) if stamp else -1
        return Part(jpeg, mark)


def make_request(url: str) -> bytes:
    """The one thing that is ever said to the server."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host, who = parts.netloc.rpartition("@")[2] or "localhost", ""
    if parts.username is not None:
        key = base64.b64encode(f"{parts.username}:{parts.password or ''}".encode()).decode()
        who = f"Authorization: Basic {key}\r\n"
    target = "/" if parts.scheme == "unix" else path
    return f"GET {target} HTTP/1.0\r\nHost: {host}\r\n{who}Accept: multipart/x-mixed-replace\r\n\r\n".encode("latin-1", "replace")


class SocketPort:
    """A stream socket as a `Port`."""

    def __init__(self, url: str, clock: Clock) -> None:
        """Connect. CameraError says why it cannot be had."""
        parts = urlsplit(url)
        self.name, self._clock = url.rpartition("@")[2] if parts.username else url, clock
        try:
            if parts.scheme == "unix":
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._socket.settimeout(CONNECT_S)
                self._socket.connect(parts.path)
            elif parts.scheme == "http" and parts.hostname:
                self._socket = socket.create_connection((parts.hostname, parts.port or 80), CONNECT_S)
            else:
                raise CameraError(f"{self.name}: is no address of a camera; write http://HOST:PORT/PATH or unix:/PATH")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error) or "no answer"
            raise CameraError(f"{self.name}: no camera there ({why}); see that it is on and its address right") from None

    def write(self, data: bytes) -> None:
        try:
            self._socket.settimeout(CONNECT_S)
            self._socket.sendall(data)
        except OSError as error:
            raise CameraError(f"{self.name}: takes nothing ({error}); see that it is on") from None

    def read(self, deadline: int, limit: int = 4096) -> bytes:
        left = max(0.0, (deadline - self._clock.now()) * 1e-9)
        try:
            if not select.select([self._socket], [], [], left)[0]:
                return b""
            data = self._socket.recv(limit)
        except OSError as error:
            raise CameraError(f"{self.name}: is gone ({error.strerror}); see that it is on") from None
        if not data:
            raise CameraError(f"{self.name}: has ended its stream; see that it is on, and that nobody else has it")
        return data

    def close(self) -> None:
        self._socket.close()


class MjpegCamera:
    """The camera behind `port`, whose far end speaks HTTP. `skipped`: frames that were no longer the newest when we looked."""

    def __init__(self, port: Port, url: str, clock: Clock) -> None:
        self.name, self.identity = port.name, url
        self._port, self._clock = port, clock
        self._here = urlsplit(url).scheme == "unix"
        self._parser, self._map = Parser(), ClockMap()
        self.skipped = 0
        port.write(make_request(url))

    def read(self, deadline: int) -> Frame | None:
        newest: Part | None = None
        arrived = 0
        while data := self._port.read(0 if newest else deadline, CHUNK):
            try:
                parts = self._parser.feed(data)
            except ValueError as error:
                raise CameraError(f"{self.name}: {error}; give the address of its MJPEG stream") from None
            if parts:
                self.skipped += len(parts) - (newest is None)
                newest, arrived = parts[-1], self._clock.now()
        return None if newest is None else self._frame(newest, arrived)

    def _frame(self, part: Part, arrived: int) -> Frame:
        if part.mark < 0:
            return Frame(t=arrived, stamp="arrival", jpeg=part.jpeg)
        ours = self._here and 0 <= arrived - part.mark < OURS_NS
        return Frame(t=part.mark if ours else self._map(part.mark, arrived), stamp="device", mark=part.mark, jpeg=part.jpeg)

    def close(self) -> None:
        self._port.close()


def connect(url: str, clock: Clock) -> MjpegCamera:
    """The camera at this address. CameraError when there is none."""
    port = SocketPort(url, clock)
    try:
        return MjpegCamera(port, url, clock)
    except CameraError:
        port.close()
        raise
