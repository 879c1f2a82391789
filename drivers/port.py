"""Bytes with a deadline: serial line, pseudo-terminal or memory. A port does not know what its bytes mean.

This is the only module that imports pyserial.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import termios
from typing import Protocol

import serial

from robotrl.clock import Clock
from robotrl.complaint import Complaint
from robotrl.portholders import advice, holders, run_of

WRITE_NS = 50_000_000  # a line that takes no byte for this long has no reader; half a servo watchdog
PENDING_MAX = 65_536  # bytes kept while waiting for the end of a line


class PortError(Complaint):
    """The port cannot be opened or is gone. One line: what, where, what to do."""


class DeviceError(PortError):
    """The port works, the device behind it does not do as it is told. One line, as above."""


class Port(Protocol):
    name: str

    def write(self, data: bytes) -> None:
        """Send all of `data`. PortError if the far end is gone or takes nothing."""
        ...

    def read(self, deadline: int, limit: int = 4096) -> bytes:
        """1 to `limit` bytes as soon as there are any; b"" once `deadline` (clock, ns) has passed."""
        ...

    def close(self) -> None: ...


class FarEnd(Protocol):
    """What sits at the other end of a MemoryPort."""

    def receive(self, data: bytes) -> None: ...

    def transmit(self) -> bytes:
        """All bytes that have arrived at the near end by now."""
        ...


class MemoryPort:
    """A wire within one process, for virtual time: a read never waits; b"" means that nothing will come."""

    def __init__(self, far: FarEnd, name: str = "memory") -> None:
        self.name = name
        self._far = far
        self._held = b""

    def write(self, data: bytes) -> None:
        self._far.receive(data)

    def read(self, deadline: int, limit: int = 4096) -> bytes:
        data = self._held + self._far.transmit() if self._held else self._far.transmit()
        if len(data) <= limit:
            self._held = b""
            return data
        self._held = data[limit:]
        return data[:limit]

    def close(self) -> None:
        self._held = b""


class OpenPort:
    """A terminal that is open already, by its file descriptor, whoever opened it: bytes with a deadline.

    PortError in any call once the line is lost.
    """

    def __init__(self, name: str, fd: int, clock: Clock) -> None:
        self.name = name
        self._fd, self._clock = fd, clock

    def fileno(self) -> int:
        return self._fd

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:
                if not self._ready_to_write():
                    why = f"{self.name}: takes no bytes for {WRITE_NS // 1_000_000} ms; is the far end alive?"
                    raise PortError(why) from None
            except OSError as error:
                raise self._lost(error) from None

    def read(self, deadline: int, limit: int = 4096) -> bytes:
        while True:
            left = (deadline - self._clock.now()) * 1e-9
            try:
                if not select.select((self._fd,), (), (), max(left, 0.0))[0]:
                    if left > 0 and self._clock.now() < deadline:
                        continue
                    return b""
                data = os.read(self._fd, limit)
            except BlockingIOError:  # readable a moment ago, empty now
                if left <= 0:
                    return b""
                continue
            except (OSError, ValueError) as error:  # ValueError: select on a closed port
                raise self._lost(error) from None
            if not data:  # readable and empty is a hang-up
                raise self._lost(None)
            return data

    def forget(self) -> None:
        """Drop what has arrived and was not read. A line that is lost has nothing to drop."""
        try:
            termios.tcflush(self._fd, termios.TCIFLUSH)
        except (OSError, termios.error):
            pass

    def close(self) -> None:
        """Give the port back. Harmless when done twice or when the port is already lost."""
        if self._fd < 0:
            return
        try:
            fcntl.ioctl(self._fd, termios.TIOCNXCL)
        except OSError:
            pass  # unplugged: there is nothing left to give back
        fd, self._fd = self._fd, -1
        self._let_go(fd)

    def _let_go(self, fd: int) -> None:
        os.close(fd)

    def _ready_to_write(self) -> bool:
        try:
            return bool(select.select((), (self._fd,), (), WRITE_NS * 1e-9)[1])
        except (OSError, ValueError) as error:
            raise self._lost(error) from None

    def _lost(self, error: Exception | None) -> PortError:
        if self._fd < 0:
            return PortError(f"{self.name}: port is closed; open it again before use")
        why = getattr(error, "strerror", None) or "hung up"
        return PortError(f"{self.name}: port lost ({why}); check cable and power, then restart")


class SerialPort(OpenPort):
    """A serial line or pty held by this process alone (flock and TIOCEXCL), 8N1, raw; needs no modem lines.

    `low_latency` tells whether the kernel took that setting; ptys and most USB CDC adapters have none.
    PortError when `path` is missing, held, forbidden or no terminal, and in any later call once it is lost.
    """

    def __init__(self, path: str, baud: int, clock: Clock) -> None:
        self._serial = _open(path, baud)
        super().__init__(path, self._serial.fileno(), clock)
        try:
            fcntl.ioctl(self._fd, termios.TIOCEXCL)
        except OSError as error:
            self._serial.close()
            why = f"{path}: cannot be held exclusively ({error.strerror}); name a local serial port"
            raise PortError(why) from None
        self.low_latency = _set_low_latency(self._serial)

    def _let_go(self, fd: int) -> None:
        self._serial.close()


class Lines:
    """Cuts a byte stream into lines. What waits for its end is bounded; `overflows` counts the losses."""

    def __init__(self) -> None:
        self._pending = b""
        self.overflows = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their ends. Any bytes are accepted, nothing is raised."""
        *lines, pending = (self._pending + data).split(b"\n")
        if len(pending) > PENDING_MAX:
            self.overflows += 1
            pending = pending[-PENDING_MAX // 2 :]  # a good line may already have begun
        self._pending = pending
        return lines

    @property
    def pending(self) -> int:
        """Bytes kept for a line that has not ended."""
        return len(self._pending)


def _open(path: str, baud: int) -> serial.Serial:
    if not path:
        raise PortError("no port given; set it in the robot file, e.g. port = '/dev/serial/by-id/...'")
    try:
        return serial.Serial(path, baud, timeout=0, write_timeout=0, exclusive=True)
    except (serial.SerialException, termios.error, OSError, ValueError, OverflowError) as error:
        raise PortError(_why(path, baud, error)) from None


def _why(path: str, baud: int, error: Exception) -> str:
    """One line about a port that would not open; pyserial puts the errno at different depths."""
    code = getattr(error, "errno", None) or (error.args[0] if error.args else None)
    text = str(error)
    if code == errno.ENOENT or not os.path.exists(path):
        return f"{path}: no such port; plug the adapter in and compare with ls /dev/serial/by-id"
    if code == errno.EACCES or code == errno.EPERM:
        return f"{path}: no permission; join the group that ls -l {path} shows and log in again"
    if code in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in text:
        if run := run_of(others := holders(path)):
            return f"{path}: a run of robotrl has it: {run}; {advice(others)}"
        return f"{path}: held by another process; find it with fuser {path} and stop it"
    if code in (errno.ENOTTY, errno.EISDIR) or f"({errno.ENOTTY}," in text or "[Errno 21]" in text:
        return f"{path}: not a serial port; name a terminal device such as /dev/serial/by-id/..."
    if isinstance(error, (ValueError, OverflowError)):
        return f"{path}: cannot run at {baud} baud; use a rate the adapter supports, e.g. 115200"
    first = text.splitlines()[0] if text else "unknown error"
    return f"{path}: cannot be opened ({first}); unplug it and plug it in again"


def _set_low_latency(line: serial.Serial) -> bool:
    try:
        line.set_low_latency_mode(True)
    except (ValueError, OSError, NotImplementedError, AttributeError):
        return False
    return True
