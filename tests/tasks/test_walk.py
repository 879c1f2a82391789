"""The walking MDP against hand-computed values."""

import math

import numpy as np
import pytest

from robotrl.config import Task
from robotrl.kinematics import to_leg, to_motors
from robotrl.messages import Imu, Joints, Pose
from robotrl.observe import History
from robotrl.tasks.walk import Walk

WALK = Walk(Task())


def imu(roll=0.0, pitch=0.0, rates=(0.0, 0.0, 0.0)):
    return Imu(roll=roll, pitch=pitch, yaw=1.0, rates=rates, accel=(0.0, 0.0, 9.8))


def joints(position, torque=(0.0,) * 8):
    zero = (0.0,) * 8
    return Joints(
        tick=0, position=position, velocity=zero, torque=torque, temp_c=zero, voltage=zero,
        mode=(10,) * 8, fault=(0,) * 8, missed=(0,) * 8,
    )  # fmt: skip


def test_what_was_applied_is_what_would_be_sent_to_the_bit():
    for target in np.random.default_rng(1).uniform(-1, 4, (50, 8)):
        assert WALK.applied(tuple(target.tolist())).tobytes() == WALK.sent(*to_leg(target)).tobytes()


def test_observation_has_twelve_values_and_no_yaw():
    got = WALK.observation(joints(tuple(2.0 + 0.1 * i for i in range(8))), imu(0.1, -0.2, (1.0, -2.0, 3.0)))
    assert got.dtype == np.float32
    assert got == pytest.approx([0.1 * i for i in range(8)] + [0.1, -0.2, 0.2, -0.4], abs=1e-6)


def test_action_and_legs_are_inverse():
    a = np.linspace(-1, 1, 8).astype(np.float32)
    before = np.linspace(0.5, -0.5, 8).astype(np.float32)
    swing, extension = WALK.legs(a, before)
    target = before + Task().smoothing * (a - before)
    assert swing == pytest.approx(0.5 * target[:4]) and extension == pytest.approx(2.0 + Task().extension_range * target[4:])
    sent = WALK.sent(swing, extension)
    assert sent == pytest.approx(target, abs=1e-6)
    assert WALK.action(sent, before) == pytest.approx(a, abs=1e-5)


def test_reward_of_steady_walking_is_the_speed_up_to_the_cap():
    still = np.zeros((3, 8), np.float32)
    for speed, want in ((0.3, 0.3), (0.5, 0.5), (0.7, 0.5), (-0.3, -0.3), (-9.0, -0.5)):
        assert WALK.reward(speed, still) == pytest.approx(want)


def test_each_penalty_alone():
    bend = np.zeros((3, 8), np.float32)
    bend[0, 7] = 1.0  # an extension's whole range, on one of eight joints
    assert WALK.reward(0.0, bend) == pytest.approx(-0.1 * Task().extension_range / 8)
    ramp = np.stack([np.full(8, v, np.float32) for v in (0.3, 0.2, 0.1)])  # constant speed has no acceleration
    assert WALK.reward(0.0, ramp) == pytest.approx(0.0, abs=1e-7)
    folded = np.zeros((3, 8), np.float32)
    folded[:, 0] = -1.0  # front left at -0.5 rad: under the body
    assert WALK.reward(0.0, folded) == pytest.approx(-0.05 * 0.1 / 2)
    back = np.zeros((3, 8), np.float32)
    back[:, 1] = 1.0
    assert WALK.reward(0.0, back) == 0.0


def test_speed_beyond_what_is_paid_for_costs():
    still = np.zeros((3, 8), np.float32)
    assert WALK.reward(0.69, still) == pytest.approx(0.5)
    assert WALK.reward(1.2, still) == pytest.approx(0.5 - 1.0 * 0.5)
    assert WALK.reward(-1.2, still) == pytest.approx(-0.5)


