"""ROBEL's walk against its formula worked out by hand: base_env.py and walk.py of google-research/robel."""

import math
from pathlib import Path

import numpy as np
import pytest

from robotrl.config import ConfigError, load
from robotrl.messages import Imu, Joints, Pose
from robotrl.tasks.task import sizes, task_of
from robotrl.tasks.walk_to import WalkTo

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
RUN = load(LAUNCH / "dkitty_walk.toml")
SET = RUN.task.walk_to
MS = 1_000_000


def imu(roll=0.0, pitch=0.0):
    return Imu(roll=roll, pitch=pitch, yaw=0.0, rates=(0.5, -1.0, 9.0), accel=(0.0, 0.0, 9.81))


def joints(position=RUN.robot.home, velocity=(0.0,) * 12):
    zero, none = (0.0,) * 12, (0,) * 12
    return Joints(tick=0, position=tuple(position), velocity=tuple(velocity), torque=zero, temp_c=zero, voltage=zero, mode=none,
                  fault=none, missed=none)  # fmt: skip


def pose(t, x, y, yaw):
    return Pose(t=t, position=(x, y, 0.25), rpy=(0.0, 0.0, yaw))


@pytest.fixture
def task():
    made = task_of(RUN, seed=3)
    assert isinstance(made, WalkTo)
    made.see(pose(1, 1.0, 2.0, math.pi / 2))
    made.begin(0)
    return made


def robel(away, facing, up):
    """The sum of get_reward_dict's terms, as they stand there with the defaults of BaseDKittyWalk."""
    return (
        1.0 * (up - 0.9) / (1 - 0.9) - 500 * (up < 0.9) - 4 * away + 2 * (facing - 0.9) / 0.1
        + 5 * ((away < 0.5) + (facing > 0.9)) + 10 * (away < 0.5) * (facing > 0.9)
    )  # fmt: skip


@pytest.mark.parametrize("x, y, yaw", [(1.0, 2.0, 1.57), (1.2, 3.0, 0.9), (1.0, 3.6, 1.6), (1.1, 3.9, -1.0), (0.0, 4.0, 0.0)])
@pytest.mark.parametrize("roll, pitch", [(0.0, 0.0), (0.3, -0.2), (0.4, 0.4)])
def test_the_reward_is_robels(task, x, y, yaw, roll, pitch):
    """The place is 2 m ahead of (1, 2) looking along y: at (1, 4)."""
    assert task.place == pytest.approx((1.0, 4.0))
    task.see(pose(100 * MS, x, y, yaw))
    dx, dy = 1.0 - x, 4.0 - y
    away = math.hypot(dx, dy)
    facing = (dx * math.cos(yaw) + dy * math.sin(yaw)) / away
    cost, fallen = task.cost(joints(), imu(roll, pitch)), bool(task.ended(joints(), imu(roll, pitch)))
    up = math.cos(roll) * math.cos(pitch)
    assert fallen == (up < 0.9)
    got = task.reward_of(100 * MS, np.zeros((3, 12)), cost, fallen)
    assert got == pytest.approx(SET.scale * robel(away, facing, up))
    assert task.succeeded(100 * MS) == (away < 0.5 and facing > 0.9)


def test_a_reward_waits_for_its_pose_and_takes_it_between_two(task):
    assert task.reward_of(60 * MS, np.zeros((3, 12)), 0.0, False) is None
    task.see(pose(100 * MS + 1, 1.0, 3.0, math.pi / 2))
    half = task.reward_of(50 * MS + 1, np.zeros((3, 12)), 0.0, False)
    assert half == pytest.approx(SET.scale * (2 * 1.0 + 5 - 4 * 1.5), abs=1e-6)


