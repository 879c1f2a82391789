"""An arm's cameras on the twin: the goal is where a pinhole has it, and each transition keeps the pictures of its own moments."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robotrl.sim.bullet import import_bullet

try:
    import_bullet()
except ImportError:
    pytest.skip("no PyBullet here", allow_module_level=True)

from robotrl import config
from robotrl.config import ConfigError, load
from robotrl.frames import joined
from robotrl.nodes.gaze import Glance
from robotrl.replay import Replay
from robotrl.sim.armrig import ArmRig
from robotrl.sim.eyes import Eye, Eyes
from robotrl.sim.fleets import FLEETS
from robotrl.sim.reaching import Resolved
from robotrl.tasks.task import cameras, sizes

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
WHOLE = {"reach_pixels": 24, "push_pixels": 12}  # pixels of a goal that nothing hides, at least


def pinhole(point, view, size=64):
    """Column and row of a point (3,) m, worked out here from where the camera stands and what it looks at."""
    ahead = np.subtract(view.target, view.eye)
    ahead = ahead / np.linalg.norm(ahead)
    right = np.cross(ahead, (0.0, 0.0, 1.0))
    right = right / np.linalg.norm(right)
    up = np.cross(right, ahead)
    seen = np.subtract(point, view.eye)
    f = size / 2 / np.tan(np.radians(view.fov_deg) / 2)
    x, y, z = (float(np.dot(axis, seen)) for axis in (right, up, ahead))
    return size / 2 - 0.5 + f * x / z, size / 2 - 0.5 - f * y / z


def middle(differs):
    """Of the pixels that changed: column and row."""
    rows, columns = np.nonzero(differs)
    return columns.mean(), rows.mean()


@pytest.mark.parametrize(("name", "channels"), [("reach_pixels", 1), ("push_pixels", 3)])
def test_a_goal_is_seen_where_a_pinhole_has_it(name, channels):
    run = load(LAUNCH / f"{name}.toml", [f"task.pixels.channels={channels}"])
    rig = ArmRig(run, 0)
    rig.cycle()
    task, at = rig.pilot.task, cameras(run)
    rng = np.random.default_rng(0)
    for _ in range(5):
        if name == "reach_pixels":
            goal = task.goal = rng.uniform(run.task.reach.goal_low, run.task.reach.goal_high)
            aside, key = np.array((0.2, 0.0, -9.0)), "goal"
        else:
            task.place = rng.uniform((0.2, -0.05), (0.24, 0.05))
            goal, aside, key = np.append(task.place, -rig.twin.joints.height), np.array((9.0, 9.0)), "place"
        there = joined(rig.pilot.gaze.eyes().frame, at)
        setattr(task, key, aside)
        gone = joined(rig.pilot.gaze.eyes().frame, at)
        seen = 0
        for k, (camera, *_) in enumerate(at):
            differs = (there != gone)[..., k * channels : (k + 1) * channels].any(axis=-1)
            if differs.sum() > WHOLE[name]:  # else the arm is before it
                seen += 1
                assert middle(differs) == pytest.approx(pinhole(goal, run.twin.views[camera]), abs=1)
        assert seen, "no camera sees the goal"
    rig.close()


def test_each_transition_keeps_the_pictures_of_its_moments(tmp_path):
    """A camera that shows the number of the cycle, in a rig that goes on through ends of episodes."""
    run = load(LAUNCH / "reach_pixels.toml", ["task.reach.episode_steps=20", "task.pixels.size=32"])
    replay = Replay.create(tmp_path / "replay", *sizes(run), 1000, cameras(run))
    rig = ArmRig(run, 3, replay)
    rig.pilot.take(Resolved(rig), 0, 0)
    looks = []

    def look():
        looks.append(rig.servos.tick)
        return Glance(bytes([len(looks) % 251, *bytes(2 * 32 * 32 - 1)]), (len(looks),) * 2)

    rig.pilot.gaze.eyes = look
    of_tick = {}
    while replay.count < 60:
        rig.cycle()
        if looks:
            of_tick[rig.joints.tick] = len(looks) % 251
    rows = np.arange(replay.count)
    images = replay.images(rows)
    after = [of_tick[int(tick)] for tick in replay.columns["tick"][: replay.count]]
    assert images.next_observation["front"][:, 0, 0, 0].tolist() == after
    assert images.observation["front"][:, 0, 0, 0].tolist() == [(number - 1) % 251 for number in after]
    assert replay.frame_count < replay.count + 6, "a frame that two rows share is there once"
    rig.close()
    replay.close()


OPTICS = config.Optics()
VIEW = config.View(eye=(0.7, 0.0, 0.3), target=(0.2, 0.0, 0.14), fov_deg=40.0)


@pytest.fixture(scope="module")
def scene():
    """An arm at home with its ball, and what makes an eye before it."""
    run = load(LAUNCH / "reach_pixels.toml")
    joints, _ = FLEETS["so101"].turned()
    eyes = Eyes(run, joints)
    yield eyes, lambda **optics: Eye(VIEW, 128, 3, replace(OPTICS, **optics), np.random.default_rng(0))
    joints.close()


def red(picture):
    """Where the ball is: column and row."""
    r, g, b = picture.astype(int).transpose(2, 0, 1)
    return middle((r > 90) & (r > 2 * g) & (r > 2 * b))


def test_a_lens_bends_as_brown_and_conrady_say(scene):
    """Worked out here: x (1 + k1 r2 + k2 r2^2) + 2 p1 x y + p2 (r2 + 2 x^2), and y likewise."""
    eyes, eye = scene
    k1, k2, p1, p2 = -0.9, 0.6, 0.01, -0.02
    bent, straight = eye(distortion=(k1, k2, p1, p2, 0.0)), eye()
    f, half = 64 / np.tan(np.radians(20)), 63.5
    for goal in ((0.25, -0.13, 0.1), (0.2, 0.14, 0.26), (0.24, 0.0, 0.15)):
        eyes.put(np.array(goal))
        there = np.array(red(straight.see(eyes.joints)))
        x, y = (there - half) / f
        r2 = x * x + y * y
        radial = 1 + k1 * r2 + k2 * r2 * r2
        expected = half + f * np.array((x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                                        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y))  # fmt: skip
        assert red(bent.see(eyes.joints)) == pytest.approx(expected.tolist(), abs=0.8)
        assert np.abs(expected - there).max() > 1.5 or abs(x) + abs(y) < 0.2


def test_noise_grows_with_light_and_each_episode_is_lit_and_stood_otherwise(scene):
    eyes, eye = scene
    eyes.put(np.array((0.22, 0.05, 0.15)))
    clean, noisy = eye().see(eyes.joints).astype(float), eye(noise=3.0, shot=0.05)
    off = np.array([noisy.see(eyes.joints) - clean for _ in range(8)])
    grey = (clean > 40) & (clean < 215)
    expected = np.sqrt(9 + 0.05 * clean[grey] + 1 / 12)
    assert np.sqrt((off[:, grey] ** 2).mean(0) / expected**2).mean() == pytest.approx(1.0, abs=0.08)
    moved, lit = eye(moved_m=0.05, turned_m=0.02), eye(lit=0.4)
    places, lights = [], []
    for _ in range(4):
        moved.begin(0.0)
        lit.begin(0.0)
        places.append(red(moved.see(eyes.joints)))
        lights.append(lit.see(eyes.joints).mean())
    assert np.ptp(np.array(places), axis=0).max() > 3 and np.ptp(lights) > 10


def test_pictures_are_late_and_lost_and_say_when_they_were_taken(scene):
    eyes, eye = scene
    ms = 1_000_000

    def seen(camera, count=30):
        out = []
        for k in range(count):
            eyes.put(np.array((0.22, 0.05, 0.10 + 0.004 * k)))
            out.append((k, *camera.look(eyes.joints, k * 40 * ms)))
        return out

    truth = [picture for _, _, picture in seen(eye())]
    late = seen(eye(delay_s=0.1))
    assert [taken // (40 * ms) for _, taken, _ in late] == [0, 0, 0, *range(27)], "100 ms are three decisions"
    lossy = seen(eye(drop=0.5))
    fresh = sum(taken == k * 40 * ms for k, taken, _ in lossy)
    assert 7 < fresh < 23 and all(picture == truth[taken // (40 * ms)] for _, taken, picture in late + lossy)
    camera = eye(delay_s=0.1)
    seen(camera, 3)
    camera.begin(0.0)
    assert camera.look(eyes.joints, 7)[0] == 7, "what was on its way is of the last episode"


def test_what_is_felt_does_not_say_where_the_goal_is():
    run = load(LAUNCH / "reach_pixels.toml")
    rig = ArmRig(run, 0)
    rig.cycle()
    task = rig.pilot.task
    inputs = []
    for goal in run.task.reach.goal_low, run.task.reach.goal_high:
        task.goal = np.array(goal)
        inputs.append(task.observation(rig.joints, rig.imu))
    assert (inputs[0] == inputs[1]).all() and len(inputs[0]) == task.sensors == 8
    rig.close()


def test_cameras_that_are_nowhere_are_refused():
    with pytest.raises(ConfigError, match=r"task.pixels.cameras must be names of \[twin.views.NAME\]"):
        load(LAUNCH / "reach_pixels.toml", ['task.pixels.cameras=["front", "top"]'])
    with pytest.raises(ConfigError, match=r'empty unless task\.name is "reach" or "push"'):
        load(LAUNCH / "stack.toml", ['task.pixels.cameras=["front"]'])
    with pytest.raises(ConfigError, match="three numbers"):
        load(LAUNCH / "reach_pixels.toml", ["twin.views.front.eye=[1.0]"])
