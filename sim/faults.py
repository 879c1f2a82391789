"""Faults on a wire, each a stage that bytes pass through; stages are put on a wire and taken off while it runs.

A `FaultyWire` stands in front of any far end. What happens inside a servo (fault code, brown-out) is the servo bank's; devices
that talk well and say what is not so are in `sim/liars.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from robotrl.drivers.port import FarEnd, PortError
from robotrl.sim.senses import ACCELERATION, FRAME

Seconds = Callable[[], float]


class Fault:
    """A stage that does nothing: both directions pass."""

    def inward(self, data: bytes) -> bytes:
        """Bytes from host to device."""
        return data

    def outward(self, data: bytes) -> bytes:
        """Bytes from device to host; called with b"" too, so that what was held back can come."""
        return data


class FaultyWire:
    """A far end with faults in front of it. Stages act in the order they were added, outward ones too."""

    def __init__(self, far: FarEnd, now: Seconds) -> None:
        self.far, self._now = far, now
        self._stages: list[tuple[float, Fault]] = []

    def add(self, fault: Fault, for_s: float = math.inf) -> Fault:
        """Put `fault` on the wire for `for_s` seconds of the twin's time."""
        self._stages.append((self._now() + for_s, fault))
        return fault

    def clear(self) -> None:
        self._stages.clear()

    @property
    def faults(self) -> list[Fault]:
        """The stages now on the wire."""
        if self._stages:
            now = self._now()
            self._stages = [s for s in self._stages if s[0] > now]
        return [fault for _, fault in self._stages]

    def receive(self, data: bytes) -> None:
        if self._stages:
            for fault in self.faults:
                data = fault.inward(data)
        if data:
            self.far.receive(data)

    def transmit(self) -> bytes:
        data = self.far.transmit()
        if self._stages:
            for fault in self.faults:
                data = fault.outward(data)
        return data


class Drop(Fault):
    """Loses whole lines or frames: what one write carried in, one line out, each with probability `chance`."""

    def __init__(self, rng: np.random.Generator, chance: float, inward: bool = True, outward: bool = True) -> None:
        self._rng, self._chance, self._ways = rng, chance, (inward, outward)

    def inward(self, data: bytes) -> bytes:
        return self._thin(data) if self._ways[0] else data

    def outward(self, data: bytes) -> bytes:
        return self._thin(data) if self._ways[1] else data

    def _thin(self, data: bytes) -> bytes:
        return b"".join(piece for piece in _pieces(data) if self._rng.random() >= self._chance)


class Corrupt(Fault):
    """Flips each bit with probability `rate`."""

    def __init__(self, rng: np.random.Generator, rate: float, inward: bool = True, outward: bool = True) -> None:
        self._rng, self._rate, self._ways = rng, rate, (inward, outward)

    def inward(self, data: bytes) -> bytes:
        return self._flip(data) if self._ways[0] else data

    def outward(self, data: bytes) -> bytes:
        return self._flip(data) if self._ways[1] else data

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return data
        bits = np.unpackbits(np.frombuffer(data, np.uint8))
        flips = self._rng.random(len(bits)) < self._rate
        return np.packbits(bits ^ flips).tobytes()


class Delay(Fault):
    """Everything outward comes `seconds` later, in order."""

    def __init__(self, now: Seconds, seconds: float) -> None:
        self._now, self._seconds = now, seconds
        self._held: list[tuple[float, bytes]] = []

    def outward(self, data: bytes) -> bytes:
        now, out = self._now(), b""
        if data:
            self._held.append((now + self._seconds, data))
        while self._held and self._held[0][0] <= now + 1e-9:
            out += self._held.pop(0)[1]
        return out


class Mute(Fault):
    """A servo off the bus: commands do not reach it (its watchdog runs out) and it does not answer. The adapter still says OK."""

    def __init__(self, can_id: int) -> None:
        self._id = can_id
        self._said = b""

    def inward(self, data: bytes) -> bytes:
        out = b""
        for line in data.splitlines(keepends=True):
            if self._of(line, b"can", 2, 0) != self._id:
                out += line
            else:
                self._said += b"OK *BD\r\n" if b"*" in line else b"OK\r\n"
        return out

    def outward(self, data: bytes) -> bytes:
        said, self._said = self._said, b""
        lines = data.splitlines(keepends=True)
        return said + b"".join(line for line in lines if self._of(line, b"rcv", 1, 8) != self._id)

    @staticmethod
    def _of(line: bytes, verb: bytes, word: int, shift: int) -> int:
        words = line.split()
        if len(words) <= word or words[0] != verb:
            return -1
        try:
            return int(words[word], 16) >> shift & 0x7F
        except ValueError:
            return -1


