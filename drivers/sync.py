"""A whole cycle at once: one frame that asks all servos, their answers as arrays; one frame that writes to all.

An answer that comes undisturbed is checked and taken as one array; any other goes through the codec's parser, which finds what is
sound in it. `begin()` forgets the last cycle and gives the request, `feed` takes what arrives and tells when all
have answered, `finish()` takes what there is when time is up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robotrl.drivers import dynamixel, feetech
from robotrl.drivers.block import Block, Rows
from robotrl.drivers.tables import Item


class SyncRead(Block):
    """What both families share: `request`, the `size` of an undisturbed answer in bytes, `errors` of the parser."""

    request: bytes
    size: int
    _parser: dynamixel.Parser | feetech.Parser

    def begin(self) -> bytes:
        self.forget()
        self._parser.reset()
        self._raw, self._parsing = b"", False
        return self.request

    @property
    def errors(self) -> int:
        """Frames that began and were not sound, since the beginning."""
        return self._parser.errors

    def feed(self, data: bytes) -> bool:
        """Whether every servo has answered by now. Takes any bytes."""
        if not self._parsing:
            self._raw += data
            if len(self._raw) < self.size:
                return False
            self._parsing, data = True, self._raw
            if len(data) == self.size and self._at_once(data):
                return True
        self._parse(data)
        return self.complete

    def finish(self) -> bool:
        """Take what came, torn or not; whether every servo has answered."""
        if not self._parsing:
            self._parsing = True
            self._parse(self._raw)
        return self.complete

    def _parse(self, data: bytes) -> None:
        for status in self._parser.feed(data):
            self.put(*status)

    def _at_once(self, answer: bytes) -> bool:
        raise NotImplementedError


class DynamixelRead(SyncRead):
    """Sync read of a Dynamixel bus; with `fast` as one packet (see `dynamixel_x.MODELS` for the firmware that has it)."""

    def __init__(self, ids: Sequence[int], items: Sequence[Item], fast: bool = False) -> None:
        super().__init__(ids, items)
        n, length = len(self.ids), self.layout.length
        self.request = dynamixel.make_sync_read(self.layout.address, length, self.ids, fast)
        self._fast = fast
        self.size = 8 + n * (length + 4) if fast else n * (length + 11)
        longest = self.size if fast else 11 + length + (length + 1) // 3  # stuffing: a byte more for every three
        self._parser = dynamixel.Parser(longest, fast)
        end = (length + 4).to_bytes(2, "little") + bytes((dynamixel.STATUS,))  # a fast reply begins otherwise, and is parsed
        self._heads = [b"%b%c%b" % (dynamixel.HEADER, servo, end) for servo in self.ids]
        self.begin()

    def _at_once(self, answer: bytes) -> bool:
        if b"\xff\xff\xfd\xfd" in answer:
            return False
        at, size = 0, self.layout.length + 11
        for head in self._heads:
            packet, sent = answer[at : at + size - 2], answer[at + size - 2 : at + size]
            if not packet.startswith(head) or dynamixel.crc16(packet).to_bytes(2, "little") != sent:
                return False
            at += size
        rows = np.frombuffer(answer, np.uint8).reshape(len(self.ids), size)
        self.take(rows[:, 8], rows[:, 9:-2])
        return True

    def _parse(self, data: bytes) -> None:
        for status in self._parser.feed(data):
            if status.id == dynamixel.BROADCAST:
                self._split(status.params)
            else:
                self.put(*status)

    def finish(self) -> bool:
        super().finish()
        if self._fast and not self.complete:  # those before the one that fell silent or was damaged
            self._split(self._raw[self._raw.find(dynamixel.HEADER + b"\xfe") :])
        return self.complete

    def _split(self, packet: bytes) -> None:
        for part in dynamixel.split_fast(packet, [self.layout.length] * len(self.ids)):
            self.put(*part)


class FeetechRead(SyncRead):
    """Sync read of a Feetech bus."""

    def __init__(self, ids: Sequence[int], items: Sequence[Item]) -> None:
        super().__init__(ids, items)
        length = self.layout.length
        self.request = feetech.make_sync_read(self.layout.address, length, self.ids)
        self.size = len(self.ids) * (length + 6)
        self._parser = feetech.Parser(self.ids, length + 6, exact=True)
        self._heads = [b"%b%c%c" % (feetech.HEADER, servo, length + 2) for servo in self.ids]
        self.begin()

    def _at_once(self, answer: bytes) -> bool:
        at, size = 0, self.layout.length + 6
        for head in self._heads:
            frame = answer[at : at + size]
            if not frame.startswith(head) or frame[4] > feetech.ERROR_MAX or sum(frame[2:]) & 0xFF != 0xFF:
                return False
            at += size
        rows = np.frombuffer(answer, np.uint8).reshape(len(self.ids), size)
        self.take(rows[:, 4], rows[:, 5:-1])
        return True


class DynamixelWrite(Rows):
    """Sync write of a Dynamixel bus."""

    def packet(self, but: Sequence[int] = ()) -> bytes:
        layout = self.block.layout
        return dynamixel.make_sync_write(layout.address, layout.length, self.tobytes(but))


class FeetechWrite(Rows):
    """Sync write of a Feetech bus."""

    def packet(self, but: Sequence[int] = ()) -> bytes:
        layout = self.block.layout
        return feetech.make_sync_write(layout.address, layout.length, self.tobytes(but))
