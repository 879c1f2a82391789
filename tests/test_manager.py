"""The process manager with nodes that only pretend: who is started again, how often, and what is said of it."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from robotrl import processes
from robotrl.config import Run
from robotrl.manager import with_ports
from robotrl.processes import GaveUp, Manager, Spec, last_line

BODIES = {
    "stays": "import sys\nprint('stays: here', file=sys.stderr, flush=True)\nsys.stdin.read()",
    "dies": "raise SystemExit(1)",
    "complains": "import sys\nprint('complains: sign has 1 entry, not 8; correct it', file=sys.stderr)\nraise SystemExit(2)",
    "clings": "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('on', flush=True)\ntime.sleep(60)",
}


@pytest.fixture
def manager(tmp_path, monkeypatch):
    for name, body in BODIES.items():
        (tmp_path / f"pretend_{name}.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "logs").mkdir()
    with tempfile.TemporaryDirectory(prefix="robotrl-") as sockets:
        manager = Manager(tmp_path, Path(sockets), {}, ())
        yield manager
        manager.stop()


def spec(name: str) -> Spec:
    return Spec(name, f"pretend_{name}")


def until(true, seconds=20.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_who_is_killed_is_started_again_and_it_is_said(manager):
    manager.start(spec("stays"))
    until(lambda: manager.heard() == ["stays: here"])
    first = manager.children["stays"].process.pid
    os.kill(first, signal.SIGKILL)
    assert manager.watch(5.0) == ["stays died (SIGKILL) and was started again"]
    assert manager.children["stays"].process.pid != first


def test_who_ends_unasked_is_started_again_too(manager):
    manager.start(spec("stays"))
    manager.children["stays"].process.stdin.close()  # it ends with exit code 0
    assert manager.watch(5.0) == ["stays died (exit code 0) and was started again"]


def test_four_deaths_in_a_minute_are_too_many(manager):
    manager.start(spec("dies"))
    for _ in range(3):
        assert manager.watch(10.0)
    with pytest.raises(GaveUp, match="died 4 times in 60 s, last by exit code 1") as raised:
        manager.watch(10.0)
    assert raised.value.code == 3


def test_what_a_node_complains_of_at_its_start_is_what_is_said(manager):
    manager.start(spec("complains"))
    with pytest.raises(GaveUp, match=r"^complains: sign has 1 entry, not 8; correct it$") as raised:
        manager.watch(10.0)
    assert raised.value.code == 2


def test_who_does_not_end_is_killed_and_nobody_is_left(manager, monkeypatch):
    monkeypatch.setattr(processes, "END_S", 0.3)
    manager.start(spec("clings"))
    manager.start(spec("stays"))
    until(lambda: "on" in (manager.directory / "logs" / "clings.log").read_text())
    pids = [child.process.pid for child in manager.children.values()]
    manager._end(list(manager.children.values()))
    manager.children.clear()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_node_has_a_group_of_its_own_so_that_ctrl_c_is_the_managers(manager):
    manager.start(spec("stays"))
    pid = manager.children["stays"].process.pid
    assert os.getpgid(pid) == pid != os.getpgid(0)


def test_nothing_that_has_moved_is_taken_for_off(manager):
    assert manager.power_down()  # no driver ever spoke


def test_the_last_line_of_this_life(tmp_path):
    log = tmp_path / "x.log"
    log.write_text("old\n")
    assert last_line(log, 4) == ""
    log.write_text("old\nTraceback\n  File\nValueError: x\n\n")
    assert last_line(log, 4) == "ValueError: x"


def test_the_twins_ports_and_its_budget_of_falls_are_the_only_difference():
    run = with_ports(Run(), {"servos": "/a", "imu": "/b", "tracker": "/c"})
    assert (Run().robot.limits.falls, run.robot.limits.falls) == (5, Run().twin.falls)
    assert (run.robot.servos.port, run.robot.imu.port, run.robot.tracker.port) == ("/a", "/b", "/c")
    run = with_ports(run, {"servos": "", "imu": "", "tracker": ""})
    assert replace(run, robot=replace(run.robot, limits=Run().robot.limits)) == Run()
