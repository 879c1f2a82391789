"""Rows 17 to 20 of the fault catalogue, of the camera that a robot's tracker looks through: from its frames to the state.

The camera's own node judges the frames, the guard's hears of them, in virtual time. Each row with its negative control: without
the cause the robot walks on.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from msgspec import structs

from robotrl.config import CameraPort, Run
from robotrl.drivers.camera import Frame
from robotrl.nodes import guard
from robotrl.nodes.camera import Eye
from robotrl.nodes.guard import Sentry
from robotrl.safety.causes import without
from tests.nodes.test_guard import World

RATE_HZ, DELAY_NS = 30.0, 40_000_000
FRAME_NS = round(1e9 / RATE_HZ)
MS = 1_000_000


def scene(n: int) -> np.ndarray:
    image = np.full((48, 64, 3), 90, np.uint8)
    image[8:40, n % 32 : n % 32 + 24] = 200
    return image


class Watched(World):
    """The world, and a camera: `spoils` makes of frame n what comes instead (None: nothing), or says "unplugged", "dead"."""

    def __init__(self, folder):
        super().__init__()
        robot = Run().robot
        self.sentry = Sentry(replace(Run(), robot=replace(robot, tracker=replace(robot.tracker, camera="track"))),
                             lambda: 1, iter(range(1000, 9999)).__next__)  # fmt: skip
        self.spoils = lambda n, frame: frame
        said = SimpleNamespace(send=self.said)
        bus = SimpleNamespace(publisher=lambda topic: said, directory=folder, boot=1)
        clock = SimpleNamespace(now=lambda: self.now)
        self.eye = Eye(
            SimpleNamespace(bus=bus, clock=clock, source="camera1"), "track", CameraPort(kind="mjpeg", rate_hz=RATE_HZ)
        )
        self.frames = 0

    def said(self, message):
        if type(message).__name__ == "Image":
            self.hear(structs.replace(message, source="camera1", boot=1))

    def speak(self):
        super().speak()
        while (taken := 10**12 + self.frames * FRAME_NS) + DELAY_NS <= self.now:
            good = Frame(t=taken, stamp="device", number=self.frames, mark=taken, image=scene(self.frames))
            got = self.spoils(self.frames, good)
            self.frames += 1
            if isinstance(got, Frame):
                self.eye.see(got)
            elif got == "unplugged":
                self.eye.gone()
        if self.spoils(0, None) != "dead":
            self.eye.miss()

    def until_it_holds(self, spoils, most_ms):
        """Ms from the first bad frame's time on; most_ms + 1 where it never does."""
        first, began = self.frames, 10**12 + self.frames * FRAME_NS + DELAY_NS
        self.spoils = lambda n, frame: spoils(n - first, frame)
        while self.now - began < most_ms * MS:
            if self.step() != "RUN":
                return (self.now - began) / MS
        return most_ms + 1


HELD = scene(3)
ROWS = {
    "one frame again and again": (lambda n, f: f and replace(f, number=7, mark=7, image=HELD), "camera_frozen", 120),
    "its picture under new numbers": (lambda n, f: f and replace(f, image=HELD), "camera_frozen", 120),
    "no frame": (lambda n, f: None, "camera_late", 140),
    "frames that are too old": (lambda n, f: f and replace(f, t=f.t - 400 * MS), "camera_late", 120),
    "frames of another size": (lambda n, f: f and replace(f, image=f.image[::2]), "camera_late", 120),
    "covered": (lambda n, f: f and replace(f, image=np.full_like(f.image, 1) + f.image // 100), "camera_blind", 190),
    "dazzled": (lambda n, f: f and replace(f, image=255 - f.image // 100), "camera_blind", 190),
    "unplugged": (lambda n, f: "unplugged", "camera_gone", 120),
    "its process dead": (lambda n, f: "dead", "camera_gone", 400),
}  # fmt: skip


@pytest.mark.parametrize("fault", ROWS)
def test_the_robot_holds_within_the_rows_budget(tmp_path, fault):
    spoils, cause, most_ms = ROWS[fault]
    world = Watched(tmp_path).run()
    assert world.until_it_holds(spoils, most_ms) <= most_ms
    assert world.shown.state == "HOLD" and cause in world.shown.causes, (world.shown.state, world.shown.causes)
    world.spoils = lambda n, frame: frame
    world.eye.begin()
    assert world.step(50) == ("RESET" if cause == "camera_late" else "HOLD"), "a hiccup heals by a reset, others by a key"
    assert cause not in world.shown.causes


@pytest.mark.parametrize("fault", ROWS)
def test_without_its_detector_it_walks_on(tmp_path, fault, monkeypatch):
    spoils, _, most_ms = ROWS[fault]
    known = guard.without
    monkeypatch.setattr(guard, "without", lambda rows, absent: without(known(rows, absent), {"camera"}))
    assert Watched(tmp_path).run().until_it_holds(spoils, most_ms) > most_ms


@pytest.mark.parametrize(
    "spoils",
    [
        lambda n, f: f if n > 1 else None,  # two lost frames are borne, their age is known
        lambda n, f: f and (replace(f, number=5, mark=5, image=HELD) if n in (0, 1) else f),  # one repeated
        lambda n, f: f and (replace(f, image=f.image // 100) if n < 4 else f),  # four dark ones
    ],
)
def test_what_is_borne(tmp_path, spoils):
    assert Watched(tmp_path).run().until_it_holds(spoils, 1000) > 1000


def test_a_camera_that_nobody_looks_through_stops_nobody(tmp_path):
    world = Watched(tmp_path).run()
    world.eye._name = "wrist"
    world.sentry._heard["Image"] = world.now + 10**9
    assert world.until_it_holds(lambda n, f: "unplugged", 800) > 800


def test_before_its_first_word_a_camera_is_not_missed():
    world = World()
    robot = Run().robot
    seen = replace(Run(), robot=replace(robot, tracker=replace(robot.tracker, camera="track")))
    world.sentry = Sentry(seen, lambda: 1, iter(range(1000, 9999)).__next__)
    assert world.run().step(100) == "RUN"
