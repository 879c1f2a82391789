"""The images of a replay: a row a frame, which is what all cameras saw at one moment, with a check sum over it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robotrl.replayfiles import Cameras

SUM = "frame_crc"


class Images(NamedTuple):
    """What the cameras saw, by their names: (n, height, width, channels) uint8 each."""

    observation: dict[str, NDArray[np.uint8]]
    next_observation: dict[str, NDArray[np.uint8]]  # of the same episode


def joined(frame: bytes, cameras: Cameras) -> NDArray[np.uint8]:
    """What cameras of one size saw, side by side in channels: (height, width, all channels)."""
    data, at, found = np.frombuffer(frame, np.uint8), 0, []
    for _, height, width, channels in cameras:
        size = height * width * channels
        found.append(data[at : at + size].reshape(height, width, channels))
        at += size
    return np.concatenate(found, axis=-1)


class Frames:
    """Frames in mapped `columns`, by number."""

    def __init__(self, cameras: Cameras, columns: dict[str, NDArray[Any]]) -> None:
        self.columns = columns
        self.sums = columns.get(SUM, np.zeros(0, np.uint32))
        self._images = {name: columns[f"image_{name}"] for name, *_ in cameras}

    def write(self, number: int, frame: bytes) -> None:
        """`frame`: all cameras' images, one after the other."""
        data, at = np.frombuffer(frame, np.uint8), 0
        for column in self._images.values():
            size = column[number].size
            column[number] = data[at : at + size].reshape(column.shape[1:])
            at += size
        self.sums[number] = zlib.crc32(frame)

    def take(self, numbers: NDArray[np.int64], into: dict[str, NDArray[np.uint8]]) -> None:
        """Copies of these, in that order, written over the arrays `into` or put there. IndexError where there is none."""
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(self.sums):
            raise IndexError(f"frames {numbers.min()}..{numbers.max()} of {len(self.sums)}")
        for name, column in self._images.items():
            # "clip": to be able to refuse an index numpy would copy all of it twice
            into[name] = column.take(numbers, 0, into.get(name), "clip")

    def torn(self, rows: Iterable[tuple[int, list[int]]]) -> list[int]:
        """Those of the `rows` one of whose frames is not there, or not as it was written; each comes with their numbers."""
        found: list[int] = []
        known: dict[int, bool] = {}
        for row, numbers in rows:
            known = {number: known[number] if number in known else self._whole(number) for number in numbers}
            if not all(known.values()):
                found.append(row)
        return found

    def _whole(self, number: int) -> bool:
        if not 0 <= number < len(self.sums):
            return False
        return zlib.crc32(b"".join(column[number].tobytes() for column in self._images.values())) == self.sums[number]
