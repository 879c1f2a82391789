"""What two cameras beside and above an arm's table see, small: for who learns from frames, in lockstep.

PyBullet's own renderer: 1.4 ms a view. The goal is a ball, which nothing touches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pybullet
from numpy.typing import NDArray

from robotrl.config import ConfigError
from robotrl.replay import Cameras
from robotrl.sim.bulletjoints import BulletJoints
from robotrl.sim.fleets import FLEETS
from robotrl.sim.program import Program

SIZE = 64  # px
CENTRE = (0.28, 0.0, 0.24)  # m, base frame: of what an arm can reach before it
FROM = {"side": (0.0, -5.0), "top": (-90.0, -80.0)}  # yaw and pitch of each, degrees; chosen
BALL = 0.5  # the goal's radius, of the tolerance
DISTANCE, ANGLE = 0.8, 32.0  # m, degrees: 0.46 m across, 7 mm a pixel; chosen
CAMERAS: Cameras = tuple((name, SIZE, SIZE, 3) for name in FROM)


class Views:
    """`frame` is what all cameras see now, as a transition has it."""

    def __init__(self, joints: BulletJoints, height: float) -> None:
        self._joints = joints
        centre = [CENTRE[0], CENTRE[1], CENTRE[2] + height]
        self._from = [
            pybullet.computeViewMatrixFromYawPitchRoll(centre, DISTANCE, yaw, pitch, 0.0, 2) for yaw, pitch in FROM.values()
        ]
        self._lens = pybullet.computeProjectionMatrixFOV(ANGLE, 1.0, 0.05, 20.0)

    def frame(self, goal: NDArray[np.float64], radius: float) -> bytes:
        """Camera after camera, RGB, uint8; the goal (3,) m, base frame."""
        self._joints.mark(goal.tolist(), radius)
        return b"".join(self._seen(view) for view in self._from)

    def _seen(self, view: list[float]) -> bytes:
        _, _, pixels, _, _ = pybullet.getCameraImage(
            SIZE, SIZE, view, self._lens, shadow=0, renderer=pybullet.ER_TINY_RENDERER,
            flags=pybullet.ER_NO_SEGMENTATION_MASK, physicsClientId=self._joints.client,
        )  # fmt: skip
        return np.ascontiguousarray(np.asarray(pixels, np.uint8).reshape(SIZE, SIZE, 4)[:, :, :3]).tobytes()


def views_of(rig: Program) -> Callable[[Any], bytes]:
    """What an arm's cameras see, when its task is as it is now. ConfigError for a robot or a task without a goal to be seen."""
    joints = getattr(getattr(rig, "twin", None), "joints", None)
    if not isinstance(joints, BulletJoints) or not hasattr(rig.pilot.task, "goal"):
        raise ConfigError(f"task.reward: no camera of the twin sees what {rig.run.task.name} is about; reach is seen")
    views = Views(joints, FLEETS[rig.run.robot.kind].height)
    return lambda task: views.frame(task.goal, BALL * task.settings.tolerance_m)
