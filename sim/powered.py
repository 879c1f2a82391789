"""What all bus servos have in common: a supply that can fail, a case that warms, a horn that is at an angle."""

from __future__ import annotations

import math

from robotrl.sim.gearmotor import AMBIENT_C, LIMP, Gearmotor, Law

BROWN_OUT = 0.4  # of the rated volts: below, the controller is off
LOOKS_S = 0.0099  # it looks after itself a hundred times a second


class Powered:
    """A servo's body. `sign` and `centre_rad` map the joint to the horn: horn = sign * joint + centre."""

    boots_s = 0.4

    def __init__(self, motor: Gearmotor, sign: float = 1.0, centre_rad: float = 0.0) -> None:
        self.motor, self.sign, self.centre = motor, sign, centre_rad
        self.angle = centre_rad  # of the horn
        self.velocity = self.amps = self.pwm = 0.0
        self.celsius = AMBIENT_C
        self._since = self._heat = 0.0  # s and A2 s since it last looked after itself
        self.volts = motor.volts
        self.now = 0.0  # s
        self.on = True
        self.wakes_s = -math.inf  # hears nothing before

    @property
    def hears(self) -> bool:
        return self.on and self.now >= self.wakes_s

    def settle(self) -> None:
        """The goal is where the horn is, as when power comes on there."""
        raise NotImplementedError

    def boot(self) -> None:
        """What is not kept is lost; the servo hears again in `boots_s`."""
        raise NotImplementedError

    def law(self, dt: float) -> Law:
        """In the horn's convention."""
        raise NotImplementedError

    def protect(self, dt: float) -> None:
        """Look after itself: temperature, supply, load."""
        raise NotImplementedError

    def stand(self, angle: float, velocity: float) -> None:
        """The joint is there (rad, rad/s)."""
        self.angle, self.velocity = self.sign * angle + self.centre, self.sign * velocity

    def drive(self, angle: float, velocity: float, volts: float, now: float, dt: float) -> Law:
        """What the motor does to the joint for the next `dt` s; both in the joint's convention."""
        self.stand(angle, velocity)
        self.volts, self.now = volts, now
        if volts < BROWN_OUT * self.motor.volts:
            self.on = False
            return LIMP
        if not self.on:
            self.on = True
            self.boot()
        drive, damping = self.law(dt)
        return Law(self.sign * drive, damping)

    def felt(self, torque: float, angle: float, velocity: float, limp: bool, dt: float) -> None:
        """What came of it: the motor's torque (N m), and the joint at the end of the step, all in the joint's convention."""
        self.stand(angle, velocity)
        self.now += dt
        torque *= self.sign
        self.amps = torque / self.motor.nm_per_a
        self.pwm = 0.0 if limp else self.motor.duty(torque, self.velocity, self.volts)
        self._since += dt
        self._heat += self.amps * self.amps * dt
        if self._since > LOOKS_S:
            self.celsius = self.motor.warmer(self.celsius, self._heat / self._since, self._since)
            if self.on:
                self.protect(self._since)
            self._since = self._heat = 0.0
