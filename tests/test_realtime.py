"""What is said where the system does not let the robot's processes go first."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from robotrl import realtime


def refuse(*_):
    raise PermissionError(1, "Operation not permitted")


def test_a_refused_priority_is_one_line_that_says_how_to_allow_it_and_a_lesser_one_is_taken(monkeypatch):
    nice = []
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "nice", nice.append)
    said = realtime.real_time(20, lock=True)
    assert said.startswith("no real-time priority: ") and "rtprio 50" in said and "docs/hardware.md" in said
    assert nice == [-10]
    monkeypatch.setattr(os, "nice", refuse)
    assert realtime.real_time(20, lock=True) == said


@pytest.mark.parametrize(("lock", "answer", "says"), [(True, 0, ""), (True, -1, "memory not locked"), (False, -1, "")])
def test_memory_that_may_not_be_locked_is_said_where_it_was_asked_for(monkeypatch, lock, answer, says):
    asked, locked = [], []
    monkeypatch.setattr(os, "sched_setscheduler", lambda thread, policy, param: asked.append((thread, policy, param)))
    library = SimpleNamespace(mlockall=lambda flags: locked.append(flags) or answer)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: library)
    assert realtime.real_time(20, lock).startswith(says) and bool(realtime.real_time(20, lock)) == bool(says)
    assert {policy for _, policy, _ in asked} == {os.SCHED_FIFO} and {param.sched_priority for *_, param in asked} == {20}
    assert os.getpid() in {thread for thread, *_ in asked}, "all threads, the bus's too"
    assert set(locked) == ({1 | 2} if lock else set())  # MCL_CURRENT | MCL_FUTURE


def test_who_is_expendable_says_so_to_the_kernel(tmp_path):
    code = "from robotrl.realtime import expendable; expendable(); print(open('/proc/self/oom_score_adj').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 800 > int(Path("/proc/self/oom_score_adj").read_text())
    realtime.expendable(tmp_path / "not" / "there")  # nothing is raised
