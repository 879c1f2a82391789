"""A device on a port that may be unplugged while the robot runs: what a node does until it is plugged in again.

`sense` is the whole of a node that publishes what its device reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from robotrl.drivers.port import Port, PortError
from robotrl.drivers.tape import Tape
from robotrl.messages import Message
from robotrl.node import Node

RETRY_NS = 1_000_000_000
TAPE_NS = 20_000_000  # how long a tape is collected before it is published
PRIORITY = 18  # a sensor's: after the servo driver and the guard, before all that thinks
Device = TypeVar("Device")


class Held(Protocol):
    """What is opened and lost: a port, or a camera."""

    name: str

    def close(self) -> None: ...


class Wire(Generic[Device]):
    """Opened when it is made: PortError or ValueError then say what is wrong. `device` is None while the port is lost."""

    def __init__(self, node: Node, connect: Callable[[], tuple[Held, Device]]) -> None:
        self._node, self._connect = node, connect
        self._port, device = connect()
        self.device: Device | None = device
        self._retry = 0
        self._said = ""

    def lost(self, error: PortError) -> None:
        """The port has just failed: close it, say so, and look for it once a second."""
        self._port.close()
        self.device = None
        self._retry = self._node.clock.now() + RETRY_NS
        self._say(str(error))

    def again(self) -> bool:
        """While lost: try to open it when it is time to; true when it has just come back."""
        now = self._node.clock.now()
        if self.device is not None or now < self._retry:
            return False
        self._retry = now + RETRY_NS
        try:
            self._port, self.device = self._connect()
        except (PortError, ValueError) as error:  # as at the start: another device may be in its place
            self._say(str(error))
            return False
        self._said = ""
        self._node.say(f"{self._port.name}: is back")
        return True

    def _say(self, why: str) -> None:
        """Why it cannot be had, once and not at every try."""
        if why != self._said:
            self._node.say(why)
        self._said = why

    def close(self) -> None:
        self._port.close()


def sense(
    node: Node,
    connect: Callable[[], tuple[Port, Device]],
    topic: str,
    period_ns: int,
    read: Callable[[Device], Iterable[Message]],
    tape: Tape,
) -> int:
    """Publish what `read` gets from the device, once a period, until told to stop; and its tape, fifty times a second.

    Exit code 2 when it could not be opened.
    """
    tape.call("connect")
    exchanges = node.bus.publisher("wire")  # first: who records must have found it before the tape of the handshake is sent
    try:
        wire = Wire(node, connect)
    except (PortError, ValueError) as error:
        return node.refuse(error)
    node.hurry(PRIORITY)
    publisher = node.bus.publisher(topic)
    first, said, batch = 1, 0, max(1, TAPE_NS // period_ns)
    for number in node.every(period_ns):
        if wire.device is None:
            tape.call("connect")
            wire.again()
        if wire.device is not None:
            tape.call("read")
            try:
                for message in read(wire.device):
                    publisher.send(message)
                    said += 1
            except PortError as error:
                wire.lost(error)
        if number % batch == batch - 1:
            exchanges.send(tape.take(first))
            first = said + 1
        node.beat("" if wire.device else "port lost")
    wire.close()
    node.close()
    return 0
