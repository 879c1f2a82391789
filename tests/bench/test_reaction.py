"""`robotrl bench reaction`: what it takes for a stop, and that a short one measures what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stage(script):
    return script("stage")


def target(digits: str) -> bytes:
    return b"can send 0001 01000a0d20%b02237f7f0d250000a0400e27cdcccc3d9a99\n" % digits.encode()


DAMP = b"can send 0001 01000a0e200000c07f000000000223007f0d25\n"
OTHER = b"can send 0002 01000a0d20aaaaaaaa02237f7f\ncan send 8001 11001f01\nOK\n"


def test_lines_are_those_to_the_first_servo_and_come_when_their_first_byte_came(stage):
    whole = target("00000001")
    heard = [
        (1, OTHER + whole[:9]),
        (2, whole[9:] + OTHER),
        (3, DAMP + b"can send 0001 010000\n"),
        (4, b"can send 007f 010000\n"),
    ]
    assert [(line.t, line.what) for line in stage.lines(heard)] == [(1, "00000001"), (3, "damp"), (3, "stop"), (4, "stop")]


@pytest.mark.parametrize(
    ("said", "at"),
    [
        ("a b c c c", 4),  # held: the first repetition
        ("a b b c c c", 5),  # a cycle without an action is no stop
        ("a b c damp damp stop", 4),
        ("a b c stop stop", 4),
        ("a b c", None),  # it still moves
        ("a b c c", None),  # one repetition may still be a cycle without an action
        ("a a a a", None),  # it never moved
    ],
)
def test_the_stop_is_the_write_after_the_last_that_moved(stage, said, at):
    words = [word if len(word) > 1 else word * 8 for word in said.split()]
    assert stage.stopped_at([stage.Line(t, word) for t, word in enumerate(words, 1)]) == at


def test_a_short_one_on_the_real_processes(tmp_path):
    """Bounds are the bench's to judge on a quiet machine; here that each sample is one, and in the order of things."""
    out = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, "-m", "robotrl", "bench", "reaction", "--samples", "2", "--idle", "--only", "k", "--out", str(out)],
        cwd=ROOT, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr
    table = json.loads(out.read_text())["idle"]["table"]
    assert {name: row["stop"] for name, row in table.items()} == {
        "quick stop by key": {"hold": 2}, "guard killed": {"damp": 2}, "driver killed: rescue": {"damp": 2},
    }  # fmt: skip
    for row in table.values():
        assert all(a <= b for a, b in pairwise(row["onset_ms"].values())) and row["onset_ms"]["p50"] > 0
    assert table["guard killed"]["onset_ms"]["p50"] >= 40 - 1, "a permit holds for 60 ms, and the last is at most 20 ms old"
    assert done.returncode == (0 if all(row["met"] for row in table.values()) else 3)
