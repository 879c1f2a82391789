"""A seeded fuzzer of parsers: sound inputs after a grammar, mutated; a find is made again by seed and number, and shrunk.

A target gives examples of what its parser reads and checks what the parser makes of any bytes; whatever it raises is a find.
Inputs come in blocks of BLOCK, each with a generator of its own, so that number n of a seed is the same wherever one begins.
"""

from __future__ import annotations

import random
import re
import signal
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

BLOCK = 1000
HELD_MAX = 65_536  # bytes a parser may keep for later (safety facts 4, row 6)
HANG_CPU_S = 60  # of this process's own time, for one block: a loop without an end, not a slow machine
SHRINKS = 400  # checks spent on making a find small
EXTREME = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1)
DIGITS = re.compile(rb"[0-9][0-9.]*")
NUMBERS = (
    b"0",
    b"-1",
    b"1",
    b"255",
    b"65536",
    b"4294967296",
    b"9" * 25,
    b"9" * 5000,
    b"1e999",
    b"-1e999",
    b"nan",
    b"NaN",
    b"null",
    b"inf",
    b"1_0",
    b"0x1",
)


class Broken(AssertionError):
    """A property does not hold."""


class Hang(BaseException):
    """Nothing came back; a base exception, so that no parser can swallow it."""


class Target(Protocol):
    """One parser under test."""

    name: str
    words: tuple[bytes, ...]  # what its inputs are made of, to be put where they do not belong

    def example(self, rng: random.Random) -> bytes:
        """A sound input."""
        ...

    def check(self, data: bytes) -> None:
        """Feed `data`; raises where a property does not hold. A function of `data` and what was fed before."""
        ...

    def held(self) -> int:
        """Bytes that are kept for later."""
        ...


@dataclass(frozen=True)
class Find:
    """A broken property: which input of which seed, why, and the least input found that breaks it as well."""

    target: str
    seed: int
    number: int
    error: str
    least: bytes

    def __str__(self) -> str:
        least = f"least input ({len(self.least)} bytes): {self.least[:300]!r}"
        return f"{self.target}: seed {self.seed} input {self.number}: {self.error}\n  {least}"


@dataclass(frozen=True)
class Outcome:
    """What a campaign did."""

    inputs: int
    bytes: int
    seconds: float
    held: int  # the most bytes kept for later
    find: Find | None


def campaign(
    make: Callable[[], Target], inputs: int, seed: int, told: Callable[[int], Any] = lambda done: None, first: int = 0
) -> Outcome:
    """Check the inputs numbered `first` to `first + inputs - 1`, up to the first find. `told` hears how many are done."""
    target, began, size, held = make(), time.perf_counter(), 0, 0
    number, data = first - 1, b""
    with _alarm():
        try:
            for number, data in numbered(target, seed, first):
                if number == first + inputs:
                    break
                size += len(data)
                target.check(data)
                if number % BLOCK == BLOCK - 1:
                    signal.setitimer(signal.ITIMER_VIRTUAL, HANG_CPU_S)
                    held = max(held, target.held())
                    if held > HELD_MAX:
                        raise Broken(f"{held} bytes are kept for later")
                    told(number + 1 - first)
        except (Exception, Hang) as error:
            kind = type(error)
            find = Find(target.name, seed, number, _said(error), shrunk(make, data, kind))
            return Outcome(number + 1 - first, size, time.perf_counter() - began, held, find)
    return Outcome(inputs, size, time.perf_counter() - began, max(held, target.held()), None)


def numbered(target: Target, seed: int, first: int = 0) -> Iterator[tuple[int, bytes]]:
    """The inputs of a seed with their numbers, without end."""
    number = first // BLOCK * BLOCK
    while True:
        rng = random.Random(f"{target.name} {seed} {number // BLOCK}")
        shelf = [target.example(rng) for _ in range(4)]
        for k in range(BLOCK):
            draw = rng.random()
            if k & 3 == 0:
                shelf[k >> 2 & 3] = target.example(rng)
            data = shelf[int(draw * 4096) & 3]
            if draw > 0.04:  # the rest is left as it is
                data = mutated(rng, data, shelf, target.words)
            if number >= first:
                yield number, data
            number += 1


def mutated(rng: random.Random, data: bytes, shelf: list[bytes], words: tuple[bytes, ...]) -> bytes:
    """One to a dozen changes, mostly few."""
    draw = rng.random
    while True:
        data = CHANGES[int(draw() * len(CHANGES))](draw, data, shelf, words)
        if draw() < 0.55:
            return data


Draw = Callable[[], float]
Change = Callable[[Draw, bytes, list[bytes], tuple[bytes, ...]], bytes]


def _flip(draw: Draw, data: bytes, shelf: list[bytes], words: tuple[bytes, ...]) -> bytes:
    if not data:
        return b"\x00"
    at = int(draw() * len(data))
    return b"%b%c%b" % (data[:at], data[at] ^ 1 << int(draw() * 8), data[at + 1 :])


def _set(draw: Draw, data: bytes, shelf: list[bytes], words: tuple[bytes, ...]) -> bytes:
    at = int(draw() * (len(data) + 1))
    return b"%b%c%b" % (data[:at], int(draw() * 256), data[at + 1 :])


