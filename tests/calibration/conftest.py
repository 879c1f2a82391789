"""A robot of eight servos without a wire: they obey like moteus does, watchdog included, in virtual time."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from robotrl import config
from robotrl.calibration.board import CHARUCO
from robotrl.clock import LockstepClock
from robotrl.messages import Joints


class Servos:
    """A chain of first-order servos. Attributes are the faults that a test sets."""

    def __init__(self, robot: config.Robot, clock: LockstepClock) -> None:
        n = len(robot.servos.ids)
        self.clock, self.watchdog_s = clock, [robot.servos.watchdog_s] * n
        self.angle, self.speed, self.target = [math.pi / 2] * n, [0.0] * n, [math.nan] * n
        self.mode, self.fault, self.missed = [0] * n, [0] * n, [0] * n
        self.gain = [30.0] * n  # 1/s; 0 jams the motor, negative runs it the wrong way
        self.damping = 50.0  # 1/s
        self.noise = 0.0
        self.complaints: list[str] = []
        self.configured = self.deaf = False
        self.fed = self.seen = clock.now()
        self.calls: list[str] = []

    def _pass_time(self) -> None:
        """From the last call to now, in steps of a millisecond."""
        while self.seen < self.clock.now():
            self.seen += 1_000_000
            for i in range(len(self.angle)):
                if self.mode[i] == 10 and self.seen - self.fed > self.watchdog_s[i] * 1e9:
                    self.mode[i] = 11
                if self.mode[i] == 10 and not math.isnan(self.target[i]):
                    self.speed[i] = self.gain[i] * (self.target[i] - self.angle[i])
                else:
                    self.speed[i] *= max(0.0, 1.0 - self.damping * 1e-3)
                self.angle[i] += self.speed[i] * 1e-3

    def read(self, tick: int) -> Joints:
        self._pass_time()
        self.noise = -self.noise
        n = len(self.angle)
        return Joints(
            tick=tick,
            t=self.clock.now(),
            position=tuple(a + self.noise for a in self.angle),
            velocity=tuple(self.speed),
            torque=(0.0,) * n,
            temp_c=(30.0,) * n,
            voltage=(16.0,) * n,
            mode=tuple(self.mode),
            fault=tuple(self.fault),
            missed=tuple(self.missed),
        )

    def write(self, targets):
        self._command("write", list(targets))
        return tuple(targets)

    def damp(self) -> None:
        self._command("damp", [math.nan] * len(self.angle))

    def _command(self, name: str, targets: list[float]) -> None:
        self._pass_time()
        self.calls.append(name)
        self.fed = self.clock.now()
        self.target = targets
        self.mode = [10 if mode in (0, 10) else mode for mode in self.mode]

    def stop(self) -> None:
        self._pass_time()
        self.calls.append("stop")
        if not self.deaf:
            self.mode = [0] * len(self.mode)

    def confirmed_off(self) -> bool:
        return not any(self.mode)

    def clear(self):
        self.stop()
        return ()

    def configure(self) -> None:
        self.configured = True

    def check(self) -> list[str]:
        return self.complaints


@pytest.fixture
def clock():
    return LockstepClock()


@pytest.fixture
def robot():
    return replace(config.Robot(), serial="a1")


@pytest.fixture
def chain(robot, clock):
    return Servos(robot, clock)


@pytest.fixture(scope="session")
def optics():
    """bench/optics.py: cameras and boards with a known truth."""
    path = Path(__file__).resolve().parents[2] / "bench" / "optics.py"
    spec = importlib.util.spec_from_file_location("optics", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def looks(optics):
    """Twelve poses of the chessboard in a camera's frame, (4, 4) each."""
    return optics.held(np.random.default_rng(3), CHARUCO.size_m, optics.LENS, (480, 640), 12)


@pytest.fixture(scope="session")
def pictures(optics, looks, tmp_path_factory):
    """A folder with what the camera saw of them, 000.png and on."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(4)
    scene = optics.Scene(CHARUCO.black(), CHARUCO.size_m, 0.001)
    for i, pose in enumerate(looks):
        cv2.imwrite(str(folder / f"{i:03d}.png"), scene.picture(pose, optics.LENS, (480, 640), rng, parts=2))
    return folder
