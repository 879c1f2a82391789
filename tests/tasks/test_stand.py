"""ROBEL's stand against its formula worked out by hand: base_env.py and stand.py of google-research/robel."""

import math
from pathlib import Path

import numpy as np
import pytest

from robotrl.config import load
from robotrl.tasks.stand import Stand
from robotrl.tasks.task import sizes, task_of
from tests.tasks.test_walk_to import MS, imu, joints, pose

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
RUN = load(LAUNCH / "dkitty_stand.toml")
SET = RUN.task.stand


@pytest.fixture
def task():
    made = task_of(RUN)
    assert isinstance(made, Stand)
    made.see(pose(1, 1.0, 2.0, 0.0))
    made.begin(0)
    return made


def robel(error, up, away):
    """The sum of get_reward_dict's terms, as they stand there with the defaults of BaseDKittyStand."""
    return (
        2 * up - 100 * (up < 0) - 4 * error - 2 * away + 5 * (error < math.pi / 6) * up
        + 10 * (error < math.pi / 12) * (up > 0.9)
    )  # fmt: skip


@pytest.mark.parametrize("bent", [0.0, 0.25, 0.27, 0.5, 0.55])
@pytest.mark.parametrize("roll", [0.0, 0.4, 0.5, 1.6])
def test_the_reward_is_robels(task, bent, roll):
    """All joints off by as much, alternately to both sides; half a metre from where it began."""
    q = [bent * (-1) ** k for k in range(12)]
    task.see(pose(100 * MS, 1.3, 2.4, 0.0))
    cost, ended = task.cost(joints(q), imu(roll)), task.ended(joints(q), imu(roll))
    up = math.cos(roll)
    assert ended == ("fall" if up < 0 else "")
    got = task.reward_of(100 * MS, np.zeros((3, 12)), cost, bool(ended))
    assert got == pytest.approx(SET.scale * robel(bent, up, 0.5), abs=1e-4)
    assert task.succeeded(0) == (bent < math.pi / 12 and up > 0.9)


def test_time_and_a_lost_tracker_cut(task):
    assert task.cut(1, 0, SET.episode_steps - 1) == "" and task.cut(1, 0, SET.episode_steps) == "time"
    assert task.cut(2 + int(RUN.task.tracker_patience_s * 1e9), 0, 5) == "tracker lost"


def test_it_sees_the_way_back_in_its_own_axes(task):
    """Turned to the left by 90 degrees and 0.2 m ahead along x of where it was: the way back is 0.2 m to the left."""
    task.see(pose(5, 1.2, 2.0, math.pi / 2))
    seen = task.observation(joints(), imu())
    assert seen[-2:] == pytest.approx((0.0, 0.2), abs=1e-6) and len(seen) == task.sensors
    task.mirror().check(*sizes(RUN))
