"""A servo's motor behind its gears, at the horn: the straight line of its datasheet, its rotor's inertia, its heat.

torque = stall * pwm * volts / rated - damping * velocity, so back-EMF acts as a damper of `stall / free` (0.85 N m s/rad on an
XM430-W350). On a link of 1e-4 kg m2 an explicit step of that is unstable at any usable step; so a law is handed on as its two
parts, and whoever moves the joint takes the damper at the end of the step (`sim/joints.py`). Hardware facts 2.1, 2.2, 3.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

AMBIENT_C = 25.0


class Law(NamedTuple):
    """What a motor does to its horn for one physics step: torque = drive - damping * velocity."""

    drive: float  # N m
    damping: float  # N m s/rad, not negative


LIMP = Law(0.0, 0.0)  # bridge open: nothing but gear friction


@dataclass(frozen=True)
class Gearmotor:
    """Datasheet figures at `volts`, at the horn."""

    stall_nm: float
    stall_a: float
    free_rad_s: float
    volts: float
    rotor: float  # kg m2, reflected through the gears
    friction_nm: float
    heats_k_per_w: float = 6.0  # chosen: a stalled servo reaches 80 deg C in a minute or two
    settles_s: float = 180.0

    @property
    def damping(self) -> float:
        """Back-EMF and shorted windings, N m s/rad."""
        return self.stall_nm / self.free_rad_s

    @property
    def nm_per_a(self) -> float:
        return self.stall_nm / self.stall_a

    @property
    def ohms(self) -> float:
        return self.volts / self.stall_a

    def at_pwm(self, pwm: float, volts: float) -> Law:
        """The bridge at duty `pwm` (-1 to 1): 0 shorts the windings, which brakes."""
        return Law(self.stall_nm * pwm * volts / self.volts, self.damping)

    def within_supply(self, law: Law, velocity: float, volts: float, pwm: float = 1.0) -> Law:
        """`law`, or what duty +-`pwm` can do where it asks for more at this velocity."""
        torque = law.drive - law.damping * velocity
        push = self.stall_nm * pwm * volts / self.volts
        emf = self.damping * velocity
        if torque > push - emf:
            return Law(push, self.damping)
        if torque < -push - emf:
            return Law(-push, self.damping)
        return law

    def held_to(self, law: Law, velocity: float, limit_nm: float) -> Law:
        """`law` with its torque within +-`limit_nm`: what a current limit does."""
        torque = law.drive - law.damping * velocity
        return law if abs(torque) <= limit_nm else Law(math.copysign(limit_nm, torque), 0.0)

    def duty(self, torque: float, velocity: float, volts: float) -> float:
        """The bridge's duty (-1 to 1) that makes this torque at this velocity."""
        if volts <= 0:
            return 0.0
        duty = (torque + self.damping * velocity) / self.stall_nm * self.volts / volts
        return max(-1.0, min(1.0, duty))

    def warmer(self, celsius: float, amps2: float, dt: float) -> float:
        """The case's temperature after `dt` s of a mean square current (A2), deg C."""
        settled = AMBIENT_C + self.heats_k_per_w * self.ohms * amps2
        return celsius + (settled - celsius) * -math.expm1(-dt / self.settles_s)
