"""Every parser of foreign bytes against seeded grammar and mutation: nothing escapes, hangs, hoards or passes for sound.

The counts are what two minutes of one core allow for all together, 300,000 of a wire where that is seconds; `bench/fuzz.py` does
as many as it is told.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import codecs, configs, ends, files, network, sensors, servos, wires
from tests.fuzz.engine import BLOCK, Broken, Target, campaign, mutated, numbered, torn

WIRE_COUNT = 300_000
SERVO_COUNT = 20_000
# Where a check takes so long that it is less: 40 us of a packet, 100 us of four IMUs, most of it the parsers' own.
COUNT = {
    "servo chain": 100_000,
    "servo console": 100_000,
    "dynamixel codec": 100_000,
    "dynamixel cycle": 60_000,
    "dynamixel fast cycle": 60_000,
    "imu stream": 40_000,
    "pose lines": 60_000,
    "twin's servos": 40_000,
    "bus messages": 50_000,
}
FILE_COUNT = 8000
FILE_COUNTS = {  # the same of files: 200 us of a configuration, 600 us of a replay's thirteen columns
    "run file": 4000,
    "robot file": 4000,
    "--set": 4000,
    "run.json": 3000,
    "replay columns": 2500,
    "log segment": 2500,
}
EVERY = (*wires.TARGETS, *codecs.TARGETS, *sensors.TARGETS, *ends.TARGETS, *network.TARGETS)


@pytest.mark.parametrize("target", EVERY, ids=lambda target: target.name)
def test_wires(target: type[Target]) -> None:
    count = COUNT.get(target.name, WIRE_COUNT)
    outcome = campaign(target, count, 0)
    assert outcome.find is None, outcome.find
    assert outcome.inputs == count


@pytest.mark.parametrize("target", servos.TARGETS, ids=lambda target: target.name)
def test_servo_lines(target: type[Target]) -> None:
    outcome = campaign(target, SERVO_COUNT, 0)  # fewer: servos that move take longer than parsers
    assert outcome.find is None, outcome.find


@pytest.mark.parametrize("target", (*configs.TARGETS, *files.TARGETS), ids=lambda target: target.name)
def test_files(target: type[Target]) -> None:
    outcome = campaign(target, FILE_COUNTS.get(target.name, FILE_COUNT), 0)
    assert outcome.find is None, outcome.find


@pytest.mark.parametrize("target", EVERY, ids=lambda target: target.name)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.binary(max_size=600), at=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_any_bytes_among_sound_ones(target: type[Target], data: bytes, at: float, seed: int) -> None:
    """Hypothesis looks for the least bytes that break one; the seeded fuzzer above for the deepest."""
    parser, rng = target(), random.Random(seed)
    example = parser.example(rng)
    cut = int(at * len(example))
    parser.check(example[:cut] + data + example[cut:])


class Picky:
    """A target that breaks at one byte, hangs at none, and counts."""

    name, words = "picky", (b"!",)

    def __init__(self) -> None:
        self.kept = 0

    def example(self, rng: random.Random) -> bytes:
        return bytes(rng.choices(range(32, 127), k=40))

    def check(self, data: bytes) -> None:
        if b"\xff" in data:
            raise Broken("a byte of ones")

    def held(self) -> int:
        return self.kept


def test_a_find_is_made_again_by_its_number_and_shrunk() -> None:
    find = campaign(Picky, 100_000, 7).find
    assert find is not None and find.least == b"\xff" and "seed 7" in str(find)
    again = campaign(Picky, 1, 7, first=find.number).find
    assert again is not None and again.number == find.number
    assert next(numbered(Picky(), 7, find.number))[0] == find.number


def test_what_is_hoarded_is_found() -> None:
    class Hoarder(Picky):
        def check(self, data: bytes) -> None:
            self.kept += len(data)

    find = campaign(Hoarder, 10 * BLOCK, 0).find
    assert find is not None and "kept for later" in find.error


def test_a_hang_is_a_find(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(Picky):
        def check(self, data: bytes) -> None:
            while True:
                pass

    monkeypatch.setattr("tests.fuzz.engine.HANG_CPU_S", 0.1)
    find = campaign(Stuck, 10, 0).find
    assert find is not None and find.error.startswith("Hang")


def test_every_change_is_made_and_pieces_are_the_whole() -> None:
    rng, shelf = random.Random(0), [b"0123456789" * 4, b"abcdef"]
    seen = {mutated(rng, shelf[0], shelf, (b"word",)) for _ in range(2000)}
    assert len(seen) > 1500 and any(b"word" in some for some in seen) and any(len(some) < 20 for some in seen)
    assert any(len(some) > 60 for some in seen) and b"" in {some[:0] for some in seen}
    for some in seen:
        assert b"".join(torn(some)) == some
