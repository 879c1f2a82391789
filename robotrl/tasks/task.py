"""What a task is to whoever plays it: `Task`, the one face that pilot, learner and rehearsal know; `task.name` chooses one.

An episode goes `begin`, then once a servo cycle `observation` and, from the second on, `ended`, `cost`, and at some later time
`reward_of` of that cycle: what a reward needs may arrive late. Nothing here knows a bus, a port or a replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from robotrl.config import ConfigError, Run
from robotrl.messages import Imu, Joints, Pose
from robotrl.observe import Mirror
from robotrl.tasks.push import Push
from robotrl.tasks.reach import Reach
from robotrl.tasks.stack import Stack
from robotrl.tasks.stand import Stand
from robotrl.tasks.walk import Walk
from robotrl.tasks.walk_to import WalkTo


class Task(Protocol):
    """One MDP. Its actions `a` are normalised, (actions,), of order one; so are the targets `sent` that a gate let through."""

    sensors: int  # numbers in an observation
    actions: int
    senses: tuple[str, ...]  # what a robot must have beside its servos
    patience_s: float  # a reward whose parts stay away for longer is given up

    def mirror(self) -> Mirror | None:
        """The policy's input and action with left and right exchanged; None where nothing is symmetric."""
        ...

    def see(self, pose: Pose) -> None:
        """A pose from the tracker."""
        ...

    def begin(self, episode: int) -> None:
        """Episode number so-and-so begins, before its first observation."""
        ...

    def set_up(self, episode: int) -> tuple[float, ...]:
        """Where a person puts the task's thing before that episode, m (`tasksettings.THINGS`); nothing where there is none."""
        ...

    def observation(self, joints: Joints, imu: Imu) -> np.ndarray:
        """(sensors,) float32; once a servo cycle."""
        ...

    def target(self, action: np.ndarray, before: np.ndarray) -> tuple[float, ...]:
        """Every joint's target, rad, that an action asks for when `before` (actions,) was sent last."""
        ...

    def applied(self, target: Sequence[float]) -> np.ndarray:
        """`sent` (actions,) of the joints' targets, rad."""
        ...

    def action(self, sent: np.ndarray, before: np.ndarray) -> np.ndarray:
        """The action (actions,) that would have sent `sent` after `before`."""
        ...

    def ended(self, joints: Joints, imu: Imu) -> str:
        """What terminates the episode here, in a word; empty while nothing does."""
        ...

    def cut(self, now: int, begun: int, steps: int) -> str:
        """Why the episode, `begun` then (ns) and so many steps old, is truncated though the world would go on; or empty."""
        ...

    def cost(self, joints: Joints, imu: Imu) -> float:
        """What this moment takes off its reward."""
        ...

    def reward_of(self, t: int, sent: np.ndarray, cost: float, ended: bool) -> float | None:
        """Of the step that ended with the reading taken at `t` (ns); None while that is not known yet.

        `sent` (3, actions): newest first.
        """
        ...

    def speed(self, begun: int, until: int) -> float:
        """Net speed between two times (ns), m/s; 0.0 where it is not known or means nothing."""
        ...


class Led(Protocol):
    """A task in which a person can lead: an arm's."""

    def led(self, twist: Sequence[float], angles: Sequence[float], before: np.ndarray) -> np.ndarray:
        """The action (actions,) within [-1, 1] that he asks for when `before` (actions,) was sent last."""
        ...


def task_of(run: Run, seed: int = 0) -> Task:
    """The task that a run names; what it draws comes from `seed`. ConfigError for a robot that it is not for."""
    task = _made(run, seed)
    if missing := [sense for sense in task.senses if sense not in run.robot.senses]:
        raise ConfigError(f"task {run.task.name}: {run.robot.name} has no {' and no '.join(missing)}; see robot.senses")
    return task


def _made(run: Run, seed: int) -> Task:
    match run.task.name:
        case "reach":
            return Reach(run.task, run.robot, seed)
        case "push":
            return Push(run.task, run.robot, seed)
        case "stack":
            return Stack(run.task, run.robot, seed)
        case "walk_to":
            return WalkTo(run.task, seed)
        case "stand":
            return Stand(run.task)
    return Walk(run.task)


def cameras(run: Run) -> tuple[tuple[str, int, int, int], ...]:
    """Name, height, width, channels of each camera whose frames go with the steps, as `replay.Cameras`."""
    seen = run.task.pixels
    return tuple((name, seen.size, seen.size, seen.channels) for name in seen.cameras)


def sights(run: Run) -> tuple[tuple[str, int, int, int], ...]:
    """Those of them that the policy sees by; none: it is told."""
    return () if run.task.pixels.told else cameras(run)


def sizes(run: Run) -> tuple[int, int]:
    """Numbers in the policy's input (`observe.History`), and in an action."""
    task = task_of(run)
    return task.sensors * (1 + run.task.history) + task.actions * run.task.history, task.actions
