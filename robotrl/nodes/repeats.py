"""Which presses are a keyboard's own: of a key that is held down, or on which something lies. Pure.

A terminal tells nothing of a key's release, and of a press that is repeated no more than that it came. Keyboards begin to
repeat after 0.25 to 0.66 s, and then do it 10 to 40 times a second; a person strikes one key eight times a second at most.
"""

from __future__ import annotations

from collections import deque

HELD_NS = 700_000_000  # between two repeats of a key that is held: terminals begin to repeat after half a second
PERSON_NS = 10_000_000_000  # who holds a key down is there for so long; chosen
MANY = 90  # presses of one key in that time: no person's fingers


class Repeats:
    """Of the newest press: does it repeat one before it (`again`), and has its key been held down for long (`lies`)?"""

    def __init__(self) -> None:
        self.again = self.lies = False
        self.since = 0  # when the press that is repeated was made, ns
        self._struck: dict[str, tuple[int, int]] = {}  # by key: since when it is, and when last
        self._key, self._lately = "", deque[int]()

    def strike(self, key: str, now: int) -> None:
        """`key` was pressed at `now`, ns."""
        since, last = self._struck.get(key, (now, now - HELD_NS))
        self.again = now - last < HELD_NS
        self.since = since if self.again else now
        self._struck[key] = (self.since, now)
        if key != self._key:
            self._key = key
            self._lately.clear()
        self._lately.append(now)
        while now - self._lately[0] > PERSON_NS:
            self._lately.popleft()
        self.lies = self.again and len(self._lately) > MANY
