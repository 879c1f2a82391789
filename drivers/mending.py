"""What the start refuses in servos' EEPROM, written when a person has asked for it: torque off, one by one, read back.

Numbers, bauds and position limits stay: `newservo.py` gives the first two, and who has narrowed a range meant it.
"""

from __future__ import annotations

from typing import NamedTuple

from robotrl import config
from robotrl.clock import Clock
from robotrl.drivers.asking import Asking
from robotrl.drivers.dynamixel_line import DynamixelLine
from robotrl.drivers.dynamixel_x import X
from robotrl.drivers.feetech_line import FeetechLine
from robotrl.drivers.feetech_sts import STS3215
from robotrl.drivers.port import DeviceError, Port
from robotrl.drivers.servo_line import Line
from robotrl.drivers.tables import Item


class Mend(NamedTuple):
    """One register of one servo: what stands there, and what would be right. Steps."""

    servo: int
    joint: str
    item: Item
    was: int
    to: int

    def __str__(self) -> str:
        return f"servo {self.servo} ({self.joint}), {self.item.section}: {self.was} becomes {self.to}"


class Mending:
    """The servos of `robot` on `port`. DeviceError for one that is silent, or does not become as it is told."""

    def __init__(self, robot: config.Robot, port: Port, clock: Clock) -> None:
        self._feetech = robot.servos.protocol == "feetech"
        self._line: Line = FeetechLine(robot) if self._feetech else DynamixelLine(robot)
        self._asking, self._name = Asking(port, clock, robot.servos.protocol), port.name

    def needed(self) -> list[Mend]:
        """Reads all, writes nothing."""
        out = []
        for wanted in self._line.wanted():
            read = self._asking.read(wanted.id, self._line.items(wanted))
            if not read:
                raise DeviceError(f"{self._name}: {wanted}: does not answer; check its id, baud, cable and power")
            settings = self._line.settings(wanted, read)
            out += [Mend(wanted.id, wanted.joint, item, read[item], to) for item, to in settings.items()]
        return out

    def write(self, mends: list[Mend]) -> None:
        """Torque of all goes off first, read back, and stays off. A Feetech is locked again, also one that did not do as told."""
        self._asking.tell(self._line.stopping)
        torque = STS3215.TORQUE_ENABLE if self._feetech else X.TORQUE_ENABLE
        for wanted in self._line.wanted():  # a Feetech whose stop was lost would take another direction under torque, and jump
            self._set(wanted.id, wanted.joint, torque, 0)
        for mend in mends:
            if self._feetech:
                self._set(mend.servo, mend.joint, STS3215.LOCK, 0)
            try:
                self._set(mend.servo, mend.joint, mend.item, mend.to)
            finally:
                if self._feetech:
                    self._set(mend.servo, mend.joint, STS3215.LOCK, 1)

    def _set(self, servo: int, joint: str, item: Item, steps: int) -> None:
        if not self._asking.set(servo, item, steps):
            raise DeviceError(
                f"{self._name}: servo {servo} ({joint}), {item.section}: does not read {steps} after writing it;"
                " check cable and power"
            )
