"""A device's tape: every byte its driver sent and got, and every time its clock was asked, in order.

A driver does what its port and its clock tell it and nothing else; given back both (`Playback`), it does the same again, bit
for bit. The tape costs a driver less than a microsecond an event, is bounded, and never blocks.
"""

from __future__ import annotations

from robotrl.clock import Clock
from robotrl.drivers.port import Port, PortError
from robotrl.messages import Call, Exchange, Message

EVENTS_MAX, BYTES_MAX, CALLS_MAX = 4096, 65_536, 256  # of one exchange; a handshake with eight servos has about 1,000 and 20,000
CLOCK, READ, WRITE, LOST = "crwe"


class Tape:
    """Collects what passes through `around(port)` and `clock` until it is taken."""

    def __init__(self, clock: Clock) -> None:
        self.clock = TapedClock(self, clock)
        self._now = clock.now
        self._clear()

    def _clear(self) -> None:
        self._kinds: list[str] = []
        self._at: list[int] = []
        self._data: list[bytes] = []
        self._calls: list[Call] = []
        self._size = self._missing = 0

    def around(self, port: Port) -> Port:
        """The same port, on tape."""
        return TapedPort(self, port)

    def call(self, kind: str, *given: Message | None) -> None:
        """The driver is about to be called: for what, and with which messages of the bus."""
        if self._calls and self._calls[-1].event == len(self._kinds):
            self._calls.pop()  # nothing came of it
        if len(self._calls) < CALLS_MAX:
            heard = tuple([("", 0, -1) if m is None else (m.source, m.boot, m.seq) for m in given])
            self._calls.append(Call(kind=kind, event=len(self._kinds), heard=heard))
        else:
            self._missing += 1

    def note(self, kind: str, at: int, data: bytes | None = None) -> None:
        """One event. What goes beyond the bounds is counted as missing."""
        size = len(data or b"")
        if len(self._kinds) >= EVENTS_MAX or self._size + size > BYTES_MAX:
            self._missing += 1
            return
        self._kinds.append(kind)
        self._at.append(at)
        if data is not None:
            self._size += size
            self._data.append(data)

    def stamp(self, kind: str, data: bytes) -> None:
        """Bytes that have just passed."""
        self.note(kind, self._now(), data)

    def take(self, first: int) -> Exchange:
        """Everything since the last time; `first` is the number of the first message that its calls published."""
        at = self._at or [self._now()]
        exchange = Exchange(
            t=at[0], first=first, calls=tuple(self._calls), kinds="".join(self._kinds), data=tuple(self._data),
            at=tuple([t - at[0] for t in self._at]), missing=self._missing,
        )  # fmt: skip
        self._clear()
        return exchange


class TapedClock:
    """A clock whose every answer is on the tape."""

    def __init__(self, tape: Tape, clock: Clock) -> None:
        self._tape, self._clock = tape, clock

    def now(self) -> int:
        t = self._clock.now()
        self._tape.note(CLOCK, t)
        return t

    def sleep_until(self, deadline: int) -> None:
        self._clock.sleep_until(deadline)


class TapedPort:
    """A port all of whose bytes, and whose end, are on the tape."""

    def __init__(self, tape: Tape, port: Port) -> None:
        self.name = port.name
        self._tape, self._port = tape, port

    def write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except PortError as error:
            self._tape.stamp(LOST, str(error).encode())
            raise
        self._tape.stamp(WRITE, data)

    def read(self, deadline: int, limit: int = 4096) -> bytes:
        try:
            data = self._port.read(deadline, limit)
        except PortError as error:
            self._tape.stamp(LOST, str(error).encode())
            raise
        self._tape.stamp(READ, data)
        return data

    def close(self) -> None:
        self._port.close()


class Playback:
    """A port and a clock in one that give back what is on a tape. A driver that asks otherwise than it did is told of.

    `departed`: the first thing in which it does not do what it did, empty so far.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.departed = ""
        self._kinds = ""
        self._at: tuple[int, ...] = ()
        self._data: tuple[bytes, ...] = ()
        self._next = self._byte = self._end = self._time = 0

    def load(self, exchange: Exchange) -> None:
        """Have this exchange at hand; `begin` says which call of it is played."""
        self._kinds, self._data = exchange.kinds, exchange.data
        self._at = tuple([exchange.t + t for t in exchange.at])

    def begin(self, event: int, end: int) -> None:
        """From this event on, up to `end`."""
        self.departed = ""
        self._next, self._end = event, end
        self._byte = sum(kind != CLOCK for kind in self._kinds[:event])

    def now(self) -> int:
        if self._next < self._end and self._kinds[self._next] == CLOCK:
            self._time = self._at[self._next]
            self._next += 1
        elif self._next < self._end:  # asked where it was not: then it was about the time of what came next
            self._time = max(self._time, self._at[self._next])
        return self._time

    def sleep_until(self, deadline: int) -> None:
        self._time = max(self._time, deadline)

    def read(self, deadline: int, limit: int = 4096) -> bytes:
        return self._take(READ, f"reads up to {limit} bytes") or b""

    def write(self, data: bytes) -> None:
        was = self._take(WRITE, f"writes {data[:60]!r}")
        if was is not None and was != data:
            at = next((i for i, (a, b) in enumerate(zip(was, data, strict=False)) if a != b), min(len(was), len(data)))
            self._depart(f"writes {data[at : at + 40]!r} where it wrote {was[at : at + 40]!r}, {at} bytes into {len(was)}")

    def close(self) -> None:
        """Nothing is open."""

    def finish(self) -> None:
        """The call is over: what is left on its tape, the driver has not asked for."""
        left = self._kinds[self._next : self._end].replace(CLOCK, "")
        if left:
            self._depart(f"leaves {len(left)} reads and writes undone")

    def _take(self, kind: str, what: str) -> bytes | None:
        """The bytes of the next event, if it is of this kind; PortError where the port was lost; else None."""
        while self._next < self._end and self._kinds[self._next] == CLOCK:
            self._next += 1
        found = self._kinds[self._next] if self._next < self._end else ""
        if found not in (kind, LOST):
            named = {READ: "it read", WRITE: "it wrote"}.get(found, "it had ended")
            self._depart(f"{what} where {named}")
            return None
        data = self._data[self._byte]
        self._time = max(self._time, self._at[self._next])
        self._next, self._byte = self._next + 1, self._byte + 1
        if found == LOST:
            raise PortError(data.decode(errors="replace"))
        return data

    def _depart(self, what: str) -> None:
        self.departed = self.departed or what
