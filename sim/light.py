"""A twin without physics: the same bytes on all wires, and joints that simply go where they are told. For hours of the program.

The torso stays upright where it is; a servo in position mode takes half of the way to its goal in each physics step.
"""

from __future__ import annotations

import math

from robotrl.kinematics import to_motors
from robotrl.sim.firmware import KP, POSITION, P
from robotrl.sim.twin import Twin
from robotrl.sim.world import STAND

SHARE = 0.5
TURN = 2 * math.pi


class LightTwin(Twin):
    """`advance` moves joints and clock, and makes no step of the engine."""

    def advance(self, seconds: float) -> None:
        for _ in range(self.world.steps_due(seconds)):
            self._step()
        self.imu.advance()
        self.tracker.advance()
        self.clock.sleep_until(round(self.world.time * 1e9))

    def stand(self) -> None:
        """A person's hand."""
        swing, extension = STAND
        self.world.history.newest[0:8] = to_motors([swing] * 4, [extension] * 4)

    def _step(self) -> None:
        bank, history = self.bus.bank, self.world.history
        angles, joints = history.newest[0:8].tolist(), history.stay()
        dt, speeds = history.dt, [0.0] * 8
        if self.world.time >= bank.next_event:
            bank.tick()
        signs, offsets, modes = bank._signs, bank.offset.tolist(), bank.mode
        for i, command in enumerate(bank.command):
            goal = command[P]
            if modes[i] == POSITION and command[KP] > 0 and goal == goal:
                move = (signs[i] * (goal * TURN - offsets[i]) - angles[i]) * SHARE
                angles[i] += move
                speeds[i] = move / dt
        bank._fresh = [False] * 8
        joints[0:16] = angles + speeds
