"""The Minitaur's direct-drive motor: what a demanded current becomes at the shaft.

Battery and back-EMF bound the current, a measured table turns it into torque (it saturates), and a motor that is
overloaded for a second shuts itself off. Constants: Tan et al. 2018 (arXiv 1804.10332), hardware facts 1.3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESISTANCE = 0.186  # ohm
TORQUE_CONSTANT = 0.0954  # Nm/A, and V s/rad
AMPERES = np.array([0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
NEWTON_METRES = np.array([0.0, 1.0, 1.9, 2.45, 3.0, 3.25, 3.5])  # at AMPERES; constant beyond
OVERLOAD_A = 30.0  # more than this, the current of 2.45 Nm: heat comes from current, whatever torque a motor makes of it
OVERLOAD_S = 1.0  # for longer than this shuts the motor off
OVERLOAD_MAX_S = OVERLOAD_S + 1e-9  # a sum of steps is not exact
_LARGEST = np.maximum.reduce  # the array's own `max` in half the time
CREEP = 1.0  # rad/s at which Coulomb friction is fully there: a step at zero would chatter at 2 ms


class Motors:
    """n motors on one battery; `torque` (Nm, without friction) and `current` (A) are the last ones, shape (n,).

    The arrays are written in place: the native inner loop works on the same ones.
    """

    def __init__(self, count: int, battery_v: float, strength: float = 1.0, friction: float = 0.0) -> None:
        self.battery_v = battery_v
        self.strength = strength
        self.friction = friction  # Nm
        self.current = np.zeros(count)
        self.torque = np.zeros(count)
        self.overheated = np.zeros(count, bool)
        self.overload_s = np.zeros(count)
        self.watching = False  # some motor is, or was, overloaded

    def reset(self) -> None:
        """Cool down: nothing overheated, no torque."""
        self.current[:] = 0.0
        self.torque[:] = 0.0
        self.overheated[:] = False
        self.overload_s[:] = 0.0
        self.watching = False

    def step(self, demand: Array, velocity: Array, dt: float) -> Array:
        """Torque at the joint for the demanded current at the true velocity, over the next `dt` s; all (n,).

        What it returns holds until the next step. Raises ValueError for a nan, which physics would carry on in silence.
        """
        emf = velocity * (-TORQUE_CONSTANT / RESISTANCE)
        stall = self.battery_v / RESISTANCE
        current = np.maximum(demand, emf - stall, out=self.current)
        emf += stall
        np.minimum(current, emf, out=current)
        size = np.abs(current)
        torque = np.interp(size, AMPERES, NEWTON_METRES)
        torque *= self.strength
        if self.watching or not _LARGEST(size) <= OVERLOAD_A:  # nan if any is
            self._watch(size, torque, demand, dt)
        np.copysign(torque, current, out=self.torque)
        if self.friction:
            drag = np.maximum(velocity, -CREEP)
            np.minimum(drag, CREEP, out=drag)
            drag *= self.friction
            return self.torque - drag
        return self.torque

    def _watch(self, size: Array, torque: Array, demand: Array, dt: float) -> None:
        """Count overload and silence the motors that shut off; `size` is |current|, `torque` is changed in place."""
        if np.isnan(size).any():
            raise ValueError(f"motor current demand {demand} holds a nan; the servo's control law must not send it")
        self.overload_s[:] = np.where(size > OVERLOAD_A, self.overload_s + dt, 0.0)
        self.overheated |= self.overload_s > OVERLOAD_MAX_S
        torque[self.overheated] = self.current[self.overheated] = 0.0
        self.watching = bool(self.overload_s.any() or self.overheated.any())
