"""The keys of the operator's console as a device to lead by: the digits, as they lie on a keypad.

A terminal says that a key was pressed and, while it is held, says so again thirty times a second; of its release it says nothing.
So a key moves the hand for TAP_NS from each time that it is said: a tap by a little, a key held down for as long as it is
(less the moment before a keyboard begins to repeat). Other keys, and none, stand still. What must not be silent is the console.
"""

from __future__ import annotations

from robotrl.clock import Clock
from robotrl.drivers.teleop import STILL, HandLost, Reading

TAP_NS = 120_000_000  # four repeats at 30 a second: a line that stutters by less does not stop the hand; chosen
AXES = {  # key: which number of a twist, and which way
    "8": (0, 1.0), "2": (0, -1.0), "4": (1, 1.0), "6": (1, -1.0), "9": (2, 1.0), "3": (2, -1.0), "7": (4, -1.0), "1": (4, 1.0),
}  # fmt: skip


class Keypad:
    """8 2 forwards and back, 4 6 left and right, 9 3 up and down, 7 1 the hand up and down."""

    def __init__(self, clock: Clock, silent_s: float) -> None:
        """`silent_s`: of the console, which says ten times a second that it is there; at least three of these."""
        self._silent_ns = int(max(0.3, silent_s) * 1e9)
        self._heard = clock.now()
        self._key, self._said = "", 0

    def hear(self, key: str, now: int) -> None:
        self._heard = now
        if key:
            self._key, self._said = key, now

    def read(self, now: int) -> Reading:
        if now - self._heard > self._silent_ns:
            raise HandLost("the console is silent")
        if self._key not in AXES or now - self._said > TAP_NS:
            return Reading()
        axis, way = AXES[self._key]
        return Reading((*STILL[:axis], way, *STILL[axis + 1 :]), moved=True)

    def close(self) -> None:
        """Nothing was opened."""
