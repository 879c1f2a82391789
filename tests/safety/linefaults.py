"""What becomes of the packets of a servo line on their way, beside what `sim/faults.py` does to any wire."""

from __future__ import annotations

from collections.abc import Callable

from robotrl.sim.faults import Fault
from tests.safety.lineframes import crc16

Frames = list[bytes]


def cut(data: bytes) -> Frames:
    """Packets in a row, by the length that each has in it."""
    out = []
    while data:
        size = 7 + int.from_bytes(data[5:7], "little") if data[2:4] == b"\xfd\x00" else 4 + int.from_bytes(data[3:4], "little")
        out.append(data[:size])
        data = data[size:]
    return out


class Marked(Fault):
    """One servo's answers have these bits in their error byte; they are sound otherwise."""

    def __init__(self, servo: int, bits: int) -> None:
        self._servo, self._bits = servo, bits

    def outward(self, data: bytes) -> bytes:
        out = b""
        for packet in cut(data):
            long = packet[2:4] == b"\xfd\x00"
            at, end = (8, -2) if long else (4, -1)
            if packet[4 if long else 2] == self._servo and len(packet) > at:
                body = packet[:at] + bytes((packet[at] | self._bits,)) + packet[at + 1 : end]
                packet = body + (crc16(body).to_bytes(2, "little") if long else bytes((~sum(body[2:]) & 0xFF,)))
            out += packet
        return out


class Doubled(Fault):
    """Every answer comes twice."""

    def outward(self, data: bytes) -> bytes:
        return b"".join(packet * 2 for packet in cut(data))


class Stutter(Fault):
    """Behind what comes the last packet again, damaged."""

    def outward(self, data: bytes) -> bytes:
        return data + cut(data)[-1][:-1] + bytes((data[-1] ^ 0x55,)) if data else data


class HeldUp(Fault):
    """Somebody in the middle holds the line up: the second half of what comes is there a period later."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._at, self._kept = now, -1.0, b""

    def outward(self, data: bytes) -> bytes:
        now, out = self._now(), b""
        if now > self._at:
            out, self._kept = self._kept, b""
        if data:
            half = len(data) // 2
            out, self._kept, self._at = out + data[:half], self._kept + data[half:], now
        return out
