"""Stack against numbers worked out by hand, on OpenManipulator-X: a planar arm on a turntable."""

import math
from pathlib import Path

import numpy as np
import pytest

from robotrl.config import ConfigError, load
from robotrl.messages import Joints
from robotrl.nodes.reset import LEVEL
from robotrl.tasks.stack import Stack
from robotrl.tasks.task import sizes, task_of

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
RUN = load(LAUNCH / "stack.toml")
SET = RUN.task.stack
START = RUN.task.start
STILL = np.zeros((3, 4), np.float32)


def joints(position, velocity=(0.0,) * 5):
    zero, none = (0.0,) * 5, (0,) * 5
    return Joints(tick=0, position=tuple(position), velocity=velocity, torque=zero, temp_c=zero, voltage=zero, mode=none,
                  fault=none, missed=none)  # fmt: skip


def tip_of(q):
    """By hand: a shoulder at 12 mm and 76.5 mm up, links of (24, 128), 124 and 126 mm, angles that add up downwards."""
    a, b, c = q[1], q[1] + q[2], q[1] + q[2] + q[3]
    out = 24 * math.cos(a) + 128 * math.sin(a) + 124 * math.cos(b) + 126 * math.cos(c)
    up = 76.5 - 24 * math.sin(a) + 128 * math.cos(a) - 124 * math.sin(b) - 126 * math.sin(c)
    return np.array((12 + out * math.cos(q[0]), out * math.sin(q[0]), up)) / 1000


@pytest.fixture
def task():
    made = task_of(RUN, seed=5)
    assert isinstance(made, Stack)
    made.begin(0)
    return made


def test_it_begins_pointing_down_over_the_studs(task):
    assert task.tip(joints(START)) == pytest.approx(tip_of(START), abs=1e-12)
    assert abs(task.tilt(joints(START))) < 0.01 and 0.03 < tip_of(START)[2] - SET.place[2] < 0.06


def test_the_cost_by_hand(task):
    """3 cm aside and 4 cm over its place: the funnel is at its full height there, so 1 cm is left to go down."""
    task.place = tip_of(START) - (0.03, 0.0, 0.04)
    left = math.hypot(0.03, 0.04 - SET.hover_m)
    want = SET.time_cost + SET.distance_weight * left + SET.near_weight * math.tanh(left / SET.near_m)
    want += SET.tilt_weight * abs(sum(START[1:4]) - math.pi / 2)
    cost = task.cost(joints(START), LEVEL)
    assert cost == pytest.approx(want, abs=1e-9)
    assert task.reward_of(0, STILL, cost, False) == pytest.approx(-cost)
    task.place = tip_of(START) - (0.0, 0.001, 0.04)  # over it: straight down
    assert np.linalg.norm(task.funnel(task.way(joints(START)))) == pytest.approx(math.hypot(0.001, 0.04))
    task.place = tip_of(START) - (0.007, 0.0, 0.04)  # 5 mm beyond what is over it, three times as much up
    assert task.funnel(task.way(joints(START)))[2] == pytest.approx(-0.04 + 0.015)


def test_stacked_is_so_many_readings_seated_and_only_seated(task):
    for off, tilted, seated in (
        ((0.0, 0.0, 0.0014), 0.0, True), ((0.0, 0.0, 0.0016), 0.0, False), ((0.0, 0.0, 0.0045), 0.0, False),
        ((0.0019, 0.0, 0.0), 0.0, True), ((0.0015, 0.0015, 0.0), 0.0, False), ((0.0, 0.0, 0.0), 0.1, False),
    ):  # fmt: skip
        q = (*START[:3], math.pi / 2 - START[1] - START[2] + tilted, 0.0)
        task.place, task.holding = tip_of(q) + off, 0
        for k in range(SET.hold_steps):
            assert task.ended(joints(q), LEVEL) == ""
            assert task.observation(joints(q), LEVEL)[-1] == pytest.approx((k + 1) / SET.hold_steps if seated else 0.0)
        assert task.ended(joints(q), LEVEL) == ("stacked" if seated else "")
    assert task.cut(0, 0, SET.episode_steps - 1) == "" and task.cut(0, 0, SET.episode_steps) == "time"


def test_the_observation_by_hand(task):
    task.place = tip_of(START) + (0.02, -0.01, -0.045)
    seen = task.observation(joints(START, (1.0, -2.0, 0.0, 0.5, 9.0)), LEVEL)
    tilt = sum(START[1:4]) - math.pi / 2
    want = [*START[:4], 0.5, -1.0, 0.0, 0.25, 0.2, -0.1, -0.45]
    want += [math.tanh(2), math.tanh(-1), math.tanh(-4.5), math.tanh((-0.045 + SET.hover_m) / SET.near_m)]
    want += [tilt, math.tanh(tilt / SET.tilt_rad), *((task.place[:2] - SET.place[:2]) / 0.1), 0.0]
    assert seen == pytest.approx(want, abs=1e-5) and sizes(RUN) == (2 * len(want) + 4, 4)


def test_places_fill_their_square_and_depend_on_seed_and_episode_alone(task):
    drawn = np.array([task.placed(k) for k in range(200)]) - SET.place
    assert (np.abs(drawn[:, :2]) <= SET.spread_m).all() and np.ptp(drawn[:, :2]) > 1.9 * SET.spread_m and (drawn[:, 2] == 0).all()
    assert (task_of(RUN, seed=5).placed(7) == task.placed(7)).all() and (task_of(RUN, seed=6).placed(7) != task.placed(7)).any()


@pytest.mark.parametrize(
    "setting, said",
    [
        ("agent.mirror=true", "agent.mirror must be false"),
        ("task.start=[0.0, 1.0]", "task.start must be 5 angles"),
        ("task.stack.step_rad=0.05", "task.stack.step_rad must be at most robot.limits.slew_rad_s a period, 0.04"),
    ],
)
def test_a_run_that_does_not_fit_says_why(setting, said):
    with pytest.raises(ConfigError) as error:
        load(LAUNCH / "stack.toml", [setting])
    assert said in str(error.value)
