"""A servo chain's joints as a body in PyBullet whose base is fixed.

Bullet adds torques at the beginning of a step and knows no rotors; the servos' damper must act at its end, and a rotor behind its
gears weighs more than the link it turns. So the velocity at the end is worked out first, from Bullet's own mass matrix M and bias
forces c, with the rotors R and what the last step showed of contacts and stops, e:

    (M + R + dt D) w' = (M + R) w + dt (drive - c + e)        and Bullet gets the torque  M (w' - w) / dt + c - e

Exact where nothing touches. A contact is learnt over the steps after it began (in `M / (M + R)` of the way each), so an impact is
softer than the rotors would make it; a grip that lasts is as strong as the servo.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import pybullet
from numpy.typing import NDArray

from robotrl.sim.primitives import Part, box_inertia, urdf

Array = NDArray[np.float64]
GRAVITY = 9.81


def loaded(client: int, text: str, height: float, fixed: bool) -> int:
    """The body that a URDF's text describes, its base `height` m up, held there or free."""
    handle, name = tempfile.mkstemp(suffix=".urdf")  # PyBullet reads URDFs from files only
    with os.fdopen(handle, "w") as file:
        file.write(text)
    try:
        flags = pybullet.URDF_USE_INERTIA_FROM_FILE
        return int(pybullet.loadURDF(name, [0, 0, height], useFixedBase=fixed, flags=flags, physicsClientId=client))
    finally:
        os.unlink(name)


