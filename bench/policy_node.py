"""The policy's own process, and the recorder's, started as the manager starts them, with a robot made of messages.

A stand-in publishes what servos, IMU, tracker and guard would, 50 times a second, on the run's bus; the policy answers each cycle
and takes the weights that a real `Student` publishes, the recorder fills the run's log and replay. For policy.py and zygote.py.
"""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import numpy as np

from robotrl import config, rundir
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.messages import Applied, Imu, Joints, Permit, Pose
from robotrl.nodes.learner import Student
from robotrl.processes import ONE_THREAD
from robotrl.replay import Replay

PERIOD_NS = 20_000_000
END_S = 30.0  # for a process that was told to end
EPISODE = 400  # cycles to an epoch: before the time limit
ZERO, NONE, STANDING = (0.0,) * 8, (0,) * 8, (math.pi / 2,) * 8


class MessageRobot:
    """What servos, IMU, tracker and guard say of a robot that walks, a cycle at a time."""

    def __init__(self, sockets: Path) -> None:
        self.clock = WallClock()
        self.buses = {name: Bus(sockets, name, self.clock) for name in ("servos", "imu", "tracker", "guard")}
        sources = {"joints": "servos", "applied": "servos", "imu": "imu", "pose": "tracker", "permit": "guard"}
        self._out = {topic: self.buses[source].publisher(topic) for topic, source in sources.items()}

    def say(self, tick: int) -> int:
        """The cycle of this number; its capture time, ns."""
        now = self.clock.now()
        permit = Permit(state="RUN", epoch=tick // EPISODE + 1, holder="policy", torque=True)
        self._out["permit"].send(permit)
        self._out["imu"].send(Imu(t=now, roll=0.01, pitch=0.0, yaw=0.0, rates=(0.0,) * 3, accel=(0.0, 0.0, 9.8)))
        self._out["pose"].send(Pose(t=now, position=(now * 2e-10, 0.0, 0.2), rpy=(0.0,) * 3))  # 0.2 m/s forward
        self._out["joints"].send(
            Joints(t=now, tick=tick, position=STANDING, velocity=ZERO, torque=ZERO, temp_c=ZERO, voltage=ZERO,
                   mode=(10,) * 8, fault=NONE, missed=NONE)
        )  # fmt: skip
        self._out["applied"].send(Applied(t=now, tick=tick, writer="policy", epoch=permit.epoch, target=STANDING, clamped=NONE))
        return now


class PolicyNode:
    """The process, its run directory and everything the bus needs around it."""

    def __init__(self, run: config.Run, folder: Path) -> None:
        agent = dataclasses.replace(run.agent, random_steps=0, capacity=100_000)
        self.run = dataclasses.replace(run, agent=agent)
        self.directory = rundir.create(self.run, folder, "wall")
        self.sockets = Path(tempfile.mkdtemp(prefix="robotrl-"))
        rundir.write_json(self.directory / "bus.json", {"directory": str(self.sockets)})
        self.robot = MessageRobot(self.sockets)
        self.clock, self.tick, self.answers = self.robot.clock, 0, list[tuple[int, float]]()
        self._buses = self.robot.buses
        self._episode, self._action = (self._buses["guard"].subscriber(topic) for topic in ("episode", "action"))
        self.recorder = self.start("recorder")
        acks = self._buses["guard"].subscriber("ack")
        while acks.latest() is None:
            self._buses["guard"].wait([acks], 0.1)
        began = time.monotonic()
        self.process = self.start("policy")
        self._due = self.clock.now()
        while self._episode.latest() is None:  # it has opened its replay and gone round once
            self.cycle()
        self.start_s = time.monotonic() - began

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """A node of this run, which ends with us."""
        return subprocess.Popen(
            [sys.executable, "-m", f"robotrl.nodes.{name}", str(self.directory)],
            stdin=subprocess.PIPE,
            env=os.environ | ONE_THREAD | {"PYTHONFAULTHANDLER": "1"},
        )

    def cycle(self) -> int:
        """One control period: what the robot would say, and how long the answer took; returns the version acted with."""
        self._due = max(self._due + PERIOD_NS, self.clock.now())
        self.clock.sleep_until(self._due)
        self.tick += 1
        return self._answer(self.robot.say(self.tick))

    def _answer(self, asked: int) -> int:
        while (left := asked + PERIOD_NS - self.clock.now()) > 0:
            self._buses["guard"].wait([self._action], left * 1e-9)
            action = self._action.latest()
            if action is not None and action.tick == self.tick:
                self.answers.append((action.policy_version, (self.clock.now() - asked) * 1e-3))
                return int(action.policy_version)
        return -1

    def memory(self) -> dict[str, Any]:
        """MB resident: all, what is mapped of the replay (the system takes that back when it likes), and whether torch is in."""
        maps = Path(f"/proc/{self.process.pid}/smaps").read_text()
        mapped, ours = 0, False
        for line in maps.splitlines():
            if "-" in line.split(" ", 1)[0]:
                ours = str(self.directory) in line
            elif ours and line.startswith("Rss:"):
                mapped += int(line.split()[1])
        status = dict(line.split(":", 1) for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines())
        resident = int(status["VmRSS"].split()[0])
        return {
            "resident_mb": round(resident / 1024, 1),
            "replay_mapped_mb": round(mapped / 1024, 1),
            "torch": "libtorch" in maps,
        }

    def hand_over(self, times: int, cycles: int) -> dict[str, float]:
        """Publish `times` versions, `cycles` apart: ms from the file's renaming to the first action by it, us of the answers."""
        student = Student(self.run, self.directory, Replay.open(self.directory / "replay"))
        late, first, others = [], [], []
        for _ in range(times):
            for _ in range(cycles):
                version = self.cycle()
            self.clock.sleep_until(self._due + int(np.random.default_rng(student.version).integers(PERIOD_NS)))
            student.publish()
            published, before = self.clock.now(), len(self.answers)
            while version != student.version and len(self.answers) < before + 50:
                version = self.cycle()
            late.append((self.clock.now() - published) * 1e-6)
            asked = [us for _, us in self.answers[before:]]
            first += asked[-1:]  # what the taking, after the answer before it, would make late
            others += [us for _, us in self.answers[before - cycles + 1 : before]]
        return {
            "published": times,
            "ms_until_acted_with_p50": round(float(np.percentile(late, 50)), 1),
            "ms_until_acted_with_max": round(max(late), 1),
            "answer_us_p50": round(float(np.percentile(others, 50))),
            "answer_us_p99": round(float(np.percentile(others, 99))),
            "answer_us_p50_after_the_taking": round(float(np.percentile(first, 50))),
            "answer_us_max_after_the_taking": round(max(first)),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self.process, self.recorder):
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:  # it says where it hangs
                process.send_signal(signal.SIGABRT)
                raise
        for bus in self._buses.values():
            bus.close()
        shutil.rmtree(self.sockets, ignore_errors=True)
