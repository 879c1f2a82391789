"""The trajectory of position mode: how the servo's own set point travels to the goal it was commanded."""

from __future__ import annotations

import numpy as np

from robotrl.sim.firmware import Array

NO_LIMIT = 1e12  # rad/s or rad/s^2: beyond any motor, and finite, so that products stay finite


class Ramp:
    """Set points of all servos, arrays (n,), rad, robot convention. A servo that has no ramp shows NaN in `place`.

    Without limits the set point is at the goal at once; with a velocity limit it travels at that speed; with an acceleration
    limit it also starts and brakes. Once there, it goes on at the goal's own speed. The arrays are written in place: the native
    inner loop works on the same ones.
    """

    def __init__(self, count: int, dt: float) -> None:
        self._dt = dt
        self.place = np.full(count, np.nan)
        self.speed = np.zeros(count)
        self.goal = np.full(count, np.nan)  # where `place` is: arrived
        self.goal_speed = np.zeros(count)
        self.vlim, self.alim = np.full(count, NO_LIMIT), np.full(count, NO_LIMIT)
        self.moving = False
        self.plain = True  # no acceleration limits, no goals that move on
        self._tops, self._limited = [NO_LIMIT] * count, [False] * count  # the same once more, quick to index

    @property
    def arrived(self) -> Array:
        """(n,) bool: at the goal, or without one."""
        return np.isnan(self.place) | (self.goal == self.place)

    def drop(self, index: int) -> None:
        """The servo leaves position mode."""
        self.place[index] = self.goal[index] = np.nan

    def start(self, fresh: Array, angle: Array, velocity: Array, goal: Array, speed: Array, limits: tuple[Array, Array]) -> None:
        """New commands for the servos in `fresh` (bool): goal (NaN: here), its speed, (velocity, acceleration) limits.

        A servo that had no ramp starts from its `angle` and `velocity`.
        """
        starting = fresh & np.isnan(self.place)
        self.place[starting] = angle[starting]
        self.speed[starting] = velocity[starting]
        self.vlim[fresh] = np.where(limits[0] >= 0, limits[0], NO_LIMIT)[fresh]
        self.alim[fresh] = np.where(limits[1] > 0, limits[1], NO_LIMIT)[fresh]
        self.goal_speed[fresh] = np.clip(speed, -self.vlim, self.vlim)[fresh]
        self.goal[fresh] = np.where(np.isnan(goal), self.place, goal)[fresh]
        at_once = fresh & (self.vlim == NO_LIMIT) & (self.alim == NO_LIMIT)
        self.place[at_once] = self.goal[at_once]
        self.speed[at_once] = self.goal_speed[at_once]
        self.plain = bool((self.alim == NO_LIMIT).all() and not self.goal_speed.any())
        self._tops = self.vlim.tolist()
        self._limited = ((self.vlim != NO_LIMIT) | (self.alim != NO_LIMIT)).tolist()
        self.moving = True  # `step` finds out when it has ended

    def retarget(self, index: int, goal: float, speed: float) -> None:
        """Another goal under the same limits, for one servo that has a ramp."""
        limited, top = self._limited[index], self._tops[index]
        if speed:
            speed = max(-top, min(top, speed)) if speed == speed else 0.0
        if goal == goal:
            self.goal[index] = goal
            if not limited:
                self.place[index] = goal
        else:
            self.goal[index] = self.place[index]
        if speed or self.goal_speed[index]:
            self.goal_speed[index], self.plain = speed, False
            if not limited:
                self.speed[index] = speed
        self.moving = self.moving or limited or not self.plain

    def step(self) -> None:
        """One physics step."""
        place = self.place
        dx = self.goal - place
        if not self.plain:
            self._step_fully(dx)
            return
        stride = self.vlim * self._dt
        move = np.minimum(np.maximum(dx, -stride), stride)
        under_way = (move < dx) | (move > dx)
        self.place[:] = np.where(under_way, place + move, self.goal)
        self.speed[:] = np.where(under_way, move / self._dt, 0.0)
        self.moving = bool(under_way.any())

    def _step_fully(self, dx: Array) -> None:
        """The same with acceleration limits and goals that move on."""
        dt, place = self._dt, self.place
        distance = np.abs(dx)
        seeking = distance > 0
        approach = np.copysign(np.minimum(self.vlim, np.sqrt(2.0 * self.alim * distance)), dx)
        change = self.alim * dt
        v = self.speed + np.clip(np.where(seeking, approach, self.goal_speed) - self.speed, -change, change)
        done = seeking & (v * dt * np.copysign(1.0, dx) >= distance)
        self.place[:] = np.where(done, self.goal, place + v * dt)
        self.speed[:] = np.where(done, self.goal_speed, v)
        self.goal[:] = np.where(seeking, self.goal, self.place)
        busy = (self.speed != 0) | (self.goal_speed != 0) | (self.goal != self.place)
        self.moving = bool((busy & ~np.isnan(self.place)).any())
