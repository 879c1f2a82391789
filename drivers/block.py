"""The same registers of several servos as arrays: what a synchronous read brings, and what a synchronous write takes.

One row of bytes a servo, in the order in which they were asked. A row that was not heard holds zeros and reads as nan; what was
heard keeps the servo's error byte. No framing in here: that is `dynamixel.py` and `feetech.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robotrl.drivers.tables import TWOS_COMPLEMENT, Item

Bytes = NDArray[np.uint8]
_NUMBERS = {(size, signed): np.dtype(f"<{'ui'[signed]}{size}") for size in (1, 2, 4) for signed in (False, True)}


class Layout:
    """The bytes from the first to the last of some registers: `address`, `length`. ValueError when there is no register."""

    def __init__(self, items: Sequence[Item]) -> None:
        if not items:
            raise ValueError("no register named; name those to read or write")
        self.items = tuple(items)
        self.address = min(item.address for item in items)
        self.length = max(item.address + item.size for item in items) - self.address

        fields = {item: _NUMBERS[item.size, item.sign == TWOS_COMPLEMENT] for item in self.items}
        offsets = [item.address - self.address for item in fields]
        names = [item.section for item in fields]
        self._row = np.dtype({"names": names, "formats": [*fields.values()], "offsets": offsets})

    def records(self, data: Bytes) -> NDArray[np.void]:
        """(n,) of registers by their headings: `data` (n, length) seen another way."""
        return data.view(self._row)[:, 0]


class Block:
    """What servos `ids` said about some registers.

    `heard` (n,) tells who answered, `error` (n,) holds their error bytes (0 where nothing was heard), `data` (n, length) the
    registers. `strangers` counts sound answers of nobody who was asked, or a second time, or with another number of bytes.
    """

    def __init__(self, ids: Sequence[int], items: Sequence[Item]) -> None:
        if not ids or len(set(ids)) != len(ids):
            raise ValueError(f"servo ids {tuple(ids)}; name each once")
        self.ids = tuple(ids)
        self.layout = Layout(items)
        self._row = {servo: i for i, servo in enumerate(ids)}
        n = len(self.ids)
        self._all = np.ones(n, bool)
        self._blank = np.zeros((n, self.layout.length), np.uint8), np.zeros(n, np.uint8), np.zeros(n, bool)
        self._blank_records = self.layout.records(self._blank[0])
        self.forget()

    def forget(self) -> None:
        """Nobody was heard. Arrays that were handed out stay as they are."""
        self.data: Bytes
        self.error: Bytes
        self.heard: NDArray[np.bool_]
        self.data, self.error, self.heard = self._blank
        self._records = self._blank_records
        self._awaited = len(self.ids)
        self.strangers = 0

    def take(self, error: Bytes, data: Bytes) -> None:
        """Everybody's answer: error bytes (n,) and registers (n, length)."""
        self.error, self.data, self.heard = error, data, self._all
        self._records = self.layout.records(data)
        self._awaited = 0

    def put(self, servo: int, error: int, params: bytes) -> None:
        """One servo's answer. The first counts: a second is of another servo with the same id, or late.

        An answer without registers is the servo's refusal to read: its error is kept and it stays unheard.
        """
        row = self._row.get(servo)
        if row is None or self.heard[row] or len(params) not in (0, self.layout.length):
            self.strangers += 1
            return
        if self.data is self._blank[0]:
            self.data, self.error, self.heard = self.data.copy(), self.error.copy(), self.heard.copy()
            self._records = self.layout.records(self.data)
        self.error[row] = error
        if params:
            self.data[row] = np.frombuffer(params, np.uint8)
            self.heard[row] = True
            self._awaited -= 1

    @property
    def complete(self) -> bool:
        """Whether all have answered."""
        return not self._awaited

    def steps(self, item: Item) -> NDArray[np.int64]:
        """(n,) steps of a register that was named; 0 where `heard` is not."""
        return self._numbers(item).astype(np.int64)

    def values(self, item: Item) -> NDArray[np.float64]:
        """(n,) values of a register that was named, in its unit; nan for servos not heard."""
        values: NDArray[np.float64] = self._numbers(item) * np.float64(item.scale)
        if self.heard is not self._all:
            values[~self.heard] = np.nan
        return values

    def _numbers(self, item: Item) -> NDArray[np.integer]:
        if item not in self.layout.items:
            raise ValueError(f"{item.section} was not asked for; name it among the registers")
        raw: NDArray[np.integer] = self._records[item.section]
        return _signed(item).take(raw) if item.sign >= 0 else raw


@cache
def _signed(item: Item) -> NDArray[np.int32]:
    """What each number that fits in a sign-magnitude register means: one look-up is quicker than the arithmetic."""
    raw = np.arange(1 << 8 * item.size, dtype=np.int32)
    magnitude = raw & (1 << item.sign) - 1 | raw >> item.sign + 1 << item.sign
    return np.where(raw >> item.sign & 1, -magnitude, magnitude)


class Rows:
    """The parameters of a synchronous write: ids and registers of all servos, filled in by column.

    `fill(item, steps)` puts (n,) whole steps; ValueError, and nothing changed, for another number of them or one that the
    register does not hold. `fill_values` takes them in the register's unit, rounded; nan and infinity are refused too.
    """

    def __init__(self, ids: Sequence[int], items: Sequence[Item]) -> None:
        self.block = Block(ids, items)
        self._bytes = np.zeros((len(self.block.ids), 1 + self.block.layout.length), np.uint8)
        self._bytes[:, 0] = ids

    def fill(self, item: Item, steps: ArrayLike) -> None:
        wanted = np.asarray(steps)
        if not issubclass(wanted.dtype.type, np.integer):
            raise ValueError(f"{item.section}: {wanted.dtype}; give whole steps, or values to fill_values")
        self._fill(item, wanted)

    def fill_values(self, item: Item, values: ArrayLike) -> None:
        self._fill(item, np.rint(np.asarray(values, float) / item.scale))

    def _fill(self, item: Item, steps: NDArray[np.number]) -> None:
        if item not in self.block.layout.items:
            raise ValueError(f"{item.section} is not written here; name it among the registers")
        n, size, at = len(self.block.ids), item.size, 1 + item.address - self.block.layout.address
        if steps.shape != (n,):
            raise ValueError(f"{item.section}: {steps.shape}; give one number for each of {n} servos")
        if not bool(((steps >= item.least) & (steps <= item.most)).all()):  # nor is nan
            raise ValueError(f"{item.section}: {steps.tolist()} steps; it holds {item.least} to {item.most}")
        if item.top:  # a magnitude that goes on above its sign
            for row, number in zip(self._bytes[:, at : at + size], steps.tolist(), strict=True):
                row[:] = np.frombuffer(item.encode_held(int(number)), np.uint8)
            return
        raw = steps.astype(np.int64)
        if item.sign >= 0:
            raw = np.abs(raw) | (raw < 0).astype(np.int64) << item.sign
        self._bytes[:, at : at + size] = raw.astype("<i8").view(np.uint8).reshape(n, 8)[:, :size]

    def tobytes(self, but: Sequence[int] = ()) -> bytes:
        """Id, registers, id, registers, ... `but`: places of the servos that are left out."""
        return np.delete(self._bytes, but, axis=0).tobytes() if but else self._bytes.tobytes()
