"""What a servo's horn turns: the seam between a chain of servos and whatever physics there is, and the plainest such physics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class Joints(Protocol):
    """n joints. Arrays (n,), SI, in the joints' own convention; their inertia is to hold the rotors' too."""

    @property
    def angle(self) -> Array: ...  # rad
    @property
    def velocity(self) -> Array: ...  # rad/s

    def step(self, drive: Array, damping: Array, friction: Array, dt: float) -> None:
        """Move on by `dt` s under torque = drive - damping * velocity, with Coulomb friction (N m) against the motion.

        The damper must act at the end of the step: it is far stiffer than the links are heavy (`sim/gearmotor.py`).
        """
        ...


class Pendulums:
    """Joints that know nothing of each other: an arm each that gravity pulls to where it hangs, between two stops.

    Implicit in damper and friction, so it is stable at any step, however light the arm.
    """

    def __init__(
        self,
        inertia: ArrayLike,  # kg m2, rotor included
        load_nm: ArrayLike = 0.0,  # gravity's torque when the arm is level
        hangs_at: ArrayLike = 0.0,  # rad
        stops: Sequence[tuple[float, float]] | None = None,  # rad; None: turns freely
    ) -> None:
        self.inertia = np.atleast_1d(np.asarray(inertia, float))
        n = len(self.inertia)
        self.load_nm = np.broadcast_to(np.asarray(load_nm, float), (n,)).copy()
        self.hangs_at = np.broadcast_to(np.asarray(hangs_at, float), (n,)).copy()
        self.lower = np.full(n, -np.inf) if stops is None else np.array([low for low, _ in stops], float)
        self.upper = np.full(n, np.inf) if stops is None else np.array([high for _, high in stops], float)
        self.push = np.zeros(n)  # N m, from outside
        self.angle = np.zeros(n)
        self.velocity = np.zeros(n)

    def put(self, angles: Sequence[float]) -> None:
        """At rest at these angles (n,), rad, as if set there by hand."""
        self.angle = np.array(angles, float)
        self.velocity = np.zeros(len(self.angle))

    def step(self, drive: Array, damping: Array, friction: Array, dt: float) -> None:
        pull = self.push - self.load_nm * np.sin(self.angle - self.hangs_at)
        heavy = self.inertia + dt * damping
        free = (self.inertia * self.velocity + dt * (drive + pull)) / heavy
        self.velocity = np.sign(free) * np.maximum(np.abs(free) - dt * friction / heavy, 0.0)
        angle = self.angle + dt * self.velocity
        self.angle = np.minimum(np.maximum(angle, self.lower), self.upper)  # np.clip takes as long as all the rest
        self.velocity[self.angle != angle] = 0.0  # a stop takes all of it