def test_tilt_turning_and_effort_cost_and_what_is_no_number_does_not():
    idle, still = joints((2.0,) * 8), np.zeros((3, 8), np.float32)
    assert WALK.cost(idle, imu(0.09, -0.09, (3.0, 3.0, 0.0))) == 0.0
    assert WALK.cost(idle, imu(-0.4, 0.1)) == WALK.cost(idle, imu(0.1, 0.4)) == pytest.approx(0.5 * 0.3)
    assert WALK.cost(idle, imu(rates=(0.0, 0.0, -2.0))) == pytest.approx(0.1 * 2.0)
    assert WALK.cost(idle, imu(rates=(0.0, 0.0, 1e9))) == pytest.approx(0.1 * 10.0)
    assert WALK.cost(joints((2.0,) * 8, torque=(2.0,) * 8), imu()) == pytest.approx(0.006 * 4.0)
    assert WALK.cost(idle, imu(roll=math.nan, rates=(0.0, 0.0, math.nan))) == 0.0
    assert WALK.reward(0.3, still, 0.2) == pytest.approx(0.1)


def test_effort_is_the_mean_squared_torque_and_none_where_it_was_never_read():
    assert WALK.effort(joints((0.0,) * 8, torque=(2.0, -2.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0))) == pytest.approx(3.0)
    assert WALK.effort(joints((0.0,) * 8, torque=(math.nan, *[1.0] * 7))) == 0.0


def test_a_fall_costs_more_than_a_lunge_earns():
    still = np.zeros((3, 8), np.float32)
    assert WALK.reward(0.5, still, fallen=True) == pytest.approx(0.5 - Task().fall_penalty)
    assert Task().fall_penalty > 20 * Task().speed_cap * 0.9  # a lunge lasts about 20 steps


@pytest.mark.parametrize("tilt", [0.53, -0.53, math.nan, math.inf])
def test_a_fall_terminates(tilt):
    assert WALK.terminated(imu(roll=tilt)) and WALK.terminated(imu(pitch=tilt))


def test_upright_does_not_terminate_and_time_truncates():
    assert not WALK.terminated(imu(0.51, -0.51))


def test_the_mirror_is_the_robot_seen_from_the_other_side():
    """Left legs on the right, roll the other way: what the task makes of that is the mirror of what it made of the first."""
    rng = np.random.default_rng(4)
    other = {0: 2, 1: 3, 2: 0, 3: 1}  # front left, back left, front right, back right
    mirror, history, mirrored = WALK.mirror(), History(12, 8, 5), History(12, 8, 5)
    mirror.check(112, 8)
    for step in range(8):
        swing, extension = rng.uniform(-0.5, 0.5, 4), rng.uniform(1.7, 2.3, 4)
        roll, pitch, rates = *rng.uniform(-0.3, 0.3, 2), rng.uniform(-2, 2, 3)
        action = rng.uniform(-1, 1, 8).astype(np.float32)
        exchange = [other[leg] for leg in range(4)]
        seen = WALK.observation(joints(tuple(to_motors(swing, extension))), imu(roll, pitch, tuple(rates)))
        across = WALK.observation(
            joints(tuple(to_motors(swing[exchange], extension[exchange]))), imu(-roll, pitch, (-rates[0], rates[1], -rates[2]))
        )
        action_across = np.concatenate((action[:4][exchange], action[4:][exchange]))
        add = (history.push, mirrored.push) if step else (history.reset, mirrored.reset)
        here, there = add[0](seen, action).copy(), add[1](across, action_across).copy()
        assert mirror.observation_sign * here[mirror.observation] == pytest.approx(there, abs=1e-6)
        assert mirror.action_sign * action[mirror.action] == pytest.approx(action_across)


def test_poses_that_are_only_reckoned_are_borne_for_as_long_as_the_patience_and_no_longer():
    walk = Walk(Task())
    for k in range(120):
        walk.see(Pose(t=k * 20_000_000, position=(0.01 * k, 0.0, 0.2), rpy=(0.0, 0.0, 0.0), reckoned=k > 10))
        assert walk.cut(k * 20_000_000, 0, 1) == ("" if (k - 10) * 0.02 <= Task().tracker_patience_s else "tracker lost")
