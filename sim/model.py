"""The Minitaur in PyBullet: URDF, closed leg chains, indices.

The URDF comes from the pybullet_data wheel; its welded links are merged on the way in (`sim/urdf.py`).
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pybullet
import pybullet_data
from numpy.typing import NDArray

from robotrl import kinematics
from robotrl.sim.history import Quaternion, matrix
from robotrl.sim.urdf import merged

Array = NDArray[np.float64]
Point = tuple[float, float, float]

LEGS = ("front_left", "back_left", "front_right", "back_right")  # hardware facts 1.2
DIRECTION = np.array([-1.0] * 4 + [1.0] * 4)  # robot angle to URDF joint angle
# URDFs whose inertias were measured, and the y of the point where a leg's lower links meet. The idealised
# robot's inertias are placeholders, so PyBullet takes them from the shapes there and nothing is merged.
IDENTIFIED = {"rainbow_dash": 0.0045, "derpy": 0.0055}


@dataclass(frozen=True)
class Model:
    """A loaded robot: PyBullet's indices in the robot's motor order, and its geometry."""

    client: int
    body: int
    motors: tuple[int, ...]  # joint indices
    knees: tuple[int, ...]  # joint indices; also the index of the lower link each carries
    joins: tuple[Point, ...]  # where each lower link meets its twin, in its centre-of-mass frame
    leg: kinematics.FiveBar
    frame: tuple[Point, Quaternion]  # the torso's inertial frame in the torso's own

    def pose(self, angles: Array) -> None:
        """Set all joints at rest, lower links by the closed form, so that no loop breaks. `angles` (8,) rad."""
        folds = kinematics.knee_angles(angles, self.leg)
        for i in range(len(self.motors)):
            self._set(self.motors[i], float(DIRECTION[i] * angles[i]))
            self._set(self.knees[i], float(-DIRECTION[i] * folds[i]))

    def loop_gap(self) -> float:
        """How far the worst of the four loops is open, m: what the constraints must hold at zero."""
        points = []
        for link, join in zip(self.knees, self.joins, strict=True):
            state = self._link(link)
            points.append(np.array(state[0]) + np.array(matrix(state[1])) @ np.array(join))
        return max(float(np.linalg.norm(points[i] - points[i + 1])) for i in range(0, len(points), 2))

    def toes(self) -> Array:
        """World position of the four toes, (4, 3) m, from PyBullet's link poses."""
        states = [self._link(self.knees[i]) for i in kinematics.LONG]
        tip = np.array([0.0, 0.0, self.leg.toe])
        return np.array([np.array(s[4]) + np.array(matrix(s[5])) @ tip for s in states])

    def _set(self, joint: int, angle: float) -> None:
        pybullet.resetJointState(self.body, joint, angle, 0.0, physicsClientId=self.client)

    def _link(self, link: int) -> Any:
        return pybullet.getLinkState(self.body, link, computeForwardKinematics=1, physicsClientId=self.client)


def load(client: int, urdf: str) -> Model:
    """Load the robot, loops closed, default motors and damping off. Raises ValueError for an unknown URDF."""
    path = Path(pybullet_data.getDataPath()) / urdf
    if not path.is_file() or "minitaur" not in path.name:
        raise ValueError(f"twin.urdf {urdf!r}: no Minitaur of pybullet_data; use quadruped/minitaur_rainbow_dash.urdf")
    kind = next((k for k in IDENTIFIED if k in path.name), None)
    body = _load_merged(client, path) if kind else _load_plain(client, path)
    joints = {}
    for j in range(pybullet.getNumJoints(body, physicsClientId=client)):
        joints[pybullet.getJointInfo(body, j, physicsClientId=client)[1].decode()] = j
    model = _describe(client, body, joints, kind)
    model.pose(np.full(kinematics.MOTORS, np.pi / 2))
    for i in range(0, kinematics.MOTORS, 2):
        left, right = i, i + 1
        pybullet.createConstraint(
            body, model.knees[right], body, model.knees[left], pybullet.JOINT_POINT2POINT, [0, 0, 0],
            model.joins[right], model.joins[left], physicsClientId=client,
        )  # fmt: skip
        # Hinged to each other at the constraint: their touching there is no collision, and costs a third of a step.
        pybullet.setCollisionFilterPair(body, body, model.knees[left], model.knees[right], 0, physicsClientId=client)
    for j in [-1, *joints.values()]:
        if j >= 0:
            pybullet.setJointMotorControl2(body, j, pybullet.VELOCITY_CONTROL, force=0, physicsClientId=client)
        pybullet.changeDynamics(body, j, linearDamping=0, angularDamping=0, jointDamping=0, physicsClientId=client)
    return model


def _describe(client: int, body: int, joints: dict[str, int], kind: str | None) -> Model:
    suffix = "" if any(name.startswith("knee_") and name.endswith("_joint") for name in joints) else "_link"
    sides = [f"{leg}{side}" for leg in LEGS for side in "LR"]
    knees = tuple(joints[f"knee_{s}_joint" if not suffix else f"knee_{s}_link"] for s in sides)
    if kind:
        y = IDENTIFIED[kind]
        join = [(0.0, y, 0.088) if i in kinematics.LONG else (0.0, y, 0.1) for i in range(kinematics.MOTORS)]
    else:
        join = [(0.0, 0.005, 0.2) if i % 2 else (0.0, 0.01, 0.2) for i in range(kinematics.MOTORS)]
    info = pybullet.getDynamicsInfo(body, -1, physicsClientId=client)
    return Model(
        client=client,
        body=body,
        motors=tuple(joints[f"motor_{s}_joint"] for s in sides),
        knees=knees,
        joins=tuple(join),
        leg=kinematics.IDENTIFIED if kind else kinematics.IDEALISED,
        frame=(info[3], info[4]),
    )


def _load_merged(client: int, path: Path) -> int:
    handle, name = tempfile.mkstemp(suffix=".urdf")  # PyBullet reads URDFs from files only
    try:
        with os.fdopen(handle, "w") as file:
            file.write(merged(path))
        return _load(
            client,
            name,
            pybullet.URDF_USE_INERTIA_FROM_FILE | pybullet.URDF_USE_SELF_COLLISION_EXCLUDE_PARENT,
        )
    finally:
        os.unlink(name)


def _load_plain(client: int, path: Path) -> int:
    return _load(client, str(path), 0)


def _load(client: int, name: str, flags: int) -> int:
    flags |= pybullet.URDF_USE_SELF_COLLISION
    return int(pybullet.loadURDF(name, [0, 0, 1], flags=flags, physicsClientId=client))
