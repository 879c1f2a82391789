"""A person who takes over now and then, in lockstep: sees where the point is to go, leads it there, and hands back.

His device stands where a real one stands (`drivers/teleop.py`) and speaks shares of the top speed; his keys are the console's.
He sees as late as a person does.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from robotrl.clock import Clock
from robotrl.config import Run
from robotrl.drivers.teleop import STILL, Reading
from robotrl.messages import Applied, Joints, Operator, Permit, Teleop
from robotrl.nodes.pilot import Pilot
from robotrl.nodes.teleop import hand_of
from robotrl.serialarm import ARMS

DELAY_NS = 250_000_000  # from a sight to his hand
FIRST, LONGEST = (5, 40), (30, 90)  # steps: after how many he takes over, and for how many he leads; drawn evenly
FAR_M = 0.04  # from the goal: nearer, he slows down; chosen


class Stick:
    """His device: what he pushes, until he lets go."""

    def __init__(self) -> None:
        self.twist: tuple[float, ...] = STILL

    def read(self, now: int) -> Reading:
        return Reading(self.twist, moved=any(self.twist))

    def hear(self, key: str, now: int) -> None:
        """He needs no console for it."""

    def close(self) -> None:
        """It stays on the table."""


class Teacher:
    """In a share of the episodes (`twin.takeover`) he leads the point to the task's goal for a while. `taken`: how often."""

    def __init__(self, run: Run, seed: int, clock: Clock) -> None:
        self.taken = 0
        self.stick = Stick()
        self.hand = hand_of(run, clock, lambda: self.stick)
        self._arm, self._clock, self._share = ARMS[run.robot.kind], clock, run.twin.takeover
        self._rng = np.random.default_rng([seed, 7])
        self._episode, self._span = -1, (0, 0)
        self._seen: deque[tuple[int, tuple[float, ...]]] = deque()
        self._press = 0

    def look(self, joints: Joints, pilot: Pilot, permit: Permit | None, applied: Applied | None) -> Teleop:
        """One cycle: what he presses and pushes now, and what his hand's node says of it."""
        step = pilot.tally.steps if pilot.tally is not None else -1
        if step >= 0 and pilot.episode != self._episode:
            self._episode, first = pilot.episode, int(self._rng.integers(*FIRST))
            willing = self._rng.random() < self._share
            self._span = (first, first + int(self._rng.integers(*LONGEST))) if willing else (-1, -1)
        if step == self._span[0]:
            self._press_key("take")
            self.taken += 1
        elif step == self._span[1]:
            self._press_key("give")
        self.stick.twist = self._push(joints, pilot)
        return self.hand.cycle(permit, applied)

    def _press_key(self, command: str) -> None:
        self._press += 1
        self.hand.hear(Operator(source="console", t=self._clock.now(), command=command, press=self._press))

    def _push(self, joints: Joints, pilot: Pilot) -> tuple[float, ...]:
        """Towards the goal, as he saw the point a reaction's time ago."""
        self._seen.append((joints.t, self._arm.tip(joints.position)))
        while len(self._seen) > 1 and self._seen[1][0] <= joints.t - DELAY_NS:
            self._seen.popleft()
        goal = getattr(pilot.task, "goal", None)
        if goal is None or len(goal) != 3:
            return STILL
        way = (np.asarray(goal) - self._seen[0][1]) / FAR_M
        return (*np.clip(way, -1, 1).tolist(), 0.0, 0.0, 0.0)
