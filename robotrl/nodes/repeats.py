"""Which presses are a keyboard's own: of a key that is held down, or on which something lies. Pure.

A terminal tells nothing of a key's release, and of a press that is repeated no more than that it came. Keyboards begin to
repeat after 0.25 to 0.66 s, and then do it 10 to 40 times a second; a person strikes one key eight times a second at most. A slow
line brings repeats in bursts, with gaps between them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass

HELD_NS = 700_000_000  # between two repeats of a key that is held: terminals begin to repeat after half a second
FAST_NS = 150_000_000  # between two presses, of which the second then is the keyboard's; chosen
MANY_FAST = 3  # in a row, by which a key is held: it is until it has been quiet for HELD_NS; chosen
PERSON_NS = 10_000_000_000  # who holds a key down is there for so long; chosen
MANY = 90  # presses of one key in that time: no person's fingers


@dataclass
class _Key:
    since: int  # when it was pressed, and not only repeated, ns
    last: int  # when it came last, ns
    fast: int = 0  # how often in a row it came fast; while it is held, at least MANY_FAST


class Repeats:
    """Of the newest press: does it repeat one before it (`again`), and has its key been held down for long (`lies`)?"""

    def __init__(self) -> None:
        self.again = self.lies = False
        self.since = 0  # when the press that is repeated was made, ns
        self.gap = HELD_NS  # since the one before it of its key, ns
        self._keys: dict[str, _Key] = {}
        self._key, self._lately = "", deque[int]()  # the newest, and when it came

    def strike(self, key: str, now: int) -> None:
        """`key` was pressed at `now`, ns."""
        one = self._keys.setdefault(key, _Key(now, now - HELD_NS))
        self.gap = gap = now - one.last
        if gap < FAST_NS:
            one.fast += 1
        elif one.fast < MANY_FAST or gap >= HELD_NS:
            one.fast = 0
        self.again, one.last = one.fast > 0, now
        if not self.again:
            one.since = now
        self.since = one.since
        if key != self._key or not self.again:
            self._key = key
            self._lately.clear()
        self._lately.append(now)
        while now - self._lately[0] > PERSON_NS:
            self._lately.popleft()
        self.lies = now - one.since > PERSON_NS and len(self._lately) > MANY

    def came(self, keys: Collection[str], now: int, refused: bool = False, lost: bool = False) -> None:
        """All these in one read. A key that is there twice had waited on its line: it is held, even if it had been quiet before;
        so is one that was `refused` and goes on. `lost`: so were others, of which nobody was told."""
        for one in self._keys.values() if lost else ():
            one.last = now if one.fast >= MANY_FAST else one.last
        for key, times in Counter(keys).items():
            if times > 1 or refused:
                one = self._keys.setdefault(key, _Key(now, now))
                one.since = now if now - one.last >= HELD_NS else one.since
                one.last, one.fast = now, max(one.fast, MANY_FAST * (times > 1))
