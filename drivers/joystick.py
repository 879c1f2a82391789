"""A gamepad or joystick by Linux' own protocol: /dev/input/js*, eight bytes an event (kernel: joystick-api.rst, joystick.h).

    u32 time (ms) | s16 value | u8 type: 1 button, 2 axis; with 0x80 for how things stood when it was opened | u8 number

It speaks of changes alone, and of a pad without wires that has gone out of reach says nothing at all. So nothing moves unless a
button is held down (the deadman), and one that is held with a stick aside while no event comes for STUCK_NS is a lost pad.
What was held or aside when it was opened counts from its first change on. Where 64 events were not read in time the kernel states
how all stands once more, and what is in between is lost: then too all is let go, until it is pressed and moved again.
"""

from __future__ import annotations

import os
import struct

from robotrl.complaint import Complaint
from robotrl.drivers.teleop import HandLost, Reading

EVENT = struct.Struct("<IhBB")
BUTTON, AXIS, INIT = 1, 2, 0x80
FULL = 32767
DEADZONE = 0.12  # of a stick's way: a worn one rests so far aside; chosen
STUCK_NS = 3_000_000_000  # a stick in a person's hand is never so quiet for so long, unless at its end; chosen
EVENTS = 256  # read at a time: what a babbling device says beyond it waits
# Of the kernel's drivers for pads with two sticks (xpad, hid-playstation): which axis is which number of a twist, and which way.
AXES = {1: (0, -1.0), 0: (1, -1.0), 4: (2, -1.0), 7: (4, 1.0)}  # left stick, left stick, right stick, cross: the hand's pitch


class Joystick:
    """One pad; `deadman` is the button that must be held, -1: none."""

    def __init__(self, path: str, deadman: int) -> None:
        """Complaint where there is none, or nobody may read it."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            what = "plug it in, and compare with ls /dev/input/by-id; for permission join the group input"
            raise Complaint(f"takeover.path: {path}: {error.strerror}; {what}") from None
        self._fd, self._deadman = fd, deadman
        self._rest = b""
        self._axes: dict[int, float] = {}
        self._held = deadman < 0
        self._heard = -1

    def read(self, now: int) -> Reading:
        """As `Teleoperator.read`."""
        moved = False
        for kind, number, value in self._events():
            self._heard = now
            if kind & INIT:
                self._let_go()
            elif kind == BUTTON and number == self._deadman:
                self._held, moved = value != 0, True
            elif kind == AXIS:
                self._axes[number] = max(-1.0, value / FULL)
                moved = moved or abs(self._axes[number]) > DEADZONE
        twist = self._twist()
        if any(twist) and now - self._heard > STUCK_NS:
            self._let_go()
            raise HandLost(f"the pad says nothing, and its stick is aside for {STUCK_NS * 1e-9:.0f} s")
        return Reading(twist, moved=moved)

    def hear(self, key: str, now: int) -> None:
        """The console's keys are not its."""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _events(self) -> list[tuple[int, int, int]]:
        """Type, number, value of each, in order. HandLost when it is unplugged."""
        try:
            data = os.read(self._fd, EVENTS * EVENT.size)
        except BlockingIOError:
            return []
        except OSError as error:
            raise HandLost(f"the pad is gone ({error.strerror})") from None
        if not data:
            raise HandLost("the pad is gone (hung up)")
        data = self._rest + data
        whole = len(data) // EVENT.size * EVENT.size
        self._rest = data[whole:]
        return [(kind, number, value) for _, value, kind, number in EVENT.iter_unpack(data[:whole])]

    def _let_go(self) -> None:
        self._axes.clear()
        self._held = self._deadman < 0

    def _twist(self) -> tuple[float, ...]:
        out = [0.0] * 6
        if self._held:
            for number, (axis, way) in AXES.items():
                value = self._axes.get(number, 0.0)
                out[axis] = way * _past(value)
        return tuple(out)


def _past(value: float) -> float:
    """From 0 at the edge of the dead zone to 1 at the end of its way."""
    size = abs(value)
    return 0.0 if size <= DEADZONE else (size - DEADZONE) / (1 - DEADZONE) * (1.0 if value > 0 else -1.0)
