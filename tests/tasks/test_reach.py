"""Reach against numbers worked out by hand, on OpenManipulator-X: a planar arm on a turntable."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from robotrl.config import ConfigError, load
from robotrl.messages import Joints
from robotrl.nodes.reset import LEVEL
from robotrl.tasks.reach import Reach
from robotrl.tasks.task import cameras, sights, sizes, task_of

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
RUN = load(LAUNCH / "reach_omx.toml", ["task.reach.tilt_weight=0.5"])
HOME = RUN.robot.home
SET = RUN.task.reach
STILL = np.zeros((3, 4), np.float32)


def joints(position, velocity=(0.0,) * 5):
    zero, none = (0.0,) * 5, (0,) * 5
    return Joints(
        tick=0, position=tuple(position), velocity=velocity, torque=zero, temp_c=zero, voltage=zero, mode=none, fault=none,
        missed=none,
    )  # fmt: skip


@pytest.fixture
def task():
    made = task_of(RUN, seed=5)
    assert isinstance(made, Reach)
    made.begin(0)
    return made


def test_the_observation_by_hand(task):
    """At home the arm's tip is 12 mm + 24 cos(1) - 128 sin(1) + 250 mm ahead and 76.5 + 128 cos(1) + 24 sin(1) up."""
    tip = np.array((0.012 + 0.024 * math.cos(1) - 0.128 * math.sin(1) + 0.25, 0.0,
                    0.0765 + 0.128 * math.cos(1) + 0.024 * math.sin(1)))  # fmt: skip
    task.goal = tip + (0.0, 0.06, -0.01)
    seen = task.observation(joints(HOME, (1.0, -2.0, 0.0, 0.5, 9.0)), LEVEL)
    middle = (np.array(SET.goal_low) + SET.goal_high) / 2
    want = [
        0.0,
        -1.0,
        1.0,
        0.0,
        0.5,
        -1.0,
        0.0,
        0.25,
        0.0,
        0.6,
        -0.1,
        0.0,
        math.tanh(0.06 / SET.near_m),
        math.tanh(-0.01 / SET.near_m),
    ]
    want += [*((task.goal - middle) / 0.1), 0.0]
    assert seen == pytest.approx(want, abs=1e-5) and seen.dtype == np.float32
    assert task.distance(joints(HOME)) == pytest.approx(math.hypot(0.06, 0.01))
    assert sizes(RUN) == (2 * len(want) + 4, 4)


def test_the_reward_by_hand(task):
    task.goal = np.array(task.arm.tip(HOME)) + (0.03, 0.0, 0.0)
    cost = task.cost(joints(HOME), LEVEL)
    assert cost == pytest.approx(SET.time_cost + SET.distance_weight * 0.03 + SET.near_weight * math.tanh(0.03 / SET.near_m))
    assert task.reward_of(0, STILL, cost, False) == pytest.approx(-cost)
    down = (0.0, 0.5, 0.5, 0.6, 0.0)  # the hand looks 1.6 rad down, 0.4 more than is free
    task.goal = np.array(task.arm.tip(down))
    assert task.cost(joints(down), LEVEL) == pytest.approx(SET.time_cost + SET.tilt_weight * 0.4)
    bend = STILL.copy()
    bend[0, 1] = 0.1  # of half its range: from -1 - 1.46 (its end) to -1 + 1.46 (1.5 is beyond), so 0.1 is 0.098 rad
    half = (min(1.46, HOME[1] + SET.range_rad) - max(-1.46, HOME[1] - SET.range_rad)) / 2
    assert task.reward_of(0, bend, 0.0, False) == pytest.approx(-SET.jerk_weight * 0.1 * half / 4)


def test_reached_is_so_many_readings_in_a_row(task):
    there, away = joints(HOME), joints((0.3, *HOME[1:]))
    task.goal = np.array(task.arm.tip(HOME)) + (0.0, 0.0, 0.99 * SET.tolerance_m)
    for _ in range(SET.hold_steps - 1):
        task.observation(there, LEVEL)
    assert task.ended(there, LEVEL) == ""
    task.observation(away, LEVEL)
    for k in range(SET.hold_steps):
        assert task.ended(there, LEVEL) == ""
        assert task.observation(there, LEVEL)[-1] == pytest.approx((k + 1) / SET.hold_steps)
    assert task.ended(there, LEVEL) == "reached"
    task.begin(1)
    assert task.ended(there, LEVEL) == ""
    task.goal = np.array(task.arm.tip(HOME)) + (0.0, 0.0, 1.01 * SET.tolerance_m)
    assert task.observation(there, LEVEL)[-1] == 0.0


