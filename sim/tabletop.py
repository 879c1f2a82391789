"""What stands on an arm's table in the twin, and the hands of the person who sets it up between episodes.

`BrickTable`: a brick in the gripper, another fixed on a plinth. The hand that holds a brick is a joint of limited strength,
`GRIP_N`. `PuckTable`: a thing to push, and a tracker that sees it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pybullet

from robotrl import config
from robotrl.config import ConfigError, Run
from robotrl.sim.bricks import Bricks
from robotrl.sim.bulletjoints import BulletJoints
from robotrl.sim.faults import FaultyWire
from robotrl.sim.fleets import FLEETS
from robotrl.sim.puck import Puck
from robotrl.sim.senses import TrackerSensor
from robotrl.sim.servotwin import ServoTwin, Table
from robotrl.tasks.push import Push
from robotrl.tasks.stack import Stack
from robotrl.tasks.task import task_of

GRIP_N = 30.0  # chosen: two fingers of 25 N each at a friction of 0.6
DOWNWARD = (0.0, -np.sqrt(0.5), 0.0, np.sqrt(0.5))  # a brick in a hand at q = 0: its top is towards the wrist
ASIDE = (0.05, -0.3)  # m, base frame: where a thing is out of the way
NEAR_M = 0.015  # the hand is drawn back when its point is no farther out than this from where it begins
AWAY = np.array([0.0, 0.0, -5.0])  # m: off the table


class Hand:
    """A link of an arm that holds things: the one with the arm's point."""

    def __init__(self, robot: str, joints: BulletJoints) -> None:
        fleet = FLEETS[robot]
        moving = [part for part in fleet.body if part.parent]
        self.link = next(i for i, part in enumerate(moving) if part.tip is not None)
        part = moving[self.link]
        assert part.tip is not None
        self.height, self.joints = fleet.height, joints
        self._from_pivot = np.subtract(part.tip, part.pivot)
        self._from_mass = np.subtract(part.tip, part.boxes[0].centre)

    def at(self) -> np.ndarray:
        """Where the arm's point is, (3,) m, world."""
        return np.asarray(self.joints.place_of(self.link) + self.joints.turn_of(self.link) @ self._from_pivot)

    def turn(self) -> tuple[float, float, float, float]:
        """How a brick in it is turned, world."""
        state = pybullet.getLinkState(self.joints.body, self.link, 0, 1, physicsClientId=self.joints.client)
        turned = pybullet.multiplyTransforms([0, 0, 0], state[5], [0, 0, 0], DOWNWARD)[1]
        return (turned[0], turned[1], turned[2], turned[3])

    def take(self, body: int, strength: float) -> int:
        """Hold a body by its middle at the arm's point; the constraint. It no longer touches the arm."""
        client = self.joints.client
        for link in range(-1, pybullet.getNumJoints(self.joints.body, physicsClientId=client)):
            pybullet.setCollisionFilterPair(self.joints.body, body, link, -1, 0, physicsClientId=client)
        held = pybullet.createConstraint(
            self.joints.body, self.link, body, -1, pybullet.JOINT_FIXED, [0, 0, 0], self._from_mass.tolist(), [0, 0, 0],
            DOWNWARD, [0, 0, 0, 1], physicsClientId=client,
        )  # fmt: skip
        pybullet.changeConstraint(held, maxForce=strength, physicsClientId=client)
        return int(held)


class BrickTable:
    """For `stack`."""

    def __init__(self, robot: str, joints: BulletJoints, task: Stack) -> None:
        self.hand, self.task = Hand(robot, joints), task
        self.bricks = Bricks(joints.client)
        self._in_hand(AWAY)
        self.hand.take(self.bricks.free, GRIP_N)
        self._over = False
        self._set: tuple[float, ...] = ()  # for which places
        joints.each = self._stepped

    def entered(self, state: str, places: Sequence[float]) -> None:
        """The brick is put back into the hand while the reset moves it; then the fixed one is set where it belongs."""
        if state == "RESET":
            self._over, self._set = True, ()  # with the next physics step: what came of the episode is still to be seen
        elif state in ("HOLD", "RUN") and places and self._set != tuple(places):
            self._set = tuple(places)
            self._in_hand(np.add(places, (0.0, 0.0, self.hand.height)))

    def _stepped(self, dt: float) -> None:
        if self._over:
            self._over = False
            self._in_hand(AWAY)
        self.bricks.stepped(dt)

    def _in_hand(self, seat: np.ndarray) -> None:
        yaw = float(np.arctan2(seat[1], seat[0] - self.task.arm.pivots[0].at[0]))
        self.bricks.lay(seat, yaw, self.hand.at(), self.hand.turn())


class PuckTable:
    """For `push`. The thing waits beside the arm until the reset has drawn the hand back, and is then stood where it begins."""

    def __init__(self, run: Run, joints: BulletJoints, task: Push, seed: int) -> None:
        self.hand, self.task = Hand(run.robot.kind, joints), task
        self.puck = Puck(joints.client, self.hand.height, run.twin)
        self.tracker = TrackerSensor(self.puck, run.twin, np.random.default_rng([seed, 8]))
        self._back = math.hypot(*task.arm.tip(config.start_of(run.task, run.robot))[:2]) + NEAR_M
        self._due = task.set_up(0)
        self._waits, self._over = True, True
        self.goal = self._due[2:]  # where its place is to be seen, where it is
        joints.each = self._stepped

    def entered(self, state: str, places: Sequence[float]) -> None:
        if state == "RESET":
            self._waits = self._over = True
        if places and self._due != tuple(places):
            self._due, self._waits = tuple(places), True
            self.goal = self._due[2:]

    def _stepped(self, dt: float) -> None:
        self.puck.time += dt
        if not self._waits:
            return
        if self._over:  # with the next physics step: what came of the episode is still to be seen
            self._over = False
            self.puck.put(ASIDE)
        if math.hypot(*self.hand.at()[:2]) < self._back:
            self.puck.put(self._due)
            self._waits = False


def table_of(run: Run, twin: ServoTwin, seed: int) -> Table | None:
    """What the run's task needs on the table; None where that is nothing. ConfigError without PyBullet."""
    task = task_of(run, seed)
    if not isinstance(task, Stack | Push):
        return None
    if not isinstance(twin.joints, BulletJoints):
        raise ConfigError("twin: bricks are in PyBullet, which is not here; its wheels: CPython 3.11")
    if isinstance(task, Push):
        table = PuckTable(run, twin.joints, task, seed)
        twin.senses.append(table.tracker)
        twin.wires["tracker"] = FaultyWire(table.tracker, twin.now)
        return table
    return BrickTable(run.robot.kind, twin.joints, task)