class BulletJoints:
    """One joint a part that turns, in their order; slides come last, as pairs that one more joint, a crank, moves."""

    def __init__(self, parts: Sequence[Part], height: float = 0.0, finger_m: float = 0.0, crank: float = 0.0) -> None:
        """At q = 0, its base fixed `height` m over a floor.

        `finger_m`: a slide's way for a radian of the crank; `crank`: its inertia, kg m2.
        """
        self.client = pybullet.connect(pybullet.DIRECT)
        self._give_back = weakref.finalize(self, pybullet.disconnect, self.client)  # also when nobody closes it
        pybullet.setGravity(0, 0, -GRAVITY, physicsClientId=self.client)
        self._dt, self.height, self._ball = 0.0, height, -1
        floor = pybullet.createCollisionShape(pybullet.GEOM_PLANE, physicsClientId=self.client)
        pybullet.createMultiBody(0, floor, physicsClientId=self.client)
        self.body = loaded(self.client, urdf("body", parts), height, fixed=True)
        moving = [p for p in parts if p.parent]
        self._turns = [i for i, p in enumerate(moving) if not p.slides]
        self._slides = [i for i, p in enumerate(moving) if p.slides]
        self._finger_m, self._crank = finger_m, crank
        self._count = len(self._turns) + bool(self._slides)
        self._quiet()
        self._weigh(moving)
        self.push = np.zeros(self._count)  # N m, from outside
        self.each: Callable[[float], None] | None = None  # called after each physics step with its length, s
        self._rotor = np.array([p.rotor - p.bulk for p in moving if not p.slides])
        self._contact = np.zeros(len(self._turns))  # N m, as the last step showed it
        self._looked = self._look()

    def _quiet(self) -> None:
        """No motors, no damping of Bullet's own; both fingers go as one."""
        for joint in self._turns + self._slides:
            pybullet.changeDynamics(
                self.body, joint, linearDamping=0, angularDamping=0, jointDamping=0, physicsClientId=self.client
            )  # fmt: skip
            pybullet.setJointMotorControl2(
                self.body, joint, pybullet.VELOCITY_CONTROL, force=0, physicsClientId=self.client
            )  # fmt: skip
        if len(self._slides) == 2:
            left, right = self._slides
            gear = pybullet.createConstraint(
                self.body, left, self.body, right, pybullet.JOINT_GEAR, [0, 1, 0], [0, 0, 0], [0, 0, 0],
                physicsClientId=self.client,
            )  # fmt: skip
            pybullet.changeConstraint(gear, gearRatio=-1, maxForce=500, physicsClientId=self.client)

    def _weigh(self, moving: Sequence[Part]) -> None:
        """Light links are given some more inertia, the same about all axes: an error of a step throws them less far."""
        for joint, part in enumerate(moving):
            inertia = [i + part.bulk for i in box_inertia(part)]
            pybullet.changeDynamics(self.body, joint, localInertiaDiagonal=inertia, physicsClientId=self.client)

    def _look(self) -> tuple[Array, Array]:
        """Angles and velocities; a crank's from its fingers' mean."""
        joints = [*self._turns, *self._slides]
        states = pybullet.getJointStates(self.body, joints, physicsClientId=self.client)
        q, w = np.array([s[0] for s in states]), np.array([s[1] for s in states])
        if not self._slides:
            return q, w
        n = len(self._turns)
        fold = lambda x: np.append(x[:n], x[n:].mean() / self._finger_m)  # noqa: E731
        return fold(q), fold(w)

    @property
    def angle(self) -> Array:
        return self._looked[0].copy()

    @property
    def velocity(self) -> Array:
        return self._looked[1].copy()

    def put(self, angles: Sequence[float]) -> None:
        """At rest at these angles (n,), as if set there by hand."""
        n = len(self._turns)
        places = [*zip(self._turns, angles, strict=False), *((i, angles[n] * self._finger_m) for i in self._slides)]
        for joint, place in places:
            pybullet.resetJointState(self.body, joint, place, 0.0, physicsClientId=self.client)
        self._looked = self._look()

    def place_of(self, link: int) -> Array:
        """Where a link's frame is, (3,) m, base frame; links are counted from 0, the first that moves."""
        state = pybullet.getLinkState(self.body, link, computeForwardKinematics=1, physicsClientId=self.client)
        return np.array(state[4])

    def turn_of(self, link: int) -> Array:
        """How a link is turned against q = 0, (3, 3)."""
        state = pybullet.getLinkState(self.body, link, computeForwardKinematics=1, physicsClientId=self.client)
        return np.array(pybullet.getMatrixFromQuaternion(state[5])).reshape(3, 3)

    def mark(self, point: Sequence[float], radius: float) -> None:
        """A ball to be seen in pictures and touched by nothing, at a point (3,) m of the base's frame."""
        if self._ball < 0:
            shape = pybullet.createVisualShape(
                pybullet.GEOM_SPHERE, radius=radius, rgbaColor=[0.9, 0.1, 0.1, 1.0], physicsClientId=self.client
            )
            self._ball = pybullet.createMultiBody(0, -1, shape, physicsClientId=self.client)
        at = [point[0], point[1], point[2] + self.height]
        pybullet.resetBasePositionAndOrientation(self._ball, at, [0, 0, 0, 1], physicsClientId=self.client)

    def render(self, width: int, height: int) -> NDArray[np.uint8]:
        """A picture (height, width, 3), RGB, from beside the arm."""
        view = pybullet.computeViewMatrixFromYawPitchRoll([0.12, 0.0, 0.12], 0.75, 35.0, -25.0, 0.0, 2)
        lens = pybullet.computeProjectionMatrixFOV(45.0, width / height, 0.05, 20.0)
        _, _, pixels, _, _ = pybullet.getCameraImage(
            width, height, view, lens, lightDirection=[1.0, -1.5, 3.0], shadow=1, renderer=pybullet.ER_TINY_RENDERER,
            flags=pybullet.ER_NO_SEGMENTATION_MASK, physicsClientId=self.client,
        )  # fmt: skip
        return np.asarray(pixels, np.uint8).reshape(height, width, 4)[:, :, :3].copy()

    def step(self, drive: Array, damping: Array, friction: Array, dt: float) -> None:
        if dt != self._dt:
            self._dt = dt
            pybullet.setPhysicsEngineParameter(fixedTimeStep=dt, physicsClientId=self.client)
        n, (q, w) = len(self._turns), self._looked
        mass, bias = self._dynamics(q, w)
        ends = self._ends(mass, bias, w, drive, damping, friction, dt)
        torque = mass @ (ends - w[:n]) / dt + bias - self._contact
        pybullet.setJointMotorControlArray(
            self.body, self._turns, pybullet.TORQUE_CONTROL, forces=torque.tolist(), physicsClientId=self.client
        )  # fmt: skip
        if self._slides:
            self._squeeze(w[n], drive[n] + self.push[n], damping[n], friction[n], dt)
        pybullet.stepSimulation(physicsClientId=self.client)
        self._looked = self._look()
        self._contact += mass @ (self._looked[1][:n] - ends) / dt
        if self.each is not None:
            self.each(dt)

    def _dynamics(self, q: Array, w: Array) -> tuple[Array, Array]:
        """Mass matrix (n, n) and bias forces (n,) of the joints that turn."""
        n, slides = len(self._turns), len(self._slides)
        places = [*q[:n], *([q[n] * self._finger_m] * slides if slides else [])]
        speeds = [*w[:n], *[0.0] * slides]
        mass = pybullet.calculateMassMatrix(self.body, places, physicsClientId=self.client)
        bias = pybullet.calculateInverseDynamics(self.body, places, speeds, [0.0] * len(places), physicsClientId=self.client)
        return np.array(mass)[:n, :n], np.array(bias)[:n]

    def _ends(self, mass: Array, bias: Array, w: Array, drive: Array, damping: Array, friction: Array, dt: float) -> Array:
        """Velocities at the end of the step. Coulomb friction takes what it can of each."""
        n = len(self._turns)
        heavy = (mass + np.diag(self._rotor)) / dt
        free = heavy + np.diag(damping[:n])
        ends = np.linalg.solve(free, heavy @ w[:n] + drive[:n] + self.push[:n] - bias + self._contact)
        return np.asarray(np.sign(ends) * np.maximum(np.abs(ends) - friction[:n] / np.diag(free), 0.0))

    def _squeeze(self, speed: float, drive: float, damping: float, friction: float, dt: float) -> None:
        """The crank's speed at the end of the step, held against the fingers with as much as it has."""
        heavy = self._crank + dt * damping
        ends = (self._crank * speed + dt * drive) / heavy
        ends = np.sign(ends) * max(abs(ends) - dt * friction / heavy, 0.0)
        force = max(abs(drive), friction) / self._finger_m / len(self._slides)
        pybullet.setJointMotorControlArray(
            self.body, self._slides, pybullet.VELOCITY_CONTROL, targetVelocities=[ends * self._finger_m] * len(self._slides),
            forces=[force] * len(self._slides), physicsClientId=self.client,
        )  # fmt: skip

    def close(self) -> None:
        self._give_back()
