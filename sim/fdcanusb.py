"""The fdcanusb adapter: text lines on USB, frames on a CAN-FD bus, and the time both take.

Lines in: `can send ID DATA [flags]`; lines out: `OK`, `ERR ...`, `rcv ID DATA`. A line may end in ` *XX`, the CRC-8 (polynomial
0x97) of all before the star; once one did, every line must, and every answer does.

Time on the wire, where there is a clock: a line crosses USB in USB_NS each way (median round trip 0.25 ms); a CAN-FD frame takes
its arbitration bits at 1 Mbit/s and its data bits, stuffed, at 5 Mbit/s (60 to 150 us); the bus carries one frame at a time.
"""

from __future__ import annotations

import heapq
from typing import Any

from robotrl.clock import Clock

USB_NS = 125_000
LONGEST_LINE = 512  # bytes the adapter keeps of a line without an end
LONGEST_FRAME = 64
OK, CHECKED_OK = b"OK\r\n", b"OK *BD\r\n"


def _crc8(byte: int) -> int:
    for _ in range(8):
        byte = (byte << 1) ^ (0x197 if byte & 0x80 else 0)
    return byte & 0xFF


_CRC = bytes(_crc8(b) for b in range(256))


def checksum(text: bytes) -> int:
    """CRC-8, polynomial 0x97, start 0."""
    crc, table = 0, _CRC
    for byte in text:
        crc = table[crc ^ byte]
    return crc


class Adapter:
    """FarEnd of a host's port. Who is on the bus behind it fills in `_address`, `_frame` and `_known_line`."""

    def __init__(self, clock: Clock | None) -> None:
        self.errors = 0  # lines answered by ERR
        self.checked = False  # a checksum was seen: all lines need one
        self._clock = clock
        self._partial = b""
        self._out: list[bytes] = []
        self._timed: list[tuple[int, int, bytes]] = []  # due (ns), order, bytes
        self._order = self._bus_free = 0

    def _address(self, word: bytes) -> Any:
        """What `_frame` is to get for this identifier. ValueError when it is no hexadecimal number."""
        return int(word, 16)

    def _frame(self, address: Any, data: bytes, line: bytes) -> None:
        """A frame has gone out on the bus; `line` is where it came from."""

    def _known_line(self, line: bytes) -> bool:
        """Do what this line asks if it has been seen before, checksum and all; else say False."""
        return False

    def receive(self, data: bytes) -> None:
        """Bytes from the host; lines may be cut anywhere and come many at once. Nothing is raised for any bytes."""
        *lines, partial = (self._partial + data).replace(b"\r", b"\n").split(b"\n")
        self._partial = partial[: LONGEST_LINE + 1]  # enough to know by that it was too long, once it ends
        for line in lines:
            if line:
                self._line(line)

    def transmit(self) -> bytes:
        """All that has arrived at the host by now."""
        if self._clock is not None:
            now = self._clock.now()
            while self._timed and self._timed[0][0] <= now:
                self._out.append(heapq.heappop(self._timed)[2])
        data = b"".join(self._out)
        self._out.clear()
        return data

    def due(self) -> int | None:
        """When the next byte arrives at the host (clock, ns); None when nothing is under way."""
        return self._timed[0][0] if self._timed else None

    def _say(self, line: bytes, due: int = 0) -> None:
        """A whole line, ended and checked, on its way to the host, where it arrives at `due`."""
        if self._clock is None:
            self._out.append(line)
        else:
            self._order += 1
            heapq.heappush(self._timed, (due, self._order, line))

    def _ended(self, text: bytes) -> bytes:
        if self.checked:
            text += b" "
            text += b"*%02X" % checksum(text)
        return text + b"\r\n"

    def _carry(self, size: int) -> int:
        """Put a frame of `size` bytes on the CAN bus behind what is there; returns when it has passed (ns)."""
        if self._clock is None:
            return 0
        start = max(self._bus_free, self._clock.now() + USB_NS)
        self._bus_free = start + 30_000 + (size * 8 * 6 // 5 + 50) * 200
        return self._bus_free

    def _line(self, line: bytes) -> None:
        if len(line) > LONGEST_LINE:
            self._refuse(b"ERR line too long")
            return
        if (not self.checked or line[-3:-2] == b"*") and self._known_line(line):
            return
        words = self._checked_words(line)
        if words is None:
            return
        if words[:2] in ([b"can", b"send"], [b"can", b"std"], [b"can", b"ext"]):
            try:
                canid, data = self._address(words[2]), bytes.fromhex(words[3].decode())
            except (ValueError, IndexError):
                self._refuse(b"ERR malformed command")
                return
            if len(data) > LONGEST_FRAME:
                self._refuse(b"ERR frame too long")
                return
            self._accept(len(data))
            self._frame(canid, data, line)
        elif words[:2] in ([b"can", b"on"], [b"can", b"off"]):
            self._say(self._ended(b"OK"), self._when_heard())
        else:
            self._refuse(b"ERR unknown command")

    def _checked_words(self, line: bytes) -> list[bytes] | None:
        """The line's words without its checksum; None when the checksum is missing or wrong, which is then said."""
        if line[-3:-2] == b"*":
            self.checked = True
            if line[-2:].upper() != b"%02X" % checksum(line[:-3]):
                self._refuse(b"ERR invalid checksum")
                return None
            return line[:-3].split()
        if self.checked:
            self._refuse(b"ERR checksum required")
            return None
        return line.split()

    def _refuse(self, text: bytes) -> None:
        self.errors += 1
        self._say(self._ended(text), self._when_heard())

    def _when_heard(self) -> int:
        return self._clock.now() + 2 * USB_NS if self._clock is not None else 0

    def _accept(self, size: int) -> None:
        """A frame goes out: the adapter says so."""
        if self._clock is None:
            self._out.append(CHECKED_OK if self.checked else OK)
        else:
            self._say(CHECKED_OK if self.checked else OK, self._when_heard())
            self._carry(size)
