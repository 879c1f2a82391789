"""The far end of a camera's wire: frames made here, sent as an MJPEG camera on the network sends them (`drivers/mjpeg.py`).

In lockstep `CameraWire` is behind a `MemoryPort` (or a `faults.FaultyWire`); on the wall clock `CameraServer` sends the same
bytes through a socket of this machine. What is shown, with what lens, noise and delay, is the scene's business: a frame comes
with the time at which it was taken, and is sent when it is given.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from robotrl.drivers.camera import Pixels, encode

BOUNDARY = "frame"
HEAD = f"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary={BOUNDARY}\r\n\r\n".encode()
# When it was taken (ns, the monotonic or lockstep clock) and (height, width, 3) BGR
Shot = tuple[int, Pixels]


def part(t: int, jpeg: bytes) -> bytes:
    """One frame on the wire. `X-Timestamp` has nanoseconds: what was drawn at `t` is stamped `t`, to the bit."""
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n"
    return f"{head}X-Timestamp: {t // 10**9}.{t % 10**9:09d}\r\n\r\n".encode() + jpeg + b"\r\n"


class CameraWire:
    """A `FarEnd`: `shoot` is asked, whenever the wire is read, for the next frame that has come by now; None: none has."""

    def __init__(self, shoot: Callable[[], Shot | None], quality: int = 90) -> None:
        self._shoot, self._quality = shoot, quality
        self._request = b""
        self._answered = False

    def receive(self, data: bytes) -> None:
        self._request = (self._request + data)[-4096:]

    def transmit(self) -> bytes:
        """Frames that come before anybody has asked for them are lost."""
        asked = b"\r\n\r\n" in self._request
        out = [] if self._answered or not asked else [HEAD]
        self._answered = asked
        while (shot := self._shoot()) is not None:
            if asked:
                out.append(part(shot[0], encode(shot[1], self._quality)))
        return b"".join(out)


class CameraServer:
    """The same on a socket file at `path`, in whose directory nobody else may write. `url` is what goes into the camera's config.

    No thread: whoever makes the frames calls `show`, in his own time; a reader who is behind misses frames, as with any camera.
    """

    def __init__(self, path: Path, quality: int = 90) -> None:
        self.path, self.url, self._quality = path, f"unix:{path}", quality
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            self._door.bind(str(path))
        finally:
            os.umask(before)
        self._door.listen(4)
        self._door.setblocking(False)
        self._readers: dict[socket.socket, bytes] = {}  # each with what it has not taken yet

    @property
    def readers(self) -> int:
        """How many have the stream open, as far as `show` has seen."""
        return len(self._readers)

    def show(self, t: int, image: Pixels) -> None:
        """Send this frame, taken at `t`, to all who read. Never blocks."""
        with contextlib.suppress(BlockingIOError):
            while True:
                reader, _ = self._door.accept()
                reader.setblocking(False)
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                self._readers[reader] = HEAD
        if not self._readers:
            return
        data = part(t, encode(image, self._quality))
        for reader, left in list(self._readers.items()):
            behind = left not in (b"", HEAD)
            self._send(reader, left if behind else left + data)

    def serve(self, shoot: Callable[[], Shot | None]) -> None:
        """Show what `shoot` gives, each time it returns, until it gives None."""
        while (shot := shoot()) is not None:
            self.show(*shot)

    def _send(self, reader: socket.socket, data: bytes) -> None:
        try:
            self._readers[reader] = data[reader.send(data) :]
        except BlockingIOError:
            self._readers[reader] = data
        except OSError:  # it has gone
            del self._readers[reader]
            reader.close()

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
        self._door.close()
        self.path.unlink(missing_ok=True)
