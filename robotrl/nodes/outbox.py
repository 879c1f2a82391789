"""What a node keeps until the recorder has acknowledged it: sent at once, and again to a recorder that did not get it.

Nothing here waits: not for the recorder, not for a disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec

from robotrl.bus import Publisher
from robotrl.clock import Clock
from robotrl.logformat import Kind
from robotrl.messages import Ack, Label, Transition

if TYPE_CHECKING:
    from robotrl.remote import RemotePublisher

MOST = 20_000  # kept for want of an acknowledgement: 400 s of transitions at 50 Hz, some 25 MB
BURST = 16  # sent again in one call of `tend`: 0.2 ms
AFAR = 4  # the same through the network door, ten times a second: beside the keys within its rate
STALL_NS = 1_000_000_000  # without progress: what was sent did not arrive
FIRST_NS = 100_000_000  # the same before the first acknowledgement: a recorder that we hear has not yet heard us
T = TypeVar("T", Transition, Label)
E = TypeVar("E", Transition, Label, contravariant=True)


class Copy(Protocol[E]):
    """Where what is not acknowledged stands besides, should this process be killed (`estate.py`)."""

    def add(self, message: E, /) -> None: ...

    def clear(self) -> None: ...


class Outbox(Generic[T]):
    """Numbered messages of one publisher, from the oldest that is not acknowledged. `lost`: too many were waiting."""

    def __init__(
        self, publisher: Publisher | RemotePublisher, clock: Clock, kind: Kind, source: str, life: int,
        copy: Copy[T] | None = None, burst: int = BURST,
    ) -> None:  # fmt: skip
        """Acknowledged as records of this `kind`, source and life. `burst`: sent again in one call of `tend`."""
        self.publisher, self._clock, self._mark = publisher, clock, (int(kind), source, life)
        self._copy: Copy[T] | None = copy
        self._burst = burst
        self._waiting: deque[T] = deque()
        self._number = self.lost = self.acked = 0
        self._next = 1  # to be sent
        self._recorder, self._moved = 0, 0  # whose life's word was heard last, and when it, or we, last got on
        self._trouble = False

    @property
    def unacked(self) -> int:
        return len(self._waiting)

    @property
    def given(self) -> int:
        """How many there have been."""
        return self._number

    def keep(self, message: T) -> None:
        """Number it, send it, and hold it until it is acknowledged."""
        if len(self._waiting) >= MOST:
            self.lost += 1
            return
        self._number += 1
        message = msgspec.structs.replace(message, number=self._number)
        if not self._waiting:
            self._moved = self._clock.now()
        self._waiting.append(message)
        if self._copy is not None:
            self._copy.add(message)
        if self._next == self._number:
            self._send(message)

    def take_over(self, messages: Sequence[T]) -> None:
        """What another life has numbered and had no acknowledgement for, in order: this outbox, which is empty, is that one's."""
        self._waiting.extend(messages)
        self._next, self._number = messages[0].number, messages[-1].number
        self.acked, self._moved = self._next - 1, self._clock.now()

    def tend(self, ack: Ack | None, now: int) -> None:
        """Forget what is acknowledged; send again what should have been by now, to a recorder that can keep it."""
        if ack is not None:
            self._hear(ack, now)
        if not self._waiting:
            return
        stall = FIRST_NS if self._recorder and not self.acked else STALL_NS
        if self._next > self._number and now - self._moved > stall and not self._trouble:
            self._again(now)
        for _ in range(self._burst):
            if self._next > self._number:
                return
            self._moved = now
            self._send(self._waiting[self._next - self._waiting[0].number])

    def _hear(self, ack: Ack, now: int) -> None:
        numbers = [number for *mark, number in ack.kept if tuple(mark) == self._mark]
        if numbers and numbers[0] > self.acked:
            self.acked, self._moved = numbers[0], now
            while self._waiting and self._waiting[0].number <= self.acked:
                self._waiting.popleft()
            self._next = max(self._next, self.acked + 1)
            if self._copy is not None and not self._waiting:
                self._copy.clear()
        restarted = self._recorder not in (0, ack.boot)
        if self._waiting and (restarted or (self._trouble and not ack.trouble)):
            self._again(now)
        self._recorder, self._trouble = ack.boot, bool(ack.trouble)

    def _again(self, now: int) -> None:
        self._next, self._moved = self._waiting[0].number, now

    def _send(self, message: T) -> None:
        self._next = message.number + 1
        self.publisher.send(msgspec.structs.replace(message, oldest=self._waiting[0].number))
