"""Many moteus servos behind one fdcanusb adapter: angles in, targets out, in the robot's own order and signs.

A cycle is one write with all queries, then replies until every servo has answered or its time is up. The low
byte of a CAN id names the host; queries use 63 host numbers in turn, so that a reply that comes cycles late is
known as such and never taken for fresh. Who was silent for as long as the numbers last is believed again only after
it has answered in cycles in which nothing came late. Every command, damping too, carries the servo's own watchdog.
"""

from __future__ import annotations

import binascii
import math
import struct
from collections.abc import Sequence

from robotrl import config
from robotrl.clock import Clock
from robotrl.drivers import moteus, moteus_settings
from robotrl.drivers.commands import HOSTS, Commands
from robotrl.drivers.diagnostic import Diagnostic
from robotrl.drivers.easing import Easing
from robotrl.drivers.port import DeviceError, Lines, Port
from robotrl.drivers.sudden import Sudden
from robotrl.drivers.tables import Mode
from robotrl.messages import Joints

ANSWER_NS = 3_000_000  # a servo's share of the waiting time (safety facts, row 1)
CYCLE_NS = 12_000_000  # whole read at most: leaves time to write within a 20 ms period; chosen
READS_MAX = 256  # a babbling far end ends the cycle even where the clock stands still
JUMP_S = 0.05  # no joint gets farther than 1.5 x the velocity limit in this time (row 4)
SETTLE_READS = 4  # of what waits before a question: more than a line can hold
DOUBTED_AFTER = len(HOSTS) - 1  # cycles unread after which an answer by this cycle's number may be to an older question
ALONE = 3  # answers in cycles without a late one, after which it is believed; chosen: what was held up comes at once
UNKNOWN_AFTER = 3  # cycles unread after which any angle is believed; three misses stop the robot (row 1)
ROUND_TRIP_NS = 4_000_000  # beyond it the adapter holds bytes back (row 12)
# No servo turns so far, so fast or so hard: what says it does was corrupted where no sum tells (row 4). The last two are the
# most that robot.servos.velocity_limit and max_torque can be; the first holds any offset that a calibration may have.
TURNS_MAX, SPEED_MAX, TORQUE_MAX = 1000.0, 1000 / math.tau, 100.0  # rev, rev/s, Nm
TAU = math.tau
# Register 0x0F of a driven one, from firmware 2025-07-21 on: what limits its torque just now (moteus, "Troubleshooting Limited
# Torque": 96 velocity ... 102 torque, 103 current). No fault: a leg that pushes off hard says so in every step.
LIMITING = range(96, 104)

_REPLY = struct.Struct("<HbHfffHbHbbb")  # the answer to commands.QUERY, heads included
_HEADS = (0x0021, 0x012F, 0x0A21, 0x0D23)  # reply heads as little-endian pairs
_PADDING = bytes((moteus.PAD,))
_OK = (b"OK\r", b"OK", b"")
_UNREAD = (math.nan, math.nan, math.nan, math.nan, math.nan, -1, 0, math.nan)


