"""What an arm's cameras see on the twin: primitive shapes, drawn by PyBullet's own renderer at the size the policy takes.

The goal is a thing to be seen: a red ball where the point is to go, or a red disc on the table where a thing is to be pushed to.
Ideal pinholes without noise, blur or delay, one light, the same colours always: what is learned here is for no real camera.
A picture of 64 x 64 takes 1.5 ms of one core.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pybullet
from numpy.typing import NDArray

from robotrl import config
from robotrl.frames import joined
from robotrl.sim.bulletjoints import BulletJoints
from robotrl.tasks.task import Task, cameras

Image = NDArray[np.uint8]
NEAR, FAR = 0.05, 3.0  # m from a camera: what lies outside is not drawn
GREY = np.array((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601, as OpenCV weighs red, green, blue
BALL_M, DISC_M = 0.018, 0.02  # radii: of the goal in the air, 6 pixels across, and of that on the table; chosen
RED = (0.9, 0.1, 0.1, 1.0)
ASIDE = (0.0, 0.0, -1.0)  # under the floor
LARGER = 6  # how many times in a picture for a person


class Eyes:
    """The cameras of a run over a body in PyBullet. `look` draws; `newest` is what they saw last."""

    def __init__(self, run: config.Run, joints: BulletJoints, task: Any) -> None:
        self._joints, self._task, self._cameras = joints, task, cameras(run)
        self._views = [(self._view(run.twin.views[name]), size, channels) for name, size, _, channels in self._cameras]
        self._flat = run.task.name == "push"
        kind = pybullet.GEOM_CYLINDER if self._flat else pybullet.GEOM_SPHERE
        shape = pybullet.createVisualShape(
            kind, radius=DISC_M if self._flat else BALL_M, length=0.002, rgbaColor=RED, physicsClientId=joints.client
        )
        self._goal = pybullet.createMultiBody(0, -1, shape, physicsClientId=joints.client)
        self.newest = b""

    def look(self) -> bytes:
        """What all cameras see now, one after the other, as a replay takes it."""
        task = self._task
        goal = np.append(task.place, 0.001 - self._joints.height) if self._flat else task.goal
        self._put(goal)
        self.newest = b"".join(self._drawn(*view).tobytes() for view in self._views)
        self._put(np.array(ASIDE))  # films have their own mark
        return self.newest

    def save(self, path: Path) -> None:
        """What they saw last, side by side, larger, as a PNG."""
        seen = joined(self.newest, self._cameras)
        one = self._cameras[0][3]
        row = np.concatenate([seen[..., i : i + one] for i in range(0, seen.shape[-1], one)], axis=1)
        picture = cv2.resize(row if one == 1 else row[..., ::-1], None, fx=LARGER, fy=LARGER, interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(path), picture)

    def _view(self, view: config.View) -> tuple[list[float], list[float]]:
        up = (0.0, 0.0, self._joints.height)
        eye, target = (np.add(at, up).tolist() for at in (view.eye, view.target))
        return (
            pybullet.computeViewMatrix(eye, target, [0.0, 0.0, 1.0]),
            pybullet.computeProjectionMatrixFOV(view.fov_deg, 1.0, NEAR, FAR),
        )

    def _put(self, point: np.ndarray) -> None:
        at = (point + (0.0, 0.0, self._joints.height)).tolist()
        pybullet.resetBasePositionAndOrientation(self._goal, at, [0, 0, 0, 1], physicsClientId=self._joints.client)

    def _drawn(self, view: tuple[list[float], list[float]], size: int, channels: int) -> Image:
        _, _, pixels, _, _ = pybullet.getCameraImage(
            size, size, *view, lightDirection=[1.0, -1.5, 3.0], shadow=0, renderer=pybullet.ER_TINY_RENDERER,
            flags=pybullet.ER_NO_SEGMENTATION_MASK, physicsClientId=self._joints.client,
        )  # fmt: skip
        colours = np.asarray(pixels, np.uint8).reshape(size, size, 4)[:, :, :3]
        if channels == 3:
            return colours
        return np.rint(colours @ GREY).astype(np.uint8)[:, :, None]


def eyes_of(run: config.Run, joints: object, task: Task) -> Eyes:
    """ConfigError without PyBullet."""
    if not isinstance(joints, BulletJoints):
        raise config.ConfigError("twin: its cameras draw what is in PyBullet, which is not here; its wheels: CPython 3.11")
    return Eyes(run, joints, task)
