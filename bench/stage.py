"""A robot's safety processes on a stage: the real guard, rescue and servo driver under the real manager, and a real console.

The rest is played: servos that only have a bus (farend.py), senses that say all is well, a policy (a process, so that it can be
stopped) whose target is another in every cycle. So every write shows who had the last word, and the far end stamps when it came.
"""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from farend import FarEnd, hurry

from robotrl import config, rundir
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.drivers.legged import STAND
from robotrl.messages import Action, Beat, Imu, Pose
from robotrl.node import Node
from robotrl.processes import GaveUp, Manager
from robotrl.roster import NODES
from robotrl.sim.person import Person

ROOT = Path(__file__).resolve().parent.parent
PERIOD_NS = 20_000_000
NEXT_KEY = {"READY": "e", "HOLD": "r", "RELAX": "c", "PSTOP": "d"}  # from wherever a stop has led back to RUN
REACH_S = 40.0
STAGES = 4  # at most, one after another
KEY_S = 0.25  # between two keys: the console must have seen what the last one did
# What the first servo is told: mode 10 and a target; the same with kp scale 0; mode 0 (moteus reference).
SAID = re.compile(
    rb"can send 0001 01000a0d20(?P<target>[0-9a-f]{8})|can send 0001 (?P<damp>01000a0e20)|can send (?:0001|007f) (?P<stop>010000)"
)


@dataclass(frozen=True)
class Line:
    """One line to the first servo: when it came (ns), and its target's digits, or "damp" or "stop"."""

    t: int
    what: str


def lines(heard: list[tuple[int, bytes]]) -> list[Line]:
    """All lines to the first servo. A line cut in two by a read counts from its beginning."""
    text = b"".join(data for _, data in heard)
    ends, at = [], 0
    for t, data in heard:
        at += len(data)
        ends.append((at, t))
    out, k = [], 0
    for found in SAID.finditer(text):
        while ends[k][0] <= found.start():
            k += 1
        out.append(Line(ends[k][1], (found["target"] or b"damp" * bool(found["damp"]) or b"stop").decode()))
    return out


def stopped_at(said: list[Line]) -> int | None:
    """When the first write of the stop came: the one after the last that moved. None: it never moved, or still does."""
    moved = [k for k, (a, b) in enumerate(pairwise(said), 1) if len(a.what) == len(b.what) == 8 and a.what != b.what]
    return said[moved[-1] + 1].t if moved and moved[-1] + 2 < len(said) else None


class Stuck(Exception):
    """RUN was not reached: the machine was too busy for the far end. What all said last."""


class Senses(threading.Thread):
    """What IMU and tracker would say of a robot that stands, and the beats of those who are not on the stage."""

    def __init__(self, sockets: Path) -> None:
        super().__init__(daemon=True)
        self.sockets, self.ended = sockets, threading.Event()
        self.no_imu = False  # it says nothing

    def run(self) -> None:
        hurry(threading.get_native_id())  # first: the buses' own threads inherit it
        buses = {name: Bus(self.sockets, name, WallClock()) for name in ("imu", "tracker", "reset", "learner")}
        imu, pose = buses["imu"].publisher("imu"), buses["tracker"].publisher("pose")
        beats = [bus.publisher("beat") for bus in buses.values()]
        still, n = (0.0, 0.0, 0.0), 0
        while not self.ended.wait(0.01):
            n += 1
            if not self.no_imu:
                imu.send(Imu(roll=0.0, pitch=0.0, yaw=0.0, rates=still, accel=(0.0, 0.0, 9.81)))
            pose.send(Pose(position=(1e-6 * n, 0.0, 0.0), rpy=still))  # a live camera trembles
            if n % 10 == 0:
                for beat in beats:
                    beat.send(Beat(progress=n))
        for bus in buses.values():
            bus.close()


