"""A device on a port that may be unplugged while the robot runs: what a node does until it is plugged in again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from robotrl.drivers.port import Port, PortError
from robotrl.node import Node

RETRY_NS = 1_000_000_000
Device = TypeVar("Device")


class Wire(Generic[Device]):
    """Opened when it is made: PortError or ValueError then say what is wrong. `device` is None while the port is lost."""

    def __init__(self, node: Node, connect: Callable[[], tuple[Port, Device]]) -> None:
        self._node, self._connect = node, connect
        self._port, device = connect()
        self.device: Device | None = device
        self._retry = 0

    def lost(self, error: PortError) -> None:
        """The port has just failed: close it, say so, and look for it once a second."""
        self._node.say(error)
        self._port.close()
        self.device = None
        self._retry = self._node.clock.now() + RETRY_NS

    def again(self) -> bool:
        """While lost: try to open it when it is time to; true when it has just come back."""
        now = self._node.clock.now()
        if self.device is not None or now < self._retry:
            return False
        self._retry = now + RETRY_NS
        try:
            self._port, self.device = self._connect()
        except PortError:
            return False
        self._node.say(f"{self._port.name}: is back")
        return True

    def close(self) -> None:
        self._port.close()
