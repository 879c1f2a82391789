"""A legged robot on bus servos that stands on the ground in PyBullet: what its servos turn, and what IMU and tracker look at.

A servo's line, torque = drive - damping * velocity, is given to Bullet's solver as a motor that turns towards the velocity at
which the line has no torque left, with no more than the torque it has at the present one. So the damper cannot overshoot however
light a link is (hardware facts 2.2 name this way), and the solver finds it together with what the feet feel. Of the rotors'
inertia the links carry what `Part.bulk` says; behind 1:353 gears a rotor is up to speed in 6 ms, and that is left out.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence

import numpy as np
import pybullet
from numpy.typing import NDArray

from robotrl import config
from robotrl.sim.bulletjoints import loaded
from robotrl.sim.domain import Domain
from robotrl.sim.history import GRAVITY, History, Torso
from robotrl.sim.primitives import Part, box_inertia, urdf

Array = NDArray[np.float64]
AHEAD = (0.0, 0.0, -math.sqrt(0.5), math.sqrt(0.5))  # the body's frame (y ahead) in one whose x is ahead, as sensors have it
CLEARANCE = 0.002  # m above the ground at which it is let go
FREE_RAD_S = 1000.0  # a torque without a damper has no velocity at which it ends
FOOT_MU = 1.0
HELD = 0.35  # m over the ground, the torso: legs that stretch do not reach it


class FreeBody:
    """`Joints` of a chain, and the `world` of its senses. Joint arrays (n,), rad; the torso's frame: x ahead, y left, z up."""

    def __init__(self, parts: Sequence[Part], twin: config.Twin, stand: Sequence[float], seed: int) -> None:
        """It stands at the origin in the pose `stand`, looking along x. Raises ValueError for other ground than flat."""
        if twin.terrain != "flat":
            raise ValueError(f"terrain {twin.terrain!r}: a robot on bus servos has flat ground alone")
        self.twin, self.domain, self._rng = twin, Domain.nominal(twin), np.random.default_rng(seed)
        self._client = pybullet.connect(pybullet.DIRECT)
        self._give_back = weakref.finalize(self, pybullet.disconnect, self._client)  # also when nobody closes it
        pybullet.setGravity(0, 0, -GRAVITY, physicsClientId=self._client)
        pybullet.setPhysicsEngineParameter(
            numSolverIterations=twin.solver_iterations, enableConeFriction=0, deterministicOverlappingPairs=1,
            fixedTimeStep=twin.physics_dt, physicsClientId=self._client,
        )  # fmt: skip
        shape = pybullet.createCollisionShape(pybullet.GEOM_PLANE, physicsClientId=self._client)
        self._floor = pybullet.createMultiBody(0, shape, physicsClientId=self._client)
        pybullet.changeDynamics(self._floor, -1, lateralFriction=1.0, physicsClientId=self._client)
        self.body = loaded(self._client, urdf("body", parts), 1.0, fixed=False)
        moving = [part for part in parts if part.parent]
        self._joints = list(range(len(moving)))
        self._feet = [i for i, part in enumerate(moving) if part.tip is not None]
        self._parts = {-1: next(part for part in parts if not part.parent), **dict(enumerate(moving))}
        self._quiet()
        self._push = ([0.0, 0.0, 0.0], 0)  # force, steps left
        self._history = History(twin.physics_dt, ((0.0, 0.0, 0.0), AHEAD))
        self.angle = self.velocity = np.zeros(len(moving))
        self._hand = -1  # the constraint by which a person holds it; -1: nobody does
        self.apply(self.domain)
        self.put(stand)

    def _quiet(self) -> None:
        for link in self._parts:
            pybullet.changeDynamics(
                self.body, link, linearDamping=0, angularDamping=0, jointDamping=0, physicsClientId=self._client
            )  # fmt: skip

    # ---- the joints of a chain

    def step(self, drive: Array, damping: Array, friction: Array, dt: float) -> None:
        """One physics step. Coulomb friction takes its part of the drive, and adds to what holds a joint against its load."""
        stuck = np.abs(drive) < friction
        led = np.sign(drive) * np.maximum(np.abs(drive) - friction, 0.0)
        free = np.where(damping > 0, led / np.maximum(damping, 1e-9), np.sign(led) * FREE_RAD_S)
        way = free - self.velocity
        most = np.where(damping > 0, damping * np.abs(way), np.abs(led))
        most = most + np.where(stuck, friction, 2 * friction * (way * self.velocity < 0))
        pybullet.setJointMotorControlArray(
            self.body, self._joints, pybullet.VELOCITY_CONTROL, targetVelocities=free.tolist(), forces=most.tolist(),
            physicsClientId=self._client,
        )  # fmt: skip
        if self._push[1]:
            self._press()
        pybullet.stepSimulation(self._client)
        self._history.push(*self._look())

    def put(self, angles: Sequence[float]) -> None:
        """At rest at these angles (n,), the feet on the ground, looking along x."""
        for joint, angle in zip(self._joints, angles, strict=True):
            pybullet.resetJointState(self.body, joint, angle, 0.0, physicsClientId=self._client)
        height = 1.0
        for _ in range(2):
            pybullet.resetBasePositionAndOrientation(self.body, [0, 0, height], AHEAD, physicsClientId=self._client)
            pybullet.resetBaseVelocity(self.body, [0, 0, 0], [0, 0, 0], physicsClientId=self._client)
            pybullet.performCollisionDetection(self._client)
            near = pybullet.getClosestPoints(self.body, self._floor, 3.0, physicsClientId=self._client)
            height -= min(point[8] for point in near) - CLEARANCE
        self._push = ([0.0, 0.0, 0.0], 0)
        self._history.fill(np.zeros(24), *self._look())

    def _look(self) -> tuple[tuple[tuple[float, ...], ...], tuple[tuple[float, ...], ...]]:
        states = pybullet.getJointStates(self.body, self._joints, self._client)
        self.angle, self.velocity = np.array([s[0] for s in states]), np.array([s[1] for s in states])
        return (
            pybullet.getBasePositionAndOrientation(self.body, self._client),
            pybullet.getBaseVelocity(self.body, self._client),
        )

    # ---- the world of its senses

    @property
    def time(self) -> float:
        """Seconds of physics so far."""
        return self._history.step * self.twin.physics_dt

    def torso(self, delay_s: float) -> Torso:
        """Attitude, rates, acceleration and position, `delay_s` ago."""
        return self._history.torso(delay_s)

    @property
    def position(self) -> Array:
        """Of the torso's middle, (3,) m."""
        return np.array(self.torso(0.0).position)

    @property
    def rpy(self) -> Array:
        """Roll, pitch, yaw of the torso, (3,) rad."""
        return np.array(self.torso(0.0).rpy)

    def place(self, pose: str = "stand") -> None:
        """A hand lifts it upright off the ground and keeps it there, its joints as they are; `let_go` puts it down.

        ValueError for another word.
        """
        if pose != "stand":
            raise ValueError(f"pose {pose!r}: use stand")
        self.let_go()
        self._hand = pybullet.createConstraint(
            self.body, -1, -1, -1, pybullet.JOINT_FIXED, [0, 0, 0], [0, 0, 0], [0, 0, HELD], [0, 0, 0, 1], AHEAD,
            physicsClientId=self._client,
        )  # fmt: skip
        pybullet.resetBasePositionAndOrientation(self.body, [0, 0, HELD], AHEAD, physicsClientId=self._client)
        self._history.fill(np.zeros(24), *self._look())

    def let_go(self) -> None:
        """Upright at the origin, its joints as they are, its feet on the ground; no hand holds it any more."""
        if self._hand >= 0:
            pybullet.removeConstraint(self._hand, physicsClientId=self._client)
            self._hand = -1
        self.put(self.angle.tolist())

    @property
    def held(self) -> bool:
        return self._hand >= 0

    def randomise(self, rng: np.random.Generator) -> None:
        """Another robot: masses, the feet's friction, its senses' errors."""
        self.apply(Domain.draw(rng))

    def apply(self, domain: Domain) -> None:
        """Make it the one that `domain` describes, as far as that says something of a robot with gears."""
        self.domain = domain
        for link, part in self._parts.items():
            mass = domain.base_mass if link == -1 else domain.leg_mass
            inertia = domain.base_inertia if link == -1 else domain.leg_inertia
            extra = {"lateralFriction": FOOT_MU * domain.foot_friction} if link in self._feet else {}
            pybullet.changeDynamics(
                self.body, link, mass=part.mass * mass, physicsClientId=self._client,
                localInertiaDiagonal=[i * inertia + part.bulk for i in box_inertia(part)], **extra,
            )  # fmt: skip

    def push(self, force: tuple[float, float, float], seconds: float) -> None:
        """A force (N, world) on the torso for the next `seconds`."""
        self._push = ([float(f) for f in force], max(0, round(seconds / self.twin.physics_dt)))

    def _press(self) -> None:
        force, left = self._push
        at = pybullet.getBasePositionAndOrientation(self.body, self._client)[0]
        pybullet.applyExternalForce(self.body, -1, force, at, pybullet.WORLD_FRAME, physicsClientId=self._client)
        self._push = (force, left - 1)

    def render(self, width: int, height: int) -> NDArray[np.uint8]:
        """A picture (height, width, 3), RGB, from a camera that follows it."""
        view = pybullet.computeViewMatrixFromYawPitchRoll(self.position.tolist(), 0.9, 35.0, -22.0, 0.0, 2)
        lens = pybullet.computeProjectionMatrixFOV(45.0, width / height, 0.05, 20.0)
        _, _, pixels, _, _ = pybullet.getCameraImage(
            width, height, view, lens, lightDirection=[1.0, -1.5, 3.0], shadow=1, renderer=pybullet.ER_TINY_RENDERER,
            flags=pybullet.ER_NO_SEGMENTATION_MASK, physicsClientId=self._client,
        )  # fmt: skip
        return np.asarray(pixels, np.uint8).reshape(height, width, 4)[:, :, :3].copy()

    def close(self) -> None:
        """Give the physics back; a second call does nothing."""
        self._give_back()
        self._client = -1
