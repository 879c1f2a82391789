"""Whether motors that should be off have said so in time: what the guard calls a stop not confirmed. Times in ns, awake."""

from __future__ import annotations

import math

from robotrl.messages import Drive
from robotrl.safety.awake import Awake

CONFIRM_NS = 500_000_000  # for the motors to read back as off once they should be
PATIENCE_NS = 5_000_000_000  # the same while the driver is silent or without its port: who starts it again needs time


class Obedience:
    """One robot's. A driver that was silent for long, or that heard no guard for long, goes through its stop profile first."""

    def __init__(self, stop_s: float, restarted: bool) -> None:
        """`stop_s`: so long a stop profile may keep torque on. `restarted`: the driver has been without a guard until now."""
        self._stop_ns, self._alone = int(stop_s * 1e9), restarted
        self._drive: Drive | None = None
        self._off_since: int | None = None  # for so long torque is off by us and not by the driver's word
        self._had_torque = False  # since the motors were last read back as off
        self._unheard = -math.inf  # when the driver last was silent
        self._reached = True
        self._awake = Awake()
        self._stopping: int | None = None  # since when the driver says that it damps or lowers; a key that holds begins that anew

    def hear(self, drive: Drive, reached: bool = True, powered: bool = False) -> None:
        """`reached`: the driver has its port, and a servo answers there. `powered`: the guard permits torque."""
        self._drive = drive
        self._reached = reached or (self._reached and not powered)
        # What was read back as off has obeyed: who cuts the power after that has not made it doubtful.
        self._had_torque = drive.torque_on or (self._had_torque and not drive.powered_off_confirmed)

    @property
    def untold(self) -> bool:
        """The motors have been out of reach since torque was permitted last, and had it: nobody could tell them its end."""
        return not self._reached and self._had_torque

    def asked(self, off: bool) -> None:
        """The guard's word of this period, after `lacking`: is torque to be off?"""
        if not off:
            self._off_since = None
        elif self._off_since is None or (self._drive is not None and self._drive.powered_off_confirmed):
            self._off_since = self._awake.now

    def lacking(self, now: int, speaks: bool) -> bool:
        """The motors have not obeyed. `speaks`: the driver does, and has its port."""
        awake = self._awake.step(now)
        if not speaks or self._alone:
            self._unheard, self._alone = awake, False
        if self._on_its_way(awake, speaks) and self._off_since is not None:
            self._off_since = awake
        waited = 0 if self._off_since is None else awake - self._off_since
        damped = awake - self._unheard - self._stop_ns
        late = waited > max(PATIENCE_NS, self._stop_ns + CONFIRM_NS) or (speaks and min(waited, damped) > CONFIRM_NS)
        drive = self._drive
        return drive is not None and (drive.disobeyed or (self._had_torque and not drive.powered_off_confirmed and late))

    def _on_its_way(self, awake: int, speaks: bool) -> bool:
        """The driver's stop is, by its word, for no longer than a stop profile takes: torque need not be off yet."""
        drive = self._drive
        if drive is None or not speaks or not (drive.lowers or drive.stop == "damp"):
            self._stopping = None
            return False
        if self._stopping is None or drive.stop == "hold":
            self._stopping = awake
        return awake - self._stopping <= self._stop_ns
