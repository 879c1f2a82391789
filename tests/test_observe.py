"""The policy's input window and the speed from stamped poses, against plain lists and straight lines."""

import math

import numpy as np
import pytest

from robotrl.messages import Pose
from robotrl.observe import History, Track

MS = 1_000_000


def test_history_is_the_newest_first():
    h = History(2, 1, 3)
    assert h.size == 2 * 4 + 3
    h.reset(np.float32([0, 0]), np.float32([9]))
    readings, actions = [np.float32([0, 0])] * 4, [np.float32([9])] * 3
    for i in range(1, 10):
        got = h.push(np.float32([i, -i]), np.float32([10 * i]))
        readings, actions = [np.float32([i, -i]), *readings][:4], [np.float32([10 * i]), *actions][:3]
        assert got.tolist() == np.concatenate(readings + actions).tolist()


def test_history_gives_a_copy():
    h = History(1, 1, 1)
    first = h.reset(np.float32([1]), np.float32([2]))
    h.push(np.float32([5]), np.float32([6]))
    assert first.tolist() == [1, 1, 2]


def pose(t_ms, x, y=0.0, yaw=0.0):
    return Pose(t=t_ms * MS, position=(x, y, 0.2), rpy=(0.0, 0.0, yaw))


def test_speed_is_along_the_first_heading():
    track, yaw = Track(), 0.7
    for i in range(100):
        s = 0.4 * i * 0.017
        track.add(pose(17 * i, 3 + s * math.cos(yaw), -2 + s * math.sin(yaw), yaw))
        if i == 40:
            track.begin()
    assert track.speed(1500 * MS, 0.1) == pytest.approx(0.4)
    assert track.at(1500 * MS) - track.at(500 * MS) == pytest.approx(0.4)


def test_nothing_is_extrapolated():
    track = Track()
    assert track.at(0) is None and track.speed(0, 0.1) is None
    track.add(pose(0, 0.0))
    track.add(pose(20, 1.0))
    assert track.at(21 * MS) is None
    assert track.at(10 * MS) == pytest.approx(0.5)


def test_poses_out_of_order_or_not_finite_are_refused():
    track = Track()
    track.add(pose(0, 0.0))
    track.add(pose(20, 1.0))
    track.add(pose(10, 99.0))
    track.add(pose(20, 99.0))
    track.add(pose(30, math.nan))
    assert track.newest() == 20 * MS and track.at(20 * MS) == pytest.approx(1.0)


def test_a_long_track_forgets_and_stays_right():
    track = Track()
    for i in range(10_000):
        track.add(pose(i, i * 1e-3))
    assert track.speed(9_999 * MS, 0.1) == pytest.approx(1.0)
    assert track.at(9_000 * MS) == pytest.approx(9.0)


def test_a_reckoned_pose_counts_for_the_way_and_not_as_seen():
    track = Track()
    assert track.seen() is None
    track.add(pose(0, 0.0))
    track.add(Pose(t=20 * MS, position=(0.1, 0.0, 0.2), rpy=(0.0, 0.0, 0.0), reckoned=True))
    assert (track.newest(), track.seen()) == (20 * MS, 0) and track.at(10 * MS) == pytest.approx(0.05)