def _insert(draw: Draw, data: bytes, shelf: list[bytes], words: tuple[bytes, ...]) -> bytes:
    at = int(draw() * (len(data) + 1))
    some = bytes([int(draw() * 256) for _ in range(1 + int(draw() * 4))])
    return data[:at] + some + data[at:]


def _delete(draw: Draw, data: bytes, shelf: list[bytes], words: tuple[bytes, ...]) -> bytes:
    at = int(draw() * (len(data) + 1))
    return data[:at] + data[at + 1 + int(draw() ** 4 * len(data)) :]


def _truncate(draw: Draw, data: bytes, shelf: list[bytes], words: tuple[bytes, ...]) -> bytes:
    at = int(draw() * (len(data) + 1))
    return data[:at] if draw() < 0.7 else data[at:]


def _double(draw: Draw, data: bytes, shelf: list[bytes], words: tuple[bytes, ...]) -> bytes:
    at = int(draw() * (len(data) + 1))
    end = at + 1 + int(draw() ** 2 * (len(data) - at))
    return data[:end] + data[at:end] * (1 + int(draw() ** 8 * 40)) + data[end:] if len(data) < 4096 else data


def _splice(draw: Draw, data: bytes, shelf: list[bytes], words: tuple[bytes, ...]) -> bytes:
    other = shelf[int(draw() * len(shelf))]
    return data[: int(draw() * (len(data) + 1))] + other[int(draw() * (len(other) + 1)) :]


def _word(draw: Draw, data: bytes, shelf: list[bytes], words: tuple[bytes, ...]) -> bytes:
    at = int(draw() * (len(data) + 1))
    return data[:at] + words[int(draw() * len(words))] + data[at + int(draw() * 3) :]


def _lie(draw: Draw, data: bytes, shelf: list[bytes], words: tuple[bytes, ...]) -> bytes:
    """A length or count that is none: extreme numbers in the place of binary ones."""
    width = 1 << int(draw() * 4)
    at = int(draw() * (len(data) + 1))
    value = EXTREME[int(draw() * len(EXTREME))] & (1 << 8 * width) - 1
    return data[:at] + value.to_bytes(width, "little" if draw() < 0.7 else "big") + data[at + width :]


def _number(draw: Draw, data: bytes, shelf: list[bytes], words: tuple[bytes, ...]) -> bytes:
    """The same in text: from some digit on, another number."""
    found = DIGITS.search(data, int(draw() * (len(data) + 1)))
    start, end = found.span() if found else (len(data), len(data))
    number = NUMBERS[int(draw() * len(NUMBERS))]
    return data[:start] + (number if len(number) < 100 or draw() < 0.02 else b"7") + data[end:]


CHANGES: tuple[Change, ...] = (_flip, _flip, _set, _insert, _delete, _truncate, _double, _splice, _word, _lie, _number)


def torn(data: bytes) -> list[bytes]:
    """`data` in pieces of 1 to 64 bytes, always the same for the same bytes."""
    state, at, pieces = zlib.crc32(data) | 1, 0, []
    while at < len(data):
        state = state * 1103515245 + 12345 & 0x7FFFFFFF
        size = 1 + (state >> 16 & (63 if state & 0x4000 else 3))
        pieces.append(data[at : at + size])
        at += size
    return pieces


def shrunk(make: Callable[[], Target], data: bytes, kind: type[BaseException]) -> bytes:
    """A smaller input that breaks a fresh target with the same kind of error; `data` where none does, or a fresh one holds."""
    left = SHRINKS

    def breaks(some: bytes) -> bool:
        nonlocal left
        left -= 1
        if kind is Hang:
            return some == data  # too dear to try
        try:
            make().check(some)
        except Exception as error:
            return type(error) is kind
        return False

    if not breaks(data):
        return data
    size = len(data) // 2
    while size and left > 0:
        at = 0
        while at < len(data) and left > 0:
            shorter = data[:at] + data[at + size :]
            if breaks(shorter):
                data = shorter
            else:
                at += size
        size = min(size // 2, len(data))
    return data


_TEXTS, _LISTS = (bytes, bytearray, str), (list, tuple, set, frozenset)  # a union would be made anew at each call


def held(*things: Any, depth: int = 4) -> int:
    """Bytes in the texts, lists, tables and slots of some objects, numbers and all as 8 each: what a parser keeps for later."""
    total = 0
    for thing in things:
        if isinstance(thing, _TEXTS):
            total += len(thing)
        elif isinstance(thing, _LISTS):
            total += held(*thing, depth=depth - 1) if depth else 8 * len(thing)
        elif isinstance(thing, dict):
            total += held(*thing.keys(), *thing.values(), depth=depth - 1) if depth else 8 * len(thing)
        elif hasattr(thing, "__dict__") and depth and type(thing).__module__.startswith("robotrl"):
            total += held(*vars(thing).values(), depth=depth - 1)
        else:
            total += 8
    return total


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"


class _alarm:
    """SIGVTALRM as a Hang: time that this process itself has used, whatever else the machine does."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGVTALRM, self._ring)
        signal.setitimer(signal.ITIMER_VIRTUAL, HANG_CPU_S)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, self._before)

    @staticmethod
    def _ring(number: int, frame: FrameType | None) -> None:
        raise Hang(f"no answer within {HANG_CPU_S} s of processor time")
