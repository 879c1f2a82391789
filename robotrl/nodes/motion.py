"""What a joint's motion under torque proves over time: it is blocked, it runs away, it oscillates, the arm has left its box.

`Motion` is told each reading once; `fields` are those of `safety.causes.Inputs` that come of it. Times in ns, angles in rad.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from robotrl import messages as m
from robotrl.config import Robot
from robotrl.drivers import pressing
from robotrl.serialarm import ARMS, Box

# Away from its target and far from it, at no mere creep: shares of the lead and of the velocity limit. A target that the gate
# lets lead by little is soon far off, so a joint is known in time however slow its servo is. A fall, or a leg that the ground
# throws back, does that for 0.04 s at most: ordinary and random motion of every shipped robot on the twin.
FAR, AWAY = 0.25, 0.1
EASED, STILL_RAD_S = 0.98, 0.5  # of the continuous torque, to which the driver eases a leg (row 59: 80 %, which a walk takes)
# Row 54: a reversal has more than 2 degrees, and 40 % of the torque. Under the row's 30 % random actions have nine in a second.
SWING_RAD, HARD = 0.035, 0.4
REVERSALS_NS = 1_000_000_000


class Swings:
    """Of one joint: when it turned round, each time by more than SWING_RAD and not without effort."""

    def __init__(self, hard_nm: float) -> None:
        self._hard_nm = hard_nm
        self._turns: deque[int] = deque()
        self.forget()

    def forget(self) -> None:
        self._low, self._high = math.inf, -math.inf  # since the last turn
        self._way = 0  # up, down, or not known yet
        self._peak = 0.0  # Nm, since the last turn
        self._turns.clear()

    def take(self, t: int, angle: float, torque: float) -> int:
        """One reading; how often it has turned round in the last second."""
        self._low, self._high = min(self._low, angle), max(self._high, angle)
        self._peak = max(self._peak, abs(torque))
        down, up = self._high - angle > SWING_RAD, angle - self._low > SWING_RAD
        if (down and self._way >= 0) or (up and self._way <= 0):
            if self._way and self._peak > self._hard_nm:
                self._turns.append(t)
            self._way, self._low, self._high, self._peak = (-1 if down else 1), angle, angle, 0.0
        while self._turns and t - self._turns[0] >= REVERSALS_NS:
            self._turns.popleft()
        return len(self._turns)


class Motion:
    """One robot's joints."""

    def __init__(self, robot: Robot) -> None:
        servos, n, arm = robot.servos, len(robot.servos.ids), robot.kind in ARMS
        self._push = EASED * servos.continuous_torque  # with all that the driver leaves it in the long run
        still = (pressing.STRAIN * servos.continuous_torque, pressing.STILL_RAD_S) if arm else (self._push, STILL_RAD_S, 0)
        self._strains = [pressing.Strain(*still) for _ in range(n)]
        self._far, self._away = FAR * robot.limits.lead_rad, AWAY * servos.velocity_limit
        self._running: list[int | None] = [None] * n  # since when
        self._swings = [Swings(HARD * servos.max_torque) for _ in range(n)] if arm else []
        self._reversals = [0] * n
        self._outside = outside(robot)
        self._outside_m = 0.0
        self._t = 0

    def take(self, joints: m.Joints, led: Sequence[float], driven: bool) -> None:
        """One reading; `led`: the targets that it should follow, `driven`: under torque, and not since this moment."""
        self._t = joints.t
        self._outside_m = self._outside(joints.position) if driven else 0.0
        for i, missed in enumerate(joints.missed):
            if not missed:  # an old value shows nothing new
                self._take_one(i, joints, led[i], driven)

    def _take_one(self, i: int, joints: m.Joints, led: float, driven: bool) -> None:
        angle, speed, torque = joints.position[i], joints.velocity[i], joints.torque[i]
        self._strains[i].take(joints.t, speed, torque) if driven else self._strains[i].forget()
        error = led - angle
        away = driven and abs(error) > self._far and abs(speed) > self._away and error * speed < 0
        away = away and torque * speed > -self._push * abs(speed)  # who brakes with all it has is pushed: by the weight, a hand
        self._running[i] = _since(self._running[i], away, joints.t)
        if self._swings:
            if not driven:
                self._swings[i].forget()
            self._reversals[i] = self._swings[i].take(joints.t, angle, torque) if driven else 0

    def fields(self) -> dict[str, Any]:
        """For `Inputs`."""
        return {
            "stalled_s": _longest([strain.since for strain in self._strains], self._t),
            "runaway_s": _longest(self._running, self._t),
            "reversals": max(self._reversals, default=0),
            "outside_m": self._outside_m,
        }


def outside(robot: Robot) -> Callable[[Sequence[float]], float]:
    """How far joint angles lead out of the robot's workspace, m; 0 where it has none."""
    low, high = robot.workspace.low, robot.workspace.high
    if not low:
        return lambda q: 0.0
    return Box(ARMS[robot.kind], (low[0], low[1], low[2]), (high[0], high[1], high[2])).outside


def _since(began: int | None, so: bool, t: int) -> int | None:
    return None if not so else t if began is None else began


def _longest(since: list[int | None], now: int) -> float:
    return max([now - t for t in since if t is not None], default=0) * 1e-9
