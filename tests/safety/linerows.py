"""The fault catalogue as it is for robots on bus servos: each row that the matrix plays over Dynamixel and Feetech bytes."""

from __future__ import annotations

from robotrl.sim.faults import Silence, Unplugged
from tests.safety.linemischief import mute, silent_watchdog
from tests.safety.mischief import on
from tests.safety.rows import Row

# fmt: off
LINE = (
    Row(1, "a servo falls silent", mute(), ("servo_lost", "servo_flaky"), "PSTOP", 80),
    Row(2, "cable cut, both ways", on("servos", lambda s: Silence()), ("bus_silent",), "PSTOP", 80, check=silent_watchdog),
    Row(9, "the servo port is unplugged", on("servos", lambda s: Unplugged()), ("port_lost", "driver_silent"), "PSTOP", 40),
    Row(6, "a servo over its limit", lambda s: s.tell({"fault": "heat", "servo": s.middle, "celsius": s.run.robot.limits.temp_c + 2}), ("temp_over", "temp_high"), "RELAX", 1000),
    Row(62, "the operator's stop", lambda s: setattr(s, 'key', 'stop'), ('operator_stop',), 'PSTOP', 40, lasts=False),
)
# fmt: on
LINES = {"omx": LINE}
