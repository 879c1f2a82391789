"""Push against numbers worked out by hand, on OpenManipulator-X."""

import math
from pathlib import Path

import numpy as np
import pytest

from robotrl.config import ConfigError, load
from robotrl.messages import Pose
from robotrl.nodes.reset import LEVEL
from robotrl.tasks.push import Push
from robotrl.tasks.task import sizes, task_of
from tests.tasks.test_stack import STILL, joints, tip_of

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
RUN = load(LAUNCH / "push.toml")
SET = RUN.task.push
START = RUN.task.start
AXIS = np.array((0.012, 0.0))  # of the turntable


def pose(t, x, y):
    return Pose(t=t, position=(x, y, 0.01), rpy=(0.0, 0.0, 0.0))


@pytest.fixture
def task():
    made = task_of(RUN, seed=5)
    assert isinstance(made, Push)
    made.begin(0)
    return made


def test_the_cost_by_hand(task):
    """The thing 12 cm ahead of the turntable and 16 cm to its left, so 20 cm off; the point belongs 3 cm nearer."""
    task.see(pose(1, 0.132, 0.16))
    task.place = AXIS + (0.15, 0.20)
    behind = np.array((0.012 + 0.17 * 0.6, 0.17 * 0.8, SET.height_m))
    assert task.behind() == pytest.approx(behind)
    left, off = 0.05, float(np.linalg.norm(behind - tip_of(START)))
    want = SET.time_cost + SET.distance_weight * left + SET.near_weight * math.tanh(left / SET.near_m)
    want += SET.behind_weight * min(1.0, off / 0.1) + SET.tilt_weight * abs(sum(START[1:4]) - math.pi / 2)
    cost = task.cost(joints(START), LEVEL)
    assert cost == pytest.approx(want) and task.reward_of(0, STILL, cost, False) == pytest.approx(-cost)


def test_what_is_aside_of_the_way_outwards_counts_more(task):
    task.see(pose(1, 0.132, 0.16))  # 0.12 ahead of the axis and 0.16 to its left
    task.place = AXIS + (0.12 + 0.03 * 0.6 - 0.01 * 0.8, 0.16 + 0.03 * 0.8 + 0.01 * 0.6)  # 3 cm outwards and 1 cm to the left
    assert task.left() == pytest.approx(math.hypot(0.03, SET.aside * 0.01))
    task.place = AXIS + (0.12 + 0.01 * 0.8, 0.16 - 0.01 * 0.6)  # 1 cm to the right
    assert task.left() == pytest.approx(SET.aside * 0.01)


def test_a_thing_that_comes_no_nearer_is_given_up(task):
    x, y = task.place
    task.see(pose(1, x - 0.05, y))
    task.observation(joints(START), LEVEL)
    for n in range(SET.stuck_steps):
        assert task.cut(1, 0, n) == ""
        task.see(pose(2 + n, x - 0.05 + 0.0009, y))  # by less than 1 mm
        task.observation(joints(START), LEVEL)
    assert task.cut(1, 0, 9) == "stuck"
    task.see(pose(1000, x - 0.04, y))
    task.observation(joints(START), LEVEL)
    assert task.cut(1, 0, 9) == ""
    for _ in range(SET.stuck_steps):
        task.observation(joints(START), LEVEL)
    task.begin(1)
    assert task.cut(1, 0, 0) == "", "another episode"


def test_there_is_so_many_readings_in_a_row(task):
    x, y = task.place
    for inside in (0.99, 1.01):
        task.see(pose(task._seen + 1, x + inside * SET.tolerance_m, y))
        task.holding = 0
        for _ in range(SET.hold_steps):
            assert task.ended(joints(START), LEVEL) == ""
            task.observation(joints(START), LEVEL)
        assert task.ended(joints(START), LEVEL) == ("there" if inside < 1 else "")


def test_time_cuts_and_so_does_a_thing_that_is_not_seen(task):
    task.see(pose(5, 0.2, 0.0))
    assert task.cut(5, 0, SET.episode_steps - 1) == "" and task.cut(5, 0, SET.episode_steps) == "time"
    assert task.cut(6 + int(RUN.task.tracker_patience_s * 1e9), 0, 3) == "tracker lost"
    task.see(Pose(t=7, position=(math.nan, 0.0, 0.0), rpy=(0.0, 0.0, 0.0)))
    task.see(pose(4, 9.0, 9.0))
    assert tuple(task.seen()) == (0.2, 0.0), "neither a pose that is none nor an old one"


def test_a_thing_that_nobody_has_seen_is_never_there(task):
    for _ in range(2 * SET.hold_steps):
        task.observation(joints(START), LEVEL)
    assert task.ended(joints(START), LEVEL) == ""


def test_the_observation_by_hand(task):
    task.see(pose(1, 0.172, 0.0))
    task.place = AXIS + (0.21, 0.02)
    seen, tip = task.observation(joints(START, (1.0, -2.0, 0.0, 0.5, 9.0)), LEVEL), tip_of(START)
    want = [*START[:4], 0.5, -1.0, 0.0, 0.25, *((0.172, 0.0) - tip[:2]) / 0.1, (SET.height_m - tip[2]) / 0.1]
    want += [*np.tanh((np.array((0.142, 0.0, SET.height_m)) - tip) / SET.near_m), 0.5, 0.2]
    want += [math.tanh(0.05 / SET.near_m), math.tanh(0.02 / SET.near_m), sum(START[1:4]) - math.pi / 2]
    want += [*((task.place - AXIS - (0.2175, 0.0)) / 0.1)]
    assert seen == pytest.approx(want, abs=1e-5) and sizes(RUN) == (2 * len(want) + 4, 4)


def test_what_is_drawn_lies_where_it_should(task):
    for episode in range(100):
        thing, place = (p - AXIS for p in task.drawn(episode))
        assert SET.thing_low[0] <= np.linalg.norm(thing) <= SET.thing_high[0]
        assert SET.goal_low[0] <= np.linalg.norm(place) <= SET.goal_high[0]
        turned = math.atan2(place[1], place[0]) - math.atan2(thing[1], thing[0])
        assert SET.goal_low[1] - 1e-9 <= turned <= SET.goal_high[1] + 1e-9


def test_it_needs_a_tracker():
    with pytest.raises(ConfigError, match="has no tracker"):
        task_of(load(LAUNCH / "push.toml", ["robot.senses=[]"]))