def test_falls_end_and_time_and_a_lost_tracker_cut(task):
    assert task.ended(joints(), imu(0.45)) == "" and task.ended(joints(), imu(0.46)) == "fall"  # cos 0.451 is 0.9
    assert task.ended(joints(), imu(math.nan)) == "fall"
    assert task.cut(1, 0, SET.episode_steps - 1) == "" and task.cut(1, 0, SET.episode_steps) == "time"
    assert task.cut(1 + int(RUN.task.tracker_patience_s * 1e9) + 1, 0, 5) == "tracker lost"


def test_the_observation_by_hand(task):
    """The place is 2 m away; turned to y - 30 degrees, it lies 30 degrees to the left."""
    task.see(pose(9, 1.0, 2.0, math.pi / 2 - math.pi / 6))
    q, w = [0.1 * k for k in range(12)], [1.0 * k for k in range(12)]
    seen = task.observation(joints(q, w), imu(0.1, 0.2))
    legs = RUN.task.legs
    centre = [0.0, legs.pitch_centre, legs.knee_centre] * 4
    near, c, s = math.tanh(2.0 / 0.5), math.cos(math.pi / 6), 0.5
    want = [*np.subtract(q, centre), *(0.2 * x for x in w), 0.1, 0.2, 0.1, -0.2]
    want += [2 * c, 2 * s, near * c, near * s, c, s]
    assert seen == pytest.approx(want, abs=1e-5) and seen.dtype == np.float32
    assert sizes(RUN) == (len(want) * 3 + 12 * 2, 12)


def test_an_action_is_found_again_and_the_mirror_fits(task):
    before, action = np.full(12, 0.2, np.float32), np.linspace(-1, 1, 12).astype(np.float32)
    sent = task.applied(task.target(action, before))
    assert task.action(sent, before) == pytest.approx(action, abs=1e-5)
    assert sent == pytest.approx(before + RUN.task.legs.smoothing * (action - before), abs=1e-6)
    task.mirror().check(*sizes(RUN))


def test_what_is_seen_in_the_mirror_is_the_mirrored_robot(task):
    """A robot whose left and right are exchanged, its place on the other side, sees the mirrored observation."""
    rng = np.random.default_rng(0)
    q, w = rng.uniform(-1, 1, 12), rng.uniform(-1, 1, 12)
    other = np.array([3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8])
    sign = np.array([-1, 1, 1] * 4)
    task.see(pose(9, 1.0, 2.0, math.pi / 2 - 0.4))
    one = task.observation(joints(q, w), Imu(roll=0.1, pitch=0.2, yaw=0.0, rates=(0.3, 0.4, 0.0), accel=(0, 0, 9.8)))
    task.see(pose(10, 1.0, 2.0, math.pi / 2 + 0.4))
    two = task.observation(
        joints(sign * q[other], sign * w[other]),
        Imu(roll=-0.1, pitch=0.2, yaw=0.0, rates=(-0.3, 0.4, 0.0), accel=(0, 0, 9.8)),
    )
    mirror = task.mirror()
    n = len(one)
    assert mirror.observation_sign[:n] * one[mirror.observation[:n]] == pytest.approx(two, abs=1e-5)


def test_places_are_drawn_between_their_bounds():
    run = load(LAUNCH / "dkitty_walk.toml", ["task.walk_to.near=[1.0, -1.047]", "task.walk_to.far=[2.0, 1.047]"])
    task = task_of(run, seed=1)
    drawn = []
    for episode in range(100):
        task.begin(episode)
        drawn.append((math.hypot(*task.place), math.atan2(task.place[1], task.place[0])))
    low, high = np.min(drawn, 0), np.max(drawn, 0)
    assert 1.0 <= low[0] < 1.1 and 1.9 < high[0] <= 2.0 and -1.047 <= low[1] < -0.9 and 0.9 < high[1] <= 1.047


def test_other_robots_are_refused():
    with pytest.raises(ConfigError, match=r"robot\.kind must be dkitty"):
        load(LAUNCH / "dkitty_walk.toml", ["robot.kind=omx"])
