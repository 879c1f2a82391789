"""Scripts that handle things with an arm, to compare learned controllers with: resolved-rate motion, one place after another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from robotrl.tasks.manipulator import Manipulator
from robotrl.tasks.push import Push
from robotrl.tasks.stack import Stack

GAIN = 0.3  # of the way in a step; chosen: a servo's lag of 3 steps does not make it swing
PRESS_M = 0.03  # how far under its place a brick's target is while it is pressed on; chosen
OVER_M = 0.0012  # beside its place by no more: down it goes
BETWEEN_M, LOST_M = 0.004, 0.012  # a thing that is no farther aside is between the fingers, or still is; chosen
TOUCH_M, BACK_M, STRIDE_M = 0.008, 0.02, 0.015  # chosen


def led(rig: Any, way: np.ndarray, tilt: float) -> np.ndarray:
    """The action (4,) of whatever space by which the point goes `way` (3,) m and the hand pitches by `tilt` rad, a part of it.

    Targets move on from where they are, so what a joint lacks under its load is made up for.
    """
    task: Manipulator = rig.pilot.task
    before = task.applied(rig.applied.target)
    return task.action(task.moved(before, task.turned(np.append(GAIN * way, GAIN * tilt), before)), before)


class Stacking:
    """Over the place, down, and on until the studs are in."""

    def __init__(self, rig: Any) -> None:
        self.rig = rig

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """An action (4,)."""
        task: Stack = self.rig.pilot.task
        joints = self.rig.joints
        way, tilt = task.way(joints), task.tilt(joints)
        aside = math.hypot(way[0], way[1])
        if (aside > OVER_M and -way[2] > task.settings.hover_m / 2) or aside > task.settings.over_m:
            way = way + (0.0, 0.0, task.settings.hover_m)
        elif -way[2] < task.settings.hover_m / 4 and abs(tilt) < task.settings.tilt_rad:
            target = task.arm.tip(self.rig.applied.target)
            way[2] = task.place[2] - PRESS_M - target[2]  # the target, not the point: it stops at the studs
        return led(self.rig, way, -tilt)


class Pushing:
    """Behind the thing until it lies between the fingers; then ahead, and to where its place asks the point to be."""

    def __init__(self, rig: Any) -> None:
        self.rig = rig

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """An action (4,)."""
        task: Push = self.rig.pilot.task
        point, behind = np.array(task.arm.tip(self.rig.joints.position)), task.behind()
        ahead = task.seen() - behind[:2]
        ahead /= float(np.linalg.norm(ahead))
        off = point[:2] - behind[:2]
        along, aside = float(off @ ahead), float(off[1] * ahead[0] - off[0] * ahead[1])
        if abs(aside) > (BETWEEN_M if along < -TOUCH_M else LOST_M):
            there = behind[:2] - BACK_M * ahead  # draw back, then come again
        elif along < -TOUCH_M:
            there = behind[:2]
        else:
            way = task.place - task.seen()
            there = point[:2] + way * min(1.0, STRIDE_M / max(1e-6, float(np.linalg.norm(way))))
        way3 = np.append(there, task.settings.height_m) - point
        return led(self.rig, way3, -task.tilt(self.rig.joints))