def test_an_action_moves_targets_by_a_step_and_is_found_again(task):
    before = task.applied(HOME)
    action = np.array((1.0, -0.5, 0.25, 0.0), np.float32)
    target = task.target(action, before)
    assert target == pytest.approx((SET.step_rad, -1.0 - SET.step_rad / 2, 1.0 + SET.step_rad / 4, 0.0, HOME[4]), abs=1e-6)
    assert task.action(task.applied(target), before) == pytest.approx(action, abs=1e-4)
    for _ in range(200):
        target = task.target(np.ones(4, np.float32), task.applied(target))
    high = [min(h, a + SET.range_rad) for h, a in zip(RUN.robot.highest, HOME, strict=True)]
    assert target[:4] == pytest.approx(high[:4], abs=1e-6)


def test_goals_fill_their_box_and_depend_on_seed_and_episode_alone(task):
    goals = []
    for episode in range(200):
        task.begin(episode)
        goals.append(task.goal)
    low, high = np.array(SET.goal_low), np.array(SET.goal_high)
    assert (goals >= low).all() and (goals <= high).all()
    assert (np.ptp(goals, axis=0) > 0.95 * (high - low)).all()
    again, other = task_of(RUN, seed=5), task_of(RUN, seed=6)
    again.begin(7)
    other.begin(7)
    assert (again.goal == goals[7]).all() and (other.goal != goals[7]).all()


def test_time_cuts_and_reaching_ends(task):
    assert task.cut(0, 0, SET.episode_steps - 1) == "" and task.cut(0, 0, SET.episode_steps) == "time"


@pytest.mark.parametrize("name", ["reach", "reach_omx"])
def test_each_corner_of_the_goals_is_within_reach(name):
    """By Newton's way with damping, from home, inside the task's joint ranges and over the floor."""
    run = load(LAUNCH / f"{name}.toml")
    task = task_of(run)
    n, low, high = task.actions, np.array(run.task.reach.goal_low), np.array(run.task.reach.goal_high)
    for corner in np.ndindex(2, 2, 2):
        goal, q = np.where(corner, high, low), np.array(run.robot.home)
        for _ in range(400):
            jacobian = np.array(task.arm.jacobian(q)).T
            way = goal - task.arm.tip(q)
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-4 * np.eye(3), way)
            q[:n] = np.clip(q[:n] + np.clip(step, -0.03, 0.03), task._least, task._most)
        assert np.linalg.norm(way) < 0.003 and min(p[2] for p in task.arm.points(q)[2:]) > run.robot.workspace.low[2]


@pytest.mark.parametrize(
    "setting, said",
    [
        ("agent.mirror=true", "agent.mirror must be false"),
        ("task.reach.goal_low=[0.2, 0.1]", "task.reach.goal_low must be three numbers"),
        ("task.reach.goal_low=[0.3, -0.1, 0.1]", "task.reach.goal_low must be less than goal_high"),
        ("task.reach.goal_high=[0.3, 0.1, 0.9]", "task.reach.goal_low must be within robot.workspace"),
        ("task.reach.step_rad=0.05", "task.reach.step_rad must be at most robot.limits.slew_rad_s a period, 0.04"),
        ("robot.kind=dkitty", "robot.workspace must be that of an arm, so101, omx, not dkitty"),
    ],
)  # fmt: skip
def test_a_run_that_does_not_fit_says_why(setting, said):
    with pytest.raises(ConfigError) as error:
        load(LAUNCH / "reach.toml", [setting])
    assert said in str(error.value)


def test_a_walk_needs_what_an_arm_has_not():
    run = dataclasses.replace(RUN, task=dataclasses.replace(RUN.task, name="walk"))
    with pytest.raises(ConfigError, match="omx has no imu and no tracker"):
        task_of(run)


def test_cameras_that_only_watch_leave_the_policy_told():
    """The observation is the told one's, the goal is shown all the same, and frames go with the steps."""
    watched, plain = (load(LAUNCH / name) for name in ("reach_watched.toml", "reach_classified.toml"))
    assert sizes(watched) == sizes(plain) and sights(watched) == cameras(plain) == () and len(cameras(watched)) == 2
    pixels = dataclasses.replace(watched.task.pixels, told=False)
    sees = dataclasses.replace(watched, task=dataclasses.replace(watched.task, pixels=pixels))
    assert task_of(watched).sensors == task_of(plain).sensors > task_of(sees).sensors and sights(sees) == cameras(sees)
    assert len(task_of(watched).set_up(0)) == len(task_of(sees).set_up(0)) == 3 and task_of(plain).set_up(0) == ()
    with pytest.raises(ConfigError, match=r"task.pixels.told.*nobody looks"):
        load(LAUNCH / "reach_pixels.toml", ["task.pixels.told=true"])
