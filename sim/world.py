"""The twin's physics: one Minitaur on a ground in PyBullet, its motors and its recent past.

Nothing here knows a wire. A servo's control law is given to `advance` as a function from the angle and velocity it
sees to the current it asks for; sensors read `sensed`. Settings: hardware facts 1.3 to 1.5. Several worlds may
live in one process.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable

import numpy as np
import pybullet
from numpy.typing import NDArray

from robotrl import config, kinematics
from robotrl.sim import inner, model, terrain
from robotrl.sim.domain import Domain
from robotrl.sim.history import GRAVITY, Pair, Sample, Torso, matrix, product
from robotrl.sim.motor import Motors

Array = NDArray[np.float64]
Drive = Callable[[Array, Array], Array]

BOTH = np.concatenate([model.DIRECTION, model.DIRECTION])
# The solver stops before its last iteration once the constraints' residual is this small: loops stay shut to
# 0.7 mm at worst and gaits travel as with PyBullet's own 1e-7 (speed within 1 %), about a tenth faster.
RESIDUAL = 1e-5
STAND = (0.0, 2.0)  # swing, extension: the centre of the task's action range
LIE = (1.25, 1.9)  # swing outwards: legs along the body, torso on its belly
FOLDED = (0.0, math.pi / 2)
CLEARANCE = 0.002  # m above the ground at which a robot is let go
LOOK = 3.0  # m; how far a robot may be thrown and still be seen to hang over the ground


class World:
    """A robot, its ground, and time that moves only in `advance`. Joint arrays: (8,), robot convention, SI."""

    def __init__(self, twin: config.Twin, seed: int) -> None:
        """The robot stands at the origin, nominal domain. Raises ValueError for a bad URDF or terrain."""
        self.twin = twin
        self.domain = Domain.nominal(twin)
        self._rng = np.random.default_rng(seed)
        self._client = pybullet.connect(pybullet.DIRECT)
        self._give_back = weakref.finalize(self, pybullet.disconnect, self._client)  # also when nobody closes it
        self._engine()
        try:
            self.terrain = terrain.build(self._client, twin.terrain, self._rng)
            self.model = model.load(self._client, twin.urdf)
        except ValueError:
            self.close()
            raise
        self.motors = Motors(kinematics.MOTORS, twin.battery_v)
        self.history = inner.history(twin.physics_dt, self.model.frame)
        self.lag = twin.pd_latency_s / twin.physics_dt  # physics steps that the servos' readings are late
        self._due = 0.0  # physics steps asked for and not yet made, as a fraction
        self._push = ([0.0, 0.0, 0.0], 0)  # force, steps left
        self._dynamics = self._read_dynamics()
        self.place("stand")

    @property
    def time(self) -> float:
        """Seconds of physics since the world was made; a multiple of the physics step."""
        return self.history.step * self.twin.physics_dt

    @property
    def angle(self) -> Array:
        return self.history.newest[0:8].copy()

    @property
    def velocity(self) -> Array:
        return self.history.newest[8:16].copy()

    @property
    def torque(self) -> Array:
        return self.history.newest[16:24].copy()

    @property
    def current(self) -> Array:
        """What the motors draw, A: what a servo measures, and calls torque."""
        return self.motors.current.copy()

    @property
    def overheated(self) -> NDArray[np.bool_]:
        """Motors that shut themselves off, until the robot is placed anew."""
        return self.motors.overheated.copy()

    @property
    def position(self) -> Array:
        """The torso's origin (middle of the four hips) in the world, (3,) m."""
        return np.array(self.torso(0.0).position)

    @property
    def rpy(self) -> Array:
        """Roll, pitch, yaw of the torso, (3,) rad."""
        return np.array(self.torso(0.0).rpy)

    def torso(self, delay_s: float) -> Torso:
        """Attitude, rates, acceleration and position alone, `delay_s` ago."""
        return self.history.torso(delay_s)

    def sensed(self, delay_s: float) -> Sample:
        """The robot `delay_s` ago (at most half a second), linearly interpolated between physics steps."""
        return self.history.sample(delay_s)

    def advance(self, seconds: float, drive: Drive) -> None:
        """Move on by whole physics steps, carrying the rest. `drive` sees the joints `pd_latency_s` late."""
        for _ in range(self.steps_due(seconds)):
            self.step(drive)

    def steps_due(self, seconds: float) -> int:
        """Whole physics steps to make for `seconds` more; the rest is carried."""
        self._due += seconds / self.twin.physics_dt
        steps = int(self._due + 1e-6)
        self._due -= steps
        return steps

    def step(self, drive: Drive) -> None:
        """One physics step; `sim/inner.py` does the same natively."""
        history, motors = self.history, self.motors
        seen = history.joints(self.lag)
        shaft = motors.step(drive(seen[0:8], seen[8:16]), history.newest[8:16], self.twin.physics_dt)
        pose, twist, states = self.simulate((shaft * model.DIRECTION).tolist())
        joints = history.push(pose, twist)
        angles, velocities, _, _ = zip(*states, strict=True)
        np.multiply(angles + velocities, BOTH, joints[0:16])
        joints[16:24] = motors.torque

    def simulate(self, forces: list[float]) -> tuple[Pair, Pair, tuple[tuple[float, ...], ...]]:
        """Physics alone: one step under motor torques (8,) of URDF sign and the push. The hottest lines of the twin.

        Returns the torso's pose and twist as in `History.push`, and the motors' states, all as PyBullet answers.
        """
        body, client, motors = self.model.body, self._client, self.model.motors
        pybullet.setJointMotorControlArray(body, motors, pybullet.TORQUE_CONTROL, forces=forces, physicsClientId=client)
        if self._push[1]:
            self._press()
        pybullet.stepSimulation(client)
        return (  # arguments by place: by name they cost a tenth more
            pybullet.getBasePositionAndOrientation(body, client),
            pybullet.getBaseVelocity(body, client),
            pybullet.getJointStates(body, motors, client),
        )

    def place(self, pose: str = "stand") -> None:
        """Put the robot down at the origin, at rest, motors cool: stand, lie (belly), back, side (either).

        Its past is forgotten: delayed readings show the new pose. Raises ValueError for another word.
        """
        turns = {
            "stand": 0.0,
            "lie": 0.0,
            "back": math.pi,
            "side": math.pi / 2 * (1 - 2 * int(self._rng.integers(2))),
        }
        if pose not in turns:
            raise ValueError(f"pose {pose!r}: use {', '.join(turns)}")
        swing, extension = {"stand": STAND, "lie": LIE}.get(pose, FOLDED)
        outwards = np.array([1.0, -1.0, 1.0, -1.0])
        angles = kinematics.to_motors(swing * outwards, np.full(4, extension))
        if pose in ("back", "side"):  # as it fell: no two falls leave the legs alike
            angles = angles + self._rng.uniform(-0.3, 0.3, kinematics.MOTORS)
        self._put(angles, (math.sin(turns[pose] / 2), 0.0, 0.0, math.cos(turns[pose] / 2)))

    def randomise(self, rng: np.random.Generator) -> None:
        """Draw a new domain and lay loose blocks anew; effective at once."""
        self.terrain.lay(rng)
        self.apply(Domain.draw(rng))

    def apply(self, domain: Domain) -> None:
        """Make the robot the one `domain` describes."""
        self.domain = domain
        self.motors.battery_v, self.motors.strength = domain.battery_v, domain.strength
        self.motors.friction = domain.joint_friction
        if self.terrain.level:
            x, y, _ = self.torso(0.0).position
            self.terrain.lean(domain.lean, (x, y))
            self.terrain.sink(max(0.0, -self._clearance()))  # no foot is in it
        for link, (mass, inertia) in self._dynamics.items():
            base = link == -1
            m = mass * (domain.base_mass if base else domain.leg_mass)
            scale = domain.base_inertia if base else domain.leg_inertia
            extra = {"lateralFriction": domain.foot_friction} if link in self.model.knees else {}
            pybullet.changeDynamics(
                self.model.body, link, mass=m, physicsClientId=self._client,
                localInertiaDiagonal=[i * scale for i in inertia], **extra,
            )  # fmt: skip

    def push(self, force: tuple[float, float, float], seconds: float) -> None:
        """A force (N, world) on the torso's centre of mass for the next `seconds`."""
        self._push = ([float(f) for f in force], max(0, round(seconds / self.twin.physics_dt)))

    def render(self, width: int, height: int) -> NDArray[np.uint8]:
        """A picture (height, width, 3), RGB, from a camera that follows the robot."""
        position = self.position
        target = [float(position[0]), float(position[1]), float(position[2]) - 0.075]  # between hips and toes, on any ground
        view = pybullet.computeViewMatrixFromYawPitchRoll(target, 1.0, 35.0, -18.0, 0.0, 2)
        lens = pybullet.computeProjectionMatrixFOV(45.0, width / height, 0.05, 20.0)
        _, _, pixels, _, _ = pybullet.getCameraImage(
            width, height, view, lens, lightDirection=[1.0, -1.5, 3.0], shadow=1,
            renderer=pybullet.ER_TINY_RENDERER, flags=pybullet.ER_NO_SEGMENTATION_MASK,
            physicsClientId=self._client,
        )  # fmt: skip
        return np.asarray(pixels, np.uint8).reshape(height, width, 4)[:, :, :3].copy()

    def close(self) -> None:
        """Give the physics back; a second call does nothing."""
        self._give_back()
        self._client = -1

    def _engine(self) -> None:
        """Physics settings: hardware facts 1.4; ordered pairs make equal seeds give equal bits."""
        flags = pybullet.RESET_USE_DISCRETE_DYNAMICS_WORLD | pybullet.RESET_USE_SIMPLE_BROADPHASE
        pybullet.resetSimulation(flags, physicsClientId=self._client)
        pybullet.setPhysicsEngineParameter(
            fixedTimeStep=self.twin.physics_dt, numSolverIterations=self.twin.solver_iterations,
            solverResidualThreshold=RESIDUAL, enableConeFriction=0, deterministicOverlappingPairs=1,
            physicsClientId=self._client,
        )  # fmt: skip
        pybullet.setGravity(0, 0, -GRAVITY, physicsClientId=self._client)

    def _press(self) -> None:
        """Apply the push for one physics step."""
        force, left = self._push
        at = pybullet.getBasePositionAndOrientation(self.model.body, physicsClientId=self._client)[0]
        pybullet.applyExternalForce(self.model.body, -1, force, at, pybullet.WORLD_FRAME, physicsClientId=self._client)
        self._push = (force, left - 1)

    def _put(self, angles: Array, turn: tuple[float, float, float, float]) -> None:
        """Joints and torso at rest, the lowest point just above the ground."""
        if self.terrain.level:
            self.terrain.home()
        self.model.pose(angles)
        offset, axes = self.model.frame
        orientation = product(product(self.terrain.tilt, turn), axes)
        ground = matrix(self.terrain.tilt)
        up = [ground[k][2] for k in range(3)]
        height = 1.0
        for _ in range(2):  # the second time from where the first one led
            torso = matrix(product(self.terrain.tilt, turn))
            at = [up[k] * height + sum(torso[k][j] * offset[j] for j in range(3)) for k in range(3)]
            at[2] += self.terrain.height
            pybullet.resetBasePositionAndOrientation(self.model.body, at, orientation, physicsClientId=self._client)
            pybullet.resetBaseVelocity(self.model.body, [0, 0, 0], [0, 0, 0], physicsClientId=self._client)
            pybullet.performCollisionDetection(physicsClientId=self._client)
            height -= self._clearance() - CLEARANCE
        self.motors.reset()
        self._push = ([0.0, 0.0, 0.0], 0)
        joints = np.zeros(24)
        states = pybullet.getJointStates(self.model.body, self.model.motors, physicsClientId=self._client)
        joints[0:8] = [state[0] for state in states] * model.DIRECTION
        self.history.fill(
            joints,
            pybullet.getBasePositionAndOrientation(self.model.body, physicsClientId=self._client),
            pybullet.getBaseVelocity(self.model.body, physicsClientId=self._client),
        )

    def _clearance(self) -> float:
        """Shortest distance between robot and ground, m; LOOK where it is more."""
        near: list[float] = []
        for ground in self.terrain.ground:
            points = pybullet.getClosestPoints(self.model.body, ground, LOOK, physicsClientId=self._client)
            near += [p[8] for p in points]
        return min(near, default=LOOK)

    def _read_dynamics(self) -> dict[int, tuple[float, tuple[float, ...]]]:
        """Mass and inertia of every link as loaded."""
        out = {}
        for link in range(-1, pybullet.getNumJoints(self.model.body, physicsClientId=self._client)):
            info = pybullet.getDynamicsInfo(self.model.body, link, physicsClientId=self._client)
            out[link] = (info[0], tuple(info[2]))
        return out
