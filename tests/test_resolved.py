"""Resolved-rate motion against finite differences of the arm's own geometry."""

import math

import numpy as np
import pytest

from robotrl.resolved import LOST, ResolvedRate
from robotrl.serialarm import ARMS, OMX, Pivot, SerialArm, Z

POSES = {"omx": (0.3, 0.2, -0.3, 1.6), "so101": (0.3, -0.3, 0.5, 1.2, 0.4)}


def moved(arm, q, turn):
    """What the four joints' turn does, by the arm's own tip and angles."""
    after = [a + b for a, b in zip(q, turn, strict=False)] + list(q[4:])
    tip = np.subtract(arm.tip(after), arm.tip(q))
    return np.append(tip, sum(after[1:4]) - sum(q[1:4]))


@pytest.mark.parametrize("robot", POSES)
def test_the_motion_asked_for_is_made(robot):
    arm, q = ARMS[robot], POSES[robot]
    rates, rng = ResolvedRate(arm), np.random.default_rng(1)
    for _ in range(20):
        asked = rng.uniform(-1, 1, 4) * (1e-4, 1e-4, 1e-4, 1e-3)
        turn = rates.turn(q, asked)
        assert moved(arm, q, turn) == pytest.approx(asked, abs=2e-7)
        assert rates.motion(q, turn) == pytest.approx(asked, abs=1e-12)


def test_a_stretched_arm_turns_no_faster_than_its_damping_lets_it():
    """Upper arm, forearm and hand in one line: outwards there is no way, and no joint runs away on it."""
    q = (0.0, math.atan2(0.128, 0.024), -math.atan2(0.128, 0.024), 0.0)
    rates = ResolvedRate(OMX)
    assert np.linalg.svd(rates.jacobian(q))[1][-1] < 1e-9
    out = np.subtract(OMX.tip(q), (0.012, 0.0, 0.0765))
    step = 0.01 * out / np.linalg.norm(out)
    assert np.abs(rates.turn(q, [*step, 0.0])).max() < 0.01 / LOST
    across = 0.001 * np.array((-out[2], 0.0, out[0])) / np.linalg.norm(out)
    assert rates.motion(q, rates.turn(q, [*across, 0.0]))[:3] == pytest.approx(across, abs=3e-4), "what is there stays"


def test_damping_sets_in_without_a_jump():
    """Towards the stretched arm the turn asked for by one motion changes little from pose to pose."""
    bend = np.linspace(0.0, 1.2, 400)
    top = math.atan2(0.128, 0.024)
    turns = [ResolvedRate(OMX).turn((0.0, 0.6, b - top, 0.5 - b), (0.001, 0.0, 0.0, 0.0)) for b in bend]
    assert np.abs(np.diff(turns, axis=0)).max() < 0.01 and np.abs(turns).max() < 0.001 / LOST


def test_another_arm_is_refused():
    with pytest.raises(ValueError, match="one turn about z"):
        ResolvedRate(SerialArm((Pivot((0.0, 0.0, 0.0), Z),) * 4, (1.0, 0.0, 0.0), 4, 0.0))
