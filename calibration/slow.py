"""A chain for tools that move a robot without policy, guard and gate: what it lets through is little, slow, and ends with a key.

Commissioning writes its targets through it. It knows no leg's gap and no workspace, which the gate does: a person stands beside.
"""

from __future__ import annotations

import math
import select
import sys
from collections.abc import Callable, Sequence

from robotrl import config
from robotrl.calibration.store import CalibrationError
from robotrl.calibration.tool import PERIOD_NS, Chain
from robotrl.messages import Joints

FASTEST = 2.0  # rad/s that a target moves: a stop's swing has 1.3; chosen
LEAD_RAD = 0.5  # of a target before its joint: what is farther away is astray (measure.py)


class SlowChain:
    """`chain`, but `write` raises CalibrationError, and sends nothing, for a target that is no number, too far before its joint,
    farther than a period's way from the last, or outside of the robot's range and not on its way in; and when `stopped()`.
    """

    def __init__(self, chain: Chain, robot: config.Robot, stopped: Callable[[], bool] = lambda: False) -> None:
        self._chain, self._robot, self._stopped = chain, robot, stopped
        self._at: tuple[float, ...] = ()
        self._last: tuple[float, ...] = ()
        self.confirmed_off, self.check, self.configure, self.clear = (
            chain.confirmed_off, chain.check, chain.configure, chain.clear,
        )  # fmt: skip

    def read(self, tick: int) -> Joints:
        joints = self._chain.read(tick)
        self._at = joints.position
        return joints

    def write(self, targets: Sequence[float]) -> tuple[float, ...]:
        if self._stopped():
            raise CalibrationError("stopped by Enter; no record was written: run again when it is safe")
        if len(targets) != len(self._at) or len(targets) != len(self._robot.servos.ids):
            raise CalibrationError("a target before any reading, or of another count: nothing was sent; run again")
        last = self._last if self._last else self._at
        for i, (to, at, was) in enumerate(zip(targets, self._at, last, strict=True)):
            if why := self._wrong(i, to, at, was):
                servo = self._robot.servos.ids[i]
                raise CalibrationError(
                    f"servo {servo}: {why}; nothing was sent: put the robot into its homing pose and run again"
                )
        self._last = tuple(targets)
        return self._chain.write(self._last)

    def _wrong(self, i: int, to: float, at: float, was: float) -> str:
        if not (math.isfinite(to) and math.isfinite(at)):
            return f"target {to} rad from {at} rad is no number"
        if abs(to - at) > LEAD_RAD:
            return f"target {to:.2f} rad is {abs(to - at):.2f} rad ahead of the joint"
        if self._last and abs(to - was) > FASTEST * PERIOD_NS * 1e-9:
            return f"target {to:.2f} rad is {abs(to - was):.2f} rad from the last"
        low, high = min(self._robot.lowest[i], was), max(self._robot.highest[i], was)
        return "" if low <= to <= high else f"target {to:.2f} rad is outside of its range"

    def damp(self) -> None:
        self._last = ()  # the next target begins where the joints are
        self._chain.damp()

    def stop(self) -> None:
        self._last = ()
        self._chain.stop()


def pressed() -> bool:
    """Has somebody pressed Enter at the terminal? Never where there is none."""
    if not sys.stdin.isatty() or not select.select([sys.stdin], [], [], 0)[0]:
        return False
    sys.stdin.readline()
    return True
