"""The tracker's node by sight: pictures off a camera's ring, IMU and motors off the bus, poses out; and what it refuses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from robotrl import config, viewpoint
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.messages import Image, Imu
from robotrl.nodes import tracker
from robotrl.ring import Ring
from robotrl.sim.tagcamera import film_of, rotation_of, view_of

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
NEAR = ["width=640", "height=360", "focal_px=480", "position=[0, -1.4, 1.6]", "target=[0, 0, 0.35]"]
RUN = config.load(LAUNCH / "walk_seen.toml", [f"twin.tripod.{word}" for word in NEAR])


@pytest.fixture
def bus(tmp_path):
    ends = {name: Bus(tmp_path, name, WallClock()) for name in ("camera1", "imu", "tracker")}
    yield ends
    for end in ends.values():
        end.close()


def heard(lookout: tracker.Lookout, send) -> list:
    """Poses that come of what `send` publishes: it is sent again until it has arrived."""
    for _ in range(500):
        send()
        if poses := lookout.poses():
            return poses
        WallClock().sleep_until(WallClock().now() + 10_000_000)
    return []


def test_a_picture_on_the_ring_becomes_a_pose_and_one_that_its_camera_doubts_does_not(bus, tmp_path):
    view = view_of(RUN.twin.tripod, RUN.robot.seen_by)
    lookout = tracker.Lookout(SimpleNamespace(run=RUN, bus=bus["tracker"]), view)  # type: ignore[arg-type]
    film = film_of(RUN.twin.tripod, RUN.robot.roof, np.random.default_rng(0))
    grey = film.take([(rotation_of(0, 0, 0.1), np.array((0.05, 0.02, 0.27)))], None)
    ring = Ring(tmp_path, "camera1", bus["camera1"].boot, (360, 640, 3))
    images, imus = bus["camera1"].publisher("image"), bus["imu"].publisher("imu")
    clock = WallClock()

    def send(fault: str = "") -> None:
        now = clock.now()
        imus.send(Imu(t=now, roll=0.0, pitch=0.0, yaw=0.0, rates=(0.0, 0.0, 0.0), accel=(0.0, 0.0, 9.81)))
        count = ring.write(np.repeat(grey[..., None], 3, 2))
        images.send(Image(t=now, camera="track", count=count, fault=fault, height=360, width=640))

    pose = heard(lookout, send)[0]
    assert pose.position == pytest.approx((0.05, 0.02, 0.27), abs=0.006) and not pose.reckoned
    assert lookout.fault == "" and lookout.said().startswith("1 pictures: 1 seen")
    begun = clock.now()  # a picture of before may still be under way
    for _ in range(100):
        send("frozen")
        assert all(pose.t < begun for pose in lookout.poses())
        if lookout.fault == "frozen":
            break
        clock.sleep_until(clock.now() + 10_000_000)
    assert lookout.fault == "frozen"
    lookout.close()
    ring.close()


def test_a_camera_whose_place_is_of_another_is_refused(tmp_path, monkeypatch):
    refused = []
    node = SimpleNamespace(run=RUN, directory=tmp_path, refuse=lambda why: refused.append(str(why)) or 2)
    assert tracker.watch(node) == 2  # type: ignore[arg-type]
    viewpoint.write(view_of(RUN.twin.tripod, "another"), tmp_path / viewpoint.FILE)
    assert tracker.watch(node) == 2  # type: ignore[arg-type]
    assert "never calibrated" in refused[0] and "is of camera 'another', this is 'track'" in refused[1]