class Deaf(Fault):
    """A servo that answers and does not obey: commands get lost, queries do not. The adapter says OK."""

    def __init__(self, can_id: int) -> None:
        self._id, self._said = can_id, b""

    def inward(self, data: bytes) -> bytes:
        out = b""
        for line in data.splitlines(keepends=True):
            words = line.split()
            command = len(words) > 3 and words[0] == b"can" and not int(words[2], 16) >> 15 and words[3][:2] != b"42"
            if command and int(words[2], 16) & 0x7F in (self._id, 0x7F):  # what is said to all is lost on all here
                self._said += b"OK *BD\r\n" if b"*" in line else b"OK\r\n"
            else:
                out += line
        return out

    def outward(self, data: bytes) -> bytes:
        said, self._said = self._said, b""
        return said + data


class Twice(Fault):
    """Two servos have one id: all that it says is said twice."""

    def __init__(self, can_id: int) -> None:
        self._id = can_id

    def outward(self, data: bytes) -> bytes:
        lines = data.splitlines(keepends=True)
        return b"".join(line * (1 + (Mute._of(line, b"rcv", 1, 8) == self._id)) for line in lines)


class Babble(Fault):
    """Somebody talks on the line: behind all that comes, `junk`."""

    def __init__(self, junk: bytes = b"rcv 1 zz\r\n") -> None:
        self._junk = junk

    def outward(self, data: bytes) -> bytes:
        return data + self._junk if data else data


class Again(Fault):
    """What came before comes again and again, in the place of what is said now: `kept` pieces in turn, as they were."""

    def __init__(self, kept: int) -> None:
        self._kept, self._next = kept, 0
        self._old: list[bytes] = []

    def outward(self, data: bytes) -> bytes:
        if not data:
            return data
        if len(self._old) < self._kept:
            self._old.append(data)
            return data
        self._next += 1
        return self._old[(self._next - 1) % self._kept]


class Freeze(Fault):
    """The IMU hangs: frames go on coming at their rate, each a copy of the last good one of its kind."""

    def __init__(self) -> None:
        self._last: dict[int, bytes] = {}

    def outward(self, data: bytes) -> bytes:
        out = b""
        for at in range(0, len(data), FRAME):
            frame = data[at : at + FRAME]
            out += self._last.setdefault(frame[1], frame) if len(frame) > 1 else frame
        return out


class Saturate(Fault):
    """The IMU's accelerometer breaks: its readings stand at the end of their range, in frames that are otherwise whole."""

    def outward(self, data: bytes) -> bytes:
        out = b""
        for at in range(0, len(data), FRAME):
            frame = data[at : at + FRAME]
            if len(frame) == FRAME and frame[1] == ACCELERATION:
                body = frame[:2] + b"\xff\x7f" * 3 + frame[8:10]
                frame = body + bytes([sum(body) & 0xFF])
            out += frame
        return out


class Silence(Fault):
    """Nothing passes: a cut cable, a tracker that has lost the robot."""

    def __init__(self, inward: bool = True, outward: bool = True) -> None:
        self._ways = (inward, outward)

    def inward(self, data: bytes) -> bytes:
        return b"" if self._ways[0] else data

    def outward(self, data: bytes) -> bytes:
        return b"" if self._ways[1] else data


class Unplugged(Fault):
    """The adapter is gone: any use of the port fails."""

    def inward(self, data: bytes) -> bytes:
        raise PortError("twin: the port was closed by a fault; plug it in again")

    outward = inward


def _pieces(data: bytes) -> list[bytes]:
    """Lines of a text protocol; of frames, one each; else the whole."""
    if data[:1] == b"\x55" and len(data) % FRAME == 0:
        return [data[at : at + FRAME] for at in range(0, len(data), FRAME)]
    if data[:2] == b"\xff\xff":
        return _packets(data)
    return data.splitlines(keepends=True) if data[:1] in (b"c", b"O", b"r", b"E", b"p") else [data]


def _packets(data: bytes) -> list[bytes]:
    """Packets of a servo bus in a row, by the length that each has in it."""
    out = []
    while data:
        size = 7 + int.from_bytes(data[5:7], "little") if data[2:4] == b"\xfd\x00" else 4 + int.from_bytes(data[3:4], "little")
        out.append(data[:size])
        data = data[size:]
    return out
