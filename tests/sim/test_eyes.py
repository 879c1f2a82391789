"""An arm's cameras on the twin: the goal is where a pinhole has it, and each transition keeps the pictures of its own moments."""

from pathlib import Path

import numpy as np
import pytest

from robotrl.sim.bullet import import_bullet

try:
    import_bullet()
except ImportError:
    pytest.skip("no PyBullet here", allow_module_level=True)

from robotrl.config import ConfigError, load
from robotrl.frames import joined
from robotrl.nodes.gaze import Glance
from robotrl.replay import Replay
from robotrl.sim.armrig import ArmRig
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
