"""Robots on bus servos: which servos are on the line, and what they turn.

With PyBullet that is a body of boxes: an arm on a floor, D'Kitty's torso held on a stand. Without, joints that know nothing of
each other: each has the inertia of what hangs on it and the pull of gravity when that is stretched out level; so the line speaks,
warms, stalls and stops as the robot's does, and where its hand is it does not know. Numbers: hardware facts 2.1, 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from robotrl.clock import Clock
from robotrl.sim import dynamixeltable, feetechtable
from robotrl.sim.bodies import DKITTY_BODY, FINGER_M, OMX_BODY, SO101_BODY, degrees
from robotrl.sim.bullet import import_bullet
from robotrl.sim.dynamixelbus import DynamixelBus
from robotrl.sim.dynamixelservo import DynamixelServo
from robotrl.sim.feetechbus import FeetechBus
from robotrl.sim.feetechservo import FeetechServo
from robotrl.sim.gearmotor import Gearmotor
from robotrl.sim.joints import Array, Joints, Pendulums
from robotrl.sim.primitives import Part

FREE = 2 * math.pi  # rad, a stop that nobody reaches in one turn
APART = "joints that move independently, each under its own gravity load: no body, no collisions (no PyBullet here)"


@dataclass(frozen=True)
class Joint:
    """One servo and what it turns."""

    servo: int  # its number
    inertia: float  # kg m2 of the links alone
    load_nm: float = 0.0  # gravity's torque when they are level
    hangs_at: float = 0.0  # rad
    stops: tuple[float, float] = (-FREE, FREE)  # rad
    sign: int = 1  # of the servo's count
    centre: int = 2048  # tick at 0 rad


SO101 = (
    Joint(1, 0.02, stops=degrees(-110, 110)),
    Joint(2, 0.021, 0.78, math.pi, degrees(-100, 100)),
    Joint(3, 0.009, 0.40, math.pi / 2, degrees(-96.8, 96.8)),
    Joint(4, 0.002, 0.11, math.pi / 2, degrees(-95, 95)),
    Joint(5, 0.0005, stops=degrees(-157, 163)),
    Joint(6, 0.0002, stops=degrees(-10, 100)),
)
OMX = (
    Joint(11, 0.012, stops=degrees(-180, 180)),
    Joint(12, 0.018, 0.92, math.pi, degrees(-86, 86)),
    Joint(13, 0.009, 0.55, math.pi / 2, degrees(-86, 80)),
    Joint(14, 0.003, 0.18, math.pi / 2, degrees(-97, 113)),
    Joint(15, 0.0005, stops=(-0.957, 1.741)),  # the crank that opens the gripper from -11 to 20 mm
)
# On a stand, its legs hanging. Ticks at 0 and directions: hardware facts 2.1.
_LEGS = ((10, 1, 3072, -3.419, 0.279), (20, 1, 1024, -0.279, 3.419), (30, -1, 3072, -0.279, 3.419), (40, -1, 1024, -3.419, 0.279))
_PITCH_SIGN = {10: -1, 20: 1, 30: 1, 40: -1}
DKITTY = tuple(
    joint
    for first, sign, centre, low, high in _LEGS
    for joint in (
        Joint(first, 0.006, 0.32, 0.0, (low, high), sign, centre),
        Joint(first + 1, 0.0015, 0.113, 0.0, (-2.14, 2.14), _PITCH_SIGN[first]),
        Joint(first + 2, 0.0003, 0.02, 0.0, (-1.57, 1.57), _PITCH_SIGN[first]),
    )
)


@dataclass(frozen=True)
class Fleet:
    joints: tuple[Joint, ...]
    body: tuple[Part, ...]
    model: dynamixeltable.Model | None  # None: Feetech STS3215, 12 V
    height: float  # m, of the body's origin over the floor
    says: str  # what the body is and is not

    @property
    def motor(self) -> Gearmotor:
        return self.model.motor if self.model else feetechtable.STS3215_12V

    def line(self, clock: Clock | None) -> DynamixelBus | FeetechBus:
        """The servos on their line; on a clock by which bytes take their time, or None."""
        if self.model is None:
            return FeetechBus([FeetechServo(self.motor, j.servo, j.sign, j.centre) for j in self.joints], clock)
        return DynamixelBus([DynamixelServo(self.model, j.servo, j.sign, j.centre) for j in self.joints], clock)

    def turned(self) -> tuple[PushedJoints, str]:
        """What the servos turn, and in words what that is."""
        try:
            import_bullet()
        except ImportError:
            return self.apart(), APART
        from robotrl.sim.bulletjoints import BulletJoints  # late: it imports pybullet, which must have been told to be quiet

        return BulletJoints(self.body, self.height, FINGER_M, self.motor.rotor), self.says

    def apart(self) -> Pendulums:
        return Pendulums(
            [j.inertia + self.motor.rotor for j in self.joints],
            [j.load_nm for j in self.joints],
            [j.hangs_at for j in self.joints],
            [j.stops for j in self.joints],
        )


class PushedJoints(Joints, Protocol):
    push: Array  # (n,), N m from outside

    def put(self, angles: Sequence[float]) -> None:
        """At rest at these angles (n,), rad, as if set there by hand."""
        ...


XM430 = dynamixeltable.XM430_W350
FLEETS = {
    "so101": Fleet(SO101, SO101_BODY, None, 0.0, "an arm of boxes, fixed to a floor, alone in its world"),
    "omx": Fleet(OMX, OMX_BODY, XM430, 0.017, "an arm of boxes, fixed to a floor, alone in its world"),
    "dkitty": Fleet(DKITTY, DKITTY_BODY, XM430, 0.4, "a body of boxes whose torso is held on a stand: it does not walk"),
}
