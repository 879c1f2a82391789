"""An arm that a driver finds holding on a port that it opens is lowered before anything else: who watches over it meanwhile.

No guard leads then, and no gate is open. So the rescue gets the port first, a stop key of
anybody's holds the arm where it is, and a driver that is told to end begins the stop profile anew, which holds first. A port that
was away for a moment is no reason to lower an arm that a key has just stopped.
"""

from __future__ import annotations

from collections.abc import Callable

from robotrl.bus import Subscriber
from robotrl.clock import Clock
from robotrl.drivers.port import SerialPort
from robotrl.messages import Operator, Permit
from robotrl.node import Node
from robotrl.nodes.powerdown import HOLD, STOW
from robotrl.nodes.tether import Tether
from robotrl.safety.halt import HELD_NS

RECENT_NS = 5_000_000_000  # before the port is opened: who pressed so lately stands there still; chosen
HEARD_NS = 100_000_000  # in which a guard has heard a key, and judged; chosen


class StopKey:
    """Anybody's stop key, until a console lowers the arm or takes it up. `pressed`: when it was heard (ns); None: it holds not.

    To be asked in every cycle: in a queue that nobody empties the old keys keep the new ones out.
    """

    def __init__(self, keys: Subscriber) -> None:
        self.pressed: int | None = None
        self._keys = keys

    def hear(self, now: int, taken_up: bool = False) -> None:
        """`taken_up`: a guard leads, so that a console's `enable` takes the arm up where it is."""
        ends = ("disable", "enable") if taken_up else ("disable",)
        keys = [key for key in self._keys.drain() if isinstance(key, Operator)]
        if any(key.command in ends and "console" in (key.source, key.role if key.source == "gateway" else "") for key in keys):
            self.pressed = None
        if any(key.command == "stop" for key in keys):  # of several at once it counts, as everywhere
            self.pressed = now

    def holds(self, now: int) -> bool:
        """Does it hold an arm? For ten minutes at most."""
        return self.pressed is not None and now - self.pressed <= HELD_NS


class Lowering:
    """`watch` before each step of it: does the arm hold in this one? Then `over`, whatever came of it. A servo that is hot
    ends a hold, once: a key that is pressed then holds all the same."""

    def __init__(
        self, node: Node, key: StopKey, tether: Tether | None, port: SerialPort, permit: Permit | None = None,
        tell: Callable[[str, bool], None] = lambda stage, raised: None, profile: str = STOW,
    ) -> None:  # fmt: skip
        """`permit`: the guard's word, where it lives: whether the arm is held where it is. Only a key that it may not have heard
        counts beside it; without a guard, one that was pressed a moment before. `port`: for the rescue. `profile`: how the robot
        is stopped; a brake has no hold. `tell`: the stage, in each step, and whether its time is nearly up, for the guard: it
        would take silence for a stop that was not obeyed."""
        self._tell, self._profile = tell, profile
        self._say, self._over, self._tether, self._port = node.say, node.over, tether, port
        self._clock: Clock = node.clock
        self._key = key
        self._begun = self._ending = self._held = self._heeded = False
        now = self._clock.now()
        key.hear(now)
        if permit is not None and permit.state == "LOCKOUT":  # which holds nothing, whatever is pressed
            permit = None
        if permit is not None and not (key.pressed is not None and key.pressed > permit.t - HEARD_NS):
            key.pressed = now if permit.hold else None
        elif permit is None and key.pressed is not None and now - key.pressed > RECENT_NS:
            key.pressed = None

    def watch(self, hot: bool, raised: bool) -> bool:
        if self._tether is not None:
            self._tether.beat(True)  # first: should we die between the two, the rescue is to lower it and not to let it go
            if not self._begun:
                self._tether.give(self._port.fileno(), False)
        self._begun = True
        ends = not self._ending and self._over()
        self._ending = self._ending or ends
        if self._profile != STOW:
            self._key.hear(self._clock.now())
            self._tell(self._profile, raised)
            return False
        held = ends or (not self._ending and self._holds(hot))
        self._tell(HOLD if held else STOW, raised)
        return held

    def over(self) -> None:
        if self._begun and self._tether is not None:
            self._tether.beat(False)
            self._tether.drop()

    def _holds(self, hot: bool) -> bool:
        now, why, pressed = self._clock.now(), "disable", self._key.pressed
        self._key.hear(now)
        if self._key.pressed is not None and not self._key.holds(now):
            self._key.pressed, why = None, "held for 10 minutes"
        if hot and not self._heeded and (pressed is None or now - pressed > RECENT_NS):
            self._heeded = True
            if self._key.pressed == pressed:
                self._key.pressed, why = None, "too hot to be held on"
        held, self._held = self._held, self._key.pressed is not None
        if self._held and not held:
            self._say("stopped: the arm is held where it is; disable (d) lowers it")
        elif held and not self._held:
            self._say(f"{why}: the arm is lowered")
        return self._held
