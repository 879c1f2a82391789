"""A robot whose tracker looks through a camera, in virtual time: from the camera's frames to the state; rows 17 to 20 for it.

The camera's own node judges the frames, the guard's hears of them. Causes of the camera are judged while the policy drives.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from msgspec import structs

from robotrl.config import CameraPort, Run
from robotrl.drivers.camera import Frame
from robotrl.nodes import evidence
from robotrl.nodes.camera import Eye
from robotrl.nodes.guard import Sentry
from robotrl.safety.fitting import without
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

    def __init__(self, folder: Path) -> None:
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


class Row(NamedTuple):
    """What becomes of frame n, counted from the first bad one; the cause, and within how many ms the robot holds."""

    number: int
    name: str
    spoils: Callable[[int, Any], Any]
    cause: str
    ms: int


ROWS = (
    Row(17, "one frame again and again", lambda n, f: f and replace(f, number=7, mark=7, image=HELD), "camera_frozen", 120),
    Row(17, "its picture under new numbers", lambda n, f: f and replace(f, image=HELD), "camera_frozen", 120),
    Row(18, "no frame", lambda n, f: None, "camera_late", 140),
    Row(18, "frames that are too old", lambda n, f: f and replace(f, t=f.t - 400 * MS), "camera_late", 120),
    Row(18, "frames of another size", lambda n, f: f and replace(f, image=f.image[::2]), "camera_late", 120),
    Row(19, "covered", lambda n, f: f and replace(f, image=np.full_like(f.image, 1) + f.image // 100), "camera_blind", 190),
    Row(19, "dazzled", lambda n, f: f and replace(f, image=255 - f.image // 100), "camera_blind", 190),
    Row(20, "unplugged", lambda n, f: "unplugged", "camera_gone", 120),
    Row(20, "its process dead", lambda n, f: "dead", "camera_gone", 400),
)


def played(row: Row, folder: Path) -> list[str]:
    """The fault while it walks, and its end; what is wrong with what came of it."""
    world = Watched(folder).run()
    if (ms := world.until_it_holds(row.spoils, row.ms)) > row.ms:
        return [f"no {row.cause} within {row.ms} ms"]
    if world.shown.state != "HOLD" or row.cause not in world.shown.causes:
        return [f"{world.shown.state} after {ms:.0f} ms, by {world.shown.causes}"]
    world.spoils = lambda n, frame: frame
    world.eye.begin()
    # A hiccup heals by a reset, others by a key.
    if (state := world.step(50)) != ("RESET" if row.cause == "camera_late" else "HOLD"):
        return [f"healed, and then in {state}"]
    return [f"healed, and {row.cause} still stands"] if row.cause in world.shown.causes else []


def blinded(row: Row, folder: Path) -> list[str]:
    """The negative control: the same with the camera's causes taken out of the guard's table."""
    known = evidence.without
    evidence.without = lambda rows, absent: without(known(rows, absent), {"camera"})
    try:
        return played(row, folder)
    finally:
        evidence.without = known


def cases(control: bool) -> Iterator[tuple[Row, list[str]]]:
    """Each row, or its control; what is wrong."""
    for row in ROWS:
        with tempfile.TemporaryDirectory(prefix="robotrl-") as folder:
            yield row, (blinded if control else played)(row, Path(folder))
