"""What a chain of moteus servos is sent, built ahead: queries, targets, damping, stop. Bytes only, no port.

Every command that turns torque on carries a torque limit, a velocity limit and the servo's watchdog (register
0x27; nan there would mean none, so it cannot be configured).
"""

from __future__ import annotations

import binascii
import math
import struct
from collections.abc import Sequence

from robotrl import config
from robotrl.drivers import moteus
from robotrl.drivers.moteus import make_read, make_send, make_write
from robotrl.drivers.tables import Mode, Register, Width

# Our numbers on the CAN bus, taken in turn; 0x7F is broadcast. A reply would have to be 63 cycles late to be taken for fresh:
# 1.26 s at 50 Hz, and then it is doubted (`chain.py`). Four numbers did not do: 80 ms is what a busy hub holds up.
HOSTS = tuple(range(0x40, 0x7F))
BROADCAST = 0x7F  # every servo on the bus listens to it (moteus reference, CAN format)
QUERY = (
    make_read(Register.MODE, Width.INT8)
    + make_read(Register.POSITION, Width.F32, 3)
    + make_read(Register.MOTOR_TEMP, Width.INT8)
    + make_read(Register.VOLTAGE, Width.INT8, 3)
)
_POSITION = make_write(Register.MODE, Width.INT8, Mode.POSITION)  # the mode comes first: it resets the rest
_STOP = make_write(Register.MODE, Width.INT8, Mode.STOPPED)
_AT = len(_POSITION) + 2  # a target's place in its frame: after the mode and its own subframe's head
TAU = math.tau


class Commands:
    """The lines for all servos, with a checksum each if asked. ValueError for wiring that cannot be.

    `queries` (one for each of HOSTS), `damping`, `stopping` and `stopping_all` are ready to send. A target has two frames,
    alike but for the torque limit: the peak, and the continuous one for servos that have used the peak for too long.
    """

    def __init__(self, servos: config.Servos, checksum: bool) -> None:
        _check(servos)
        self._servos, self._checksum = servos, checksum
        ids = servos.ids
        self.queries = [
            b"".join(make_send((moteus.REPLY_WANTED | host) << 8 | i, QUERY, checksum) for i in ids) for host in HOSTS
        ]
        self.stopping = self.stop_of(ids)
        self.stopping_all = self.stop_of((BROADCAST,))
        limits = make_write(Register.MAX_TORQUE, Width.F32, servos.max_torque)
        limits += make_write(Register.WATCHDOG, Width.F32, servos.watchdog_s, servos.velocity_limit / TAU)
        still = make_write(Register.TARGET_POSITION, Width.F32, math.nan, 0.0)  # nan: wherever it is
        undriven = make_write(Register.KP_SCALE, Width.INT8, 0.0, 1.0)
        self.damping = b"".join(make_send(i, _POSITION + still + undriven + limits, checksum) for i in ids)
        driven = make_write(Register.KP_SCALE, Width.INT8, 1.0, 1.0)
        target = make_write(Register.TARGET_POSITION, Width.F32, 0.0)
        peak, continuous = (
            make_write(Register.MAX_TORQUE, Width.F32, nm) for nm in (servos.max_torque, servos.continuous_torque)
        )
        eased = limits.replace(peak, continuous)
        lines, easy = ([make_send(i, _POSITION + target + driven + ends).rstrip() for i in ids] for ends in (limits, eased))
        first = lines[0].rindex(b" ") + 1 + 2 * _AT
        self._around = [(line[:first], line[first + 8 :]) for line in lines]
        self._eased = [(line[:first], line[first + 8 :]) for line in easy]
        self._template = b"".join(before + b"%b" + after + b"\n" for before, after in self._around)
        size = len(lines[0]) + 1 + (4 if checksum else 0)
        between = (f"{n}x" for n in (first, *[size - 8] * (len(ids) - 1), size - 8 - first))
        self._digits = struct.Struct("8s".join(between))  # of a write, the targets' digits
        self._floats, self._eights = struct.Struct(f"<{len(ids)}f"), struct.Struct("8s" * len(ids))

    def position(self, targets: Sequence[float], eased: Sequence[int] = ()) -> bytes:
        """Position commands for `targets` (n,) rad, robot convention; the servos `eased` (indices) get no peak torque.

        ValueError for a wrong count, or a target that is not finite or beyond float32.
        """
        servos = self._servos
        if len(targets) != len(servos.ids):
            raise ValueError(f"{len(targets)} targets for {len(servos.ids)} servos; nothing was sent")
        turns = []
        for target, sign, offset in zip(targets, servos.sign, servos.offset, strict=True):
            if not math.isfinite(target):
                raise ValueError(f"target {target} is not finite; nothing was sent: {tuple(targets)}")
            turns.append((sign * target + offset) / TAU)
        try:
            text = binascii.hexlify(self._floats.pack(*turns))
        except OverflowError:
            raise ValueError(f"a target is beyond float32; nothing was sent: {tuple(targets)}") from None
        digits = self._eights.unpack(text)
        if not self._checksum and not eased:
            return self._template % digits
        around = [self._eased[i] if i in eased else pair for i, pair in enumerate(self._around)]
        lines = [before + eight + after for (before, after), eight in zip(around, digits, strict=True)]
        return b"".join((moteus.with_checksum(line) if self._checksum else line) + b"\n" for line in lines)

    def targets(self, sent: bytes) -> tuple[float, ...]:
        """The targets (n,) rad that the bytes of `position` hold."""
        turns = self._floats.unpack(binascii.unhexlify(b"".join(self._digits.unpack(sent))))
        servos = self._servos
        return tuple([s * (turn * TAU - o) for turn, s, o in zip(turns, servos.sign, servos.offset, strict=True)])

    def stop_of(self, ids: Sequence[int]) -> bytes:
        """Mode 0 for some servos: torque off, and the only way out of fault and timeout."""
        return b"".join(make_send(i, _STOP, self._checksum) for i in ids)


def _check(servos: config.Servos) -> None:
    n = len(servos.ids)
    if not n or len(servos.sign) != n or len(servos.offset) != n:
        raise ValueError(f"servos: {n} ids, {len(servos.sign)} signs, {len(servos.offset)} offsets; one each")
    if len(set(servos.ids)) != n or not all(1 <= i < min(HOSTS) for i in servos.ids):
        raise ValueError(f"servos: ids {servos.ids}; give each servo its own, 1 to {min(HOSTS) - 1}")
    if not set(servos.sign) <= {1, -1} or not all(map(math.isfinite, servos.offset)):
        raise ValueError(f"servos: signs {servos.sign} must be 1 or -1, offsets {servos.offset} finite")
    for name in ("kp", "kd", "max_torque", "continuous_torque", "peak_s", "velocity_limit", "watchdog_s"):
        value = getattr(servos, name)
        if not 0 < value < 1e6:  # a watchdog of 0 or nan would be none, or a default nobody chose
            raise ValueError(f"servos: {name} = {value}; set a positive number in the robot file")
