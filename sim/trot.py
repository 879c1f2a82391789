"""A hand-tuned trot for D'Kitty: the script that a learned walk is compared with. It steers by what the tracker says.

Diagonal legs move together: half of the time the foot is set back along the ground, half of the time it is lifted forwards over
it. Legs by closed inverse kinematics (hardware facts 2.1); who looks to the left of the place makes longer steps on the left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from robotrl.tasks.quadruped import Quadruped
from robotrl.tasks.walk_to import WalkTo

ROLL_M, UPPER_M, LOWER_M = 0.0965, 0.0945, 0.101  # hip roll axis to hip pitch axis to knee to foot
LEFT = (False, True, True, False)  # of the four legs: front right, front left, back left, back right
PHASE = (0.0, 0.5, 0.0, 0.5)  # of a stride


@dataclass(frozen=True)
class Gait:
    """The best of a dozen tried on the twin without randomisation: 1.5 to 3 Hz, 6 to 10 cm."""

    hz: float = 1.75
    stride_m: float = 0.1
    lift_m: float = 0.03
    depth_m: float = 0.145  # of the foot under the pitch axis
    ahead_m: float = 0.0  # of the foot, on average
    steer: float = 1.0  # of the stride that the inner legs leave out, for each radian past the place
    stop_m: float = 0.25  # from the place: there it stands


def leg(ahead_m: float, depth_m: float) -> tuple[float, float]:
    """Hip pitch and knee (rad) that bring the foot there from under the pitch axis; a stretched leg where it is too far."""
    reach2 = ahead_m * ahead_m + depth_m * depth_m
    cosine = (reach2 - UPPER_M**2 - LOWER_M**2) / (2 * UPPER_M * LOWER_M)
    knee = -math.acos(min(1.0, max(-1.0, cosine)))
    line = math.atan2(-ahead_m, depth_m)
    return line - math.atan2(LOWER_M * math.sin(knee), UPPER_M + LOWER_M * math.cos(knee)), knee


class Trot:
    """Acts in the place of an actor. `rig` is read: its task for the place, its clock for the stride."""

    def __init__(self, rig: Any, gait: Gait = Gait()) -> None:
        self.rig, self.gait = rig, gait

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """An action (12,)."""
        task: Quadruped = self.rig.pilot.task
        go, left, right = 0.0, 1.0, 1.0
        newest = task.path.newest()
        if isinstance(task, WalkTo) and newest is not None:
            away, ahead, aside = task.aim(newest[1])
            past = math.atan2(aside, ahead)  # the place is to the left
            go = min(1.0, max(0.0, (away - self.gait.stop_m) / 0.1))
            turn = max(-1.0, min(1.0, self.gait.steer * past))
            left, right = min(1.0, 1.0 - 2 * turn), min(1.0, 1.0 + 2 * turn)
        pose = self.pose(self.rig.pilot.tally.steps / self.rig.run.task.rate_hz if self.rig.pilot.tally else 0.0, go, left, right)
        return wanted(self.rig, pose)

    def pose(self, seconds: float, go: float, left: float, right: float) -> list[float]:
        """The twelve joints, rad."""
        out: list[float] = []
        gait = self.gait
        for side, phase in zip(LEFT, PHASE, strict=True):
            stride = gait.stride_m * (left if side else right) * go
            turn = (seconds * gait.hz + phase) % 1.0
            if turn < 0.5:  # on the ground, from ahead to behind
                ahead, lift = stride * (0.5 - 2 * turn), 0.0
            else:
                part = 2 * turn - 1
                ahead, lift = stride * (part - 0.5), gait.lift_m * go * math.sin(math.pi * part)
            pitch, knee = leg(gait.ahead_m + ahead, gait.depth_m - lift)
            out += [0.0, pitch, knee]
        return out


class Rise:
    """Stands up for `stand`: the pose itself, approached evenly."""

    def __init__(self, rig: Any, seconds: float = 1.5) -> None:
        self.rig, self.seconds = rig, seconds

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """An action (12,)."""
        tally, run = self.rig.pilot.tally, self.rig.run
        part = min(1.0, (tally.steps + 1) / run.task.rate_hz / self.seconds) if tally else 0.0
        return wanted(self.rig, [a + part * (b - a) for a, b in zip(run.robot.home, run.task.stand.pose, strict=True)])


def wanted(rig: Any, pose: list[float]) -> np.ndarray:
    """The action (12,) that sends the joints to `pose` at once; the low-pass of the task is undone."""
    task: Quadruped = rig.pilot.task
    assert rig.applied is not None
    return task.action(task.applied(pose), task.applied(rig.applied.target))
