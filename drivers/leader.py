"""A second arm, led by hand, as the device: its joints are where the arm's are to go. It is read and never written to.

Its line passes questions alone (`Questions`): whatever the code above did, no torque could come on. Its servos are the arm's
kind, with their own zeros: `takeover.sign` and `takeover.offset`, as `robotrl calibrate homing` finds them.
"""

from __future__ import annotations

from dataclasses import replace

from robotrl import config
from robotrl.clock import Clock
from robotrl.complaint import Complaint
from robotrl.drivers.chains import baud_of
from robotrl.drivers.port import Port, PortError, SerialPort
from robotrl.drivers.servo_chain import ServoChain
from robotrl.drivers.tables import Mode
from robotrl.drivers.teleop import HandLost, Reading

ASKING = (0x01, 0x02, 0x82)  # ping, read, read of many: all that a Feetech line may be asked
INSTRUCTION = 4  # where it stands in a packet: ff ff, id, length
MISSED_MAX = 3  # cycles in a row that a servo may not be heard; as the arm's own
STIRRED_RAD = 0.01  # of a joint between two looks: a person moves it; five ticks of its encoder; chosen


class Questions:
    """A port through which only questions pass. PermissionError, and not a byte sent, for anything else."""

    def __init__(self, port: Port) -> None:
        self.name, self._port = port.name, port

    def write(self, data: bytes) -> None:
        if data[:2] != b"\xff\xff" or len(data) < 6 or data[INSTRUCTION] not in ASKING or data[3] != len(data) - 4:
            raise PermissionError(f"{self.name}: a leader arm is read and never written to; {data[:8].hex()}... was not sent")
        self._port.write(data)

    def read(self, deadline: int, limit: int = 4096) -> bytes:
        return self._port.read(deadline, limit)

    def close(self) -> None:
        self._port.close()


class Leader:
    """The second arm on `port`."""

    def __init__(self, port: Port, robot: config.Robot, settings: config.Takeover, clock: Clock) -> None:
        servos = robot.servos
        servos = replace(servos, sign=settings.sign or servos.sign, offset=settings.offset or servos.offset)
        self._port = Questions(port)
        self._chain = ServoChain(self._port, replace(robot, servos=servos), clock, starts=False)
        self._names, self._tick = servos.joints, 0
        self._before: tuple[float, ...] = ()

    @classmethod
    def opened(cls, robot: config.Robot, settings: config.Takeover, clock: Clock) -> Leader:
        """At `settings.path`. PortError where there is none; Complaint where it is the arm's own port."""
        if settings.path == robot.servos.port:
            raise Complaint(f"takeover.path: {settings.path} is the arm's own; name the second arm's adapter")
        return cls(SerialPort(settings.path, baud_of(robot.servos), clock), robot, settings, clock)

    def read(self, now: int) -> Reading:
        """As `Teleoperator.read`; about 3 ms of it on the line."""
        self._tick += 1
        try:
            joints = self._chain.read(self._tick)
        except PortError as error:
            raise HandLost(f"the leader's line is gone ({error})") from None
        silent = [name for name, n in zip(self._names, joints.missed, strict=True) if n >= MISSED_MAX]
        if silent:
            raise HandLost(f"the leader's {', '.join(silent)} does not answer")
        if stiff := [name for name, mode in zip(self._names, joints.mode, strict=True) if mode != Mode.STOPPED]:
            raise HandLost(f"the leader's {', '.join(stiff)} has torque on: it could not be led by hand; switch it off and on")
        before, self._before = self._before or joints.position, joints.position
        moved = any(abs(a - b) > STIRRED_RAD for a, b in zip(before, joints.position, strict=True))
        return Reading(angles=joints.position, moved=moved)

    def hear(self, key: str, now: int) -> None:
        """The console's keys are not its."""

    def close(self) -> None:
        self._port.close()
