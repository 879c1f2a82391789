"""What a policy sees on the wall clock: the newest sound frames of all its cameras, or nothing when one of them is too old."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from robotrl import config
from robotrl.messages import Applied, Image, Imu, Joints, Permit
from robotrl.nodes.gaze import Glance
from robotrl.nodes.pilot import Pilot
from robotrl.nodes.ringgaze import RingGaze, shrunk
from robotrl.ring import Ring
from tests.nodes.armrig import LAUNCH

MS = 1_000_000
CAMERAS = {"wrist": config.CameraPort(), "front": config.CameraPort(), "side": config.CameraPort()}
RUN = config.load(LAUNCH / "reach_pixels.toml", ["task.pixels.size=32", "task.pixels.age_s=0.1", "agent.random_steps=10000"])
RUN = replace(RUN, robot=replace(RUN.robot, cameras=CAMERAS))


class Scene:
    """Two cameras' nodes, as far as a reader hears of them, and a clock."""

    def __init__(self, folder):
        self.now, self.said = 10**12, {"camera2": [], "camera3": []}
        self.rings = {place: Ring(folder, place, 7, (48, 64, 3)) for place in self.said}
        self.asked = []
        bus = SimpleNamespace(directory=folder, subscriber=self.subscriber)
        self.gaze = RingGaze(bus, RUN, SimpleNamespace(now=lambda: self.now))

    def subscriber(self, topic, sources):
        self.asked.append((topic, sources))

        def drain():
            out, self.said[sources[0]] = self.said[sources[0]], []
            return out

        return SimpleNamespace(drain=drain)

    def show(self, place, grey, t, fault=""):
        count = self.rings[place].write(np.full((48, 64, 3), grey, np.uint8))
        self.said[place].append(Image(source=place, boot=7, t=t, camera="", count=count, fault=fault))

    def seen(self):
        glance = self.gaze.look()
        return None if glance is None else (glance.frame[0], glance.frame[-1], *glance.taken)


@pytest.fixture
def scene(tmp_path):
    made = Scene(tmp_path)
    yield made
    made.gaze.close()
    for ring in made.rings.values():
        ring.close()


def test_the_newest_sound_frame_of_each_camera_by_its_own_time(scene):
    assert scene.asked == [("image", ("camera2",)), ("image", ("camera3",))], "front and side are the robot's second and third"
    t = scene.now
    assert scene.seen() is None
    scene.show("camera2", 50, t)
    assert scene.seen() is None, "one of two is not all"
    scene.show("camera3", 60, t - 30 * MS)
    assert scene.seen() == (50, 60, t, t - 30 * MS)
    scene.show("camera2", 51, t + 1)
    scene.show("camera2", 52, t + 2)
    scene.show("camera2", 53, t + 3, fault="repeated")
    assert scene.seen() == (52, 60, t + 2, t - 30 * MS)
    assert len(scene.gaze.look().frame) == 2 * 32 * 32


def test_a_frame_that_is_too_old_is_none_until_a_younger_one_comes(scene):
    t = scene.now
    scene.show("camera2", 50, t)
    scene.show("camera3", 60, t)
    scene.now = t + 100 * MS
    assert scene.seen() is not None
    scene.now += 1
    assert scene.seen() is None
    scene.show("camera2", 51, scene.now)
    assert scene.seen() is None, "the other one is still old"
    scene.show("camera3", 61, scene.now)
    assert scene.seen() == (51, 61, scene.now, scene.now)


def test_what_was_written_over_before_it_was_read_is_not_seen(scene):
    t = scene.now
    scene.show("camera3", 60, t)
    scene.show("camera2", 50, t)
    for _ in range(8):
        scene.rings["camera2"].write(np.zeros((48, 64, 3), np.uint8))
    assert scene.seen() is None


def test_a_picture_is_the_square_in_its_middle_in_rgb_or_grey():
    wide = np.zeros((48, 96, 3), np.uint8)
    wide[:, 24:72] = (10, 100, 200)  # BGR
    assert (shrunk(wide, 16, 3) == (200, 100, 10)).all()
    grey = shrunk(wide.transpose(1, 0, 2), 16, 1)
    assert grey.shape == (16, 16, 1) and set(np.unique(grey)) == {round(0.114 * 10 + 0.587 * 100 + 0.299 * 200)}
    assert shrunk(wide[:, 24:72], 48, 3).tobytes() == wide[:, 24:72, ::-1].tobytes()


def test_an_episode_begins_when_there_is_something_to_see_and_ends_when_there_is_not():
    kept = []
    pilot = Pilot(RUN, None, 0, keep=kept.append)
    showing: list[Glance | None] = [None]
    pilot.gaze.eyes = lambda: showing[0]
    n, t = len(RUN.robot.servos.ids), 10**12

    def cycle(tick, epoch=1):
        at = t + tick * 40 * MS
        zeros = (0.0,) * n
        joints = Joints(t=at, tick=tick, position=RUN.robot.home, velocity=zeros, torque=zeros, temp_c=zeros, voltage=zeros,
                        mode=(10,) * n, fault=(0,) * n, missed=(0,) * n)  # fmt: skip
        applied = Applied(t=at, tick=tick, writer="policy", epoch=epoch, target=RUN.robot.home, clamped=(0,) * n)
        imu = Imu(roll=0.0, pitch=0.0, yaw=0.0, rates=(0.0,) * 3, accel=(0.0, 0.0, 9.8))
        permit = Permit(t=at, state="RUN", epoch=epoch, holder="policy", torque=True)
        return pilot.cycle(joints, applied, imu, permit) is not None

    assert not cycle(0) and pilot.tally is None and pilot.episode == -1
    acted = []
    for tick in range(1, 6):
        showing[0] = Glance(bytes([tick]) * 2048, (t + tick, t + tick + 1))
        acted.append(cycle(tick))
    assert acted == [True] * 5 and pilot.episode == 0
    showing[0] = None
    assert not cycle(6) and pilot.just_ended == "blind" and pilot.dropped == 1
    assert not cycle(7) and pilot.just_ended == ""
    assert [(k.next_images[0], k.images_t[0] - t, k.next_images_t[1] - t, k.truncated) for k in kept] == [
        (2, 1, 3, False), (3, 2, 4, False), (4, 3, 5, False), (5, 4, 6, True),
    ]  # fmt: skip
    assert [len(k.images) for k in kept] == [2048, 0, 0, 0]
    showing[0] = Glance(bytes(2048), (t, t))
    assert cycle(8, epoch=2) and pilot.episode == 1
