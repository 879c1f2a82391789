"""The twin's pictures through the library's own objects: stamps, alignment and deprojection by the code that hardware uses.

A D400 that is not there looks at the arm's ball: colour and distances are drawn by the twin from two places 50 mm apart, pushed
into a software device, aligned by the driver, and a pixel of the ball is turned into a point by the SDK.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robotrl.sim.bullet import import_bullet

try:
    import_bullet()
except ImportError:
    pytest.skip("no PyBullet here", allow_module_level=True)

import pybullet

from robotrl import config
from robotrl.clock import WallClock
from robotrl.drivers.realsense import Frames, library
from robotrl.sim.eyes import BALL_M, FAR, NEAR, Eyes
from robotrl.sim.fleets import FLEETS
from tests.drivers.test_realsense import Device

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
SIZE, FOV, APART_M = 128, 40.0, 0.05
FOCAL = SIZE / 2 / np.tan(np.radians(FOV) / 2)
EYE, TARGET = np.array((0.7, 0.0, 0.3)), np.array((0.2, 0.0, 0.14))


class Drawn(Device):
    """With the twin's lens: its colour camera is APART_M to the right of the one that sees distances."""

    def _video(self, stream, uid, bpp, layout):
        video = self.rs.video_stream()
        video.type, video.uid, video.width, video.height, video.fps, video.bpp, video.fmt = (
            stream,
            uid,
            SIZE,
            SIZE,
            30,
            bpp,
            layout,
        )
        lens = self.rs.intrinsics()
        lens.width, lens.height, lens.fx, lens.fy, lens.ppx, lens.ppy = SIZE, SIZE, FOCAL, FOCAL, (SIZE - 1) / 2, (SIZE - 1) / 2
        video.intrinsics = lens
        return video

    def push(self, n, colour, depth, stamp_ms, domain):
        for sensor, data, bpp, profile in zip(self.own, (depth, colour), (2, 3), self.profiles, strict=True):
            frame = self.rs.software_video_frame()
            frame.pixels, frame.stride, frame.bpp, frame.profile = data, SIZE * bpp, bpp, profile
            frame.timestamp, frame.domain, frame.frame_number = stamp_ms, domain, n
            if bpp == 2:
                frame.depth_units = 0.001
            sensor.on_video_frame(frame)


def axes():
    """Right, down, ahead of both cameras."""
    ahead = (TARGET - EYE) / np.linalg.norm(TARGET - EYE)
    right = np.cross(ahead, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    return np.array((right, np.cross(ahead, right), ahead))


def drawn(joints, aside):
    """RGB and distances ahead, mm, from a camera so far to the right."""
    at, to = EYE + aside * axes()[0], TARGET + aside * axes()[0]
    view = pybullet.computeViewMatrix(at.tolist(), to.tolist(), [0, 0, 1])
    lens = pybullet.computeProjectionMatrixFOV(FOV, 1.0, NEAR, FAR)
    _, _, colour, depth, _ = pybullet.getCameraImage(
        SIZE, SIZE, view, lens, shadow=0, renderer=pybullet.ER_TINY_RENDERER, physicsClientId=joints.client
    )  # fmt: skip
    z = FAR * NEAR / (FAR - (FAR - NEAR) * np.asarray(depth, float).reshape(SIZE, SIZE))
    rgb = np.ascontiguousarray(np.asarray(colour, np.uint8).reshape(SIZE, SIZE, 4)[:, :, :3])
    return rgb, np.where(z < 0.99 * FAR, np.rint(z * 1000), 0).astype(np.uint16)


def test_a_pixel_of_the_ball_becomes_the_point_where_the_ball_is():
    rs = library()
    run = config.load(LAUNCH / "reach_pixels.toml")
    joints, _ = FLEETS["so101"].turned()
    eyes = Eyes(run, joints)
    for number, goal in enumerate(((0.25, -0.1, 0.12), (0.28, 0.09, 0.2), (0.2, 0.12, 0.1))):
        eyes.put(np.array(goal))
        colour, depth = drawn(joints, APART_M)[0], drawn(joints, 0.0)[1]
        device, frames = Drawn(rs, shift_m=-APART_M), Frames(rs, True, WallClock())
        for n in range(1, 6):
            device.push(n, colour, depth, n * 1000 / 30, rs.timestamp_domain.hardware_clock)
        seen = [frame for frame in map(frames.take, device.framesets()) if frame is not None]
        lens = device.profiles[1].get_intrinsics()
        device.close()
        assert seen and seen[-1].stamp == "device", number
        blue, green, red = seen[-1].image.astype(int).transpose(2, 0, 1)
        rows, columns = np.nonzero((red > 90) & (red > 2 * green) & (red > 2 * blue))
        column, row = float(columns.mean()), float(rows.mean())
        distance = seen[-1].depth[round(row), round(column)] * seen[-1].depth_m
        point = np.array(rs.rs2_deproject_pixel_to_point(lens, [column, row], distance))
        point += BALL_M * point / np.linalg.norm(point)  # from its surface to its middle
        there = axes() @ (np.array(goal) + (0, 0, joints.height) - EYE) - (APART_M, 0.0, 0.0)
        assert point == pytest.approx(there.tolist(), abs=0.006), goal
    joints.close()
