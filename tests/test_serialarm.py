"""Arms' kinematics against trigonometry by hand, turns as exponentials, and differences."""

import math

import numpy as np
import pytest

from robotrl.serialarm import ARMS, OMX, SO101, Box


def about(axis, angle):
    """A turn as the exponential of its axis, (3, 3)."""
    x, y, z = axis
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]], float)
    return np.eye(3) + math.sin(angle) * k + (1 - math.cos(angle)) * k @ k


def test_omx_is_a_planar_arm_on_a_turntable():
    """Upper arm (24, 128) mm, forearm 124, hand 126; in the plane of the arm, x' = x cos + z sin, z' = z cos - x sin."""
    for turn, shoulder, elbow, wrist in np.random.default_rng(1).uniform(-1.4, 1.4, (50, 4)):
        a, b, c = shoulder, shoulder + elbow, shoulder + elbow + wrist
        out = 0.024 * math.cos(a) + 0.128 * math.sin(a) + 0.124 * math.cos(b) + 0.126 * math.cos(c)
        up = 0.0765 + 0.128 * math.cos(a) - 0.024 * math.sin(a) - 0.124 * math.sin(b) - 0.126 * math.sin(c)
        want = (0.012 + out * math.cos(turn), out * math.sin(turn), up)
        assert OMX.tip((turn, shoulder, elbow, wrist, 0.5)) == pytest.approx(want, abs=1e-12)


def test_so101_by_exponentials():
    axes = [(0, 0, -1), (0, 1, 0), (0, 1, 0), (0, 1, 0), (-1, 0, 0)]
    pivots = [(0.0388, 0, 0.0624), (0.0692, -0.018, 0.1166), (0.0972, -0.018, 0.2292), (0.2321, -0.018, 0.2344),
              (0.2932, 0, 0.2344)]  # fmt: skip
    for q in np.random.default_rng(2).uniform(-1.6, 1.6, (50, 6)):
        point = np.array((0.3914, 0, 0.2265))
        for pivot, axis, angle in reversed(list(zip(pivots, axes, q[:5], strict=True))):
            point = np.array(pivot) + about(axis, angle) @ (point - pivot)
        assert SO101.tip(q.tolist()) == pytest.approx(point, abs=1e-12)


@pytest.mark.parametrize("arm", ARMS.values(), ids=ARMS)
def test_the_jacobian_is_the_slope(arm):
    for q in np.random.default_rng(3).uniform(-1.4, 1.4, (20, 6)):
        slopes = []
        for i in range(arm.moving):
            step = np.zeros(6)
            step[i] = 1e-6
            slopes.append((np.array(arm.tip(q + step)) - arm.tip(q - step)) / 2e-6)
        assert np.array(arm.jacobian(q)) == pytest.approx(np.array(slopes), abs=1e-8)


def test_a_box_says_how_far_out_the_farthest_point_is():
    box = Box(OMX, (-0.2, -0.2, 0.05), (0.2, 0.2, 0.5))
    assert box.outside((0.0,) * 5) == pytest.approx(0.286 - 0.2)  # the tip, ahead
    assert box.outside((math.pi / 2,) + (0.0,) * 4) == pytest.approx(0.274 - 0.2)  # to the left: the axis is 12 mm ahead
    assert box.outside((0.0, -1.0, 1.0, 0.0, 0.0)) == 0.0
    assert box.outside((0.0, 0.0, math.pi / 2, 0.0, 0.0)) == pytest.approx(0.05 - (0.2045 - 0.25))  # hangs down: below the floor
