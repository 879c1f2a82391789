"""A half-duplex servo line and its USB adapter: who speaks when, and how long bytes take.

With a clock a byte is ten bits long, a servo begins a while after the instruction has ended, and the host has a byte when the
wire has carried it. Without one all of that takes no time; the order is the same. Who talks while another does is not
understood: a host that writes on before the answer is over loses what it writes, and the answer is damaged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from robotrl.clock import Clock

ANY_BAUD = 0  # a host of which nobody knows how fast it talks: all servos hear it
QUIET_NS = 10_000_000  # chosen: a packet that stands still for so long is over, whole or not
TOLERANCE = 0.03  # of a baud rate
BITS = 10  # a start bit, eight, a stop bit


class Burst:
    """Bytes in a row on their way to the host."""

    def __init__(self, begin: int, byte_ns: int, data: bytes) -> None:
        self.begin, self.byte_ns, self.data = begin, byte_ns, bytearray(data)
        self.given = 0  # bytes that the host has

    @property
    def end(self) -> int:
        return self.begin + len(self.data) * self.byte_ns

    def take(self, now: int) -> bytes:
        carried = min(len(self.data), max(0, (now - self.begin) // self.byte_ns))
        data = bytes(self.data[self.given : carried])
        self.given = max(self.given, carried)
        return data

    def damage(self, begin: int, end: int) -> None:
        """Somebody else speaks from `begin` to `end`: what goes over the wire then is noise."""
        first = max(self.given, (begin - self.begin) // self.byte_ns)
        last = min(len(self.data), -(-(end - self.begin) // self.byte_ns))
        for i in range(max(0, first), last):
            self.data[i] = 0


class HalfDuplex:
    """FarEnd of a servo line. Who is on it fills in `_packets`, `_servo_ns`, `_forget` and `_obey`."""

    def __init__(self, clock: Clock | None, baud: int, latency_ns: int = 0) -> None:
        """`baud` is taken for the line's while the host's is not known; `latency_ns` is the adapter's timer."""
        self.host_baud = ANY_BAUD
        self.latency_ns = latency_ns
        self.collisions = 0
        self._clock, self._baud = clock, baud
        self._bursts: deque[Burst] = deque()
        self._heard = 0  # ns, until when the host talks
        self._line = 0  # ns, until when anyone does
        self._last = 0  # ns of the servos' time when the host spoke last

    def _packets(self, data: bytes) -> Iterator[tuple[int, Any]]:
        """Whole instruction packets, each with the number of bytes of `data` that it took to end it."""
        raise NotImplementedError

    def _servo_ns(self) -> int:
        """The servos' own time, ns."""
        raise NotImplementedError

    def _forget(self) -> None:
        """Drop what has come of a packet."""
        raise NotImplementedError

    def _obey(self, packet: Any) -> None:
        """Do what a packet says; answers by `_say`."""
        raise NotImplementedError

    def hears(self, baud: int) -> bool:
        """Does a servo at `baud` understand the host?"""
        return self.host_baud == ANY_BAUD or abs(self.host_baud - baud) <= TOLERANCE * baud

    @property
    def _byte_ns(self) -> int:
        return BITS * 1_000_000_000 // (self.host_baud or self._baud)

    def receive(self, data: bytes) -> None:
        """Bytes from the host; packets may be cut anywhere and come many at once. Nothing is raised for any bytes."""
        last, self._last = self._last, self._servo_ns()
        if self._last - last > QUIET_NS:
            self._forget()
        begin = self._heard = max(self._clock.now() if self._clock else self._line, self._heard)
        byte_ns = self._byte_ns
        if self._line > begin:
            self._collide(begin, begin + len(data) * byte_ns)
            return
        for used, packet in self._packets(data):
            self._heard = self._line = begin + used * byte_ns
            self._obey(packet)
            if self._line > self._heard and used < len(data):
                self._collide(self._heard, begin + len(data) * byte_ns)
                return
        self._heard = begin + len(data) * byte_ns

    def _collide(self, begin: int, end: int) -> None:
        self.collisions += 1
        self._forget()
        for burst in self._bursts:
            burst.damage(begin, end)
        self._heard = end
        self._line = max(self._line, end)

    def _say(self, delay_ns: int, data: bytes) -> None:
        """A servo speaks `delay_ns` after the last word on the line."""
        burst = Burst(self._line + delay_ns, self._byte_ns, data)
        self._line = burst.end
        self._bursts.append(burst)

    def transmit(self) -> bytes:
        """All that has arrived at the host by now."""
        if self._clock is None:
            data = b"".join(bytes(b.data[b.given :]) for b in self._bursts)
            self._bursts.clear()
            return data
        now, data = self._clock.now() - self.latency_ns, b""
        while self._bursts:
            data += self._bursts[0].take(now)
            if self._bursts[0].given < len(self._bursts[0].data):
                break
            self._bursts.popleft()
        return data

    def due(self) -> int | None:
        """When a packet will have arrived at the host (clock, ns); None when nothing is under way."""
        return self._bursts[0].end + self.latency_ns if self._bursts else None
