"""The goal's way inside a servo: a profile with a top speed and an acceleration, or a step where there is neither."""

from __future__ import annotations

import math


class Trapezoid:
    """Where the profile stands (`position`, any unit) and how fast it goes (`velocity`, unit/s)."""

    def __init__(self) -> None:
        self.position = self.velocity = self.goal = 0.0
        self.top = self.acceleration = math.inf  # unit/s, unit/s2; inf: none

    def start(self, position: float) -> None:
        """Stand at `position`, which is the goal too."""
        self.position = self.goal = position
        self.velocity = 0.0

    def aim(self, goal: float, top: float, acceleration: float) -> None:
        """Go for `goal` from wherever the profile is, at most `top` fast."""
        self.goal, self.top, self.acceleration = goal, top, acceleration

    @property
    def arrived(self) -> bool:
        return self.position == self.goal and self.velocity == 0.0

    def step(self, dt: float) -> None:
        gap = self.goal - self.position
        if math.isinf(self.top) and math.isinf(self.acceleration):
            self.position, self.velocity = self.goal, 0.0
            return
        wanted = math.copysign(self._may_go(abs(gap)), gap) if gap else 0.0
        change = wanted - self.velocity
        braking = abs(wanted) < abs(self.velocity)
        most = self.acceleration * dt * (2 if braking else 1)  # braking follows a root that steps cut the corners of
        self.velocity += max(-most, min(most, change))
        move = self.velocity * dt
        if gap == 0.0 or (abs(gap) <= abs(move) and gap * move > 0 and abs(self.velocity) <= abs(wanted) + most):
            self.position, self.velocity = self.goal, 0.0
        else:
            self.position += move

    def _may_go(self, gap: float) -> float:
        """The speed from which `gap` is enough to stop."""
        return min(self.top, math.sqrt(2 * self.acceleration * gap)) if math.isfinite(self.acceleration) else self.top