class Stage:
    """All of it; a context. `reach_run` brings the robot to RUN, whatever has happened."""

    def __init__(self, folder: Path) -> None:
        self.bus = FarEnd()
        robot = replace(config.Robot(), servos=replace(config.Servos(), port=self.bus.path))
        self.run = replace(config.load(ROOT / "launch" / "walk.toml", []), robot=robot)
        self.no_real_time = self.bus.no_real_time
        hurry(threading.get_native_id(), alone=True)  # who holds Python's lock holds up the senses, and must not be put off
        self.directory = rundir.create(self.run, folder, "wall")
        (self.directory / "logs").mkdir()
        self._sockets = tempfile.TemporaryDirectory(prefix="robotrl-")
        rundir.write_json(self.directory / "bus.json", {"directory": self._sockets.name})
        self.manager = Manager(self.directory, Path(self._sockets.name), {}, ())
        for spec in NODES:
            if spec.name in ("guard", "rescue", "servos"):
                self.manager.start(spec)
        topics = ("cause", "permit", "joints")
        self.causes, self.permits, self.joints = (self.manager.bus.subscriber(topic) for topic in topics)
        self.senses = Senses(Path(self._sockets.name))
        self.senses.start()
        self.policy = subprocess.Popen([sys.executable, __file__, str(self.directory)], stdin=subprocess.PIPE)
        self.wait(lambda: self.state() != "", 30)
        self.person = Person(self.directory)
        hurry(self.person._eyes.native_id or 0)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.person.close()
        os.kill(self.policy.pid, signal.SIGCONT)
        self.policy.kill()
        self.policy.communicate()
        self.manager.stop()
        self.senses.ended.set()
        self.senses.join()
        self.bus.close()
        self._sockets.cleanup()
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_OTHER, os.sched_param(0))

    def pid(self, name: str) -> int:
        return self.manager.children[name].process.pid

    def state(self) -> str:
        guard = self.manager.guard.latest()
        return guard.state if guard is not None and time.monotonic_ns() - guard.t < 3 * PERIOD_NS else ""

    def tend(self, seconds: float) -> None:
        """Let time pass, and start again who has died: as often as it happens, for here it is meant to."""
        try:
            self.manager.watch(seconds)
        except GaveUp as why:
            raise Stuck(f"{why}; {self.said()}") from None
        for child in self.manager.children.values():
            child.deaths.clear()

    def pass_by(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.tend(min(left, 0.02))

    def wait(self, true: Callable[[], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < until, f"not within {seconds:g} s; {self.said()}"
            self.tend(0.005)

    def said(self) -> str:
        """The last words of all, for a failure."""
        said = {path.name: path.read_text()[-600:] for path in (self.directory / "logs").iterdir()}
        return f"the guard: {self.manager.guard.latest()}; {said}"

    def moving(self) -> bool:
        """The policy has had the last word in each of the last cycles."""
        said = [line.what for line in lines(self.bus.heard[-60:])][-6:]
        return len(set(said)) == 6 and all(len(what) == 8 for what in said)

    def reach_run(self) -> None:
        """Stuck when nothing leads there: the far end was late so often that the servos were taken for flaky, or for lost."""
        pressed = 0.0
        until = time.monotonic() + REACH_S
        while not (self.state() == "RUN" and self.moving()):
            if self.state() == "LOCKOUT" or time.monotonic() > until:
                raise Stuck(f"no RUN in {REACH_S:g} s, or never again; {self.said()}")
            self.tend(0.01)
            if (key := NEXT_KEY.get(self.state())) and time.monotonic() - pressed > KEY_S:
                self.person.types(key)
                pressed = time.monotonic()

    def forget(self) -> None:
        """What was heard until now is not needed any more."""
        del self.bus.heard[:-60], self.bus.modes[:-8]
        self.causes.drain()
        self.joints.drain()


class Stages:
    """The stage all classes are measured on; another one, which is counted, where a busy machine has led it to its end."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 1
        self.now = Stage(folder)

    def again(self, why: Stuck) -> None:
        if self.count == STAGES:
            raise SystemExit(f"the machine is too busy: {why}")
        print(f"a stage is begun anew: {str(why)[:200]}", file=sys.stderr, flush=True)
        self.close()
        self.now, self.count = Stage(self.folder), self.count + 1

    def close(self) -> None:
        self.now.__exit__()


def policy(directory: Path) -> None:
    """Another target in each cycle, as long as the guard's lease says so."""
    node = Node(directory, "policy")
    node.hurry(9)
    actions, permits = node.bus.publisher("action"), node.bus.subscriber("permit")
    for n in node.every(PERIOD_NS):
        node.beat()
        permit = permits.latest()
        if permit is not None and permit.holder == "policy":
            target = tuple(angle + 0.05 * math.sin(0.7 * n) for angle in STAND)
            actions.send(Action(epoch=permit.epoch, tick=0, target=target, valid_ns=75_000_000))
    node.close()


if __name__ == "__main__":
    policy(Path(sys.argv[1]))
