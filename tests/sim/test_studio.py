"""An arm's pictures on the wall clock: made beside the twin, stamped as they were taken, read as a network camera's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robotrl.sim.bullet import import_bullet

try:
    import_bullet()
except ImportError:
    pytest.skip("no PyBullet here", allow_module_level=True)

from robotrl import config
from robotrl.clock import WallClock
from robotrl.drivers import mjpeg
from robotrl.nodes.ringgaze import shrunk
from robotrl.sim.armrig import ArmRig
from robotrl.sim.servotwin import ServoTwin, laid
from robotrl.sim.studio import Stage, Studio, record_of

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


@pytest.mark.parametrize("name", ["reach_pixels", "push_pixels"])
def test_the_stage_shows_what_the_lockstep_eyes_do(name):
    """The arm, the goal and the tin where they are; but for the noise that no sensor is without."""
    run = config.load(LAUNCH / f"{name}.toml")
    rig, stage = ArmRig(run, 5), Stage(run, 5)
    for _ in range(25):
        rig.cycle()
    rig.pilot.task.begin(0)
    puck = getattr(rig.table, "puck", None)
    if puck:
        puck.put((0.21, 0.04))
    numbers = [rig.table.goal, puck.lies() if puck else (np.nan,) * 7]
    goal = (*numbers[0], *[np.nan] * (3 - len(numbers[0])))
    record = record_of(run).pack(77, 0, *rig.twin.joints.angle, *goal, *numbers[1])
    taken, images = stage.pictures(record)
    size, channels = run.task.pixels.size, run.task.pixels.channels
    seen = np.frombuffer(rig.pilot.gaze.eyes().frame, np.uint8).reshape(2, size, size, channels).astype(float)
    assert taken == 77
    for image, true in zip(images, seen, strict=True):
        off = np.abs(shrunk(image, size, channels) - true)
        assert off.mean() < 1.5 and np.quantile(off, 0.99) < 8
    stage.eyes.joints.close()
    rig.close()


def test_pictures_come_stamped_as_they_were_taken_from_a_camera_each():
    run = config.load(LAUNCH / "reach_pixels.toml")
    clock, twin = WallClock(), ServoTwin("so101")
    twin.table = laid(run, twin, 0)
    twin.studio = room = Studio(run, 0)
    try:
        assert twin.cameras() == {f"camera.{name}": room.urls[name] for name in ("front", "side")}
        cameras = {name: mjpeg.connect(url, clock) for name, url in room.urls.items()}
        taken, frames = set(), dict.fromkeys(cameras)
        for _ in range(300):
            taken.add(now := clock.now())
            room.take(now, 0, twin.joints.angle.tolist(), twin.table.goal, ())
            for name, camera in cameras.items():
                frames[name] = frames[name] or camera.read(clock.now() + 50_000_000)
            if all(frames.values()):
                break
        for frame in frames.values():
            assert frame is not None and frame.t in taken and frame.stamp == "device"
            assert frame.pixels().shape == (64, 64, 3)
        assert not np.array_equal(frames["front"].pixels(), frames["side"].pixels())
        for camera in cameras.values():
            camera.close()
    finally:
        twin.close()
    assert not room.directory.exists()


def test_a_picture_falls_due_as_often_as_its_camera_takes_one():
    run = config.load(LAUNCH / "reach_pixels.toml", ["twin.view_hz=20"])
    studio = Studio.__new__(Studio)
    studio._period, studio._due = 1 / run.twin.view_hz, 0.0
    due = [k for k in range(1000) if studio.due(k * 0.002)]
    assert len(due) == 40 and set(np.diff(due)) <= {24, 25, 26}
