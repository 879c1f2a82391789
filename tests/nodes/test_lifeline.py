"""The end of a process that we did not start is known at once."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from robotrl.messages import Operator
from robotrl.nodes.lifeline import Lifeline


def beat(boot: int, pid: int) -> Operator:
    return Operator(source="console", boot=boot, command="beat", press=0, pid=pid)


@pytest.fixture
def console():
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_a_kill_is_known_at_once_and_told_once(console):
    line = Lifeline()
    assert not line.ended()
    line.hear(beat(7, console.pid))
    assert not line.ended()
    os.kill(console.pid, signal.SIGKILL)
    until = time.monotonic() + 5.0
    while not (ended := line.ended()) and time.monotonic() < until:
        time.sleep(0.001)
    assert ended and not line.ended()  # though its parent has not even waited for it
    line.hear(beat(7, console.pid))  # a beat that was still on its way
    assert not line.ended()


def test_a_console_that_is_gone_or_says_no_number_is_left_to_its_silence(console):
    line = Lifeline()
    console.kill()
    console.wait()
    line.hear(beat(7, console.pid))
    line.hear(beat(8, 0))
    assert not line.ended()


def test_the_next_console_is_watched_instead(console):
    line = Lifeline()
    line.hear(beat(7, os.getpid()))
    line.hear(beat(8, console.pid))
    console.kill()
    console.wait()
    assert line.ended()
    line.close()


def test_a_number_that_no_process_can_have_is_out_of_reach():
    """It was the guard's end."""
    line = Lifeline()
    line.hear(beat(7, 1 << 40))
    assert not line.ended()
