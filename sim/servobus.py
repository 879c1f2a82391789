"""A chain of bus servos, the joints they turn and the supply they share: what moves behind a servo line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robotrl.sim.joints import Joints
from robotrl.sim.powered import Powered


class Chain:
    """Servo i turns joint i. Time moves in `advance` alone, in whole physics steps."""

    def __init__(self, servos: Sequence[Powered], joints: Joints, dt: float = 0.002, source_ohms: float = 0.05) -> None:
        """`source_ohms`: of supply and cables together. Raises ValueError when there are not as many joints as servos."""
        if len(servos) != len(joints.angle):
            raise ValueError(f"{len(servos)} servos for {len(joints.angle)} joints: one each is needed")
        self.servos, self.joints, self.dt = list(servos), joints, dt
        self.supply_v, self.source_ohms = servos[0].motor.volts, source_ohms
        self.steps = 0
        self._due = 0.0  # steps asked for and not yet made, as a fraction
        n = len(self.servos)
        self._drive, self._damping = np.zeros(n), np.zeros(n)
        self._friction = np.array([s.motor.friction_nm for s in self.servos])
        self.look()
        for servo in self.servos:
            servo.settle()

    @property
    def time(self) -> float:
        """Seconds of physics so far."""
        return self.steps * self.dt

    @property
    def volts(self) -> float:
        """At the servos: what the supply gives, less what the bridges' currents drop on the way."""
        drawn = sum(abs(s.pwm * s.amps) for s in self.servos)
        return max(0.0, self.supply_v - self.source_ohms * drawn)

    def advance(self, seconds: float) -> None:
        self._due += seconds / self.dt
        steps = int(self._due + 1e-6)
        self._due -= steps
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        joints, dt, volts, now = self.joints, self.dt, self.volts, self.time
        angle, velocity = joints.angle.tolist(), joints.velocity.tolist()
        for i, servo in enumerate(self.servos):
            self._drive[i], self._damping[i] = servo.drive(angle[i], velocity[i], volts, now, dt)
        joints.step(self._drive, self._damping, self._friction, dt)
        speed, place = joints.velocity, joints.angle
        torque = self._drive - self._damping * speed
        limp = (self._drive == 0.0) & (self._damping == 0.0)
        felt = zip(self.servos, torque.tolist(), place.tolist(), speed.tolist(), limp.tolist(), strict=True)
        for servo, nm, q, w, idle in felt:
            servo.felt(nm, q, w, idle, dt)
        self.steps += 1

    def look(self) -> None:
        """Let the servos see where their horns are without time passing, as after a joint was put somewhere by hand."""
        for servo, angle, velocity in zip(self.servos, self.joints.angle.tolist(), self.joints.velocity.tolist(), strict=True):
            servo.stand(angle, velocity)
