"""The twin's pictures on the wall clock: made beside it, stamped as they were taken, read by the driver of network cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robotrl import config, tagcorners
from robotrl.clock import WallClock
from robotrl.drivers import mjpeg
from robotrl.sim.darkroom import Darkroom, exposure_of
from robotrl.sim.tagcamera import MOMENTS, Exposure

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
NEAR = ["width=640", "height=360", "focal_px=480", "position=[0, -1.4, 1.6]", "target=[0, 0, 0.35]"]
RUN = config.load(LAUNCH / "walk_seen.toml", [f"twin.tripod.{word}" for word in NEAR])
STANDING = Exposure(0.0, 0.0, [(np.eye(3), np.array((0.0, 0.0, 0.27)))] * MOMENTS, np.full(8, 2.0))


def test_what_goes_through_the_pipe_comes_out_of_it_as_it_was():
    from robotrl.sim.darkroom import RECORD

    numbers = np.arange(12.0 * MOMENTS + 8)
    taken, arrives, exposure = exposure_of(RECORD.pack(5, 7, *numbers.tolist()))
    assert (taken, arrives) == (5, 7) and exposure.motors == pytest.approx(numbers[-8:])
    assert exposure.moments[1][0].ravel().tolist() == list(range(12, 21)) and exposure.moments[1][1].tolist() == [21, 22, 23]


def test_a_picture_is_made_beside_the_twin_and_carries_the_time_at_which_it_was_taken():
    room, clock = Darkroom(RUN, 0), WallClock()
    try:
        camera = mjpeg.connect(room.url, clock)
        taken, frame = set(), None
        for _ in range(300):
            now = clock.now()
            taken.add(now)
            room.develop(STANDING, now, now + 1_000_000)
            frame = camera.read(now + 200_000_000)
            if frame is not None:
                break
        assert frame is not None and frame.t in taken
        pixels = frame.pixels()
        assert pixels is not None and pixels.shape == (360, 640, 3)
        assert set(tagcorners.find(tagcorners.detector(), np.ascontiguousarray(pixels[..., 0]), RUN.robot.roof.ids)) >= {4, 5}
        camera.close()
    finally:
        room.close()
    assert not Path(room.url.removeprefix("unix:")).parent.exists()
