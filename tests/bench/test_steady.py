"""`robotrl bench steady`: it sees a process that grows, opens file after file or comes late, and lets a calm one pass."""

from __future__ import annotations

import mmap
import os

import pytest

CALM = {"looks": 100, "mb": 40.0, "mb_an_hour": 0.4, "fds": [12, 12]}


@pytest.fixture
def steady(script):
    return script("steady")


def looks(steady, kb, fds=lambda k: 12, seconds=600):
    """One every 5 s; `kb` and `fds` by the number of the look."""
    return [steady.Look(5.0 * k, round(kb(k)), fds(k)) for k in range(seconds // 5 + 1)]


def test_the_slope_is_that_of_the_warm_part(steady):
    """12 kB a look after a warm-up that alone would be a gigabyte an hour: 12 * 720 / 1024 MB an hour."""
    found = steady.grown(looks(steady, lambda k: 40_000 + 12 * k + 2_000 * min(k, 20)), 600)
    assert found["mb_an_hour"] == pytest.approx(12 * 720 / 1024, abs=0.05) and found["fds"] == [12, 12]
    assert steady.grown(looks(steady, lambda k: 40_000 + 30 * (k % 2)), 600)["mb_an_hour"] == pytest.approx(0, abs=0.3)


def test_files_that_stay_open_are_counted_and_a_short_life_is_not_judged(steady):
    assert steady.grown(looks(steady, lambda k: 40_000, lambda k: 12 + k // 40), 600)["fds"] == [12, 14]
    assert steady.grown(looks(steady, lambda k: 40_000 * k)[:3], 600) == {"looks": 0}


def test_a_process_is_looked_at_from_outside(steady):
    before = steady.look(os.getpid(), 0.0)
    kept = mmap.mmap(-1, 40 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # malloc may have so much left
    kept.write(b"\1" * len(kept))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
    after = steady.look(os.getpid(), 0.0)
    assert 40_000 < after.kb - before.kb < 60_000 and after.fds - before.fds == 3
    for file in files:
        os.close(file)
    kept.close()
    assert steady.look(2**22 + 1, 0.0) is None  # beyond the greatest number of a process


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        ({}, ""),
        ({"exit_code": 3}, "exit code 3"),
        ({"processes": {"guard 7": CALM | {"mb_an_hour": 1.1}}}, "guard 7 grows by 1.1 MB an hour"),
        ({"processes": {"guard 7": CALM | {"fds": [12, 13]}}}, "guard 7 had 12 to 13 files open"),
        ({"late_us": {"p99.9": 5001.0}}, "the servo loop was late by 5001.0 us"),
        ({"overruns_share": 0.001}, "0.10% of its periods were skipped"),
        ({"processes": {"camera1 9": {"looks": 2}}}, ""),
    ],
)
def test_each_thing_that_may_be_wrong_fails_alone(steady, spoilt, says):
    sound = {"exit_code": 0, "processes": {"guard 7": CALM}, "late_us": {"p99.9": 100.0}, "overruns_share": 0.0}
    found = steady.complaints(sound | spoilt)
    assert len(found) == bool(says) and all(line.startswith(says) for line in found), found
