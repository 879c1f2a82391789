"""Serves a twin in real time: a pty for each wire, physics by absolute deadlines, all in one poll loop."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import select
import sys
import termios
import tty
from typing import TYPE_CHECKING, Any, Protocol

from robotrl.drivers.port import PortError
from robotrl.sim.halfduplex import HalfDuplex

if TYPE_CHECKING:
    from robotrl.clock import Clock
    from robotrl.sim.faults import FaultyWire

LAG_NS = 100_000_000  # physics that is later than this is skipped, not caught up in a burst
CHUNK = 65536
TCGETS2 = 0x802C542A  # struct termios2: the near end's speed as a number, at its end


class Served(Protocol):
    """What stands behind the wires."""

    clock: Clock
    wires: dict[str, FaultyWire]

    @property
    def step_s(self) -> float: ...  # of physics
    def advance(self, seconds: float) -> None: ...
    def due(self) -> int | None: ...  # when a wire will have something (clock, ns)
    def command(self, line: dict[str, Any]) -> None: ...


class PtyWire:
    """One wire's pty. While nobody has its near end open, what it would send is lost, as on a closed serial port."""

    def __init__(self, wire: FaultyWire) -> None:
        self._wire = wire
        self.fd, near = pty.openpty()
        tty.setraw(near)
        self.path = os.ttyname(near)
        os.close(near)
        os.set_blocking(self.fd, False)
        self.open = self.gone = False
        self._hangup = select.poll()
        self._hangup.register(self.fd, 0)

    def look(self) -> bool:
        """Has somebody opened the near end since the last look?"""
        if self.open or self.gone or self._hangup.poll(0):
            return False
        self.open = True
        return True

    def read(self) -> None:
        """Pass on what the host has written. A hang-up empties the line."""
        if self.gone:
            return  # unplugged while writing: the poll list still has it
        try:
            data = os.read(self.fd, CHUNK)
            if isinstance(self._wire.far, HalfDuplex):
                self._wire.far.host_baud = self._baud()
            self._wire.receive(data)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self.open = False
            termios.tcflush(self.fd, termios.TCIOFLUSH)
        except PortError:
            self.unplug()

    def _baud(self) -> int:
        """How fast the host believes that it talks."""
        speeds = bytearray(44)
        fcntl.ioctl(self.fd, TCGETS2, speeds)
        return int.from_bytes(speeds[40:44], sys.byteorder)

    def write(self) -> None:
        """Send what has arrived by now; bytes for which the line has no room are lost."""
        if self.gone:
            return
        try:
            data = self._wire.transmit()
            if data and self.open:
                os.write(self.fd, data)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        except PortError:
            self.unplug()

    def unplug(self) -> None:
        """The adapter is pulled: the near end sees a hang-up."""
        if not self.gone:
            self.gone, self.open = True, False
            os.close(self.fd)


class Server:
    """Ptys for the twin's wires (`paths` by name) and the loop that serves them. `lost_s`: physics time skipped so far."""

    def __init__(self, twin: Served, until_eof: bool = False) -> None:
        self._twin, self._until_eof = twin, until_eof
        self._wires = {name: PtyWire(wire) for name, wire in twin.wires.items()}
        self.paths = {name: wire.path for name, wire in self._wires.items()}
        self.lost_s, self._running = 0.0, True
        self._poll = select.poll()
        self._by_fd: dict[int, PtyWire] = {}
        self._control = b""

    def stop(self) -> None:
        """Let `serve` return; safe in a signal handler."""
        self._running = False

    def serve(self) -> None:
        """Until `stop`."""
        clock, step = self._twin.clock, round(self._twin.step_s * 1e9)
        try:
            self._poll.register(0, select.POLLIN)
        except OSError:
            pass  # no standard input
        due = clock.now() + step
        while self._running:
            self._wait(due)
            now = clock.now()
            if now - due > LAG_NS:
                self.lost_s += (now - due) * 1e-9
                due = now
            while due <= now:
                self._twin.advance(step * 1e-9)
                due += step
            for wire in self._wires.values():
                wire.write()
                if wire.look():
                    self._by_fd[wire.fd] = wire
                    self._poll.register(wire.fd, select.POLLIN)

    def _wait(self, due: int) -> None:
        """Sleep until a wire has something, or something is due for a wire, or physics is."""
        bytes_due = self._twin.due()
        if bytes_due is not None:
            due = min(due, bytes_due)
        left = max(0.0, (due - self._twin.clock.now()) * 1e-6)
        for fd, _ in self._poll.poll(left):
            if fd == 0:
                self._hear()
                continue
            wire = self._by_fd[fd]
            wire.read()
            if not wire.open:
                self._poll.unregister(fd) if not wire.gone else self._forget(fd)
                self._by_fd.pop(fd, None)

    def _forget(self, fd: int) -> None:
        try:
            self._poll.unregister(fd)
        except (KeyError, OSError):
            pass

    def _hear(self) -> None:
        """Control lines; a wrong one is answered in a line on standard error."""
        try:
            data = os.read(0, CHUNK)
        except OSError:
            data = b""
        if not data:
            self._forget(0)
            self._running = self._running and not self._until_eof
            return
        *lines, self._control = (self._control + data).split(b"\n")
        for line in lines:
            try:
                asked = json.loads(line)
                if not isinstance(asked, dict):
                    raise ValueError("not an object")
                self._twin.command(asked)
            except (ValueError, TypeError) as error:
                print(f"robotrl twin: control line {line[:80]!r}: {error}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Hang up all wires."""
        for wire in self._wires.values():
            wire.unplug()
        if self.lost_s:
            print(f"robotrl twin: physics lost {self.lost_s:.3f} s to a busy machine", file=sys.stderr, flush=True)
