"""Whether the servos on a port are those of a Minitaur's commissioning record, by their boards' serial numbers."""

from __future__ import annotations

from robotrl.calibration.store import CalibrationError, Commissioning
from robotrl.clock import Clock
from robotrl.complaint import command
from robotrl.drivers.identity import Identity as Identity
from robotrl.drivers.identity import identify as identify
from robotrl.drivers.port import Port


def recognise(port: Port, record: Commissioning, clock: Clock) -> None:
    """Ask each servo for its board's serial number: are these the servos that `record` was made with?

    CalibrationError names the first that is not, DeviceError one that does not say. Moves nothing.
    """
    for servo, was, now in zip(record.ids, record.boards, identify(port, record.ids, clock), strict=True):
        if now.serial != was:
            raise CalibrationError(
                f"servo {servo} on {port.name} is board {now.serial}, this robot was commissioned with {was}: another robot, or"
                f" a new controller; correct servos.port, or make it again: {command('calibrate homing')}, then commission"
            )
