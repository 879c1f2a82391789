"""Moves one joint after another by a little and back, where a policy would be: a first motion.

It asks as a policy asks, under the guard's lease and through the gate. Imports no torch.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from robotrl.config import Robot
from robotrl.messages import Action, Joints, Permit
from robotrl.node import Node

SWAY_RAD = 0.15  # of each joint, to the side that has more room; chosen
SWAY_S = 2.0  # out and back
ACTION_VALID_NS = 50_000_000


class Mover:
    """One lease after the other: each begins with the joints where they are, and with the first of them."""

    def __init__(self, robot: Robot) -> None:
        self._ends = list(zip(robot.lowest, robot.highest, strict=True))
        self._epoch = -1
        self._start: Sequence[float] = ()
        self._began = self._seq = 0
        self.moved = 0  # joints, in this lease

    def cycle(self, joints: Joints, permit: Permit | None) -> Action | None:
        """Answer one servo cycle, when it is our turn."""
        if permit is None or permit.state != "RUN" or permit.holder != "policy" or any(joints.missed):
            return None
        if permit.epoch != self._epoch:
            self._epoch, self._start, self._began, self.moved = permit.epoch, joints.position, joints.t, 0
        self._seq += 1
        return Action(
            source="policy", seq=self._seq, t=joints.t, valid_ns=ACTION_VALID_NS, epoch=permit.epoch, tick=joints.tick,
            target=self._target((joints.t - self._began) * 1e-9),
        )  # fmt: skip

    def _target(self, passed: float) -> tuple[float, ...]:
        turn, phase = divmod(passed / SWAY_S, 1.0)
        self.moved = int(turn)
        out = list(self._start)
        i = self.moved % len(out)
        low, high = self._ends[i]
        way = 1.0 if high - out[i] > out[i] - low else -1.0
        out[i] += way * SWAY_RAD * math.sin(math.pi * phase) ** 2
        return tuple(out)


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "policy")
    mover = Mover(node.run.robot)
    joints, permits, actions = node.bus.subscriber("joints"), node.bus.subscriber("permit"), node.bus.publisher("action")
    node.hurry(9)
    said = 0
    while not node.stopping and not node.orphaned():
        node.bus.wait([joints], 0.1)
        for reading in joints.drain()[-1:]:
            if (action := mover.cycle(reading, permits.latest())) is not None:
                actions.send(action)
        if mover.moved != said and mover.moved:
            names = node.run.robot.servos.joints
            node.say(f"{names[(mover.moved - 1) % len(names)] if names else mover.moved} has moved and is back")
        said = mover.moved
        node.beat()
    node.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
