"""sd_notify by hand: how a service tells systemd that it is up, alive, ending. Outside of systemd nothing is said.

Protocol: a datagram of NAME=VALUE lines to the socket that the environment names (sd_notify(3)).
"""

from __future__ import annotations

import os
import socket
import time

ALIVE_S = 0.2  # between two signs of life: a fifth of the unit's WatchdogSec
ENDING_US = 720_000_000  # an end in order takes as long as TimeoutStopSec lets it, and no watchdog may end it before
LONGER_US = 120_000_000  # more than an end takes from when an arm is no longer held: its way down, then node after node


class Notify:
    """`address`: a path, or a name in the abstract namespace behind an @; empty outside of systemd. Never raises, never waits."""

    def __init__(self, address: str | None = None) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        if self._socket is not None:
            self._socket.setblocking(False)
        self._due = 0.0

    def ready(self) -> None:
        self._send("READY=1")

    def alive(self) -> None:
        """To be called more often than it speaks."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + ALIVE_S
            self._send("WATCHDOG=1")

    def ending(self) -> None:
        self._send(f"STOPPING=1\nWATCHDOG_USEC={ENDING_US}\nWATCHDOG=1")

    def longer(self) -> None:
        """An arm is held: from now on so much time again, whatever TimeoutStopSec says. It never shortens what is left."""
        self._send(f"EXTEND_TIMEOUT_USEC={LONGER_US}\nWATCHDOG=1")

    def _send(self, text: str) -> None:
        if self._socket is not None:
            try:
                self._socket.sendto(text.encode(), self._address)
            except OSError:
                pass  # systemd will miss it, and say so
