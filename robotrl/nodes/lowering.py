"""An arm that a starting driver finds holding is lowered before anything else: who watches over it meanwhile.

No guard leads then, and no gate is open: the driver has said nothing yet. So the rescue gets the port first, a stop key of
anybody's holds the arm where it is, and a driver that is told to end begins the stop profile anew, which holds first.
"""

from __future__ import annotations

from robotrl.bus import Subscriber
from robotrl.clock import Clock
from robotrl.drivers.port import SerialPort
from robotrl.messages import Operator
from robotrl.node import Node
from robotrl.nodes.tether import Tether
from robotrl.safety.halt import HELD_NS


class Lowering:
    """`watch` before each step of it: does the arm hold in this one? Then `over`, whatever came of it."""

    def __init__(self, node: Node, keys: Subscriber, tether: Tether | None, port: SerialPort) -> None:
        """`keys`: of operators; what was pressed before counts for nothing. `port`: for the rescue."""
        self._say, self._over, self._tether, self._port = node.say, node.over, tether, port
        self._clock: Clock = node.clock
        self._keys = keys
        self._keys.drain()
        self._stopped: int | None = None  # when a stop key was pressed, while it holds
        self._begun = self._ending = False

    def watch(self) -> bool:
        if self._tether is not None:
            self._tether.beat(True)  # first: should we die between the two, the rescue is to lower it and not to let it go
            if not self._begun:
                self._tether.give(self._port.fileno(), False)
        self._begun = True
        if not self._ending and self._over():
            self._ending, self._stopped = True, None
            return True
        for message in self._keys.drain():
            if isinstance(message, Operator) and not self._ending:
                self._take(message)
        now = self._clock.now()
        if self._stopped is not None and now - self._stopped > HELD_NS:
            self._go_on("held for 10 minutes")
        return self._stopped is not None

    def over(self) -> None:
        if self._begun and self._tether is not None:
            self._tether.beat(False)
            self._tether.drop()

    def _take(self, key: Operator) -> None:
        console = "console" in (key.source, key.role if key.source == "gateway" else "")
        if key.command == "stop":
            if self._stopped is None:
                self._say("stopped by a key: the arm is held where it is; disable (d) lowers it")
            self._stopped = self._clock.now()
        elif key.command == "disable" and console and self._stopped is not None:
            self._go_on("disable")

    def _go_on(self, why: str) -> None:
        self._stopped = None
        self._say(f"{why}: the arm is lowered")
