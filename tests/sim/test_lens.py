"""The twin's lens against OpenCV's, and against itself."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from robotrl.sim.lens import Lens

WIDE = Lens(640, 360, 320.0, 322.0, 321.3, 178.4, (-0.12, 0.03, 0.001, -0.0008, -0.004))


def test_a_point_comes_to_lie_where_opencv_puts_it():
    points = np.random.default_rng(0).uniform((-0.8, -0.5, 0.8), (0.8, 0.5, 3.0), (200, 3))
    matrix = np.array(((WIDE.fx, 0, WIDE.cx), (0, WIDE.fy, WIDE.cy), (0, 0, 1)))
    theirs = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(WIDE.distortion))[0][:, 0]
    assert np.abs(WIDE.pixels(points) - theirs).max() < 1e-9


def test_a_pixels_ray_leads_back_to_it():
    rays = WIDE.all_rays()
    back = WIDE.pixels(np.concatenate((rays, np.ones_like(rays[..., :1])), -1).astype(float))
    columns, rows = np.meshgrid(np.arange(640), np.arange(360))
    assert np.abs(back - np.stack((columns, rows), -1)).max() < 1e-3, "as good as single precision holds it"


@pytest.mark.parametrize("at", [(0.0, 0.0), (639.0, 359.0), (321.3, 178.4)])
def test_rays_reach_the_picture_s_corners(at):
    ray = WIDE.rays(np.array(at))
    assert WIDE.pixels(np.array((*ray, 1.0))) == pytest.approx(at, abs=1e-6)
