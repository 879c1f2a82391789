"""Rewards by verdicts alone: `task.reward = "keyboard"`, or "classifier". Of the task its own word on success is left out.

Whether an episode succeeded a person says, by key, or a classifier that he taught, and the reward of its step follows from that
label (`robotrl/labels.py`). What is recorded beside it is `operator.step` for every step. Observations, actions and other ends
are the task's.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from robotrl.config import Run
from robotrl.messages import Imu, Joints
from robotrl.tasks.task import Task

SUCCESSES = ("reached", "stacked", "there")  # ends that a person judges instead


class Keyboard:
    """A task as it is played, without its own reward and without its own word on success. `word`: the task's, for a script."""

    def __init__(self, task: Task, step: float) -> None:
        self.task, self._step, self.word = task, step, ""

    def __getattr__(self, name: str) -> Any:
        """All else is the task's."""
        return getattr(self.task, name)

    def ended(self, joints: Joints, imu: Imu) -> str:
        """What terminates the episode and is no success."""
        self.word = self.task.ended(joints, imu)
        return "" if self.word in SUCCESSES else self.word

    def reward_of(self, t: int, sent: np.ndarray, cost: float, ended: bool) -> float | None:
        """Known at once: what the operator says comes on top, whenever he says it."""
        return self._step


def rewarded(run: Run, task: Task) -> Task:
    """The task as the run's reward source has it."""
    if run.task.reward == "task":
        return task
    return cast(Task, Keyboard(task, run.operator.step))


def played(task: Any) -> Any:
    """The task itself, whoever gives its rewards."""
    return task.task if isinstance(task, Keyboard) else task