class Chain:
    """All servos of `servos` on `port`. ValueError for bad wiring, PortError when the port is lost.

    `frame_errors` counts lines and frames refused, `late_replies` those of an earlier cycle; `round_trip_ns`
    is the last read's. With `checksum` every line carries its CRC-8 and lines without one are refused; it
    turns itself on when the far end asks for it. `stop_c`: the winding's temperature that stops the robot.
    """

    frozen = False  # what a moteus says has noise: the guard sees by itself that it is the same for ever

    def __init__(self, port: Port, servos: config.Servos, clock: Clock, checksum: bool = False, stop_c: float = math.inf) -> None:
        self.frame_errors = 0
        self.late_replies = 0
        self.round_trip_ns = 0
        self.rebooted: tuple[int, ...] = ()  # who lost its settings, by its thermistor; else its silence tells (servoloop.py)
        self.checksum = checksum
        self._port, self._servos, self._clock = port, servos, clock
        self._commands = Commands(servos, checksum)
        self._lines = Lines()
        self._cycle = len(HOSTS) - 1
        self._senders = [_senders(servos.ids, host) for host in HOSTS]
        self._every_sender = frozenset[bytes]().union(*self._senders)
        self._values = [_UNREAD for _ in servos.ids]
        self._missed = [UNKNOWN_AFTER for _ in servos.ids]
        self._reach = 1.5 * servos.velocity_limit * JUMP_S
        self._easing = Easing(servos, stop_c)
        self._sudden = Sudden(len(servos.ids))
        self._lead_c = stop_c - servos.board_c  # so much sooner a board is too hot
        self._waiting: set[int] = set()
        self._doubted: dict[int, int] = {}  # who may be answering an older question, and how often it did so alone
        self._twice: set[int] = set()

    def read(self, tick: int, patience_ns: int = 0) -> Joints:
        """Ask all servos and collect what comes in time; `t` is when they were asked. `patience_ns`: wait so long at least.

        A servo that was not heard keeps its last values (nan and mode -1 before the first); its `missed` counts the cycles since.
        """
        late = self.late_replies
        self._settle()
        self._cycle = (self._cycle + 1) % len(HOSTS)
        self._waiting = set(range(len(self._values)))
        sent = self._clock.now()
        self._port.write(self._commands.queries[self._cycle])
        self._collect(sent, patience_ns)
        self.round_trip_ns = self._clock.now() - sent
        for i in self._waiting | self._doubted.keys():
            self._missed[i] += 1
        self._doubt(alone=self.late_replies == late)
        position, velocity, torque, temp_c, voltage, mode, fault, board_c = zip(*self._values, strict=True)
        self._easing.read(sent, torque, [max(t, board + self._lead_c) for t, board in zip(temp_c, board_c, strict=True)])
        return Joints(
            t=sent, tick=tick, position=position, velocity=velocity, torque=torque, temp_c=temp_c, voltage=voltage, mode=mode,
            fault=fault, missed=tuple(self._missed), board_c=board_c,
        )  # fmt: skip

    def write(self, targets: Sequence[float], but: Sequence[int] = ()) -> tuple[float, ...]:
        """Send each servo its position command; `targets` (n,) rad. Returns the targets the sent bytes hold. `but`: places of
        servos that are sent nothing.

        ValueError, and not one byte sent, for a wrong count or a target that is not finite or not a float32.
        """
        out = self._commands.position(targets, self._easing.servos)
        lines = out.splitlines(keepends=True) if but else []
        self._port.write(b"".join(line for i, line in enumerate(lines) if i not in but) if but else out)
        return self._commands.targets(out)

    def damp(self) -> None:
        """Hold zero velocity by the damping gain alone: position mode, kp scale 0. To be sent every cycle.

        Chosen over brake mode 15, which knows neither watchdog nor torque limit.
        """
        self._port.write(self._commands.damping)

    def stop(self) -> None:
        """Torque off (mode 0) for all. Sent is not done: see `confirmed_off`."""
        self._port.write(self._commands.stopping)

    def stop_all(self) -> None:
        """Torque off for every servo on the bus, whatever its id: what is left where `stop` was not obeyed (row 63)."""
        self._port.write(self._commands.stopping_all)

    def confirmed_off(self, patience_ns: int = 0) -> bool:
        """Read back: True only when each servo has just said mode 0. `patience_ns`: who has time may wait longer than a cycle."""
        joints = self.read(-1, patience_ns)
        return not any(joints.missed) and all(mode == Mode.STOPPED for mode in joints.mode)

    def clear(self) -> tuple[int, ...]:
        """Mode 0, the only way out of fault (1) and timeout (11), to those last read so; their ids."""
        modes = [value[5] for value in self._values]
        stuck = tuple(servo for servo, mode in zip(self._servos.ids, modes, strict=True) if mode in (Mode.FAULT, Mode.TIMEOUT))
        if stuck:
            self._port.write(self._commands.stop_of(stuck))
        return stuck

    def forgive(self) -> None:
        """Nothing: what a moteus watchdog has stopped, only `clear` lets go."""

    def configure(self) -> None:
        """Bring every servo to its settings, in RAM, and read back. DeviceError at the first that is silent or differs."""
        for servo in self._servos.ids:
            if complaint := moteus_settings.bring(self._console(servo), moteus_settings.of(self._servos)):
                raise DeviceError(f"{self._who(servo)}: {complaint}")

    def adopt(self) -> None:
        """Nothing: what targets go by is in each of them."""

    def check(self, set_up: bool = True) -> list[str]:
        """Handshake: one line for each thing that forbids motion; empty when all is well. Moves nothing.

        Without `set_up`, before `configure`: whether all are there, each once.
        """
        self._twice.clear()
        trips: list[int] = []
        silent = set(range(len(self._servos.ids)))
        while len(trips) < 5 or (len(trips) < 25 and (silent or min(trips) > ROUND_TRIP_NS)):
            joints = self.read(-1)
            trips.append(self.round_trip_ns)
            silent -= {i for i, missed in enumerate(joints.missed) if not missed}
        complaints = []
        for i, servo in enumerate(self._servos.ids):
            if i in silent:
                complaints.append(f"{self._who(servo)}: {moteus_settings.SILENT}")
            elif set_up or i in self._twice:
                complaints += [f"{self._who(servo)}: {what}" for what in self._complaints(i, joints)]
        # The fastest, because a latency timer delays every read and a busy machine only some.
        if set_up and not silent and (trip := min(trips)) > ROUND_TRIP_NS:
            where = f"{self._port.name}: {trip / 1e6:.1f} ms a read"
            complaints.append(f"{where}; set the adapter's latency_timer to 1 ms")
        return complaints

    def _complaints(self, i: int, joints: Joints) -> list[str]:
        complaints = []
        if i in self._twice:
            complaints.append("answers twice; give each servo its own id")
        if joints.mode[i] in (Mode.FAULT, Mode.TIMEOUT) or joints.fault[i]:
            mode, fault = joints.mode[i], joints.fault[i]
            complaints.append(f"mode {mode}, fault {fault}; find the cause, then clear it")
        complaints += moteus_settings.complaints(self._console(self._servos.ids[i]), moteus_settings.of(self._servos))
        cold = self._servos.thermistors and math.isnan(joints.temp_c[i])
        return complaints + ([moteus_settings.COLD] if cold else [])

    def _console(self, servo: int) -> Diagnostic:
        return Diagnostic(self._port, servo, self._clock, self.checksum)

    def _who(self, servo: int) -> str:
        return f"servo {servo} on {self._port.name}"

    def _settle(self) -> None:
        """Take off the line what came before the question, and so is no answer to it, nor is a line that had begun by then.

        Of what comes later the host's number tells, but where it is as many cycles late as there are numbers.
        """
        self._waiting = set()
        for _ in range(SETTLE_READS):
            data = self._port.read(self._clock.now())
            if not data:
                break
            for line in self._lines.feed(data):
                if line not in _OK:
                    self._take_late(line)
        if self._lines.pending:
            self._lines = Lines()

    def _doubt(self, alone: bool) -> None:
        """After a cycle: whom not to believe in the next. `alone`: nothing that came in it was late."""
        for i in self._doubted.keys() - self._waiting:
            self._doubted[i] = self._doubted[i] + 1 if alone else 0
            if self._doubted[i] == ALONE:
                del self._doubted[i]
        for i in self._waiting:
            if self._missed[i] >= DOUBTED_AFTER:
                self._doubted[i] = 0

    def _take_late(self, line: bytes) -> None:
        got = moteus.parse_line(line)
        if isinstance(got, moteus.Received) and (got.checked or not self.checksum):
            known = b"%x" % got.can_id in self._every_sender
            self.late_replies += known
            self.frame_errors += not known
        else:
            self._take_other(got)

    def _collect(self, sent: int, patience_ns: int) -> None:
        """Take lines until nobody is waited for or time is up. An answer grants the rest their share anew."""
        waiting, clock, port = self._waiting, self._clock, self._port
        deadline = sent + max(patience_ns, min(CYCLE_NS, ANSWER_NS * len(waiting)))
        for _ in range(READS_MAX):
            data = port.read(deadline)
            if not data:
                return
            before = len(waiting)
            for line in self._lines.feed(data):
                if line not in _OK:
                    self._take(line)
            now = clock.now()
            if not waiting or now >= deadline:
                return
            if len(waiting) < before:
                deadline = max(sent + patience_ns, min(now + ANSWER_NS * len(waiting), sent + CYCLE_NS))

    def _take(self, line: bytes) -> None:
        """One line from the adapter: a servo's answer, or something to count. Never raises."""
        parts = line.split()
        if len(parts) > 2 and parts[0] == b"rcv" and not self.checksum and b"*" not in line and b"\r" not in line.rstrip():
            i = self._senders[self._cycle].get(parts[1])
            try:
                if i is not None and self._telemetry(i, binascii.unhexlify(parts[2])):
                    return
            except ValueError:
                pass  # not hex: the careful way below counts it
        got = moteus.parse_line(line)
        if isinstance(got, moteus.Received) and (got.checked or not self.checksum):
            self._sort(got)
        else:
            self._take_other(got)

    def _take_other(self, got: moteus.Received | moteus.Answer | None) -> None:
        """The adapter's word, or something to count."""
        if not isinstance(got, moteus.Answer) or not got.ok:
            self.frame_errors += 1
            if isinstance(got, moteus.Answer) and "checksum" in got.text.lower() and not self.checksum:
                self.checksum = True
                self._commands = Commands(self._servos, checksum=True)

    def _sort(self, got: moteus.Received) -> None:
        sender = b"%x" % got.can_id
        i = self._senders[self._cycle].get(sender)
        if i is not None and self._telemetry(i, got.frame):
            return
        if i is None and sender in self._every_sender:
            self.late_replies += 1
        else:
            self.frame_errors += 1

    def _telemetry(self, i: int, frame: bytes) -> bool:
        """Take the reading of servo i if `frame` is a sound one, and say whether it was."""
        try:
            a, mode, b, turn, speed, torque, c, motor_c, d, volts, board_c, fault = _REPLY.unpack_from(frame)
        except struct.error:
            return False
        if (a, b, c, d) != _HEADS or mode < 0 or fault < 0 or frame[_REPLY.size :].strip(_PADDING):
            return False
        if not (-TURNS_MAX <= turn <= TURNS_MAX and -SPEED_MAX <= speed <= SPEED_MAX):  # false for nan too
            return False
        if not -TORQUE_MAX <= torque <= TORQUE_MAX or -128 < volts < 0:
            return False
        sign, before = self._servos.sign[i], self._values[i]
        angle = sign * (turn * TAU - self._servos.offset[i])
        if self._missed[i] < UNKNOWN_AFTER and abs(angle - before[0]) > self._reach:
            return False
        if i not in self._waiting:  # which of two is right nobody knows: the first stays, however many one read brings
            self._twice.add(i)
            self.frame_errors += 1
            return True
        self._waiting.discard(i)
        if i in self._doubted:
            return True
        if fault in LIMITING and mode != Mode.FAULT:
            fault = 0
        temp_c, board = self._temperatures(i, motor_c, board_c, mode, (before[3], before[7]))
        voltage = volts * 0.5 if volts != -128 else math.nan
        self._values[i] = (angle, sign * speed * TAU, sign * torque, temp_c, voltage, mode, fault, board)
        self._missed[i] = 0
        return True

    def _temperatures(
        self, i: int, winding: int, board: int, mode: int, before: tuple[float, float]
    ) -> tuple[float, float]:  # fmt: skip
        """deg C of winding and board, as they were `before`; nan where it is not known. 0 is what a servo says that does not read
        its thermistor, less where the wire is off.

        One that is stopped and has said a number before was perhaps switched off and on: its winding does not get hotter, and it
        is to be set up anew.
        """
        board_c = float(board) if board != -128 else math.nan
        thermistors = self._servos.thermistors
        temp_c = board_c if not thermistors else float(winding) if winding > 0 else math.nan
        if self._sudden.doubted(i, before, (temp_c, board_c)):
            return before
        if thermistors and math.isnan(temp_c) and mode == Mode.STOPPED and not math.isnan(before[0]):
            if (servo := self._servos.ids[i]) not in self.rebooted:
                self.rebooted += (servo,)
            return before[0], board_c
        return temp_c, board_c


def _senders(ids: Sequence[int], host: int) -> dict[bytes, int]:
    """Which servo an answer comes from: its id in hex, in every way an adapter may write it."""
    forms = (b"%x", b"%X", b"%04x", b"%04X")
    return {form % (servo << 8 | host): i for i, servo in enumerate(ids) for form in forms}
