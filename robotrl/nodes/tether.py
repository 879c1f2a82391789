"""The driver's line to the rescue process, which writes the stop profile should the driver die or hang.

Messages over a socket beside the bus's, one packet each. The driver's: PORT, with a copy of its open port and a handle on its own
process; a beat a cycle, which says whether torque is on; DROP, before it closes the port; DONE, when the motors are read back as
off; HOLD, again and again, while it waits for a rescue that still lowers an arm after its last life, and a stop key is to keep
that where it is. The rescue's: READY for a port, first and to each beat while it has none; HELD to each beat when it has one. A
rescue that was stopped for some seconds takes no more: what PORT or DROP would have told it comes before the next beat that it
takes. The copy shares the port's lock: the tty stays this robot's through the driver's death, and nobody opens it between driver
and rescue.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from robotrl.clock import Clock

PORT, DROP, DONE, HOLD = b"port", b"drop", b"done", b"hold"
READY, HELD = b"ready", b"held"
ON, OFF = b"on", b"off"  # a beat: torque, as the driver last left it
CHECKED = b" checked"  # behind PORT: the adapter wants checksums
NAME = "rescue"  # of the socket
BURIED, RESCUED = "the servo driver died", "the motors are read back as off"  # what the rescue says of its end, in its log
ECHO_NS = 200_000_000  # a rescue that has not echoed for so long would not help either
RETRY_NS = 500_000_000
LOOK_S = 0.02


class Tether:
    """Never blocks but in `greet`, never raises for a rescue that is not there; `lost` says that nobody is at the other end."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        """`directory`: where the bus's sockets are."""
        self._path, self._clock = str(directory / NAME), clock
        self._socket: socket.socket | None = None
        self._greeted = False
        self._owed = False  # PORT or DROP has not been taken yet
        self._port: tuple[int, bytes] | None = None
        self._heard = -ECHO_NS
        self._retry = 0
        self._self = os.pidfd_open(os.getpid())

    @property
    def lost(self) -> bool:
        return not self._greeted or self._clock.now() - self._heard > ECHO_NS

    def greet(self, seconds: float, holds: Callable[[], bool] = lambda: False) -> bool:
        """Wait for a rescue that is free: one that still stops the motors after our last life has the port. False: none came.

        `holds`: is an arm that it lowers to stay where it is? Asked while it is there and not free; then the wait begins anew.
        """
        until = time.monotonic() + seconds
        while not self._greeted and time.monotonic() < until:
            self._retry = 0
            self._talk()
            if not self._greeted:
                time.sleep(LOOK_S)
            if self._socket is not None and not self._greeted and holds():
                self._send(HOLD)
                until = time.monotonic() + seconds
        return self._greeted

    def give(self, port: int, checked: bool) -> None:
        """Hand over a copy of the open port: its file descriptor."""
        self._port = (port, PORT + (CHECKED if checked else b""))
        self._owed = True
        self._pay()

    def beat(self, torque_on: bool) -> None:
        """Once a cycle."""
        self._talk()
        if self._greeted and self._pay():
            self._send(ON if torque_on else OFF)

    def drop(self) -> None:
        """The port is about to be closed: its copy too, or nobody could open it again."""
        self._port = None
        self._owed = True
        self._pay()

    def done(self) -> None:
        """The end, in order: whoever dies after this leaves nothing to rescue."""
        self._port, self._owed = None, False
        self._send(DONE)

    def close(self) -> None:
        self._hang_up()
        os.close(self._self)

    def _talk(self) -> None:
        """Connect where that is due, and take what has been answered."""
        now = self._clock.now()
        if self._socket is None:
            if now < self._retry:
                return
            self._retry = now + RETRY_NS
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket.setblocking(False)
            try:
                self._socket.connect(self._path)
            except OSError:
                return self._hang_up()
        try:
            while self._socket is not None:
                answer = self._socket.recv(64)
                if not answer:
                    return self._hang_up()
                self._heard = now
                if answer == READY:
                    self._greeted = True
                    self._owed = self._owed or self._port is not None
                    self._pay()
        except BlockingIOError:
            pass
        except OSError:
            self._hang_up()

    def _pay(self) -> bool:
        """Say that the port is here, or gone, if that is owed; False while the rescue has not taken it."""
        if self._owed and self._greeted:
            self._owed = not (self._send(DROP) if self._port is None else self._send(self._port[1], self._port[0], self._self))
        return not self._owed

    def _send(self, word: bytes, *fds: int) -> bool:
        if self._socket is None:
            return False
        try:
            socket.send_fds(self._socket, [word], fds) if fds else self._socket.send(word)
        except BlockingIOError:
            return False  # it does not take them: its echo will be missed
        except OSError:
            self._hang_up()
            return False
        return True

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._greeted = None, False
