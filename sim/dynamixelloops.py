"""The control loops of a Dynamixel X: what its motor is told in each operating mode (e-Manual; hardware facts 2.2, 4.2).

Gains are those of the manual (P/128, I/65536, D/16 of PWM units, 885 of which are the whole bridge) at a cycle of 1 ms, which is
what its units fit. Feedforward gains are kept and not used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from robotrl.sim import dynamixeltable as t
from robotrl.sim.gearmotor import LIMP, Gearmotor, Law
from robotrl.sim.trapezoid import Trapezoid

TICKS_PER_RAD = t.TURN / (2 * math.pi)
CYCLES_S = 1000.0


@dataclass
class Settings:
    """Registers that every step asks for, as they were written last; PWM as a part of the whole bridge."""

    torque: bool
    watchdog_s: float  # 0: none; -1: it has run out
    way: int  # 1, or -1 where the servo counts the other way round
    offset: int  # ticks between the horn and the present position
    volts: tuple[float, float]  # limits
    hottest_c: int
    mode: int
    pwm_limit: float  # 0 to 1: the smaller of limit and goal
    goal_pwm: float
    current_nm: float  # goal current at the horn, N m; inf: none
    p: float  # bridge per tick
    i: float  # bridge per tick and s
    d: float  # bridge per tick/s
    velocity_p: float  # bridge per unit of velocity
    velocity_i: float  # bridge per unit of velocity and s


class Loops:
    """State of one servo's loops. Angles in ticks, velocities in rad/s, both as the servo counts them."""

    def __init__(self, motor: Gearmotor) -> None:
        self.motor = motor
        self.profile = Trapezoid()  # ticks
        self.ramp = Trapezoid()  # rad/s as its position: velocity mode's profile
        self.integral = 0.0  # of the bridge

    def start(self, ticks: float) -> None:
        self.profile.start(ticks)
        self.ramp.start(0.0)
        self.integral = 0.0

    def law(self, set_to: Settings, ticks: float, velocity: float, volts: float, dt: float) -> Law:
        """For the next `dt` s. The profiles move on."""
        motor = self.motor
        if set_to.mode == t.PWM:
            return motor.at_pwm(set_to.goal_pwm, volts)
        if set_to.mode == t.CURRENT:
            return motor.within_supply(Law(set_to.current_nm, 0.0), velocity, volts, set_to.pwm_limit)
        if set_to.mode == t.VELOCITY:
            return self._velocity(set_to, velocity, volts, dt)
        law = self._position(set_to, ticks, velocity, volts, dt)
        if set_to.mode == t.CURRENT_POSITION:
            law = motor.held_to(law, velocity, abs(set_to.current_nm))
        return law

    def _velocity(self, set_to: Settings, velocity: float, volts: float, dt: float) -> Law:
        self.ramp.step(dt)
        error = (self.ramp.position - velocity) / t.RAD_S
        self._integrate(set_to.velocity_i * error * dt, set_to.pwm_limit)
        slope = set_to.velocity_p / t.RAD_S  # bridge per rad/s
        return self._bridge(self.integral + slope * self.ramp.position, slope, velocity, volts, set_to.pwm_limit)

    def _position(self, set_to: Settings, ticks: float, velocity: float, volts: float, dt: float) -> Law:
        self.profile.step(dt)
        error = self.profile.position - ticks
        self._integrate(set_to.i * error * dt, set_to.pwm_limit)
        # The spring is taken at the end of the step too: stable at any step, and the same where nothing moves.
        slope = (set_to.d + dt * set_to.p) * TICKS_PER_RAD
        duty = set_to.p * error + set_to.d * self.profile.velocity + self.integral
        return self._bridge(duty, slope, velocity, volts, set_to.pwm_limit)

    def _integrate(self, change: float, limit: float) -> None:
        self.integral = max(-limit, min(limit, self.integral + change))

    def _bridge(self, duty: float, slope: float, velocity: float, volts: float, limit: float) -> Law:
        """The motor at `duty - slope * velocity`, or at the limit where that is beyond it."""
        now = duty - slope * velocity
        if abs(now) > limit:
            return self.motor.at_pwm(math.copysign(limit, now), volts)
        drive, damping = self.motor.at_pwm(duty, volts)
        return Law(drive, damping + self.motor.stall_nm * slope * volts / self.motor.volts)


def stopped(motor: Gearmotor, mode: int, volts: float) -> Law:
    """What the bus watchdog leaves: in the current modes the horn is free, in all others it is braked."""
    return LIMP if mode == t.CURRENT else motor.at_pwm(0.0, volts)
