"""What the physics says of a task's success, and the script to compare with: one class a task (`trials.Truth`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from robotrl.rewards.keyboard import played
from robotrl.sim.armrig import ArmRig
from robotrl.sim.handling import Pushing, Stacking
from robotrl.sim.program import Program
from robotrl.sim.rig import Rig
from robotrl.sim.trot import Rise, Trot
from robotrl.sim.video import Frame
from robotrl.tasks.push import Push
from robotrl.tasks.stack import Stack
from robotrl.tasks.stand import VERY_UPRIGHT, Stand
from robotrl.tasks.walk_to import WalkTo

if TYPE_CHECKING:
    from robotrl.sim.trials import Acts, Truth


class Walked:
    """Where D'Kitty really stands and looks."""

    def __init__(self, rig: Program, task: WalkTo) -> None:
        assert isinstance(rig, Rig)
        self._rig, self._world, self._task = rig, rig.twin.world, task

    def look(self) -> dict[str, float]:
        x, y, _ = self._world.position.tolist()
        away, facing, _ = self._task.aim((x, y, float(self._world.rpy[2])))
        return {"distance_m": away, "facing": facing}

    def succeeded(self, seen: dict[str, float]) -> bool:
        return seen["distance_m"] < self._task.settings.there_m and seen["facing"] > self._task.settings.facing

    def script(self) -> Acts:
        return Trot(self._rig)

    def render(self, width: int, height: int) -> Frame:
        return self._world.render(width, height)


class Stood:
    """How D'Kitty's legs really are."""

    def __init__(self, rig: Program, task: Stand) -> None:
        assert isinstance(rig, Rig)
        self._rig, self._world, self._task = rig, rig.twin.world, task

    def look(self) -> dict[str, float]:
        x, y, _ = self._world.position.tolist()
        roll, pitch, _ = self._world.rpy.tolist()
        error = np.abs(self._world.angle - np.array(self._task.settings.pose)).mean()
        return {"distance_m": math.hypot(x, y), "error_rad": float(error), "upright": math.cos(roll) * math.cos(pitch)}

    def succeeded(self, seen: dict[str, float]) -> bool:
        return seen["error_rad"] < self._task.settings.close_rad / 2 and seen["upright"] > VERY_UPRIGHT

    def script(self) -> Acts:
        return Rise(self._rig)

    def render(self, width: int, height: int) -> Frame:
        return self._world.render(width, height)


class Stacked:
    """Where the brick really is, and whether studs hold it."""

    def __init__(self, rig: Program, task: Stack) -> None:
        assert isinstance(rig, ArmRig)
        self._rig, self._task, self._bricks = rig, task, rig.table.bricks

    def look(self) -> dict[str, float]:
        aside, up, turned, tilt = self._bricks.off()
        return {"distance_m": math.hypot(aside, up), "turned_rad": turned, "tilt_rad": tilt, "held": float(self._bricks.seated)}

    def succeeded(self, seen: dict[str, float]) -> bool:
        return seen["held"] > 0

    def script(self) -> Acts:
        return Stacking(self._rig)

    def render(self, width: int, height: int) -> Frame:
        return self._rig.table.hand.joints.render(width, height)


class Pushed:
    """Where the thing really is."""

    def __init__(self, rig: Program, task: Push) -> None:
        assert isinstance(rig, ArmRig)
        self._rig, self._task, self._puck = rig, task, rig.table.puck

    def look(self) -> dict[str, float]:
        x, y, z = self._puck.at().tolist()
        return {"distance_m": math.dist((x, y), self._task.place), "height_m": z}

    def succeeded(self, seen: dict[str, float]) -> bool:
        return seen["distance_m"] <= self._task.settings.tolerance_m

    def script(self) -> Acts:
        return Pushing(self._rig)

    def render(self, width: int, height: int) -> Frame:
        return self._rig.table.hand.joints.render(width, height)


def truth_of(rig: Program) -> Truth:
    """Of the rig's task."""
    task = played(rig.pilot.task)
    if isinstance(task, WalkTo):
        return Walked(rig, task)
    if isinstance(task, Push):
        return Pushed(rig, task)
    if isinstance(task, Stack):
        return Stacked(rig, task)
    assert isinstance(task, Stand)
    return Stood(rig, task)
