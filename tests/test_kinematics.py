"""Leg space and the five-bar's closed form, against itself, a published formula and PyBullet's links."""

import numpy as np
import pybullet
import pytest

from robotrl import kinematics
from robotrl.sim import model


def test_leg_space_round_trip_and_signs() -> None:
    rng = np.random.default_rng(0)
    swing, extension = rng.uniform(-1, 1, (5, 4)), rng.uniform(0.5, 2.8, (5, 4))
    motors = kinematics.to_motors(swing, extension)
    # hardware facts 1.2: left legs e - s, e + s; right legs the other way round
    np.testing.assert_allclose(motors[:, 0], extension[:, 0] - swing[:, 0])
    np.testing.assert_allclose(motors[:, 1], extension[:, 0] + swing[:, 0])
    np.testing.assert_allclose(motors[:, 4], extension[:, 2] + swing[:, 2])
    back = kinematics.to_leg(motors)
    np.testing.assert_allclose(back[0], swing, atol=1e-12)
    np.testing.assert_allclose(back[1], extension, atol=1e-12)


def test_plain_numbers_are_the_arrays_to_the_bit() -> None:
    rng = np.random.default_rng(2)
    for motors in rng.uniform(-4, 7, (50, 8)):
        assert kinematics.legs_of(tuple(motors.tolist())) == np.concatenate(kinematics.to_leg(motors)).tolist()
    for swing, extension in rng.uniform(-2, 3, (50, 2, 4)):
        assert kinematics.motors_of(swing.tolist(), extension.tolist()) == tuple(kinematics.to_motors(swing, extension).tolist())
    for wrong in ((0.0,) * 7, (0.0,) * 9):
        with pytest.raises(ValueError):
            kinematics.legs_of(wrong)


def test_the_published_closed_form_of_a_symmetric_leg() -> None:
    """Hardware facts 1.1: l1 .112, l2 .199, l3 .2315."""
    rng = np.random.default_rng(1)
    swing, extension = rng.uniform(-0.8, 0.8, 4), rng.uniform(0.5, 2.9, 4)
    foot = kinematics.foot(kinematics.to_motors(swing, extension), kinematics.MEASURED)
    a, s = np.arcsin(0.112 * np.sin(extension) / 0.199), -swing
    np.testing.assert_allclose(foot[:, 0], 0.2315 * np.sin(a + s) - 0.112 * np.sin(extension + s), atol=1e-12)
    np.testing.assert_allclose(foot[:, 1], 0.2315 * np.cos(a + s) - 0.112 * np.cos(extension + s), atol=1e-12)
    depths = [
        kinematics.foot(kinematics.to_motors(np.zeros(4), np.full(4, e)), kinematics.MEASURED)[0, 1]
        for e in (np.pi / 2, 2.0, 2.6)
    ]
    np.testing.assert_allclose(depths, [0.191, 0.245, 0.318], atol=1.5e-3)


@pytest.mark.parametrize("urdf", ["minitaur_rainbow_dash", "minitaur_derpy", "minitaur"])
def test_toes_agree_with_pybullet(urdf: str) -> None:
    client = pybullet.connect(pybullet.DIRECT)
    try:
        robot = model.load(client, f"quadruped/{urdf}.urdf")
        pybullet.resetBasePositionAndOrientation(robot.body, *robot.frame, physicsClientId=client)
        hips = np.array([pybullet.getLinkState(robot.body, m, physicsClientId=client)[4] for m in robot.motors])
        middle = (hips[0::2] + hips[1::2]) / 2
        tilt = 1.0 if "rainbow" in urdf else np.cos(np.radians(5))  # the others' rails lean outwards
        rng = np.random.default_rng(2)
        for _ in range(100 if "rainbow" not in urdf else 1000):
            angles = kinematics.to_motors(rng.uniform(-np.pi, np.pi, 4), rng.uniform(0.2, np.pi - 0.1, 4))
            robot.pose(angles)
            assert robot.loop_gap() < 1e-4
            toes = robot.toes() - middle
            foot = kinematics.foot(angles, robot.leg)
            np.testing.assert_allclose(toes[:, 0], foot[:, 0], atol=1e-3)
            np.testing.assert_allclose(-toes[:, 2], foot[:, 1] * tilt, atol=1e-3 if tilt == 1.0 else 8e-3)
    finally:
        pybullet.disconnect(client)


def test_complaints() -> None:
    with pytest.raises(ValueError, match="cannot close"):
        kinematics.foot(np.full(8, np.pi))  # both knees in one place: 8 mm of difference cannot be bridged
    with pytest.raises(ValueError, match=r"\(\.\.\., 8\)"):
        kinematics.to_leg(np.zeros(7))
    with pytest.raises(ValueError, match="swing"):
        kinematics.to_motors(np.zeros(3), np.zeros(4))
